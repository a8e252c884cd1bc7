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
