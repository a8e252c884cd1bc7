/* The router's side of each user: its socket, its end, and who waits for that. */
#ifndef PEER_H
#define PEER_H

#include <stdint.h>
#include <sys/types.h>

#include "request.h"

#define PEERS 400 /* each has two descriptors, of 1024 */
#define WAITING 16

struct peer {
	pid_t pid; /* 0: nobody */
	int socket;
	int end; /* a pidfd */
	bool listening; /* its socket has not been closed by it */
	bool reserved; /* without an identity yet */
	bool has_status; /* false if its parent, another user, has it */
	int status;
	struct lines answers;
	struct text queue; /* requests that it has not taken in yet */
	long long waiting[WAITING]; /* ids of requests that are answered when it is gone */
	int waiters;
};

extern struct peer peers[PEERS];

struct peer *peer_find(pid_t pid);
/* Listen to a user and watch for its end; NULL with bad() if that cannot be. */
struct peer *peer_adopt(pid_t pid, int socket);
/* Queue a request and send what the socket takes; false with bad() if that cannot be. */
bool peer_send(struct peer *peer, struct slice line);
void peer_flush(struct peer *peer);
/* Take in what a user has answered; return whether there may be more. */
bool peer_receive(struct peer *peer);
/* Send a signal; -1 with errno if that cannot be. */
int peer_kill(const struct peer *peer, int signal);
/* Forget a user. */
void peer_release(struct peer *peer);
/* Reap who has ended, those too whose parent was a user that is no more. */
void peers_reap(void);
void peers_kill(void);

#endif
