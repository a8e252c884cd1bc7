// SPDX-License-Identifier: GPL-2.0
/*
 * If a VF cannot be added for lack of memory, the kernel removes parts of it that were never made.
 *
 * Each allocation of "echo 1 > sriov_numvfs" fails in turn, until the kernel kills the writer.
 *
 * The kernel needs CONFIG_FAILSLAB and CONFIG_FAULT_INJECTION_DEBUG_FS. It is of no use afterwards:
 * the writer dies with locks held. Run it in a guest.
 *
 * Build: gcc -Wall -Wextra -Werror -o repro repro.c
 * Run as root: ./repro PF, by default 0000:01:00.0
 * Ends with 0 if the kernel kills a writer, 1 if it kills none, 4 if it cannot be asked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 4000
#define PATH_BYTES 256
#define NAME "the kernel kills who adds a VF when there is no memory for it"

static char numvfs[PATH_BYTES];

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

/* Give the PF to vfio-pci. */
static void take(const char *pf)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver/unbind", pf);
	put(path, pf);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", pf);
	need(path, "vfio-pci");
	need("/sys/bus/pci/drivers/vfio-pci/bind", pf);
}

/* Enable a VF while the nth allocation fails; exit with 0 if there was no nth one, else with 1. */
static void enable(int nth)
{
	int switch_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	int fd = open(numvfs, O_WRONLY | O_CLOEXEC);
	char text[16], left[16] = "";

	snprintf(text, sizeof(text), "%d", nth);
	if (switch_fd < 0 || fd < 0 || pwrite(switch_fd, text, strlen(text), 0) < 0)
		_exit(4);
	if (write(fd, "1", 1) < 0)
		_exit(1);
	if (pread(switch_fd, left, sizeof(left) - 1, 0) < 0)
		_exit(4);
	_exit(atoi(left) == 0);
}

static int status_of(int nth)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		enable(nth);
	waitpid(pid, &status, 0);
	return status;
}

int main(int argc, char **argv)
{
	const char *pf = argc > 1 ? argv[1] : "0000:01:00.0";
	int status = 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("KTAP version 1\n1..1\n");
	snprintf(numvfs, sizeof(numvfs), "/sys/bus/pci/devices/%s/sriov_numvfs", pf);
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	need("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
	need("/sys/module/vfio_pci/parameters/enable_sriov", "Y");
	take(pf);
	put("/proc/sys/kernel/panic_on_oops", "0"); /* somebody is left to tell */
	for (int nth = 1; nth < MOST && status; nth++) {
		status = status_of(nth);
		if (WIFSIGNALED(status)) {
			printf("# allocation %d fails, and the kernel kills the writer\n", nth);
			printf("ok 1 %s\n", NAME);
			return 0;
		}
		if (WEXITSTATUS(status) == 4) {
			printf("ok 1 %s # SKIP there is no fail-nth\n", NAME);
			return 4;
		}
		put(numvfs, "0");
	}
	printf("not ok 1 %s\n", NAME);
	return 1;
}
