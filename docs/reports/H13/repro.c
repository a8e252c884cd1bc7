// SPDX-License-Identifier: GPL-2.0
/*
 * scenarios/memory/test_binding.py::test_a_failed_bind_leaves_the_device_free
 *
 * A bind that fails for lack of memory leaves no driver and no node, and
 * succeeds later.
 *
 * H06: If binding vfio-pci to a device fails for lack of memory, the
 * device has no driver, no node and, without an IOMMU, no group. A later
 * bind succeeds.
 * H13: If creating the node of a vfio group fails, the group keeps its
 * IOMMU group, and the kernel warns about that.
 *
 * Written by vfio-lab 0.2.0.dev0 from a run on kernel 7.3.4-lab, where it
 * passed. Every user is a process, and they take their steps in the
 * recorded order.
 *
 * Build: gcc -Wall -Wextra -Werror -o repro FILE.c
 * Run as root: ./repro --pf 0000:02:00.0
 * Ends with 0 if the kernel answers as recorded, 1 if it does not, 4 if it
 * cannot be asked.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/capability.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>

#define NAME "memory/test_binding.py::test_a_failed_bind_leaves_the_device_free"
#define STEPS 182
#define STARTED 3
#define DEVICES 1
#define COMPLAINS true
enum { ROOT, USER, KILLER, USERS };
static const struct user {
	const char *name;
	unsigned int uid;
	__u64 dropped;
} users[USERS] = {
	[ROOT] = { "root", 0, 0x0ULL },
	[USER] = { "user", 0, 0x0ULL },
	[KILLER] = { "the one who kills", 0, 0x0ULL },
};
static const char *pf = "0000:02:00.0";
static const struct {
	const char *role;
	const char **address;
	bool sriov;
	const char *driver;
} devices[DEVICES] = {
	{ "pf", &pf, true, NULL },
};
static const char *const needs[] = { "/dev/vfio/vfio", "/proc/self/fail-nth", NULL };

#define MOST_STEPS 4096
#define TIMEOUT_S 120
#define SETTLE_US 300000
#define ENTER_US 20000
#define POLL_US 500
#define POLLS 40000
#define TEXTS 16
#define TEXT_BYTES 4352
#define OK 0
#define maybe_unused __attribute__((__unused__))
#define aligned8 __attribute__((aligned(8)))

/* What all processes share: whose turn it is, and what went wrong first. */
struct shared {
	atomic_int turn;
	atomic_int spoken;
	atomic_int failed;
	char why[TEXT_BYTES];
	atomic_int running[MOST_STEPS];
	atomic_int pid[USERS];
	atomic_int killed[USERS];
};

static struct shared *shared;
static int me;
static int step;

/* Text with addresses in it; the last TEXTS of them stay valid. */
__attribute__((format(printf, 1, 2)))
static maybe_unused const char *fmt(const char *format, ...)
{
	static char texts[TEXTS][TEXT_BYTES];
	static unsigned int next;
	char *text = texts[next++ % TEXTS];
	va_list args;

	va_start(args, format);
	vsnprintf(text, TEXT_BYTES, format, args);
	va_end(args);
	return text;
}

static const char *name_of(long number)
{
	const char *name = number ? strerrorname_np(number) : "0";

	return name ? name : fmt("%ld", number);
}

/* The first to fail says why; then all end. */
__attribute__((format(printf, 1, 2)))
static maybe_unused void give_up(const char *format, ...)
{
	va_list args;

	if (atomic_exchange(&shared->spoken, 1) == 0) {
		va_start(args, format);
		vsnprintf(shared->why, sizeof(shared->why), format, args);
		va_end(args);
		atomic_store(&shared->failed, 1);
	}
}

static maybe_unused void fail(const char *what, long expected, long seen, const char *unit)
{
	give_up("step %d, %s: expected %s%s, seen %s%s: %s", step, users[me].name, unit,
		*unit ? name_of(expected) : fmt("%#lx", expected), unit,
		*unit ? name_of(seen) : fmt("%#lx", seen), what);
	_exit(1);
}

static maybe_unused void wait_for(const atomic_int *value, int wanted)
{
	while (atomic_load(value) != wanted) {
		if (atomic_load(&shared->failed))
			_exit(1);
		usleep(POLL_US);
	}
}

