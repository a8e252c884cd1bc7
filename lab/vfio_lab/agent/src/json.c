/* JSON, read where it stands. */
#include <limits.h>
#include <string.h>

#include "json.h"

#define DEEPEST 32

static const char *skip_value(const char *at, const char *end, int depth);

static const char *skip_space(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\r'))
		at++;
	return at;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Return what follows an escape, NULL if it is none; `at` is behind its backslash. */
static const char *skip_escape(const char *at, const char *end)
{
	if (at == end)
		return NULL;
	if (*at != 'u')
		return strchr("\"\\/bfnrt", *at) && *at ? at + 1 : NULL;
	if (end - at < 5)
		return NULL;
	for (int i = 1; i <= 4; i++) {
		if (digit(at[i]) < 0)
			return NULL;
	}
	return at + 5;
}

static const char *skip_string(const char *at, const char *end)
{
	if (at == end || *at++ != '"')
		return NULL;
	while (at && at < end && *at != '"') {
		if ((unsigned char)*at < 0x20)
			return NULL;
		at = *at == '\\' ? skip_escape(at + 1, end) : at + 1;
	}
	return at && at < end ? at + 1 : NULL;
}

static const char *skip_number(const char *at, const char *end)
{
	const char *start = at;

	while (at < end && *at && strchr("0123456789.eE+-", *at))
		at++;
	return at > start ? at : NULL;
}

static const char *skip_word(const char *at, const char *end, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(end - at) < len || memcmp(at, word, len))
		return NULL;
	return at + len;
}

/* Return what follows one member of an object or array, and the spaces around it. */
static const char *skip_member(const char *at, const char *end, char closing, int depth)
{
	at = skip_space(at, end);
	if (closing == '}') {
		at = skip_string(at, end);
		if (!at)
			return NULL;
		at = skip_space(at, end);
		if (at == end || *at++ != ':')
			return NULL;
	}
	at = skip_value(at, end, depth);
	return at ? skip_space(at, end) : NULL;
}

static const char *skip_members(const char *at, const char *end, char closing, int depth)
{
	at = skip_space(at, end);
	if (at < end && *at == closing)
		return at + 1;
	while (at) {
		at = skip_member(at, end, closing, depth);
		if (!at || at == end)
			return NULL;
		if (*at == closing)
			return at + 1;
		at = *at == ',' ? at + 1 : NULL;
	}
	return NULL;
}

static const char *skip_value(const char *at, const char *end, int depth)
{
	at = skip_space(at, end);
	if (at == end || depth > DEEPEST)
		return NULL;
	switch (*at) {
	case '{':
		return skip_members(at + 1, end, '}', depth + 1);
	case '[':
		return skip_members(at + 1, end, ']', depth + 1);
	case '"':
		return skip_string(at, end);
	case 't':
		return skip_word(at, end, "true");
	case 'f':
		return skip_word(at, end, "false");
	case 'n':
		return skip_word(at, end, "null");
	}
	return skip_number(at, end);
}

bool json_check(struct slice text, struct slice *value)
{
	const char *end = text.at + text.len;
	const char *start = skip_space(text.at, end);
	const char *after = skip_value(start, end, 0);

	if (!after || skip_space(after, end) != end)
		return false;
	value->at = start;
	value->len = (size_t)(after - start);
	return true;
}

static bool starts_with(struct slice value, char first)
{
	return value.len && *value.at == first;
}

bool json_is_object(struct slice value)
{
	return starts_with(value, '{');
}

bool json_is_array(struct slice value)
{
	return starts_with(value, '[');
}

bool json_is_true(struct slice value)
{
	return starts_with(value, 't');
}

/* Step to the next member; `*place` is at the comma before it, or NULL for the first. */
static const char *next_member(struct slice whole, const char **place)
{
	const char *end = whole.at + whole.len - 1;
	const char *at = skip_space(*place ? *place + 1 : whole.at + 1, end);

	return at < end ? at : NULL;
}

bool json_each(struct slice array, const char **place, struct slice *item)
{
	const char *end = array.at + array.len - 1;
	const char *at = next_member(array, place), *after;

	if (!at)
		return false;
	after = skip_value(at, end, 0);
	item->at = at;
	item->len = (size_t)(after - at);
	*place = skip_space(after, end);
	return true;
}

