/* A user's memory: loads and stores of a given width, and addresses that may kill. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "user.h"

/* As wide as they say, at any address. */
typedef volatile uint8_t byte_at;
typedef volatile uint16_t __attribute__((aligned(1), may_alias)) half_at;
typedef volatile uint32_t __attribute__((aligned(1), may_alias)) word_at;
typedef volatile uint64_t __attribute__((aligned(1), may_alias)) long_at;

/* Copy `size` bytes in accesses of `width`, 0 for whatever is quickest. */
static void move(void *target, const void *source, size_t size, long long width)
{
	char *to = target;
	const char *from = source;

	if (!width)
		memcpy(target, source, size);
	for (; width && size; size -= (size_t)width, to += width, from += width) {
		if (width == 1)
			*(byte_at *)to = *(const byte_at *)from;
		else if (width == 2)
			*(half_at *)to = *(const half_at *)from;
		else if (width == 4)
			*(word_at *)to = *(const word_at *)from;
		else
			*(long_at *)to = *(const long_at *)from;
	}
}

/* Check a width, and make a size a multiple of it. */
static int fit(long long width, size_t *size)
{
	if (width != 0 && width != 1 && width != 2 && width != 4 && width != 8)
		return bad("nothing loads or stores %lld bytes", width);
	if (width)
		*size -= *size % (size_t)width;
	return 0;
}

int user_peek(const struct request *request, struct text *answer)
{
	long long address, width;
	size_t size;
	void *copy;

	if (arg_number(request->args, "address", &address) ||
	    arg_size(request->args, "size", &size) ||
	    arg_number(request->args, "width", &width) || fit(width, &size))
		return BAD;
	copy = malloc(size + 1);
	if (!copy)
		return bad("there is no memory for %zu bytes", size);
	move(copy, (const void *)address, size, width);
	add_value(answer, 0);
	add_hex(answer, "data", copy, size);
	free(copy);
	return 0;
}

int user_poke(const struct request *request, struct text *answer)
{
	long long address, width;
	unsigned char *data;
	size_t size;

	if (arg_number(request->args, "address", &address) ||
	    arg_number(request->args, "width", &width) ||
	    arg_bytes(request->args, "data", &data, &size))
		return BAD;
	if (fit(width, &size)) {
		free(data);
		return BAD;
	}
	move((void *)address, data, size, width);
	free(data);
	return add_value(answer, 0);
}

/* Load a byte in a child, which may not survive it; the value is the signal that it got. */
int user_touch(const struct request *request, struct text *answer)
{
	long long address;
	int status = 0;
	pid_t pid;

	if (arg_number(request->args, "address", &address))
		return BAD;
	pid = fork();
	if (!pid) {
		(void)*(const byte_at *)address;
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return errno;
	return add_value(answer, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}
