/* An address that is a number, wherever it leads to. */
static maybe_unused void *at(uintptr_t address)
{
	volatile uintptr_t unknown = address;

	return (void *)unknown;
}

/* Mapped memory, in accesses of so many bytes; 0 is for those who do not mind. */
static maybe_unused void copy(volatile void *to, const volatile void *from, size_t size,
			      size_t width)
{
	for (size_t at = 0; at < size; at += width ? width : 1) {
		volatile char *target = (volatile char *)to + at;
		const volatile char *source = (const volatile char *)from + at;

		switch (width) {
		case 8:
			*(volatile __u64 *)target = *(const volatile __u64 *)source;
			break;
		case 4:
			*(volatile __u32 *)target = *(const volatile __u32 *)source;
			break;
		case 2:
			*(volatile __u16 *)target = *(const volatile __u16 *)source;
			break;
		default:
			*target = *source;
		}
	}
}

/* Once more and once more, until it begins as expected. */
static maybe_unused void copy_until(volatile void *to, const volatile void *from, size_t size,
				    size_t width, const void *expected, size_t compared)
{
	for (int i = 0; i < POLLS; i++) {
		copy(to, from, size, width);
		if (!memcmp(expected, (const void *)to, compared))
			break;
		usleep(POLL_US);
	}
}

/* Load a byte in a child; return the signal that ended it, 0 if none did. */
static maybe_unused long touch(const volatile void *address)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		(void)*(const volatile char *)address;
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}
