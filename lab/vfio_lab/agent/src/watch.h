/* The descriptors that the main loop waits for. */
#ifndef WATCH_H
#define WATCH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum source { CARRIER, DOOR, PEER, END };

struct happening {
	enum source source;
	pid_t pid;
	uint32_t events;
};

/* Begin with no descriptor. */
void watch_open(void);
/* Wait for a descriptor, or change what is awaited (`again`); -1 with errno if that cannot be. */
int watch(int fd, enum source source, pid_t pid, uint32_t events, bool again);
void unwatch(int fd);
/* Wait for the next event with only these signals blocked; false if a signal came instead. */
bool watch_next(struct happening *what, const sigset_t *blocked);

#endif