/* Only ever forward: a forked child leaves the step of its parent, too. */
static maybe_unused bool pass_turn(int number)
{
	atomic_compare_exchange_strong(&shared->turn, &number, number + 1);
	return false;
}

static maybe_unused bool take_turn(int user, int number)
{
	if (me != user)
		return false;
	step = number;
	wait_for(&shared->turn, number);
	return true;
}

/* The steps of a user; the others leave them out. */
#define ON(user, number) \
	for (bool mine = take_turn(user, number); mine; mine = pass_turn(number))

static maybe_unused bool take_turn_and_pass_it(int user, int number)
{
	if (!take_turn(user, number))
		return false;
	atomic_store(&shared->running[number], 1);
	pass_turn(number);
	return true;
}

static maybe_unused bool stop_running(int number)
{
	atomic_store(&shared->running[number], 0);
	return false;
}

/* A step that does not return before the next ones have begun. */
#define BLOCKS(user, number) \
	for (bool mine = take_turn_and_pass_it(user, number); mine; mine = stop_running(number))

/* Give a call that blocks the time to get there. */
static maybe_unused void entered(void)
{
	usleep(ENTER_US);
}

static maybe_unused void still_blocked(int number)
{
	usleep(SETTLE_US);
	if (!atomic_load(&shared->running[number]))
		fail(fmt("step %d returned too early", number), 1, 0, "");
}

static maybe_unused void returned(int number)
{
	wait_for(&shared->running[number], 0);
}

/* Close, and keep the errno of what came before. */
static maybe_unused ssize_t closing(int fd, ssize_t result)
{
	int kept = errno;

	close(fd);
	errno = kept;
	return result;
}

/* One write, as the shell's echo does. */
static maybe_unused long write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -1 : closing(fd, write(fd, text, strlen(text)));
}

/* The first line of a file. */
static maybe_unused const char *read_file(const char *path)
{
	static char text[TEXT_BYTES];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t size = fd < 0 ? -1 : closing(fd, read(fd, text, sizeof(text) - 1));

	if (size < 0)
		return NULL;
	text[size] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return text;
}

/* The last part of what a link leads to. */
static maybe_unused const char *read_link(const char *path)
{
	static char text[TEXT_BYTES];
	ssize_t size = readlink(path, text, sizeof(text) - 1);
	const char *last;

	if (size < 0)
		return NULL;
	text[size] = '\0';
	last = strrchr(text, '/');
	return last ? last + 1 : text;
}

/* Compare what a call returned, -1 and errno or anything else, with the errno expected. */
static maybe_unused long expect(int number, long value, const char *what)
{
	int seen = value == -1 ? errno : OK;

	if (seen != number)
		fail(what, number, seen, "errno ");
	return value;
}

static maybe_unused void expect_value(long expected, long seen, const char *what)
{
	if (seen != expected)
		fail(what, expected, seen, "");
}

#define EXPECT(number, call) expect(number, (long)(call), #call)
#define EXPECT_VALUE(expected, seen) expect_value((long)(expected), (long)(seen), #seen)

static maybe_unused void expect_bytes(const void *expected, const void *seen, size_t size,
				      const char *what)
{
	const unsigned char *a = expected, *b = seen;

	for (size_t i = 0; i < size; i++)
		if (a[i] != b[i])
			fail(fmt("byte %zu of %s", i, what), a[i], b[i], "");
}

#define EXPECT_BYTES(expected, seen, size) expect_bytes(expected, seen, size, #seen)

static maybe_unused long found(const char *text)
{
	return text ? OK : -1;
}

static maybe_unused void expect_text(const char *expected, const char *seen, const char *what)
{
	if (!seen)
		fail(what, OK, errno, "errno ");
	if (strcmp(expected, seen))
		fail(fmt("%s is \"%s\", not \"%s\"", what, seen, expected), 0, 1, "");
}

#define EXPECT_TEXT(expected, seen) expect_text(expected, seen, #seen)

/* The same for what changes by itself: wait for it. */
#define EVENTUALLY(expected, seen) do {						\
	const char *there = seen;						\
	for (int i = 0; i < POLLS && !(there && !strcmp(expected, there)); i++) {	\
		usleep(POLL_US);						\
		there = seen;							\
	}									\
	expect_text(expected, there, #seen);					\
} while (0)

