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
