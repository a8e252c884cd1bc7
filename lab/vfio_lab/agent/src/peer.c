/* The router's side of each user. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peer.h"
#include "watch.h"

#define QUEUE_MAX (TEXT_MAX / 2) /* a user has room for it, and for what is read with it */

struct peer peers[PEERS];
static int highest; /* no peer is at or above this place */

struct peer *peer_find(pid_t pid)
{
	for (int i = 0; i < highest; i++) {
		if (peers[i].pid == pid)
			return &peers[i];
	}
	return NULL;
}

static struct peer *vacant(void)
{
	struct peer *peer = peer_find(0);

	if (!peer && highest < PEERS)
		peer = &peers[highest++];
	return peer;
}

struct peer *peer_adopt(pid_t pid, int socket)
{
	struct peer *peer = peer_find(pid) ? NULL : vacant();

	if (!peer) {
		bad("there are %d users already, or two with pid %d", PEERS, pid);
		return NULL;
	}
	peer->end = (int)syscall(SYS_pidfd_open, pid, 0);
	if (peer->end < 0 || watch(peer->end, END, pid, EPOLLIN, false) ||
	    watch(socket, PEER, pid, EPOLLIN, false)) {
		bad("no user can be watched: errno %d", errno);
		if (peer->end >= 0)
			close(peer->end);
		return NULL;
	}
	peer->pid = pid;
	peer->socket = socket;
	peer->listening = true;
	return peer;
}

void peer_flush(struct peer *peer)
{
	struct text *queue = &peer->queue;
	uint32_t events = EPOLLIN;
	size_t done = 0;
	ssize_t sent;

	while (done < queue->len) {
		sent = send(peer->socket, queue->data + done, queue->len - done,
			    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno != EAGAIN)
			done = queue->len; /* it is going: its end answers for all of them */
		if (sent < 0)
			break;
		done += (size_t)sent;
	}
	if (!queue->len)
		return;
	memmove(queue->data, queue->data + done, queue->len - done);
	text_cut(queue, queue->len - done);
	if (queue->len)
		events |= EPOLLOUT;
	if (peer->listening)
		watch(peer->socket, PEER, peer->pid, events, true);
}

bool peer_send(struct peer *peer, struct slice line)
{
	size_t before = peer->queue.len;

	if (!peer->listening) {
		bad("the user with pid %d has hung up", peer->pid);
		return false;
	}
	text_add(&peer->queue, line.at, line.len);
	text_str(&peer->queue, "\n");
	if (peer->queue.full || peer->queue.len > QUEUE_MAX) {
		text_cut(&peer->queue, before);
		bad("the user with pid %d has %zu bytes of requests to take in", peer->pid, before);
		return false;
	}
	peer_flush(peer);
	return true;
}

bool peer_receive(struct peer *peer)
{
	ssize_t got;

	if (!peer->listening)
		return false;
	got = lines_fill(&peer->answers, peer->socket, MSG_DONTWAIT);
	if (got > 0)
		return true;
	if (got < 0 && errno == EAGAIN)
		return false;
	if (got < 0 && errno == EMSGSIZE)
		peer_kill(peer, SIGKILL); /* no user of ours says so much */
	unwatch(peer->socket);
	peer->listening = false;
	return false;
}

int peer_kill(const struct peer *peer, int signal)
{
	return (int)syscall(SYS_pidfd_send_signal, peer->end, signal, NULL, 0);
}

void peer_release(struct peer *peer)
{
	close(peer->end);
	close(peer->socket);
	text_free(&peer->answers.text);
	text_free(&peer->queue);
	memset(peer, 0, sizeof(*peer));
	while (highest && !peers[highest - 1].pid)
		highest--;
}

void peers_reap(void)
{
	struct peer *peer;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		peer = peer_find(pid);
		if (!peer)
			continue;
		peer->has_status = true;
		peer->status = status;
	}
}

void peers_kill(void)
{
	for (int i = 0; i < highest; i++) {
		if (peers[i].pid)
			peer_kill(&peers[i], SIGKILL);
	}
}
