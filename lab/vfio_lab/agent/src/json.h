/*
 * JSON, read where it stands: a value is a piece of the line that it came in, and nothing is
 * allocated for it. json_check() must have accepted the whole text before anything else looks
 * into it.
 */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "text.h"

/* Whether the text is one JSON value, nested no deeper than the reader follows. */
bool json_check(struct slice text, struct slice *value);
/* Find a member of an object. Of two with the same name, it is the first. */
bool json_get(struct slice object, const char *name, struct slice *value);
bool json_is_object(struct slice value);
bool json_is_array(struct slice value);
bool json_is_true(struct slice value);

/*
 * Step through an array. `place` is NULL before the first step:
 *	for (const char *place = NULL; json_each(array, &place, &item);)
 */
bool json_each(struct slice array, const char **place, struct slice *item);

/* Return an integer between -2^63 and 2^64 - 1; the latter half of them wraps around. */
bool json_number(struct slice value, long long *number);
/* Copy a string and end it with a 0 byte; fail if it has one inside or does not fit. */
bool json_string(struct slice value, char *room, size_t size);
/* The number of bytes that a string of hex digits stands for, -1 if it is none. */
long json_hex_size(struct slice value);
/* Store those bytes; json_hex_size() must have said how many there are. */
void json_hex(struct slice value, unsigned char *room);

#endif
