/* Close, and keep the errno of what came before. */
static maybe_unused ssize_t closing(int fd, ssize_t result)
{
	int kept = errno;

	close(fd);
	errno = kept;
	return result;
}

/* One write, as the shell's echo does. */
static maybe_unused long write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -1 : closing(fd, write(fd, text, strlen(text)));
}

/* The first line of a file. */
static maybe_unused const char *read_file(const char *path)
{
	static char text[TEXT_BYTES];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t size = fd < 0 ? -1 : closing(fd, read(fd, text, sizeof(text) - 1));

	if (size < 0)
		return NULL;
	text[size] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return text;
}

/* The last part of what a link leads to. */
static maybe_unused const char *read_link(const char *path)
{
	static char text[TEXT_BYTES];
	ssize_t size = readlink(path, text, sizeof(text) - 1);
	const char *last;

	if (size < 0)
		return NULL;
	text[size] = '\0';
	last = strrchr(text, '/');
	return last ? last + 1 : text;
}

/* Compare what a call returned, -1 and errno or anything else, with the errno expected. */
static maybe_unused long expect(int number, long value, const char *what)
{
	int seen = value == -1 ? errno : OK;

	if (seen != number)
		fail(what, number, seen, "errno ");
	return value;
}

static maybe_unused void expect_value(long expected, long seen, const char *what)
{
	if (seen != expected)
		fail(what, expected, seen, "");
}

#define EXPECT(number, call) expect(number, (long)(call), #call)
#define EXPECT_VALUE(expected, seen) expect_value((long)(expected), (long)(seen), #seen)

static maybe_unused void expect_bytes(const void *expected, const void *seen, size_t size,
				      const char *what)
{
	const unsigned char *a = expected, *b = seen;

	for (size_t i = 0; i < size; i++)
		if (a[i] != b[i])
			fail(fmt("byte %zu of %s", i, what), a[i], b[i], "");
}

#define EXPECT_BYTES(expected, seen, size) expect_bytes(expected, seen, size, #seen)

static maybe_unused long found(const char *text)
{
	return text ? OK : -1;
}

static maybe_unused void expect_text(const char *expected, const char *seen, const char *what)
{
	if (!seen)
		fail(what, OK, errno, "errno ");
	if (strcmp(expected, seen))
		fail(fmt("%s is \"%s\", not \"%s\"", what, seen, expected), 0, 1, "");
}

#define EXPECT_TEXT(expected, seen) expect_text(expected, seen, #seen)

/* The same for what changes by itself: wait for it. */
#define EVENTUALLY(expected, seen) do {						\
	const char *there = seen;						\
	for (int i = 0; i < POLLS && !(there && !strcmp(expected, there)); i++) {	\
		usleep(POLL_US);						\
		there = seen;							\
	}									\
	expect_text(expected, there, #seen);					\
} while (0)
