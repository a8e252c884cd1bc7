/*
 * System calls by number. An argument is a number or a buffer, and a buffer may hold pointers to
 * others, so the host can build any ioctl there is, the malformed ones too.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "user.h"

#define ARGUMENTS 6
#define BUFFERS 512
#define POINTER_BYTES 8
#define DEEPEST 8
#define FAIL_NTH "/proc/thread-self/fail-nth"
#define NUMBER_BYTES 16

struct buffer {
	unsigned char *memory;
	size_t size;
	bool wanted; /* after the call */
};

static struct buffer buffers[BUFFERS];
static unsigned int used;

static int materialize(struct slice spec, int depth, long *address);

static void release(void)
{
	while (used)
		free(buffers[--used].memory);
}

/* Store the address of one more buffer in another, `spec` is its offset and what it holds. */
static int point(struct buffer *buffer, struct slice spec, int depth)
{
	const char *place = NULL;
	struct slice item;
	long long offset;
	long address;
	int error;

	if (!json_is_array(spec) || !json_each(spec, &place, &item) ||
	    !json_number(item, &offset) || !json_each(spec, &place, &item))
		return bad("a pointer is no offset with a buffer");
	if (buffer->size < POINTER_BYTES || offset < 0 ||
	    (unsigned long long)offset > buffer->size - POINTER_BYTES)
		return bad("a pointer at %lld does not fit into %zu bytes", offset, buffer->size);
	error = materialize(item, depth + 1, &address);
	if (!error)
		memcpy(buffer->memory + offset, &address, POINTER_BYTES);
	return error;
}

/* Allocate a buffer and those that it points to. */
static int materialize(struct slice spec, int depth, long *address)
{
	struct slice wanted, pointers, pointer;
	struct buffer *buffer = &buffers[used];
	int error = 0;

	if (used == BUFFERS || depth == DEEPEST)
		return bad("there are more than %d buffers, or %d in each other", BUFFERS, DEEPEST);
	if (arg_bytes(spec, "data", &buffer->memory, &buffer->size))
		return BAD;
	used++;
	buffer->wanted = json_get(spec, "out", &wanted) && json_is_true(wanted);
	*address = (long)buffer->memory;
	if (!json_get(spec, "pointers", &pointers))
		return 0;
	if (!json_is_array(pointers))
		return bad("pointers is no array");
	for (const char *place = NULL; !error && json_each(pointers, &place, &pointer);)
		error = point(buffer, pointer, depth);
	return error;
}

static int prepare(struct slice args, long words[ARGUMENTS])
{
	struct slice item;
	long long number;
	int count = 0;

	for (const char *place = NULL; json_each(args, &place, &item); count++) {
		if (count == ARGUMENTS)
			return bad("a system call has at most %d arguments", ARGUMENTS);
		if (json_number(item, &number))
			words[count] = (long)number;
		else if (!json_is_object(item))
			return bad("an argument is neither a number of 64 bits nor a buffer");
		else if (materialize(item, 0, &words[count]))
			return BAD;
	}
	return 0;
}

static void add_out(struct text *answer)
{
	const char *separator = "";

	text_str(answer, ",\"out\":[");
	for (unsigned int i = 0; i < used; i++) {
		if (!buffers[i].wanted)
			continue;
		text_str(answer, separator);
		text_str(answer, "\"");
		text_hex(answer, buffers[i].memory, buffers[i].size);
		text_str(answer, "\"");
		separator = ",";
	}
	text_str(answer, "]");
}

static int make_call(long number, const long words[ARGUMENTS], struct text *answer)
{
	int error = starve_begin();
	long value;

	if (error)
		return error;
	errno = 0;
	value = syscall(number, words[0], words[1], words[2], words[3], words[4], words[5]);
	error = value == -1 ? errno : 0;
	starve_end();
	add_number(answer, "value", value);
	add_number(answer, "errno", error);
	add_out(answer);
	return 0;
}

int user_syscall(const struct request *request, struct text *answer)
{
	long words[ARGUMENTS] = { 0 };
	struct slice args;
	long long number;
	int error;

	if (arg_number(request->args, "number", &number) || arg_array(request->args, "args", &args))
		return BAD;
	error = prepare(args, words);
	if (!error)
		error = make_call((long)number, words, answer);
	release();
	return error;
}

static struct {
	long long nth;
	int fd;
	bool met;
} failslab = { .fd = -1 };

int user_starve(const struct request *request, struct text *answer)
{
	bool met = failslab.met;

	if (arg_number(request->args, "nth", &failslab.nth))
		return BAD;
	failslab.met = false;
	return add_value(answer, met);
}

int starve_begin(void)
{
	struct text digits = { 0 };
	ssize_t written;
	int error;

	if (!failslab.nth)
		return 0;
	failslab.fd = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	if (failslab.fd < 0) {
		failslab.nth = 0;
		return errno;
	}
	text_number(&digits, failslab.nth);
	failslab.nth = 0;
	written = pwrite(failslab.fd, digits.data, digits.len, 0);
	error = written < 0 ? errno : 0;
	text_free(&digits);
	if (error) {
		close(failslab.fd);
		failslab.fd = -1;
	}
	return error;
}

void starve_end(void)
{
	char left[NUMBER_BYTES] = "";

	if (failslab.fd < 0)
		return;
	failslab.met = pread(failslab.fd, left, sizeof(left) - 1, 0) > 0 && atoi(left) == 0;
	if (pwrite(failslab.fd, "0", 1, 0) != 1)
		failslab.met = false;
	close(failslab.fd);
	failslab.fd = -1;
}
