/* The descriptors that the main loop waits for. */
#include <stddef.h>
#include <sys/epoll.h>

#include "watch.h"

static int events; /* an epoll */

void watch_open(void)
{
	events = epoll_create1(EPOLL_CLOEXEC);
}

int watch(int fd, enum source source, pid_t pid, uint32_t mask, bool again)
{
	uint64_t who = (uint64_t)source << 32 | (uint32_t)pid;
	struct epoll_event event = { .events = mask, .data.u64 = who };

	return epoll_ctl(events, again ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
}

void unwatch(int fd)
{
	epoll_ctl(events, EPOLL_CTL_DEL, fd, NULL);
}

bool watch_next(struct happening *what, const sigset_t *blocked)
{
	struct epoll_event event;

	if (epoll_pwait(events, &event, 1, -1, blocked) <= 0)
		return false;
	what->source = event.data.u64 >> 32;
	what->pid = (pid_t)(uint32_t)event.data.u64;
	what->events = event.events;
	return true;
}
