/*
 * The resident process: passes requests to users, starts them, and reports their end.
 *
 * One request a line, `PID {json}`; PID 0 is the router itself. One answer a line, `{json}` with
 * the request's `id`; `{"event": "exit", ...}` comes unasked. The router opens no device, so what
 * a user holds, only that user holds.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine.h"
#include "peer.h"
#include "router.h"
#include "user.h"
#include "watch.h"

#define WELCOME "welcome\n"
#define BACKLOG 16
#define RESERVE 64 /* more users in reserve than any host asks for */

static struct {
	int incoming, outgoing;
	int listener;
	bool hung_up;
	struct door door;
	struct lines requests;
	struct text answer;
} router;

/* Send to the host, who may have hung up. */
static void tell(const char *data, size_t len)
{
	if (!router.hung_up && send_all(router.outgoing, data, len))
		router.hung_up = true;
}

static void tell_answer(void)
{
	tell(router.answer.data, router.answer.len);
}

static int new_door(void)
{
	/* The kernel picks an abstract address that nobody else has. */
	static const struct sockaddr any = { .sa_family = AF_UNIX };
	struct door *door = &router.door;

	door->len = sizeof(door->address);
	router.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (router.listener < 0 || bind(router.listener, &any, sizeof(any.sa_family)) ||
	    getsockname(router.listener, (struct sockaddr *)&door->address, &door->len))
		return -1;
	return listen(router.listener, BACKLOG);
}

/* A user forked a child, which now introduces itself. */
static void admit(void)
{
	int socket = accept4(router.listener, NULL, NULL, SOCK_CLOEXEC);
	struct ucred who;
	socklen_t len = sizeof(who);

	if (socket < 0)
		return;
	/* One that is gone already has been adopted, and will be reaped. */
	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &len) || !peer_adopt(who.pid, socket))
		close(socket);
	else
		send(socket, WELCOME, sizeof(WELCOME) - 1, MSG_NOSIGNAL);
}

/* Fork a user that serves requests; NULL with bad() if that cannot be. */
static struct peer *fork_user(void)
{
	struct peer *peer;
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) {
		bad("no socket for a user: errno %d", errno);
		return NULL;
	}
	pid = fork();
	if (!pid)
		user_run(ends[1], &router.door);
	close(ends[1]);
	if (pid < 0)
		bad("no process for a user: errno %d", errno);
	peer = pid < 0 ? NULL : peer_adopt(pid, ends[0]);
	if (!peer)
		close(ends[0]); /* and the user ends */
	return peer;
}

/* Pass a user's answers on, whole lines at a time. */
static bool pass_on(struct peer *peer)
{
	struct slice whole;

	if (!peer_receive(peer))
		return false;
	if (lines_all(&peer->answers, &whole))
		tell(whole.at, whole.len);
	return true;
}

static void add_exit(struct text *answer, const struct peer *peer)
{
	if (peer->has_status)
		add_number(answer, "exit", exit_code(peer->status));
	else
		text_str(answer, ",\"exit\":null");
}

/* Report a user's end; only now has the kernel released all that it held. */
static void bury(struct peer *peer)
{
	struct text *answer = &router.answer;
	struct peer gone;

	while (pass_on(peer)) /* its last answers come before the news of its end */
		;
	peers_reap();
	gone = *peer;
	peer_release(peer);
	text_cut(answer, 0);
	text_str(answer, "{\"event\":\"exit\"");
	add_number(answer, "pid", gone.pid);
	add_exit(answer, &gone);
	answer_end(answer);
	tell_answer();
	for (int i = 0; i < gone.waiters; i++) {
		answer_begin(answer, gone.waiting[i]);
		add_exit(answer, &gone);
		answer_end(answer);
		tell_answer();
	}
}

/* Fork users in reserve: they wait, warm, for `spawn` to give them an identity. */
static int do_reserve(const struct request *request, struct text *answer)
{
	const char *separator = "";
	struct peer *peer;
	long long count;

	if (arg_number(request->args, "count", &count))
		return BAD;
	if (count < 0 || count > RESERVE)
		return bad("at most %d users can be put in reserve", RESERVE);
	for (; count > 0; count--) {
		peer = fork_user();
		if (!peer)
			return BAD;
		peer->reserved = true;
	}
	text_str(answer, ",\"pids\":[");
	for (int i = 0; i < PEERS; i++) {
		if (!peers[i].reserved)
			continue;
		text_str(answer, separator);
		text_number(answer, peers[i].pid);
		separator = ",";
	}
	text_str(answer, "]");
	return 0;
}

/* Give a user in reserve an identity; the user itself answers. */
static int do_spawn(const struct request *request, struct text *answer)
{
	struct peer *peer = NULL;
	struct slice line;
	size_t start = answer->len;

	for (int i = 0; i < PEERS && !peer; i++) {
		if (peers[i].reserved)
			peer = &peers[i];
	}
	if (!peer)
		peer = fork_user();
	if (!peer)
		return BAD;
	peer->reserved = false;
	text_str(answer, ",\"op\":\"become\",\"args\":");
	text_add(answer, request->args.at, request->args.len);
	text_str(answer, "}");
	line.at = answer->data;
	line.len = answer->len;
	if (answer->full || !peer_send(peer, line)) {
		text_cut(answer, start);
		return bad("the new user is gone");
	}
	return LATER;
}