/* PCI functions, by what sysfs says of them. */
static maybe_unused const char *attribute(const char *function, const char *name)
{
	return fmt("/sys/bus/pci/devices/%s/%s", function, name);
}

static maybe_unused unsigned int number_in(const char *function, const char *name)
{
	const char *text = read_file(attribute(function, name));

	return text ? strtoul(text, NULL, 0) : 0;
}

static maybe_unused const char *vf(const char *pf, unsigned int number)
{
	unsigned int domain, bus, device, function, address;

	if (sscanf(pf, "%x:%x:%x.%x", &domain, &bus, &device, &function) != 4)
		return pf;
	address = (bus << 8 | device << 3 | function) + number_in(pf, "sriov_offset") +
		  number_in(pf, "sriov_stride") * number;
	return fmt("%04x:%02x:%02x.%x", domain, address >> 8, address >> 3 & 0x1f, address & 7);
}

static maybe_unused const char *group_of(const char *function)
{
	const char *number = read_link(attribute(function, "iommu_group"));

	return fmt("%s", number ? number : "none");
}

static maybe_unused const char *cdev_of(const char *function)
{
	DIR *folder = opendir(attribute(function, "vfio-dev"));
	const char *name = "none";
	struct dirent *entry;

	while (folder && (entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			name = fmt("%s", entry->d_name);
	if (folder)
		closedir(folder);
	return name;
}

static maybe_unused long run(const char *file, ...)
{
	char *argv[TEXTS] = { (char *)file };
	va_list args;
	int status;
	pid_t pid;

	va_start(args, file);
	for (int i = 1; i < TEXTS - 1 && (argv[i] = va_arg(args, char *)); i++)
		;
	va_end(args);
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		dup2(null, 2);
		execvp(file, argv);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Users: processes. */
static void die_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void become(const struct user *user)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct sets[2] = { };

	prctl(PR_SET_NAME, user->name);
	if (!user->uid && !user->dropped)
		return;
	syscall(SYS_capget, &header, sets);
	for (int i = 0; i < 64; i++)
		if (user->dropped >> i & 1)
			prctl(PR_CAPBSET_DROP, i);
	if (user->uid) {
		prctl(PR_SET_KEEPCAPS, 1);
		if (setgroups(0, NULL) || setresgid(user->uid, user->uid, user->uid) ||
		    setresuid(user->uid, user->uid, user->uid))
			_exit(2);
	}
	for (int i = 0; i < 2; i++) {
		sets[i].permitted &= ~(__u32)(user->dropped >> (32 * i));
		sets[i].effective = sets[i].permitted;
		sets[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &header, sets))
		_exit(2);
	die_with_parent();
}

static maybe_unused void fork_user(int user)
{
	pid_t pid = fork();

	if (pid == 0) {
		me = user;
		die_with_parent();
		atomic_store(&shared->pid[user], getpid());
	}
}

static maybe_unused void kill_user(int user, int number)
{
	pid_t pid = atomic_load(&shared->pid[user]);
	const char *text;

	atomic_store(&shared->killed[user], 1);
	kill(pid, number);
	do {
		usleep(POLL_US);
		text = read_file(fmt("/proc/%d/stat", pid));
	} while (text && !strstr(text, ") Z") && !strstr(text, ") X"));
}

/* Devices: found free, and put back as they were. */
struct device {
	char driver[64];
	char numvfs[16];
};

static struct device before[DEVICES];
static const char *const switches[] = {
	"/sys/module/vfio_pci/parameters/enable_sriov",
	"/sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
	"/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
};
#define SWITCHES (sizeof(switches) / sizeof(*switches))
static char switched[SWITCHES][8];

/* A driver takes the functions that wait for it when it is loaded; if it was there, tell it. */
static maybe_unused long load_module(const char *name)
{
	bool there = !access(fmt("/sys/module/%s", name), F_OK);
	long code = run("modprobe", name, NULL);

	for (int i = 0; there && i < DEVICES; i++)
		if (!read_link(attribute(*devices[i].address, "driver")))
			write_file("/sys/bus/pci/drivers_probe", *devices[i].address);
	return code;
}

static void skip(const char *why)
{
	printf("ok 1 %s # SKIP %s\n", NAME, why);
	exit(4);
}

static void free_device(const char *function)
{
	const char *driver = read_link(attribute(function, "driver"));

	if (driver && strcmp(driver, "pcieport"))
		write_file(fmt("/sys/bus/pci/drivers/%s/unbind", driver), function);
}

static void note(char *kept, size_t size, const char *text)
{
	size_t length = text ? strnlen(text, size - 1) : 0;

	memcpy(kept, text ? text : "", length);
	kept[length] = '\0';
}

static void take_device(int i)
{
	const char *function = *devices[i].address;

	if (access(attribute(function, ""), F_OK))
		skip(fmt("there is no %s, see --%s", function, devices[i].role));
	if (devices[i].sriov && access(attribute(function, "sriov_numvfs"), F_OK))
		skip(fmt("%s has no SR-IOV, see --%s", function, devices[i].role));
	note(before[i].driver, sizeof(before[i].driver), read_link(attribute(function, "driver")));
	note(before[i].numvfs, sizeof(before[i].numvfs),
	     read_file(attribute(function, "sriov_numvfs")));
	if (*before[i].numvfs)
		write_file(attribute(function, "sriov_numvfs"), "0");
	if (!devices[i].driver)
		free_device(function);
	else if (strcmp(devices[i].driver, before[i].driver))
		skip(fmt("%s is not on %s, see --%s", function, devices[i].driver,
			 devices[i].role));
}

static void put_device_back(int i)
{
	const char *function = *devices[i].address;

	if (access(attribute(function, ""), F_OK))
		write_file("/sys/bus/pci/rescan", "1");
	if (*before[i].numvfs)
		write_file(attribute(function, "sriov_numvfs"), "0");
	if (strcmp(before[i].driver, "pcieport")) {
		free_device(function);
		write_file(attribute(function, "driver_override"), "\n");
	}
	if (*before[i].driver)
		write_file(fmt("/sys/bus/pci/drivers/%s/bind", before[i].driver), function);
	if (atoi(before[i].numvfs))
		write_file(attribute(function, "sriov_numvfs"), before[i].numvfs);
}

static void take_devices(void)
{
	for (unsigned int i = 0; i < SWITCHES; i++)
		note(switched[i], sizeof(switched[i]), read_file(switches[i]));
	for (int i = 0; i < DEVICES; i++)
		take_device(i);
}

static void put_devices_back(void)
{
	for (int i = 0; i < DEVICES; i++)
		put_device_back(i);
	for (unsigned int i = 0; i < SWITCHES; i++)
		if (*switched[i])
			write_file(switches[i], switched[i]);
}

/*
 * Allocations that fail on demand, see Documentation/fault-injection/fault-injection.rst: the nth
 * one of the system call that comes next.
 */
static int starving = -1;

static void starve(int nth)
{
	const char *text = fmt("%d", nth);

	starving = open("/proc/thread-self/fail-nth", O_WRONLY | O_CLOEXEC);
	if (starving < 0 || write(starving, text, strlen(text)) < 0)
		fail("/proc/thread-self/fail-nth", OK, errno, "errno ");
}

static long fed(long value)
{
	int kept = errno;

	if (write(starving, "0", 1) != 1)
		fail("/proc/thread-self/fail-nth", OK, errno, "errno ");
	close(starving);
	errno = kept;
	return value;
}

#define STARVED(nth, call) (starve(nth), fed((long)(call)))

static maybe_unused long starved_write(int nth, const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -1 : closing(fd, STARVED(nth, write(fd, text, strlen(text))));
}

/* The kernel's log: whether it complained. */
static const char *complaint(int log)
{
	static const char *const signs[] = {
		"WARNING:", "BUG:", "Oops", "general protection fault", "KASAN:", "UBSAN:",
		"INFO: task", "possible circular locking", "possible recursive locking",
	};
	static char record[TEXT_BYTES * 2];
	ssize_t size;

	while ((size = read(log, record, sizeof(record) - 1)) > 0 || (size < 0 && errno == EPIPE)) {
		record[size > 0 ? size : 0] = '\0';
		record[strcspn(record, "\n")] = '\0';
		for (unsigned int i = 0; i < sizeof(signs) / sizeof(*signs); i++)
			if (strstr(record, signs[i]))
				return strchr(record, ';') ? strchr(record, ';') + 1 : record;
	}
	return NULL;
}

static void scenario(void);

static void start_users(void)
{
	for (int i = 0; i < STARTED; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			me = i;
			die_with_parent();
			syscall(SYS_close_range, 3, ~0U, 0);
			become(&users[i]);
			scenario();
			for (;;)
				pause();
		}
		atomic_store(&shared->pid[i], pid);
	}
}

/* Wait for the last step, or for the first thing that goes wrong. */
static void await_the_end(void)
{
	for (int i = 0; atomic_load(&shared->turn) < STEPS; i++) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		for (int user = 0; pid > 0 && user < USERS; user++) {
			bool expected = atomic_load(&shared->killed[user]);

			if (pid != atomic_load(&shared->pid[user]) || expected)
				continue;
			give_up("%s ended before its last step, status %#x", users[user].name,
				status);
		}
		if (atomic_load(&shared->failed))
			return;
		if (i > TIMEOUT_S * (1000000 / POLL_US)) {
			give_up("step %d does not end", atomic_load(&shared->turn));
			return;
		}
		usleep(POLL_US);
	}
}

