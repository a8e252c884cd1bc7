/* Who a user is: a name, a uid and capabilities. */
#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "user.h"

#define NAME_BYTES 256
#define WORD_BITS 32

struct sets {
	struct __user_cap_data_struct word[2];
};

static struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };

/* Clear a capability in the permitted set, and for all programs that the user will run. */
static int drop_one(struct sets *sets, struct slice number)
{
	long long capability;

	if (!json_number(number, &capability) || capability < 0 || capability >= 2 * WORD_BITS)
		return EINVAL;
	sets->word[capability / WORD_BITS].permitted &= ~(UINT32_C(1) << capability % WORD_BITS);
	return prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) ? errno : 0;
}

static int take_uid(unsigned int uid)
{
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || syscall(SYS_setgroups, 0, NULL) ||
	    syscall(SYS_setresgid, uid, uid, uid) || syscall(SYS_setresuid, uid, uid, uid))
		return errno;
	return 0;
}

/* Take the uid and give up capabilities; a foreign uid keeps the others. */
static int become(unsigned int uid, struct slice drop)
{
	struct slice number;
	struct sets sets;
	int error = 0, dropped = 0;

	if (syscall(SYS_capget, &header, sets.word))
		return errno;
	for (const char *place = NULL; !error && json_each(drop, &place, &number); dropped++)
		error = drop_one(&sets, number);
	if (!error && uid)
		error = take_uid(uid);
	if (error || !(uid || dropped))
		return error;
	for (int i = 0; i < 2; i++) {
		sets.word[i].effective = sets.word[i].permitted;
		sets.word[i].inheritable = 0;
	}
	if (syscall(SYS_capset, &header, sets.word))
		return errno;
	die_with_parent(); /* a change of credentials forgets it: kernel/cred.c, commit_creds() */
	return 0;
}

int user_become(const struct request *request, struct text *answer)
{
	char name[NAME_BYTES];
	struct slice drop;
	long long uid;
	int error;

	if (arg_string(request->args, "name", name, sizeof(name)) ||
	    arg_number(request->args, "uid", &uid) || arg_array(request->args, "drop", &drop))
		return BAD;
	if (uid < 0 || uid >= UINT32_MAX)
		return bad("uid is beyond 32 bits");
	prctl(PR_SET_NAME, name, 0, 0, 0); /* the kernel takes its first 15 bytes */
	error = become((unsigned int)uid, drop);
	if (error) /* not the verdict of a call that somebody asked for */
		return bad("no user with uid %lld without %.*s: errno %d", uid,
			   drop.len < 128 ? (int)drop.len : 128, drop.at, error);
	return add_value(answer, getpid());
}
