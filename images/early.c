/*
 * The first process of a kernel whose drivers for disks and file systems are modules. It loads
 * them, mounts the guest's image and becomes the image's own init, as if the kernel had mounted it.
 *
 * /modules names them, one path a line, in the order in which they need each other. Disks are
 * found by serial number: behind an IOMMU whose driver is a module they are probed in any order.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define INIT "/usr/lib/vfio-lab/init"
#define DISKS 3
#define PATIENCE_MS 20000

static void fail(const char *step, const char *on)
{
	fprintf(stderr, "vfio-lab: early init failed at: %s %s: %s\n", step, on, strerror(errno));
	exit(1);	/* the kernel panics, and the console has said why */
}

static void mounted(const char *type, const char *on)
{
	mkdir(on, 0755);
	if (mount(type, on, type, 0, NULL))
		fail("mounting", on);
}

static void speak(void)
{
	int console = open("/dev/console", O_RDWR);

	for (int fd = 0; console >= 0 && fd <= 2; fd++)
		dup2(console, fd);
	if (console > 2)
		close(console);
}

static void load(char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file < 0)
		fail("opening", path);
	/* A kernel may have it built in after all, or lack its device: the disks will tell. */
	if (syscall(SYS_finit_module, file, "", 0) && errno != EEXIST && errno != ENODEV)
		fprintf(stderr, "vfio-lab: cannot load %s: %s\n", path, strerror(errno));
	close(file);
	unlink(path);	/* it has taken memory twice until now */
}

static void load_all(void)
{
	char path[256];
	FILE *list = fopen("/modules", "r");

	if (!list)
		fail("opening", "/modules");
	while (fgets(path, sizeof(path), list)) {
		path[strcspn(path, "\n")] = '\0';
		load(path);
	}
	fclose(list);
}

/* Count the disks with a serial number, and note the name of the one with this. */
static int look(const char *serial, char *name, size_t size)
{
	int found = 0;
	char path[512], seen[64];
	struct dirent *entry;
	DIR *disks = opendir("/sys/block");

	while (disks && (entry = readdir(disks))) {
		FILE *file;

		snprintf(path, sizeof(path), "/sys/block/%s/serial", entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fgets(seen, sizeof(seen), file)) {
			found++;
			seen[strcspn(seen, "\n")] = '\0';
			if (!strcmp(seen, serial))
				snprintf(name, size, "/dev/%s", entry->d_name);
		}
		fclose(file);
	}
	if (disks)
		closedir(disks);
	return found;
}

int main(void)
{
	char image[300] = "";
	char *const words[] = { INIT, NULL };

	mounted("devtmpfs", "/dev");
	speak();
	mounted("sysfs", "/sys");
	load_all();
	for (int ms = 0; look("image", image, sizeof(image)) < DISKS; ms++) {
		if (ms == PATIENCE_MS) {
			errno = ENODEV;
			fail("waiting for", "the guest's disks");
		}
		usleep(1000);
	}
	umount("/sys");
	mkdir("/root", 0755);
	if (mount(image, "/root", "squashfs", MS_RDONLY, NULL))
		fail("mounting the image on", image);
	if (mount("/dev", "/root/dev", NULL, MS_MOVE, NULL))
		fail("moving", "/dev");
	if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot("."))
		fail("changing to", "/root");
	execv(INIT, words);
	fail("starting", INIT);
}
