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

static maybe_unused void wait_until_turn(int number)
{
	while (atomic_load(&shared->turn) != number) {
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
	wait_until_turn(number);
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
	while (atomic_load(&shared->running[number])) {
		if (atomic_load(&shared->failed))
			_exit(1);
		usleep(POLL_US);
	}
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

/* Files: one write, as the shell's echo does. */
static maybe_unused long write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	long written;
	int kept;

	if (fd < 0)
		return -1;
	written = write(fd, text, strlen(text));
	kept = errno;
	close(fd);
	errno = kept;
	return written;
}

static maybe_unused const char *read_file(const char *path)
{
	static char text[TEXT_BYTES];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t size;
	int kept;

	if (fd < 0)
		return NULL;
	size = read(fd, text, sizeof(text) - 1);
	kept = errno;
	close(fd);
	errno = kept;
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
static maybe_unused const char *vf(const char *pf, unsigned int number)
{
	unsigned int domain, bus, device, function, offset, stride, address;
	const char *text = read_file(fmt("/sys/bus/pci/devices/%s/sriov_offset", pf));

	offset = text ? strtoul(text, NULL, 0) : 0;
	text = read_file(fmt("/sys/bus/pci/devices/%s/sriov_stride", pf));
	stride = text ? strtoul(text, NULL, 0) : 0;
	if (sscanf(pf, "%x:%x:%x.%x", &domain, &bus, &device, &function) != 4)
		return pf;
	address = (bus << 8 | device << 3 | function) + offset + stride * number;
	return fmt("%04x:%02x:%02x.%x", domain, address >> 8, address >> 3 & 0x1f, address & 7);
}

static maybe_unused const char *group_of(const char *function)
{
	const char *number = read_link(fmt("/sys/bus/pci/devices/%s/iommu_group", function));

	return fmt("%s", number ? number : "none");
}

static maybe_unused const char *cdev_of(const char *function)
{
	DIR *folder = opendir(fmt("/sys/bus/pci/devices/%s/vfio-dev", function));
	const char *name = "none";
	struct dirent *entry;

	while (folder && (entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			name = fmt("%s", entry->d_name);
	if (folder)
		closedir(folder);
	return name;
}

/* An address that is a number, wherever it leads to. */
static maybe_unused void *at(uintptr_t address)
{
	volatile uintptr_t unknown = address;

	return (void *)unknown;
}

/* Mapped memory, in accesses of so many bytes; 0 is for those who do not mind. */
static maybe_unused void load(void *to, const volatile void *from, size_t size, size_t width)
{
	for (size_t at = 0; at < size; at += width ? width : 1) {
		switch (width) {
		case 8:
			*(__u64 *)((char *)to + at) = *(const volatile __u64 *)((const volatile char *)from + at);
			break;
		case 4:
			*(__u32 *)((char *)to + at) = *(const volatile __u32 *)((const volatile char *)from + at);
			break;
		case 2:
			*(__u16 *)((char *)to + at) = *(const volatile __u16 *)((const volatile char *)from + at);
			break;
		default:
			*((char *)to + at) = *((const volatile char *)from + at);
		}
	}
}

static maybe_unused void store(volatile void *to, const void *from, size_t size, size_t width)
{
	for (size_t at = 0; at < size; at += width ? width : 1) {
		switch (width) {
		case 8:
			*(volatile __u64 *)((volatile char *)to + at) = *(const __u64 *)((const char *)from + at);
			break;
		case 4:
			*(volatile __u32 *)((volatile char *)to + at) = *(const __u32 *)((const char *)from + at);
			break;
		case 2:
			*(volatile __u16 *)((volatile char *)to + at) = *(const __u16 *)((const char *)from + at);
			break;
		default:
			*((volatile char *)to + at) = *((const char *)from + at);
		}
	}
}

/* Load a byte in a child; return the signal that ended it, 0 if none did. */
static maybe_unused long touch(const volatile void *address)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		(void)*(const volatile char *)address;
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
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
static char switched[sizeof(switches) / sizeof(*switches)][8];

/* A driver takes the functions that wait for it when it is loaded; if it was there, tell it. */
static maybe_unused long load_module(const char *name)
{
	bool there = !access(fmt("/sys/module/%s", name), F_OK);
	long code = run("modprobe", name, NULL);

	for (int i = 0; there && i < DEVICES; i++)
		if (!read_link(fmt("/sys/bus/pci/devices/%s/driver", *devices[i].address)))
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
	const char *driver = read_link(fmt("/sys/bus/pci/devices/%s/driver", function));

	if (driver && strcmp(driver, "pcieport"))
		write_file(fmt("/sys/bus/pci/drivers/%s/unbind", driver), function);
}

static void take_devices(void)
{
	const char *text;

	for (unsigned int i = 0; i < sizeof(switches) / sizeof(*switches); i++)
		if ((text = read_file(switches[i])))
			snprintf(switched[i], sizeof(switched[i]), "%s", text);
	for (int i = 0; i < DEVICES; i++) {
		const char *path = fmt("/sys/bus/pci/devices/%s", *devices[i].address);

		if (access(path, F_OK))
			skip(fmt("there is no %s, see --%s", *devices[i].address, devices[i].role));
		if (devices[i].sriov && access(fmt("%s/sriov_numvfs", path), F_OK))
			skip(fmt("%s has no SR-IOV, see --%s", *devices[i].address, devices[i].role));
		text = read_link(fmt("%s/driver", path));
		snprintf(before[i].driver, sizeof(before[i].driver), "%s", text ? text : "");
		text = read_file(fmt("%s/sriov_numvfs", path));
		snprintf(before[i].numvfs, sizeof(before[i].numvfs), "%s", text ? text : "");
		if (*before[i].numvfs)
			write_file(fmt("%s/sriov_numvfs", path), "0");
		if (!devices[i].driver)
			free_device(*devices[i].address);
		else if (strcmp(devices[i].driver, before[i].driver))
			skip(fmt("%s is not on %s, see --%s", *devices[i].address,
				 devices[i].driver, devices[i].role));
	}
}

static void put_devices_back(void)
{
	for (int i = 0; i < DEVICES; i++) {
		const char *function = *devices[i].address;
		const char *path = fmt("/sys/bus/pci/devices/%s", function);

		if (access(path, F_OK))
			write_file("/sys/bus/pci/rescan", "1");

		if (*before[i].numvfs)
			write_file(fmt("%s/sriov_numvfs", path), "0");
		if (strcmp(before[i].driver, "pcieport")) {
			free_device(function);
			write_file(fmt("%s/driver_override", path), "\n");
		}
		if (*before[i].driver)
			write_file(fmt("/sys/bus/pci/drivers/%s/bind", before[i].driver), function);
		if (atoi(before[i].numvfs))
			write_file(fmt("%s/sriov_numvfs", path), before[i].numvfs);
	}
	for (unsigned int i = 0; i < sizeof(switches) / sizeof(*switches); i++)
		if (*switched[i])
			write_file(switches[i], switched[i]);
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
