// SPDX-License-Identifier: GPL-2.0
/*
 * Who enables VFs and who removes their PF wait for each other, if both begin during a reset.
 *
 * The reset has the device's lock and sleeps. "echo 1 > sriov_numvfs" waits for that lock, and will
 * want pci_rescan_remove_lock; "echo 1 > remove" takes the latter and waits for the device's.
 *
 * Both processes stay for ever, with the locks: run it in a guest.
 *
 * Build: gcc -Wall -Wextra -Werror -o repro repro.c
 * Run as root: ./repro PF, by default 0000:01:00.0
 * Ends with 0 if both wait for ever, 1 if they end each time, 4 if it cannot be asked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIES 20
#define PATIENCE_MS 5000
#define PATH_BYTES 256
#define NAME "enabling VFs and removing their PF wait for each other"

static const char *pf = "0000:01:00.0";

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int error = fd < 0 || write(fd, text, strlen(text)) < 0 ? errno : 0;

	if (fd >= 0)
		close(fd);
	return error;
}

static void need(const char *path, const char *text)
{
	int error = put(path, text);

	if (error) {
		printf("ok 1 %s # SKIP %s: %s\n", NAME, path, strerror(error));
		exit(4);
	}
}

static const char *attribute(const char *name)
{
	static char path[PATH_BYTES];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", pf, name);
	return path;
}

/* Give the PF to vfio-pci, without VFs, and awake: a sleep before the lock is not the one meant. */
static void take(void)
{
	if (access(attribute("vendor"), F_OK))
		need("/sys/bus/pci/rescan", "1");
	put(attribute("driver/unbind"), pf);
	need(attribute("driver_override"), "vfio-pci");
	need("/sys/bus/pci/drivers/vfio-pci/bind", pf);
	need(attribute("power/control"), "on");
}

/* Write to an attribute of the PF in a process of its own. */
static pid_t begin(const char *name, const char *text)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(put(attribute(name), text) != 0);
	return pid;
}

static char state_of(pid_t pid)
{
	char path[PATH_BYTES], text[PATH_BYTES] = "", *end;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	if (fd >= 0)
		close(fd);
	end = strrchr(text, ')');
	return end ? end[2] : 'Z';
}

/* Wait until a process sleeps in the kernel; return whether it does, and has not ended. */
static int sleeps(pid_t pid)
{
	char state;

	do {
		state = state_of(pid);
	} while (state != 'D' && state != 'Z');
	return state == 'D';
}

static int ended(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) == pid;
}

/* Begin all three, each while the one before it sleeps; return whether the last two never end. */
static int try(void)
{
	pid_t resetting = begin("reset", "1"), making, removing;
	int made = 0, removed = 0;

	sleeps(resetting);
	making = begin("sriov_numvfs", "1");
	sleeps(making);
	removing = begin("remove", "1");
	waitpid(resetting, NULL, 0);
	for (int ms = 0; ms < PATIENCE_MS && !(made && removed); ms += 10) {
		made = made || ended(making);
		removed = removed || ended(removing);
		usleep(10000);
	}
	return !made && !removed && state_of(making) == 'D' && state_of(removing) == 'D';
}

int main(int argc, char **argv)
{
	if (argc > 1)
		pf = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("KTAP version 1\n1..1\n");
	need("/sys/module/vfio_pci/parameters/enable_sriov", "Y");
	for (int number = 1; number <= TRIES; number++) {
		take();
		if (try()) {
			printf("# try %d\nok 1 %s\n", number, NAME);
			return 0;
		}
	}
	printf("not ok 1 %s\n", NAME);
	return 1;
}
