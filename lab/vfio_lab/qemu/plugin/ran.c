/*
 * A plugin of QEMU's translator that writes down which kernel code a guest runs.
 *
 * QEMU translates a block of code when it is about to run for the first time. A clone begins with
 * nothing translated, so what is translated is what ran since it woke. The file holds an array of
 * blocks in the order of translation; unused entries are zero. It is mapped, so that it is complete
 * even where QEMU is killed.
 *
 * Declarations are those of qemu-plugin.h, which no package of QEMU installs.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define KERNEL 0xffffffff80000000ULL
#define ENTRIES (4u << 20)

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;

extern void qemu_plugin_register_vcpu_tb_trans_cb(
	qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb));
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t at);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

/* A block of straight code; its start is relative to KERNEL. */
struct block {
	uint32_t start;
	uint32_t bytes;
};

EXPORT int qemu_plugin_version = 2;

static struct block *blocks;
static atomic_uint count;

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t insns = qemu_plugin_tb_n_insns(tb);
	uint64_t start = qemu_plugin_tb_vaddr(tb);
	const struct qemu_plugin_insn *last;
	unsigned int at;

	(void)id;
	if (start < KERNEL || !insns)
		return;
	at = atomic_fetch_add(&count, 1);
	if (at >= ENTRIES)
		return;
	last = qemu_plugin_tb_get_insn(tb, insns - 1);
	blocks[at].bytes = qemu_plugin_insn_vaddr(last) + qemu_plugin_insn_size(last) - start;
	blocks[at].start = start - KERNEL;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc,
			       char **argv)
{
	size_t size = ENTRIES * sizeof(struct block);
	int fd;

	(void)info;
	if (argc != 1 || strncmp(argv[0], "out=", 4))
		return -1;
	fd = open(argv[0] + 4, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, size))
		return -1;
	blocks = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (blocks == MAP_FAILED)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
	return 0;
}
