/*
 * A user: a process of its own that performs system calls for the host, one at a time. It knows
 * no vfio.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "user.h"

#define CONTROL 3 /* the first descriptor after the standard ones, so that theirs are in a row */
#define WELCOME "welcome\n"

static struct door door;
static struct lines requests;
static struct text answer_text;

static void serve(void) __attribute__((noreturn));

void die_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

static void hold_nothing_but(int control)
{
	if (control != CONTROL)
		dup3(control, CONTROL, O_CLOEXEC);
	syscall(SYS_close_range, CONTROL + 1, ~0U, 0);
}

/* Have the router take a forked user in. */
static int introduce(void)
{
	int control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char word[sizeof(WELCOME) - 1];

	if (control < 0 || connect(control, (const struct sockaddr *)&door.address, door.len))
		return -1;
	if (recv(control, word, sizeof(word), MSG_WAITALL) != sizeof(word))
		return -1;
	dup3(control, CONTROL, O_CLOEXEC);
	close(control);
	return 0;
}

static void be_child(int tell)
{
	if (introduce())
		_exit(71);
	if (write(tell, "!", 1) != 1)
		_exit(72);
	close(tell);
	text_cut(&requests.text, 0);
	requests.taken = requests.seen = 0;
	serve();
}

/* The child shares every open file and introduces itself to the router. */
static int user_fork(const struct request *request, struct text *answer)
{
	char admitted;
	int ends[2];
	ssize_t told;
	pid_t pid;

	(void)request;
	if (pipe2(ends, O_CLOEXEC))
		return errno;
	pid = fork();
	if (!pid) {
		close(ends[0]);
		be_child(ends[1]);
	}
	close(ends[1]);
	told = pid < 0 ? 0 : read(ends[0], &admitted, 1);
	close(ends[0]);
	return told == 1 ? add_value(answer, pid) : ESRCH;
}

static const struct operation OPERATIONS[] = {
	{ "become", user_become },
	{ "fork", user_fork },
	{ "listdir", user_listdir },
	{ "peek", user_peek },
	{ "poke", user_poke },
	{ "read_file", user_read_file },
	{ "readlink", user_readlink },
	{ "run", user_run_command },
	{ "starve", user_starve },
	{ "survey", user_survey },
	{ "syscall", user_syscall },
	{ "touch", user_touch },
	{ "write_file", user_write_file },
	{ NULL, NULL },
};

/* Answer until the router hangs up. */
static void serve(void)
{
	struct slice line;

	while (lines_fill(&requests, CONTROL, 0) > 0) {
		while (lines_next(&requests, &line)) {
			/* No command runs between requests: whoever has ended was forked. */
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
			request_perform(OPERATIONS, line, &answer_text);
			if (send_all(CONTROL, answer_text.data, answer_text.len))
				_exit(0);
		}
	}
	_exit(0);
}

void user_run(int control, const struct door *where)
{
	sigset_t none;

	door = *where;
	hold_nothing_but(control);
	signal(SIGHUP, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	die_with_parent();
	serve();
}
