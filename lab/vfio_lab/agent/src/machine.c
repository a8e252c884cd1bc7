/* What concerns the whole machine: clock, random state and kernel log. */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"

#define LOG "/dev/kmsg"
#define RECORD_BYTES 8192
#define LOG_MAX (TEXT_MAX / 8) /* in JSON, each byte may be six */
#define MARK "vfio-lab: awake"
#define SECOND_NS 1000000000LL
#define MICROSECOND_NS 1000LL

static int log_fd = -1;
static int pool_fd = -1;
static long long log_ahead_us; /* of CLOCK_MONOTONIC; 0 if that is not known yet */

/* Open the kernel log on first use: not everyone who runs an agent may read it. */
static int open_log(void)
{
	if (log_fd < 0)
		log_fd = open(LOG, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return log_fd < 0 ? errno : 0;
}

/* Read a record; return its length, 0 when there is none. */
static ssize_t read_record(char record[RECORD_BYTES])
{
	ssize_t len;

	do { /* EPIPE: overwritten while we read; the next read starts at the oldest */
		len = read(log_fd, record, RECORD_BYTES - 1);
	} while (len < 0 && (errno == EPIPE || errno == EINTR));
	if (len < 0)
		return 0;
	record[len] = 0;
	return len;
}

/* Return what the third field of a record says: PRIORITY,NUMBER,MICROSECONDS,... */
static long long stamp(const char *record)
{
	for (int i = 0; i < 2 && record; i++) {
		record = strchr(record, ',');
		record = record ? record + 1 : NULL;
	}
	return record ? atoll(record) : 0;
}

static long long now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * SECOND_NS + now.tv_nsec;
}

/* Write a line to the log and see its stamp. */
static int mark_log(void)
{
	/* With a newline: readers are not shown a line that may go on. */
	static const char line[] = "<7>" MARK "\n";
	int log = open(LOG, O_WRONLY | O_CLOEXEC);
	char record[RECORD_BYTES];
	long long written_us;
	ssize_t written;

	if (log < 0)
		return errno;
	written_us = now_ns(CLOCK_MONOTONIC) / MICROSECOND_NS;
	written = write(log, line, sizeof(line) - 1);
	close(log);
	while (written > 0 && read_record(record)) {
		if (strstr(record, MARK)) {
			log_ahead_us = stamp(record) - written_us;
			return 0;
		}
	}
	return bad("the kernel log does not show what is written to it");
}

static int begin_log(void)
{
	int error = open_log();

	if (!error && lseek(log_fd, 0, SEEK_END) < 0)
		error = errno;
	return error;
}

/* Add the stamp that the log has now. */
static void add_log_stamp(struct text *answer)
{
	long long us = now_ns(CLOCK_MONOTONIC) / MICROSECOND_NS;

	add_number(answer, "log_us", us + log_ahead_us);
}

int machine_mark(const struct request *request, struct text *answer)
{
	int error = begin_log();

	(void)request;
	if (!error)
		error = mark_log();
	add_log_stamp(answer);
	return error;
}

static int set_clock(long long ns)
{
	struct timespec now = { ns / SECOND_NS, ns % SECOND_NS };

	return clock_settime(CLOCK_REALTIME, &now) ? errno : 0;
}

static int reseed(const unsigned char *seed, size_t size)
{
	if (pool_fd < 0)
		pool_fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	if (pool_fd < 0 || write(pool_fd, seed, size) < 0 || ioctl(pool_fd, RNDRESEEDCRNG))
		return errno;
	return 0;
}

static int wake(long long ns, const unsigned char *seed, size_t size)
{
	int error = begin_log();

	if (!error)
		error = set_clock(ns);
	if (!error)
		error = reseed(seed, size);
	/* A clone has inherited the distance, and is spared what a line in the log costs. */
	if (!error && !log_ahead_us)
		error = mark_log();
	return error;
}

/* Make this clone differ from its siblings: clock and random state. Its log begins now. */
int machine_wake(const struct request *request, struct text *answer)
{
	unsigned char *seed;
	long long ns;
	size_t size;
	int error;

	if (arg_number(request->args, "now_ns", &ns) ||
	    arg_bytes(request->args, "seed", &seed, &size))
		return BAD;
	error = wake(ns, seed, size);
	free(seed);
	add_log_stamp(answer);
	add_number(answer, "now_ns", now_ns(CLOCK_REALTIME));
	return error;
}

/* Add the kernel log's records since the last call or wake, in /dev/kmsg form. */
int machine_kernel_log(const struct request *request, struct text *answer)
{
	const char *separator = "";
	char record[RECORD_BYTES];
	int error = open_log();
	ssize_t len;

	(void)request;
	if (error)
		return error;
	text_str(answer, ",\"records\":[");
	while (answer->len < LOG_MAX && (len = read_record(record))) {
		text_str(answer, separator);
		text_json(answer, record, (size_t)len);
		separator = ",";
	}
	text_str(answer, "]");
	return 0;
}
