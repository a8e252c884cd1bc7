/* Requests: finding out what is asked, having it done, and answering whatever happens. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "request.h"

#define NAME_BYTES 32
#define ANSWER_MAX (TEXT_MAX / 2) /* the router has a text for it, and what was read with it */

static char reason[256];

int bad(const char *format, ...)
{
	va_list values;

	va_start(values, format);
	vsnprintf(reason, sizeof(reason), format, values);
	va_end(values);
	return BAD;
}

void answer_begin(struct text *answer, long long id)
{
	text_cut(answer, 0);
	text_str(answer, "{\"id\":");
	text_number(answer, id);
}

void answer_end(struct text *answer)
{
	text_str(answer, "}\n");
}

static void refuse(struct text *answer)
{
	add_string(answer, "error", reason, strlen(reason));
}

static int perform(const struct operation *operations, const struct request *request,
		   struct slice line, struct text *answer)
{
	char name[NAME_BYTES];

	if (arg_string(line, "op", name, sizeof(name)))
		return BAD;
	for (; operations->name; operations++) {
		if (!strcmp(operations->name, name))
			return operations->perform(request, answer);
	}
	return bad("there is no operation %s", name);
}

/* Turn a line into a request; a line that has no id cannot be answered, only complained about. */
static bool understand(struct slice *line, struct request *request, struct text *answer)
{
	static const struct slice nothing = { "{}", 2 };
	struct slice id;

	if (json_check(*line, line) && json_get(*line, "id", &id) &&
	    json_number(id, &request->id)) {
		if (!json_get(*line, "args", &request->args) || !json_is_object(request->args))
			request->args = nothing;
		return true;
	}
	text_cut(answer, 0);
	text_str(answer, "{\"error\":\"this is no request\"}\n");
	return false;
}

void request_perform(const struct operation *operations, struct slice line, struct text *answer)
{
	struct request request;
	size_t start;
	int error;

	if (!understand(&line, &request, answer))
		return;
	answer_begin(answer, request.id);
	start = answer->len;
	error = perform(operations, &request, line, answer);
	if (error == LATER) {
		text_cut(answer, 0);
		return;
	}
	if (!error && (answer->full || answer->len > ANSWER_MAX))
		error = bad("the answer has more than %zu bytes", ANSWER_MAX);
	if (error)
		text_cut(answer, start);
	if (error == BAD) {
		refuse(answer);
	} else if (error) {
		add_number(answer, "value", -1);
		add_number(answer, "errno", error);
	}
	answer_end(answer);
}

void request_refuse(struct slice line, struct text *answer)
{
	struct request request;

	if (!understand(&line, &request, answer))
		return;
	answer_begin(answer, request.id);
	refuse(answer);
	answer_end(answer);
}

int arg_any(struct slice args, const char *name, struct slice *value)
{
	return json_get(args, name, value) ? 0 : bad("the request has no %s", name);
}

int arg_number(struct slice args, const char *name, long long *number)
{
	struct slice value;

	if (arg_any(args, name, &value))
		return BAD;
	return json_number(value, number) ? 0 : bad("%s is no number of 64 bits", name);
}

int arg_size(struct slice args, const char *name, size_t *size)
{
	long long number;

	if (arg_number(args, name, &number))
		return BAD;
	if (number < 0 || number > (long long)TEXT_MAX / 2)
		return bad("%s is beyond %zu", name, TEXT_MAX / 2);
	*size = (size_t)number;
	return 0;
}

int arg_array(struct slice args, const char *name, struct slice *array)
{
	if (arg_any(args, name, array))
		return BAD;
	return json_is_array(*array) ? 0 : bad("%s is no array", name);
}

int arg_string(struct slice args, const char *name, char *room, size_t size)
{
	struct slice value;

	if (arg_any(args, name, &value))
		return BAD;
	if (!json_string(value, room, size))
		return bad("%s is no string below %zu bytes", name, size);
	return 0;
}

int arg_bytes(struct slice args, const char *name, unsigned char **bytes, size_t *size)
{
	struct slice value;
	long count;

	if (arg_any(args, name, &value))
		return BAD;
	count = json_hex_size(value);
	if (count < 0)
		return bad("%s is not in hex", name);
	*size = (size_t)count;
	*bytes = malloc(*size + 1);
	if (!*bytes)
		return bad("there is no memory for %s", name);
	json_hex(value, *bytes);
	return 0;
}

static void add_name(struct text *answer, const char *name)
{
	text_str(answer, ",\"");
	text_str(answer, name);
	text_str(answer, "\":");
}

int arg_words(struct slice args, const char *name, struct words *words)
{
	struct slice array, item;
	size_t room;
	char *at;

	if (arg_array(args, name, &array))
		return BAD;
	room = array.len; /* a string is never longer than its JSON */
	at = words->memory = malloc(room);
	if (!at)
		return bad("there is no memory for %s", name);
	for (const char *place = NULL; json_each(array, &place, &item); words->count++) {
		if (words->count == WORDS || !json_string(item, at, room))
			return bad("%s is no array of at most %d strings", name, WORDS);
		words->list[words->count] = at;
		room -= strlen(at) + 1;
		at += strlen(at) + 1;
	}
	return 0;
}

void add_number(struct text *answer, const char *name, long long number)
{
	add_name(answer, name);
	text_number(answer, number);
}

void add_string(struct text *answer, const char *name, const char *data, size_t len)
{
	add_name(answer, name);
	text_json(answer, data, len);
}

void add_hex(struct text *answer, const char *name, const void *data, size_t len)
{
	add_name(answer, name);
	text_str(answer, "\"");
	text_hex(answer, data, len);
	text_str(answer, "\"");
}

int add_value(struct text *answer, long long value)
{
	add_number(answer, "value", value);
	add_number(answer, "errno", 0);
	return 0;
}

int exit_code(int status)
{
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int send_all(int fd, const char *data, size_t len)
{
	ssize_t sent;

	while (len) {
		sent = write(fd, data, len);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return -1;
		data += sent;
		len -= (size_t)sent;
	}
	return 0;
}
