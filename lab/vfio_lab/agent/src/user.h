/* A user: a process of its own that performs system calls for the host, one at a time. */
#ifndef USER_H
#define USER_H

#include <sys/socket.h>
#include <sys/un.h>

#include "request.h"

/* Where forked users meet the router. */
struct door {
	struct sockaddr_un address;
	socklen_t len;
};

/* Become a user who is asked on `control`. Everything else that is open is closed. */
void user_run(int control, const struct door *door) __attribute__((noreturn));

int user_become(const struct request *request, struct text *answer);
int user_syscall(const struct request *request, struct text *answer);
int user_starve(const struct request *request, struct text *answer);
int user_peek(const struct request *request, struct text *answer);
int user_poke(const struct request *request, struct text *answer);
int user_touch(const struct request *request, struct text *answer);
int user_read_file(const struct request *request, struct text *answer);
int user_write_file(const struct request *request, struct text *answer);
int user_readlink(const struct request *request, struct text *answer);
int user_listdir(const struct request *request, struct text *answer);
int user_survey(const struct request *request, struct text *answer);
int user_run_command(const struct request *request, struct text *answer);

/* Have the kernel kill this process when its parent ends, even inside a system call. */
void die_with_parent(void);

/* Have the kernel fail the allocation that is due in the call between these two. */
int starve_begin(void);
void starve_end(void);

#endif
