/* Entry point: `agent PORT` in a guest, `agent --stdio` behind an SSH channel. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "router.h"

static int serve_stdio(void)
{
	int incoming = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	int outgoing = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	dup2(null, STDIN_FILENO);
	dup2(STDERR_FILENO, STDOUT_FILENO); /* a stray print must not look like an answer */
	close(null);
	return router_serve(incoming, outgoing);
}

int main(int argc, char *argv[])
{
	int port;

	if (argc != 2) {
		dprintf(STDERR_FILENO, "usage: agent PORT | --stdio\n");
		return 2;
	}
	if (!strcmp(argv[1], "--stdio"))
		return serve_stdio();
	port = open(argv[1], O_RDWR | O_CLOEXEC);
	if (port < 0) {
		perror(argv[1]);
		return 1;
	}
	return router_serve(port, port);
}
