/* Text that grows as far as a bound, and lines that are taken from a stream. */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* As long as a text may become. The host's longest are files of 4 MiB, twice that in hex. */
#define TEXT_MAX ((size_t)32 << 20)

struct slice {
	const char *at;
	size_t len;
};

/* `full` is set when something did not fit, and stays set until the text is cut. */
struct text {
	char *data;
	size_t len;
	size_t room;
	bool full;
};

/* Make sure that `extra` bytes fit, and return where they go, or NULL. */
char *text_reserve(struct text *text, size_t extra);
void text_add(struct text *text, const char *data, size_t len);
void text_str(struct text *text, const char *string);
void text_number(struct text *text, long long number);
void text_hex(struct text *text, const void *data, size_t len);
/* Add a JSON string. Bytes above 0x7f stay as they are: the host replaces what is no UTF-8. */
void text_json(struct text *text, const char *data, size_t len);
/* Shorten the text, and give back memory that only a long one needs. */
void text_cut(struct text *text, size_t len);
void text_free(struct text *text);

struct lines {
	struct text text;
	size_t taken; /* bytes of `text` that are done with */
	size_t seen;  /* bytes of `text` that hold no newline beyond `taken` */
	bool skipping; /* the rest of a line that was too long */
};

/* Read once; return what read() does. A line that is too long is left out: -1 with EMSGSIZE. */
ssize_t lines_fill(struct lines *lines, int fd, int flags);
/* Take the next line, without its newline. It is valid until the next call of lines_fill(). */
bool lines_next(struct lines *lines, struct slice *line);
/* Take all whole lines, with their newlines. */
bool lines_all(struct lines *lines, struct slice *whole);

#endif
