/*
 * Allocations that fail on demand, see Documentation/fault-injection/fault-injection.rst: the nth
 * one of the system call that comes next.
 */
static int starving = -1;

static void starve(int nth)
{
	const char *text = fmt("%d", nth);

	starving = open("/proc/thread-self/fail-nth", O_WRONLY | O_CLOEXEC);
	if (starving < 0 || write(starving, text, strlen(text)) < 0)
		fail("/proc/thread-self/fail-nth", OK, errno, "errno ");
}

static long fed(long value)
{
	int kept = errno;

	if (write(starving, "0", 1) != 1)
		fail("/proc/thread-self/fail-nth", OK, errno, "errno ");
	close(starving);
	errno = kept;
	return value;
}

#define STARVED(nth, call) (starve(nth), fed((long)(call)))

static maybe_unused long starved_write(int nth, const char *path, const char *text)
{
	int fd;

	keep_setting(path);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -1 : closing(fd, STARVED(nth, write(fd, text, strlen(text))));
}
