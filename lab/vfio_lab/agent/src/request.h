/* Requests: finding out what is asked, having it done, and answering whatever happens. */
#ifndef REQUEST_H
#define REQUEST_H

#include "json.h"
#include "text.h"

/* What an operation returns instead of 0 or an errno: */
#define BAD (-1)   /* the request cannot be done; bad() has said why */
#define LATER (-2) /* the answer comes from elsewhere */

struct request {
	long long id;
	struct slice args;
};

#define WORDS 256

/* Strings that end with a 0 byte, and after the last one NULL. */
struct words {
	char *memory;
	char *list[WORDS + 1];
	int count;
};

struct operation {
	const char *name;
	/*
	 * Add members to the answer, each with a comma in front, and return 0; or return the
	 * errno of a system call, BAD or LATER.
	 */
	int (*perform)(const struct request *request, struct text *answer);
};

/* Perform a request and leave its whole answer, with the newline. Empty if there is none yet. */
void request_perform(const struct operation *operations, struct slice line, struct text *answer);
/* Answer a request that cannot be performed. */
void request_refuse(struct slice line, struct text *answer);
/* Begin an answer; what is added then are members with a comma in front. */
void answer_begin(struct text *answer, long long id);
void answer_end(struct text *answer);

/* Say why a request is bad, in words for the host. */
int bad(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Arguments; each is 0 or BAD. */
int arg_any(struct slice args, const char *name, struct slice *value);
int arg_number(struct slice args, const char *name, long long *number);
int arg_size(struct slice args, const char *name, size_t *size);
int arg_array(struct slice args, const char *name, struct slice *array);
int arg_string(struct slice args, const char *name, char *room, size_t size);
/* Bytes in hex; free() them. */
int arg_bytes(struct slice args, const char *name, unsigned char **bytes, size_t *size);
/* An array of strings, into `words` that are all zero; free() their memory in any case. */
int arg_words(struct slice args, const char *name, struct words *words);

/* Members of an answer. */
void add_number(struct text *answer, const char *name, long long number);
void add_string(struct text *answer, const char *name, const char *data, size_t len);
void add_hex(struct text *answer, const char *name, const void *data, size_t len);
/* What a system call returned. */
int add_value(struct text *answer, long long value);

/* What a process that has ended returned, or -N for the signal N that killed it. */
int exit_code(int status);

/* Send all of it; -1 when the other end is gone. */
int send_all(int fd, const char *data, size_t len);

#endif