static bool end_users(void)
{
	for (int i = 0; i < USERS; i++)
		if (atomic_load(&shared->pid[i]))
			kill(atomic_load(&shared->pid[i]), SIGKILL);
	for (int i = 0; i < 20000; i++) {
		if (waitpid(-1, NULL, WNOHANG) < 0)
			return true;
		usleep(POLL_US);
	}
	printf("# a user sleeps in the kernel; devices are not put back\n");
	return false;
}

static void read_options(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2)
		for (int k = 0; k < DEVICES; k++)
			if (!strcmp(argv[i], fmt("--%s", devices[k].role)))
				*devices[k].address = argv[i + 1];
}

int main(int argc, char **argv)
{
	const char *said;
	int log;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("KTAP version 1\n1..1\n");
	read_options(argc, argv);
	if (geteuid())
		skip("needs root");
	run("modprobe", "-a", "vfio-pci", "vfio-iommu-type1", NULL);
	for (unsigned int i = 0; needs[i]; i++)
		if (access(needs[i], F_OK))
			skip(fmt("there is no %s", needs[i]));
	log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	take_devices();
	lseek(log, 0, SEEK_END);
	start_users();
	await_the_end();
	said = complaint(log);
	if (end_users())
		put_devices_back();
	if (!said)
		said = complaint(log);
	if (said && !COMPLAINS)
		give_up("the kernel complained: %s", said);
	if (!said && COMPLAINS)
		give_up("the kernel did not complain");
	if (atomic_load(&shared->failed))
		printf("# %s\n", shared->why);
	printf("%s 1 %s\n", atomic_load(&shared->failed) ? "not ok" : "ok", NAME);
	return atomic_load(&shared->failed);
}