bool json_get(struct slice object, const char *name, struct slice *value)
{
	const char *end = object.at + object.len - 1;
	const char *place = NULL, *at, *after;
	size_t len = strlen(name);

	if (!json_is_object(object))
		return false;
	while ((at = next_member(object, &place))) {
		after = skip_string(at, end);
		value->at = skip_space(skip_space(after, end) + 1, end);
		place = skip_value(value->at, end, 0);
		value->len = (size_t)(place - value->at);
		place = skip_space(place, end);
		if ((size_t)(after - at) == len + 2 && !memcmp(at + 1, name, len))
			return true;
	}
	return false;
}

bool json_number(struct slice value, long long *number)
{
	bool negative = starts_with(value, '-');
	unsigned long long total = 0;

	if (value.len == negative)
		return false;
	for (size_t i = negative; i < value.len; i++) {
		if (value.at[i] < '0' || value.at[i] > '9')
			return false;
		if (__builtin_mul_overflow(total, 10ULL, &total) ||
		    __builtin_add_overflow(total, (unsigned long long)digit(value.at[i]), &total))
			return false;
	}
	if (negative && total > (unsigned long long)LLONG_MAX + 1)
		return false;
	*number = (long long)(negative ? -total : total);
	return true;
}

static unsigned int code_point(const char *at)
{
	unsigned int code = 0;

	for (int i = 0; i < 4; i++)
		code = code << 4 | (unsigned int)digit(at[i]);
	return code;
}

/* Read an escape; `*at` is behind its backslash, and behind the escape afterwards. */
static unsigned int unescape(const char **at)
{
	static const char names[] = "bfnrt", meant[] = "\b\f\n\r\t";
	const char *name = strchr(names, **at);
	unsigned int code, low;

	if (**at != 'u') {
		code = (unsigned char)(name ? meant[name - names] : **at);
		*at += 1;
		return code;
	}
	code = code_point(*at + 1);
	*at += 5;
	if (code >> 10 != 0xd800 >> 10 || (*at)[0] != '\\' || (*at)[1] != 'u')
		return code;
	low = code_point(*at + 2);
	if (low >> 10 != 0xdc00 >> 10)
		return code;
	*at += 6;
	return 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff);
}

/* Write a code point as UTF-8. Python has a byte that was none as 0xdc00 and the byte. */
static size_t encode(unsigned int code, unsigned char room[4])
{
	if (code < 0x80 || code >> 8 == 0xdc) {
		room[0] = (unsigned char)code;
		return 1;
	}
	if (code < 0x800) {
		room[0] = (unsigned char)(0xc0 | code >> 6);
		room[1] = (unsigned char)(0x80 | (code & 0x3f));
		return 2;
	}
	if (code < 0x10000) {
		room[0] = (unsigned char)(0xe0 | code >> 12);
		room[1] = (unsigned char)(0x80 | (code >> 6 & 0x3f));
		room[2] = (unsigned char)(0x80 | (code & 0x3f));
		return 3;
	}
	room[0] = (unsigned char)(0xf0 | code >> 18);
	room[1] = (unsigned char)(0x80 | (code >> 12 & 0x3f));
	room[2] = (unsigned char)(0x80 | (code >> 6 & 0x3f));
	room[3] = (unsigned char)(0x80 | (code & 0x3f));
	return 4;
}

bool json_string(struct slice value, char *room, size_t size)
{
	const char *at = value.at + 1, *end = value.at + value.len - 1;
	unsigned char bytes[4];
	size_t used = 0, len;

	if (!starts_with(value, '"'))
		return false;
	while (at < end) {
		if (*at == '\\') {
			at++;
			len = encode(unescape(&at), bytes);
		} else {
			len = 1;
			bytes[0] = (unsigned char)*at++;
		}
		if (!bytes[0] || len >= size - used)
			return false;
		memcpy(room + used, bytes, len);
		used += len;
	}
	room[used] = 0;
	return true;
}

long json_hex_size(struct slice value)
{
	if (!starts_with(value, '"') || value.len % 2)
		return -1;
	for (size_t i = 1; i < value.len - 1; i++) {
		if (digit(value.at[i]) < 0)
			return -1;
	}
	return (long)(value.len - 2) / 2;
}

void json_hex(struct slice value, unsigned char *room)
{
	for (size_t i = 1; i < value.len - 1; i += 2)
		*room++ = (unsigned char)(digit(value.at[i]) << 4 | digit(value.at[i + 1]));
}
