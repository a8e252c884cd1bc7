// SPDX-License-Identifier: GPL-2.0
/*
 * scenarios/iommus/test_doorbell.py::test_lost_events_are_lost_to_the_next_driver_too
 *
 * The kernel warns of lost events when a driver lets go, and the next one
 * lacks them.
 *
 * K39: Each time a device in a container is refused MSI-X past a virtio-
 * iommu that reserves the doorbell, it loses an event of the ITS. Without
 * events it has no MSI-X in an iommufd either, nor under its next driver;
 * the kernel warns when a driver lets go of it.
 *
 * Written by vfio-lab 0.2.0.dev0 from a run on kernel 7.3.4-lab, where it
 * passed. Every user is a process, and they take their steps in the
 * recorded order.
 *
 * Build: gcc -Wall -Wextra -Werror -o repro FILE.c
 * Run as root: ./repro --dev 0000:01:00.0
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

#define NAME "iommus/test_doorbell.py::test_lost_events_are_lost_to_the_next_driver_too"
#define STEPS 46
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
static const char *dev = "0000:01:00.0";
static const struct {
	const char *role;
	const char **address;
	bool sriov;
	const char *driver;
} devices[DEVICES + 1] = {
	{ "dev", &dev, false, NULL },
};
static const char *const needs[] = { "/dev/vfio/vfio", "/dev/iommu", NULL };

#define MOST_STEPS 4096
#define TIMEOUT_S 120
#define SETTLE_US 300000
#define ENTER_US 20000
#define POLL_US 500
#define POLLS 40000
#define TEXTS 16
#define MOST_SETTINGS 64
#define MOST_MODULES 8
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
	atomic_int settings_kept;
	struct setting {
		char path[192];
		char text[192];
	} settings[MOST_SETTINGS];
	atomic_int modules_loaded;
	char modules[MOST_MODULES][64];
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

static maybe_unused void still_blocked(int number, unsigned int settle_us)
{
	usleep(settle_us);
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

/* The slot with a function in it; its address has no function number. */
static maybe_unused const char *slot_of(const char *function)
{
	DIR *folder = opendir("/sys/bus/pci/slots");
	const char *name = "none";
	struct dirent *entry;

	while (folder && (entry = readdir(folder))) {
		const char *text = read_file(fmt("/sys/bus/pci/slots/%s/address", entry->d_name));

		if (text && !strncmp(function, text, strlen(text)))
			name = fmt("%s", entry->d_name);
	}
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

static void load_vfio(void)
{
	run("modprobe", "-a", "vfio-pci", "vfio-iommu-type1", NULL);
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

/* What steps change in files, and the modules that they load: undone at the end. */
static maybe_unused void note(char *kept, size_t size, const char *text)
{
	size_t length = text ? strnlen(text, size - 1) : 0;

	memcpy(kept, text ? text : "", length);
	kept[length] = '\0';
}

/* The file's first line before the first step that writes it; some can only be written. */
static maybe_unused void keep_setting(const char *path)
{
	const char *text = read_file(path);
	int count = atomic_load(&shared->settings_kept);

	for (int i = 0; i < count; i++)
		if (!strcmp(shared->settings[i].path, path))
			return;
	if (!text || count == MOST_SETTINGS)
		return;
	note(shared->settings[count].path, sizeof(shared->settings->path), path);
	note(shared->settings[count].text, sizeof(shared->settings->text), text);
	atomic_store(&shared->settings_kept, count + 1);
}

static maybe_unused long set_file(const char *path, const char *text)
{
	keep_setting(path);
	return write_file(path, text);
}

/* "(null)" and nothing at all are how sysfs shows that nothing is set. */
static void restore_settings(void)
{
	for (int i = atomic_load(&shared->settings_kept) - 1; i >= 0; i--) {
		const char *text = shared->settings[i].text;

		write_file(shared->settings[i].path, !*text || *text == '(' ? "\n" : text);
	}
}

/* A driver takes the functions that wait for it when it is loaded; if it was there, tell it. */
static maybe_unused long load_module(const char *name, const char *parameters)
{
	bool there = !access(fmt("/sys/module/%s", name), F_OK);
	long code = run("modprobe", name, parameters, NULL);
	int count = atomic_load(&shared->modules_loaded);

	if (!there && count < MOST_MODULES) {
		note(shared->modules[count], sizeof(*shared->modules), name);
		atomic_store(&shared->modules_loaded, count + 1);
	}
	for (int i = 0; there && i < DEVICES; i++)
		if (!read_link(attribute(*devices[i].address, "driver")))
			write_file("/sys/bus/pci/drivers_probe", *devices[i].address);
	return code;
}

static void unload_modules(void)
{
	for (int i = atomic_load(&shared->modules_loaded) - 1; i >= 0; i--)
		run("modprobe", "--remove", shared->modules[i], NULL);
	load_vfio();
}

/* Devices: found free, and put back as they were, like settings and modules. */
struct device {
	char driver[64];
	char numvfs[16];
};

static struct device before[DEVICES + 1];
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

static void release_device(int i)
{
	const char *function = *devices[i].address;

	if (*before[i].numvfs)
		write_file(attribute(function, "sriov_numvfs"), "0");
	free_device(function);
}

static void put_device_back(int i)
{
	const char *function = *devices[i].address;

	if (access(attribute(function, ""), F_OK))
		write_file("/sys/bus/pci/rescan", "1");
	free_device(function);
	if (*before[i].driver)
		write_file(fmt("/sys/bus/pci/drivers/%s/bind", before[i].driver), function);
	if (atoi(before[i].numvfs))
		write_file(attribute(function, "sriov_numvfs"), before[i].numvfs);
}

static void take_devices(void)
{
	for (int i = 0; i < DEVICES; i++)
		take_device(i);
}

static void put_devices_back(void)
{
	for (int i = 0; i < DEVICES; i++)
		release_device(i);
	restore_settings();
	unload_modules();
	for (int i = 0; i < DEVICES; i++)
		put_device_back(i);
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
			/* The lab's users have one more, which counts where descriptors run out. */
			open("/dev/null", O_RDONLY);
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
	load_vfio();
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
	int event = 0;
	int group = 0;
	int container = 0;
	int device = 0;
	__u64 region7 = 0;
	int iommufd = 0;
	int device_2 = 0;
	__u32 ioas = 0;
	ON(ROOT, 0) {
		EXPECT(OK, set_file("/sys/module/vfio_pci/parameters/enable_sriov", "Y\n"));
	}

	ON(ROOT, 1) {
		EXPECT(ENOENT, found(read_link(fmt("/sys/bus/pci/devices/%s/driver", dev))));
	}

	ON(ROOT, 2) {
		EXPECT(OK, set_file(fmt("/sys/bus/pci/devices/%s/driver_override", dev),
				"vfio-pci\n"));
	}

	ON(ROOT, 3) {
		EXPECT(OK, set_file("/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n", dev)));
	}

	ON(USER, 4) {
		event = EXPECT(OK, syscall(SYS_eventfd2, 0, O_NONBLOCK | O_CLOEXEC));
	}

	ON(USER, 5) {
		group = EXPECT(OK, open(fmt("/dev/vfio/%s", group_of(dev)), O_RDWR | O_CLOEXEC));
	}

	ON(USER, 6) {
		container = EXPECT(OK, open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC));
	}

	ON(USER, 7) {
		int arg = container;
		EXPECT(OK, ioctl(group, VFIO_GROUP_SET_CONTAINER, &arg));
	}

	ON(USER, 8) {
		EXPECT(OK, ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	}

	ON(USER, 9) {
		device = EXPECT(OK, ioctl(group, VFIO_GROUP_GET_DEVICE_FD, dev));
	}

	ON(USER, 10) {
		struct vfio_region_info arg = {
			.argsz = 0x20,
			.index = VFIO_PCI_CONFIG_REGION_INDEX,
		};
		EXPECT(OK, ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &arg));
		region7 = arg.offset;
		EXPECT_VALUE(VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE, arg.flags);
		EXPECT_VALUE(0x1000, arg.size);
	}

	ON(USER, 11) {
		__u8 seen[2] = { 0 };
		static const __u8 expected[2] = {
			0x03,
		};
		EXPECT_VALUE(2, pread(device, seen, 2, region7 + 4));
		EXPECT_BYTES(expected, seen, 2);
	}

	ON(USER, 12) {
		aligned8 __u8 data[2] = {
			0x07,
		};
		EXPECT(OK, pwrite(device, data, 2, region7 + 4));
	}

	ON(USER, 13) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 14) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 15) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 16) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 17) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 18) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 19) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 20) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 21) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 22) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 23) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 24) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 25) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 26) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 27) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 28) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device, VFIO_DEVICE_SET_IRQS, arg_room));
	}

	ON(USER, 29) {
		EXPECT(OK, close(device));
	}

	ON(USER, 30) {
		EXPECT(OK, close(group));
	}

	ON(USER, 31) {
		EXPECT(OK, close(container));
	}

	ON(ROOT, 32) {
		EXPECT_TEXT("vfio-pci", read_link(fmt("/sys/bus/pci/devices/%s/driver", dev)));
	}

	ON(ROOT, 33) {
		EXPECT(OK, set_file("/sys/bus/pci/drivers/vfio-pci/unbind", fmt("%s\n", dev)));
	}

	ON(ROOT, 34) {
		EXPECT(ENOENT, found(read_link(fmt("/sys/bus/pci/devices/%s/driver", dev))));
	}

	ON(ROOT, 35) {
		EXPECT(OK, set_file(fmt("/sys/bus/pci/devices/%s/driver_override", dev),
				"vfio-pci\n"));
	}

	ON(ROOT, 36) {
		EXPECT(OK, set_file("/sys/bus/pci/drivers/vfio-pci/bind", fmt("%s\n", dev)));
	}

	ON(USER, 37) {
		iommufd = EXPECT(OK, open("/dev/iommu", O_RDWR | O_CLOEXEC));
	}

	ON(USER, 38) {
		device_2 = EXPECT(OK, open(fmt("/dev/vfio/devices/%s", cdev_of(dev)),
				O_RDWR | O_CLOEXEC));
	}

	ON(USER, 39) {
		struct vfio_device_bind_iommufd arg = { .argsz = 0x10, .iommufd = iommufd };
		EXPECT(OK, ioctl(device_2, VFIO_DEVICE_BIND_IOMMUFD, &arg));
		
	}

	ON(USER, 40) {
		struct iommu_ioas_alloc arg = { .size = 0xc };
		EXPECT(OK, ioctl(iommufd, IOMMU_IOAS_ALLOC, &arg));
		ioas = arg.out_ioas_id;
	}

	ON(USER, 41) {
		struct vfio_device_attach_iommufd_pt arg = { .argsz = 0xc, .pt_id = ioas };
		EXPECT(OK, ioctl(device_2, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &arg));
		
	}

	ON(USER, 42) {
		struct vfio_region_info arg = {
			.argsz = 0x20,
			.index = VFIO_PCI_CONFIG_REGION_INDEX,
		};
		EXPECT(OK, ioctl(device_2, VFIO_DEVICE_GET_REGION_INFO, &arg));
		EXPECT_VALUE(VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE, arg.flags);
		EXPECT_VALUE(0x1000, arg.size);
	}

	ON(USER, 43) {
		__u8 seen[2] = { 0 };
		static const __u8 expected[2] = {
			0x03,
		};
		EXPECT_VALUE(2, pread(device_2, seen, 2, region7 + 4));
		EXPECT_BYTES(expected, seen, 2);
	}

	ON(USER, 44) {
		aligned8 __u8 data[2] = {
			0x07,
		};
		EXPECT(OK, pwrite(device_2, data, 2, region7 + 4));
	}

	ON(USER, 45) {
		aligned8 __u8 arg_room[sizeof(struct vfio_irq_set) + 4] = { 0 };
		struct vfio_irq_set *arg = (void *)arg_room;
		*arg = (struct vfio_irq_set){
			.argsz = 0x18,
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = VFIO_PCI_MSIX_IRQ_INDEX,
			.count = 1,
		};
		memcpy(arg + 1, (int[]){ event }, 4);
		EXPECT(ENOSPC, ioctl(device_2, VFIO_DEVICE_SET_IRQS, arg_room));
	}

}
