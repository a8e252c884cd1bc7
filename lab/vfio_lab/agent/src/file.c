/* Files, folders and links. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "user.h"

#define READ_BYTES ((size_t)64 << 10) /* sysctl files allocate what is asked for */

static int read_all(int fd, size_t size, struct text *answer)
{
	static char part[READ_BYTES];
	ssize_t got = 1;

	while (size && got) {
		got = read(fd, part, size < READ_BYTES ? size : READ_BYTES);
		if (got < 0)
			return errno;
		text_hex(answer, part, (size_t)got);
		size -= (size_t)got;
	}
	return 0;
}

int user_read_file(const struct request *request, struct text *answer)
{
	char path[PATH_MAX];
	size_t size;
	int fd, error;

	if (arg_string(request->args, "path", path, sizeof(path)) ||
	    arg_size(request->args, "size", &size))
		return BAD;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	add_value(answer, 0);
	text_str(answer, ",\"data\":\"");
	error = read_all(fd, size, answer);
	text_str(answer, "\"");
	close(fd);
	return error;
}

/* Write to an existing file, in one write. */
static int write_once(const char *path, const void *data, size_t size, struct text *answer)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t written;
	int error;

	if (fd < 0)
		return errno;
	error = starve_begin();
	if (!error) {
		written = write(fd, data, size);
		error = written < 0 ? errno : 0;
		starve_end();
	}
	close(fd);
	return error ? error : add_value(answer, written);
}

int user_write_file(const struct request *request, struct text *answer)
{
	unsigned char *data;
	char path[PATH_MAX];
	size_t size;
	int error;

	if (arg_string(request->args, "path", path, sizeof(path)) ||
	    arg_bytes(request->args, "data", &data, &size))
		return BAD;
	error = write_once(path, data, size, answer);
	free(data);
	return error;
}

int user_readlink(const struct request *request, struct text *answer)
{
	char path[PATH_MAX], target[PATH_MAX];
	ssize_t len;

	if (arg_string(request->args, "path", path, sizeof(path)))
		return BAD;
	len = readlink(path, target, sizeof(target));
	if (len < 0)
		return errno;
	add_value(answer, 0);
	add_string(answer, "text", target, (size_t)len);
	return 0;
}

int user_listdir(const struct request *request, struct text *answer)
{
	const char *separator = "";
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *folder;

	if (arg_string(request->args, "path", path, sizeof(path)))
		return BAD;
	folder = opendir(path);
	if (!folder)
		return errno;
	add_value(answer, 0);
	text_str(answer, ",\"names\":[");
	while ((entry = readdir(folder))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		text_str(answer, separator);
		text_json(answer, entry->d_name, strlen(entry->d_name));
		separator = ",";
	}
	text_str(answer, "]");
	closedir(folder);
	return 0;
}
