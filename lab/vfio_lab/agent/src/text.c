/* Text that grows as far as a bound, and lines that are taken from a stream. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "text.h"

#define SMALLEST ((size_t)4 << 10)
#define KEPT ((size_t)1 << 20) /* what a text that was long keeps of its memory */
#define READ_BYTES ((size_t)64 << 10)

static const char DIGITS[] = "0123456789abcdef";

char *text_reserve(struct text *text, size_t extra)
{
	size_t room = text->room ? text->room : SMALLEST;
	char *data;

	if (extra > TEXT_MAX - text->len) {
		text->full = true;
		return NULL;
	}
	while (room < text->len + extra)
		room *= 2;
	if (room != text->room) {
		data = realloc(text->data, room);
		if (!data) {
			text->full = true;
			return NULL;
		}
		text->data = data;
		text->room = room;
	}
	return text->data + text->len;
}

void text_add(struct text *text, const char *data, size_t len)
{
	char *place = len ? text_reserve(text, len) : NULL;

	if (!place)
		return;
	memcpy(place, data, len);
	text->len += len;
}

void text_str(struct text *text, const char *string)
{
	text_add(text, string, strlen(string));
}

void text_number(struct text *text, long long number)
{
	unsigned long long rest = (unsigned long long)number;
	char digits[24];
	size_t at = sizeof(digits);

	if (number < 0)
		rest = -rest;
	do {
		digits[--at] = DIGITS[rest % 10];
		rest /= 10;
	} while (rest);
	if (number < 0)
		digits[--at] = '-';
	text_add(text, digits + at, sizeof(digits) - at);
}

void text_hex(struct text *text, const void *data, size_t len)
{
	const unsigned char *bytes = data;
	char *place;

	if (len > TEXT_MAX) {
		text->full = true;
		return;
	}
	place = text_reserve(text, 2 * len);
	if (!place)
		return;
	for (size_t i = 0; i < len; i++) {
		*place++ = DIGITS[bytes[i] >> 4];
		*place++ = DIGITS[bytes[i] & 0xf];
	}
	text->len += 2 * len;
}

static bool is_plain(char c)
{
	return (unsigned char)c >= 0x20 && c != '"' && c != '\\';
}

void text_json(struct text *text, const char *data, size_t len)
{
	char escape[] = "\\u00xx";
	size_t plain = 0;

	text_str(text, "\"");
	for (size_t i = 0; i < len; i++) {
		if (is_plain(data[i])) {
			plain++;
			continue;
		}
		text_add(text, data + i - plain, plain);
		plain = 0;
		escape[4] = DIGITS[(unsigned char)data[i] >> 4];
		escape[5] = DIGITS[data[i] & 0xf];
		text_add(text, escape, sizeof(escape) - 1);
	}
	text_add(text, data + len - plain, plain);
	text_str(text, "\"");
}

void text_cut(struct text *text, size_t len)
{
	char *data;

	text->len = len;
	text->full = false;
	if (text->room <= KEPT || len > KEPT)
		return;
	data = realloc(text->data, KEPT);
	if (data) {
		text->data = data;
		text->room = KEPT;
	}
}

void text_free(struct text *text)
{
	free(text->data);
	memset(text, 0, sizeof(*text));
}

static void drop_taken(struct lines *lines)
{
	struct text *text = &lines->text;

	if (!lines->taken)
		return;
	memmove(text->data, text->data + lines->taken, text->len - lines->taken);
	lines->seen -= lines->taken;
	text_cut(text, text->len - lines->taken);
	lines->taken = 0;
}

ssize_t lines_fill(struct lines *lines, int fd, int flags)
{
	struct text *text = &lines->text;
	ssize_t got;
	char *place;

	drop_taken(lines);
	place = text_reserve(text, READ_BYTES);
	if (!place) {
		text_cut(text, 0);
		lines->seen = 0;
		lines->skipping = true;
		errno = EMSGSIZE;
		return -1;
	}
	do {
		got = flags ? recv(fd, place, READ_BYTES, flags) : read(fd, place, READ_BYTES);
	} while (got < 0 && errno == EINTR);
	if (got > 0)
		text->len += (size_t)got;
	return got;
}

bool lines_next(struct lines *lines, struct slice *line)
{
	struct text *text = &lines->text;
	const char *start, *newline;

	if (lines->seen == text->len)
		return false;
	start = text->data + lines->taken;
	newline = memchr(text->data + lines->seen, '\n', text->len - lines->seen);
	if (!newline) {
		lines->seen = text->len;
		return false;
	}
	line->at = start;
	line->len = (size_t)(newline - start);
	lines->taken += line->len + 1;
	lines->seen = lines->taken;
	if (!lines->skipping)
		return true;
	lines->skipping = false;
	return lines_next(lines, line);
}

bool lines_all(struct lines *lines, struct slice *whole)
{
	struct text *text = &lines->text;
	const char *last;

	if (lines->seen == text->len)
		return false;
	last = memrchr(text->data + lines->seen, '\n', text->len - lines->seen);
	lines->seen = text->len;
	if (!last)
		return false;
	whole->at = text->data + lines->taken;
	whole->len = (size_t)(last + 1 - whole->at);
	lines->taken += whole->len;
	return true;
}
