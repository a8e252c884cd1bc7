/* What concerns the whole machine: clock, random state, MAC and kernel log. */
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "machine.h"

#define LOG "/dev/kmsg"
#define RECORD_BYTES 8192
#define LOG_MAX (TEXT_MAX / 8) /* in JSON, each byte may be six */
#define MARK "vfio-lab: awake"
#define SECOND_NS 1000000000LL

static int log_fd = -1;

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

/* Make the log begin now, with a line of our own, and add its stamp. */
static int mark_log(struct text *answer)
{
	/* With a newline: readers are not shown a line that may go on. */
	static const char line[] = "<7>" MARK "\n";
	int log = open(LOG, O_WRONLY | O_CLOEXEC);
	char record[RECORD_BYTES];
	ssize_t written;

	if (log < 0)
		return errno;
	written = write(log, line, sizeof(line) - 1);
	close(log);
	while (written > 0 && read_record(record)) {
		if (strstr(record, MARK)) {
			add_number(answer, "log_us", stamp(record));
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

int machine_mark(const struct request *request, struct text *answer)
{
	int error = begin_log();

	(void)request;
	return error ? error : mark_log(answer);
}

static int set_clock(long long now_ns)
{
	struct timespec now = { now_ns / SECOND_NS, now_ns % SECOND_NS };

	return clock_settime(CLOCK_REALTIME, &now) ? errno : 0;
}

static int reseed(const unsigned char *seed, size_t size)
{
	int pool = open("/dev/urandom", O_WRONLY | O_CLOEXEC), error = 0;

	if (pool < 0)
		return errno;
	if (write(pool, seed, size) < 0 || ioctl(pool, RNDRESEEDCRNG))
		error = errno;
	close(pool);
	return error;
}

static int set_mac(const char *interface, const unsigned char *mac)
{
	struct ifreq ifreq = { .ifr_hwaddr.sa_family = ARPHRD_ETHER };
	int any = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* netdevice(7) */
	int error = 0;

	if (any < 0)
		return errno;
	strcpy(ifreq.ifr_name, interface);
	memcpy(ifreq.ifr_hwaddr.sa_data, mac, 6);
	if (ioctl(any, SIOCSIFHWADDR, &ifreq))
		error = errno;
	close(any);
	return error;
}

struct identity {
	long long now_ns;
	unsigned char *seed, *mac;
	size_t seed_size, mac_size;
	char interface[IFNAMSIZ];
};

static int take(const struct identity *new, struct text *answer)
{
	struct timespec now;
	int error = begin_log();

	if (!error)
		error = set_clock(new->now_ns);
	if (!error)
		error = reseed(new->seed, new->seed_size);
	if (!error && *new->interface)
		error = set_mac(new->interface, new->mac);
	if (!error)
		error = mark_log(answer);
	clock_gettime(CLOCK_REALTIME, &now);
	add_number(answer, "now_ns", now.tv_sec * SECOND_NS + now.tv_nsec);
	return error;
}

/* Make this clone differ from its siblings: clock, random state, MAC; mark the log. */
int machine_wake(const struct request *request, struct text *answer)
{
	struct identity new = { 0 };
	int error = BAD;

	if (arg_number(request->args, "now_ns", &new.now_ns) ||
	    arg_string(request->args, "interface", new.interface, sizeof(new.interface)) ||
	    arg_bytes(request->args, "seed", &new.seed, &new.seed_size) ||
	    arg_bytes(request->args, "mac", &new.mac, &new.mac_size))
		goto out;
	error = new.mac_size == 6 ? take(&new, answer) : bad("a MAC has 6 bytes");
out:
	free(new.seed);
	free(new.mac);
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
