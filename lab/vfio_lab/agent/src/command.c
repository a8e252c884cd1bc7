/* Commands, run to their end, which we bring about if they are late or say their last words. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "user.h"

#define STREAMS 2
#define LISTEN_MS 1000
#define READ_BYTES ((size_t)64 << 10)
#define MOST_SAID ((size_t)16 << 20)
#define FAILURE 3 /* the descriptor on which a child tells why it cannot be the command */

struct command {
	pid_t pid;
	int end; /* a pidfd */
	int streams[STREAMS];
	struct text said[STREAMS];
	bool late;
};

static void become_command(char *const argv[], int out, int err, int failure)
{
	int null = open("/dev/null", O_RDONLY), error;

	dup2(null, STDIN_FILENO);
	/* Above all that is about to be overwritten. */
	out = fcntl(out, F_DUPFD, FAILURE + 1);
	err = fcntl(err, F_DUPFD, FAILURE + 1);
	failure = fcntl(failure, F_DUPFD, FAILURE + 1);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	dup3(failure, FAILURE, O_CLOEXEC);
	syscall(SYS_close_range, FAILURE + 1, ~0U, 0);
	signal(SIGPIPE, SIG_DFL);
	execvp(argv[0], argv);
	error = errno;
	if (write(FAILURE, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

/* Return 0 if the command runs, or the errno of its execve(). */
static int await_exec(struct command *command, int failure)
{
	int error;

	if (read(failure, &error, sizeof(error)) != sizeof(error))
		return 0;
	waitpid(command->pid, NULL, 0);
	return error;
}

static int start(struct command *command, char *const argv[])
{
	int out[2], err[2], failure[2], error = 0;

	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC) || pipe2(failure, O_CLOEXEC))
		return errno;
	command->pid = fork();
	if (command->pid < 0)
		error = errno;
	if (!command->pid)
		become_command(argv, out[1], err[1], failure[1]);
	close(out[1]);
	close(err[1]);
	close(failure[1]);
	command->streams[0] = out[0];
	command->streams[1] = err[0];
	if (!error)
		error = await_exec(command, failure[0]);
	close(failure[0]);
	if (!error) {
		command->end = (int)syscall(SYS_pidfd_open, command->pid, 0);
		return 0;
	}
	close(out[0]);
	close(err[0]);
	return error;
}

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void hear(struct command *command, int stream)
{
	struct text *said = &command->said[stream];
	char *place = text_reserve(said, READ_BYTES);
	ssize_t got = place && said->len < MOST_SAID ?
			      read(command->streams[stream], place, READ_BYTES) : 0;

	if (got > 0) {
		said->len += (size_t)got;
		return;
	}
	close(command->streams[stream]);
	command->streams[stream] = -1;
}

/* Hear what the command has said by now; false if there is nothing for `timeout_ms`. */
static bool hear_some(struct command *command, int timeout_ms)
{
	struct pollfd watched[STREAMS] = {
		{ .fd = command->streams[0], .events = POLLIN },
		{ .fd = command->streams[1], .events = POLLIN },
	};

	if (poll(watched, STREAMS, timeout_ms) <= 0)
		return false;
	for (int i = 0; i < STREAMS; i++) {
		if (watched[i].revents)
			hear(command, i);
	}
	return true;
}

/* Wait for something to happen; return whether the command has ended, and said all. */
static bool listen_once(struct command *command, long long until)
{
	struct pollfd end = { .fd = command->end, .events = POLLIN };
	long long left = until - now_ms();
	int timeout_ms = left > 0 ? (int)left : 0;

	/* The end alone is not enough: what it said may still be in the pipes. */
	if (command->streams[0] < 0 && command->streams[1] < 0)
		return poll(&end, 1, timeout_ms) > 0;
	hear_some(command, timeout_ms);
	return false;
}

static bool said_one_of(const struct command *command, const struct words *last_words)
{
	for (int i = 0; i < last_words->count; i++) {
		const char *word = last_words->list[i];

		for (int stream = 0; stream < STREAMS; stream++) {
			const struct text *said = &command->said[stream];

			if (said->len && memmem(said->data, said->len, word, strlen(word)))
				return true;
		}
	}
	return false;
}

/* Listen until the command ends, is late, or has said a last word and not ended at once. */
static void listen_to(struct command *command, long long timeout_ms, const struct words *last_words)
{
	long long deadline = now_ms() + timeout_ms;
	long long check = now_ms() + LISTEN_MS;

	while (!listen_once(command, check < deadline ? check : deadline)) {
		if (now_ms() >= check) {
			if (said_one_of(command, last_words))
				return;
			check = now_ms() + LISTEN_MS;
		}
		if (now_ms() >= deadline) {
			command->late = true;
			return;
		}
	}
}

static int finish(struct command *command, struct text *answer)
{
	static const char *const names[STREAMS] = { "stdout", "stderr" };
	bool too_much = false;
	int status = 0;

	kill(command->pid, SIGKILL); /* which does nothing to one that has ended */
	waitpid(command->pid, &status, 0);
	while (hear_some(command, 0)) /* one stream may have said its last words, the other more */
		;
	close(command->end);
	add_value(answer, exit_code(status));
	text_str(answer, command->late ? ",\"late\":true" : ",\"late\":false");
	for (int i = 0; i < STREAMS; i++) {
		if (command->streams[i] >= 0)
			close(command->streams[i]);
		too_much |= command->said[i].full || command->said[i].len >= MOST_SAID;
		add_string(answer, names[i], command->said[i].data, command->said[i].len);
		text_free(&command->said[i]);
	}
	return too_much ? bad("the command said more than %zu bytes", MOST_SAID) : 0;
}

static int run(const struct request *request, struct words *argv, struct words *last_words,
	       struct text *answer)
{
	struct command command = { .end = -1 };
	long long timeout_ms;
	int error;

	if (arg_words(request->args, "argv", argv) ||
	    arg_words(request->args, "last_words", last_words) ||
	    arg_number(request->args, "timeout_ms", &timeout_ms))
		return BAD;
	if (!argv->count || timeout_ms < 0 || timeout_ms > 1LL << 40)
		return bad("a command has a name, and less than a few years");
	error = start(&command, argv->list);
	if (error)
		return error;
	listen_to(&command, timeout_ms, last_words);
	return finish(&command, answer);
}

int user_run_command(const struct request *request, struct text *answer)
{
	static struct words argv, last_words;
	int error;

	memset(&argv, 0, sizeof(argv));
	memset(&last_words, 0, sizeof(last_words));
	error = run(request, &argv, &last_words, answer);
	free(argv.memory);
	free(last_words.memory);
	return error;
}
