/* What is bound where and who holds what, read in one go. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"

#define ID_BYTES 16

/* Return the next name in a folder, NULL at its end. */
static const char *next_name(DIR *folder)
{
	struct dirent *entry;

	do {
		entry = readdir(folder);
	} while (entry && entry->d_name[0] == '.');
	return entry ? entry->d_name : NULL;
}

/* Add the number in a file of sysfs, such as `10c9`; empty if there is none. */
static void add_id(struct text *answer, int function, const char *name)
{
	int fd = openat(function, name, O_RDONLY | O_CLOEXEC);
	ssize_t len = 0;
	char id[ID_BYTES];
	const char *start = id;

	if (fd >= 0) {
		len = read(fd, id, sizeof(id));
		close(fd);
	}
	while (len > 0 && id[len - 1] == '\n')
		len--;
	if (len > 2 && !memcmp(id, "0x", 2)) {
		start += 2;
		len -= 2;
	}
	add_string(answer, name, start, len > 0 ? (size_t)len : 0);
}

/* Read where a link leads; empty if there is none. */
static size_t follow(int folder, const char *name, char target[PATH_MAX])
{
	ssize_t len = readlinkat(folder, name, target, PATH_MAX);

	return len > 0 ? (size_t)len : 0;
}

/* Add the last part of where a link leads. */
static void add_link(struct text *answer, int function, const char *name)
{
	char target[PATH_MAX];
	size_t len = follow(function, name, target), start = len;

	while (start && target[start - 1] != '/')
		start--;
	add_string(answer, name, target + start, len - start);
}

/* Add the name of a function's character device, if vfio has given it one. */
static void add_cdev(struct text *answer, int function)
{
	int fd = openat(function, "vfio-dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);
	const char *name;

	if (!folder)
		return;
	name = next_name(folder);
	if (name)
		add_string(answer, "cdev", name, strlen(name));
	closedir(folder);
}

static void add_function(struct text *answer, int folder, const char *bdf)
{
	static const char *const ids[] = { "vendor", "device" };
	static const char *const links[] = { "driver", "iommu_group", "physfn" };
	int function = openat(folder, bdf, O_PATH | O_DIRECTORY | O_CLOEXEC);

	text_str(answer, "{\"bdf\":");
	text_json(answer, bdf, strlen(bdf));
	for (size_t i = 0; i < sizeof(ids) / sizeof(*ids); i++)
		add_id(answer, function, ids[i]);
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
		add_link(answer, function, links[i]);
	add_cdev(answer, function);
	text_str(answer, "}");
	if (function >= 0)
		close(function);
}

int add_functions(struct text *answer, const char *path)
{
	DIR *folder = opendir(path);
	const char *name, *separator = "";

	if (!folder)
		return bad("there is no %s", path);
	text_str(answer, "[");
	while ((name = next_name(folder))) {
		text_str(answer, separator);
		add_function(answer, dirfd(folder), name);
		separator = ",";
	}
	text_str(answer, "]");
	closedir(folder);
	return 0;
}

void add_descriptors(struct text *answer, pid_t pid)
{
	const char *name, *separator = "";
	char path[32], target[PATH_MAX];
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	folder = opendir(path);
	text_str(answer, "{");
	while (folder && (name = next_name(folder))) {
		text_str(answer, separator);
		text_json(answer, name, strlen(name));
		text_str(answer, ":");
		text_json(answer, target, follow(dirfd(folder), name, target));
		separator = ",";
	}
	text_str(answer, "}");
	if (folder)
		closedir(folder);
}