static void scenario(void)
{
	int group = 0;
	int container = 0;
	ON(ROOT, 0) {
		EXPECT(OK, write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", "N\n"));
	}

	ON(ROOT, 1) {
		EXPECT(OK, write_file("/sys/kernel/debug/failslab/verbose", "0\n"));
	}

	ON(ROOT, 2) {
		EXPECT_VALUE(0, load_module("igb"));
	}

	ON(ROOT, 3) {
		EXPECT_TEXT("igb", read_link(fmt("/sys/bus/pci/devices/%s/driver", pf)));
	}

	ON(ROOT, 4) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/igb/unbind", fmt("%s\n", pf)));
	}

	ON(ROOT, 5) {
		EXPECT(OK, write_file(fmt("/sys/bus/pci/devices/%s/driver_override", pf), "igb\n"));
	}

	ON(ROOT, 6) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/igb/bind", fmt("%s\n", pf)));
	}

	ON(ROOT, 7) {
		EXPECT(OK, write_file(fmt("/sys/bus/pci/devices/%s/sriov_numvfs", pf), "1\n"));
	}

	ON(ROOT, 8) {
		EXPECT(ENOENT, found(read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf, 0)))));
	}

	ON(ROOT, 9) {
		EXPECT(OK, write_file(fmt("/sys/bus/pci/devices/%s/driver_override", vf(pf, 0)),
				"vfio-pci\n"));
	}

	ON(ROOT, 10) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 11) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 12) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 13) {
		EXPECT(ENOMEM, starved_write(1, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 14) {
		EXPECT(ENOMEM, starved_write(2, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 15) {
		EXPECT(ENOMEM, starved_write(3, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 16) {
		EXPECT(ENOMEM, starved_write(4, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 17) {
		EXPECT(ENOMEM, starved_write(5, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 18) {
		EXPECT(ENOMEM, starved_write(6, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 19) {
		EXPECT(ENOMEM, starved_write(7, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 20) {
		EXPECT(ENOMEM, starved_write(8, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 21) {
		EXPECT(ENOMEM, starved_write(9, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 22) {
		EXPECT(ENOMEM, starved_write(10, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 23) {
		EXPECT(ENOMEM, starved_write(11, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 24) {
		EXPECT(ENOMEM, starved_write(12, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 25) {
		EXPECT(ENOMEM, starved_write(13, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 26) {
		EXPECT(ENOMEM, starved_write(14, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 27) {
		EXPECT(ENOMEM, starved_write(15, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 28) {
		EXPECT(ENOMEM, starved_write(16, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 29) {
		EXPECT(ENOMEM, starved_write(17, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 30) {
		EXPECT(ENOMEM, starved_write(18, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 31) {
		EXPECT(ENOMEM, starved_write(19, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 32) {
		EXPECT(ENOMEM, starved_write(20, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 33) {
		EXPECT(ENOMEM, starved_write(21, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 34) {
		EXPECT(ENOMEM, starved_write(22, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 35) {
		EXPECT(ENOMEM, starved_write(23, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 36) {
		EXPECT(ENOMEM, starved_write(24, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 37) {
		EXPECT(OK, starved_write(25, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 38) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 39) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 40) {
		EXPECT(OK, starved_write(26, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 41) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 42) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 43) {
		EXPECT(OK, starved_write(27, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 44) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 45) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 46) {
		EXPECT(OK, starved_write(28, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 47) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 48) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 49) {
		EXPECT(OK, starved_write(29, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 50) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 51) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 52) {
		EXPECT(OK, starved_write(30, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 53) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 54) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 55) {
		EXPECT(OK, starved_write(31, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 56) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 57) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 58) {
		EXPECT(OK, starved_write(32, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 59) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 60) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 61) {
		EXPECT(OK, starved_write(33, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 62) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 63) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 64) {
		EXPECT(OK, starved_write(34, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 65) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 66) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 67) {
		EXPECT(ENOMEM, starved_write(35, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 68) {
		EXPECT(ENOMEM, starved_write(36, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 69) {
		EXPECT(ENOMEM, starved_write(37, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 70) {
		EXPECT(ENOMEM, starved_write(38, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 71) {
		EXPECT(ENOMEM, starved_write(39, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 72) {
		EXPECT(ENOMEM, starved_write(40, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 73) {
		EXPECT(ENOMEM, starved_write(41, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 74) {
		EXPECT(ENOMEM, starved_write(42, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 75) {
		EXPECT(ENOMEM, starved_write(43, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 76) {
		EXPECT(ENOMEM, starved_write(44, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 77) {
		EXPECT(ENOMEM, starved_write(45, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 78) {
		EXPECT(ENOMEM, starved_write(46, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 79) {
		EXPECT(ENOMEM, starved_write(47, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 80) {
		EXPECT(ENOMEM, starved_write(48, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 81) {
		EXPECT(ENOMEM, starved_write(49, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 82) {
		EXPECT(ENOMEM, starved_write(50, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 83) {
		EXPECT(ENOMEM, starved_write(51, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 84) {
		EXPECT(ENOMEM, starved_write(52, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 85) {
		EXPECT(ENOMEM, starved_write(53, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 86) {
		EXPECT(ENOMEM, starved_write(54, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 87) {
		EXPECT(ENOMEM, starved_write(55, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 88) {
		EXPECT(ENOMEM, starved_write(56, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 89) {
		EXPECT(ENOMEM, starved_write(57, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 90) {
		EXPECT(ENOMEM, starved_write(58, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 91) {
		EXPECT(ENOMEM, starved_write(59, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 92) {
		EXPECT(OK, starved_write(60, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 93) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 94) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 95) {
		EXPECT(OK, starved_write(61, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 96) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 97) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 98) {
		EXPECT(OK, starved_write(62, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 99) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 100) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 101) {
		EXPECT(OK, starved_write(63, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 102) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 103) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 104) {
		EXPECT(ENOMEM, starved_write(64, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 105) {
		EXPECT(ENOMEM, starved_write(65, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 106) {
		EXPECT(ENOMEM, starved_write(66, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 107) {
		EXPECT(ENOMEM, starved_write(67, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 108) {
		EXPECT(ENOMEM, starved_write(68, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 109) {
		EXPECT(ENOMEM, starved_write(69, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 110) {
		EXPECT(ENOMEM, starved_write(70, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 111) {
		EXPECT(ENOMEM, starved_write(71, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 112) {
		EXPECT(ENOMEM, starved_write(72, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 113) {
		EXPECT(ENOMEM, starved_write(73, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 114) {
		EXPECT(ENOMEM, starved_write(74, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 115) {
		EXPECT(ENOMEM, starved_write(75, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 116) {
		EXPECT(ENOMEM, starved_write(76, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 117) {
		EXPECT(ENOMEM, starved_write(77, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 118) {
		EXPECT(ENOMEM, starved_write(78, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 119) {
		EXPECT(ENOMEM, starved_write(79, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 120) {
		EXPECT(ENOMEM, starved_write(80, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 121) {
		EXPECT(ENOMEM, starved_write(81, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 122) {
		EXPECT(ENOMEM, starved_write(82, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 123) {
		EXPECT(ENOMEM, starved_write(83, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 124) {
		EXPECT(ENOMEM, starved_write(84, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 125) {
		EXPECT(ENOMEM, starved_write(85, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 126) {
		EXPECT(ENOMEM, starved_write(86, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 127) {
		EXPECT(OK, starved_write(87, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 128) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 129) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 130) {
		EXPECT(OK, starved_write(88, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 131) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 132) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 133) {
		EXPECT(OK, starved_write(89, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 134) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 135) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 136) {
		EXPECT(OK, starved_write(90, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 137) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 138) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 139) {
		EXPECT(OK, starved_write(91, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 140) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 141) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 142) {
		EXPECT(OK, starved_write(92, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 143) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 144) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 145) {
		EXPECT(OK, starved_write(93, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 146) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 147) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 148) {
		EXPECT(OK, starved_write(94, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 149) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 150) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 151) {
		EXPECT(OK, starved_write(95, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 152) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 153) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 154) {
		EXPECT(OK, starved_write(96, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 155) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 156) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 157) {
		EXPECT(OK, starved_write(97, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 158) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 159) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 160) {
		EXPECT(OK, starved_write(98, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 161) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 162) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 163) {
		EXPECT(OK, starved_write(99, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 164) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 165) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 166) {
		EXPECT(OK, starved_write(100, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 167) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 168) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 169) {
		EXPECT(OK, starved_write(101, "/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n",
				vf(pf, 0))));
	}

	ON(ROOT, 170) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 171) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 172) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 173) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf,
				0))));
	}

	ON(ROOT, 174) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(ROOT, 175) {
		EXPECT(ENOENT, found(read_link(fmt("/sys/bus/pci/devices/%s/driver", vf(pf, 0)))));
	}

	ON(ROOT, 176) {
		EXPECT(OK, write_file("/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n", vf(pf,
				0))));
	}

	ON(USER, 177) {
		group = EXPECT(OK, open(fmt("/dev/vfio/%s", group_of(vf(pf, 0))),
				O_RDWR | O_CLOEXEC));
	}

	ON(USER, 178) {
		container = EXPECT(OK, open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC));
	}

	ON(USER, 179) {
		int arg = container;
		EXPECT(OK, ioctl(group, VFIO_GROUP_SET_CONTAINER, &arg));
	}

	ON(USER, 180) {
		EXPECT(OK, ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	}

	ON(USER, 181) {
		EXPECT(OK, ioctl(group, VFIO_GROUP_GET_DEVICE_FD, vf(pf, 0)));
	}

}
