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