static struct peer *addressed(long long pid)
{
	struct peer *peer = pid > 0 && pid <= INT_MAX ? peer_find((pid_t)pid) : NULL;

	if (!peer)
		bad("there is no user with pid %lld", pid);
	return peer;
}

/* Send a signal; the answer comes when the user is gone. */
static int do_kill(const struct request *request, struct text *answer)
{
	long long pid, signal;
	struct peer *peer;

	(void)answer;
	if (arg_number(request->args, "pid", &pid) || arg_number(request->args, "signal", &signal))
		return BAD;
	peer = addressed(pid);
	if (!peer)
		return BAD;
	if (peer->waiters == WAITING)
		return bad("%d requests wait for its end already", WAITING);
	/* ESRCH: its end is known to the kernel and about to be told to us. */
	if (signal < 0 || signal > NSIG || (peer_kill(peer, (int)signal) && errno != ESRCH))
		return bad("signal %lld cannot be sent to pid %lld", signal, pid);
	peer->waiting[peer->waiters++] = request->id;
	return LATER;
}

/* Add every PCI function, and what every user has open, by pid. */
static int do_snapshot(const struct request *request, struct text *answer)
{
	const char *separator = "\"";
	char folder[PATH_MAX];

	if (arg_string(request->args, "folder", folder, sizeof(folder)))
		return BAD;
	text_str(answer, ",\"functions\":");
	if (add_functions(answer, folder))
		return BAD;
	text_str(answer, ",\"descriptors\":{");
	for (int i = 0; i < PEERS; i++) {
		if (!peers[i].pid || peers[i].reserved)
			continue;
		text_str(answer, separator);
		text_number(answer, peers[i].pid);
		text_str(answer, "\":");
		add_descriptors(answer, peers[i].pid);
		separator = ",\"";
	}
	text_str(answer, "}");
	return 0;
}

static const struct operation OPERATIONS[] = {
	{ "kernel_log", machine_kernel_log },
	{ "kill", do_kill },
	{ "mark", machine_mark },
	{ "reserve", do_reserve },
	{ "snapshot", do_snapshot },
	{ "spawn", do_spawn },
	{ "wake", machine_wake },
	{ NULL, NULL },
};

/* Hand a request to the user it is for, or do it. */
static void route(struct slice line)
{
	long long pid = 0;
	struct peer *peer;
	size_t digits = 0;

	while (digits < line.len && digits < 10 && line.at[digits] >= '0' && line.at[digits] <= '9')
		pid = pid * 10 + line.at[digits++] - '0';
	line.at += digits;
	line.len -= digits;
	if (!digits)
		line.len = 0; /* no address, no request */
	if (digits && !pid) {
		request_perform(OPERATIONS, line, &router.answer);
	} else {
		peer = addressed(pid);
		if (peer && peer_send(peer, line))
			return;
		request_refuse(line, &router.answer);
	}
	tell_answer();
}

/* Take in requests; the end of the carrier is the end of the agent. */
static void read_carrier(void)
{
	ssize_t got = lines_fill(&router.requests, router.incoming, 0);
	struct slice line;

	if (got < 0 && errno == EMSGSIZE) {
		request_refuse((struct slice){ 0 }, &router.answer);
		tell_answer();
	} else if (got <= 0) {
		router.hung_up = true;
	}
	while (lines_next(&router.requests, &line)) {
		if (line.len)
			route(line);
	}
}

static void handle(const struct happening *what)
{
	struct peer *peer = peer_find(what->pid);

	if (what->source == CARRIER)
		read_carrier();
	else if (what->source == DOOR)
		admit();
	else if (peer && what->source == END)
		bury(peer);
	else if (peer && what->events & EPOLLOUT)
		peer_flush(peer);
	else if (peer)
		pass_on(peer);
}

static void ignore(int signal)
{
	(void)signal;
}

/* What users' daemons leave behind is ours to reap, and some of them wait for that. */
static void expect_orphans(sigset_t *open)
{
	struct sigaction action = { .sa_handler = ignore };
	sigset_t children;

	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	sigaction(SIGCHLD, &action, NULL);
	sigemptyset(open);
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_BLOCK, &children, NULL); /* but for the moments of waiting */
}

int router_serve(int incoming, int outgoing)
{
	struct happening what;
	sigset_t open;

	router.incoming = incoming;
	router.outgoing = outgoing;
	watch_open();
	signal(SIGPIPE, SIG_IGN);
	expect_orphans(&open);
	if (new_door() || watch(incoming, CARRIER, 0, EPOLLIN, false) ||
	    watch(router.listener, DOOR, 0, EPOLLIN, false))
		return 1;
	text_str(&router.answer, "{\"event\":\"ready\"");
	add_number(&router.answer, "pid", getpid());
	answer_end(&router.answer);
	tell_answer();
	while (!router.hung_up) {
		if (watch_next(&what, &open))
			handle(&what);
		else
			peers_reap();
	}
	peers_kill();
	return 0;
}
