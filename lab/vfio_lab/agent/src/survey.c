/* Many files read in one go: what paths match, whatever becomes of each. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "user.h"

#define FILE_BYTES 8192

static void add_content(struct text *answer, const char *path)
{
	static char data[FILE_BYTES];
	ssize_t got = 0, len = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	while (fd >= 0 && len < FILE_BYTES && (got = read(fd, data + len, FILE_BYTES - len)) > 0)
		len += got;
	if (fd < 0 || (got < 0 && !len))
		add_number(answer, "errno", errno);
	else
		add_hex(answer, "data", data, (size_t)len);
	if (fd >= 0)
		close(fd);
}

/* Add a file: where a link leads, who may use a device file, what any other contains. */
static void add_file(struct text *answer, const char *path)
{
	char text[PATH_MAX];
	struct stat status;
	ssize_t len;

	if (lstat(path, &status)) {
		add_number(answer, "errno", errno);
	} else if (S_ISLNK(status.st_mode)) {
		len = readlink(path, text, sizeof(text));
		add_string(answer, "text", text, len > 0 ? (size_t)len : 0);
	} else if (S_ISCHR(status.st_mode)) {
		len = snprintf(text, sizeof(text), "mode %o, owner %u, group %u",
			       status.st_mode & 07777, status.st_uid, status.st_gid);
		add_string(answer, "text", text, (size_t)len);
	} else if (S_ISREG(status.st_mode)) {
		add_content(answer, path);
	}
}

int user_survey(const struct request *request, struct text *answer)
{
	static struct words patterns;
	const char *separator = "";
	glob_t found = { 0 };
	int error = 0;

	memset(&patterns, 0, sizeof(patterns));
	if (arg_words(request->args, "paths", &patterns))
		error = BAD;
	for (int i = 0; !error && patterns.list[i]; i++)
		glob(patterns.list[i], i ? GLOB_APPEND : 0, NULL, &found);
	if (!error) {
		add_value(answer, (long long)found.gl_pathc);
		text_str(answer, ",\"files\":[");
	}
	for (size_t i = 0; !error && i < found.gl_pathc; i++) {
		text_str(answer, separator);
		text_str(answer, "{\"path\":");
		text_json(answer, found.gl_pathv[i], strlen(found.gl_pathv[i]));
		add_file(answer, found.gl_pathv[i]);
		text_str(answer, "}");
		separator = ",";
	}
	if (!error)
		text_str(answer, "]");
	globfree(&found);
	free(patterns.memory);
	return error;
}
