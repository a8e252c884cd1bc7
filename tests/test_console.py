"""What counts as a complaint by the kernel, in the words of 6.1, 6.12 and 7.3."""

from pathlib import Path

import pytest

from vfio_lab.qemu import console
from vfio_lab.qemu.console import (
    complaints,
    last_words,
    read_console,
    readable,
    tail,
)

DATA = Path(__file__).parent / "data"

HEADLINES = {
    # kernel/panic.c, __warn()
    "WARN 6.1": (
        "WARN",
        "WARNING: CPU: 0 PID: 97 at drivers/vfio/vfio_main.c:1021 vfio_df_close+0x6b/0x80 [vfio]",
    ),
    "WARN 6.1 without a file": ("WARN", "WARNING: CPU: 1 PID: 1 at vfio_df_close+0x6b/0x80"),
    "WARN 7.3": (
        "WARN",
        "WARNING: drivers/vfio/vfio_main.c:1021 at vfio_df_close+0x6b/0x80, CPU#0: python3/97",
    ),
    "WARN 7.3 without a file": ("WARN", "WARNING: at vfio_df_close+0x6b/0x80, CPU#0: python3/97"),
    # lib/bug.c; arch/x86/mm/fault.c; arch/x86/kernel/dumpstack.c, traps.c
    "BUG": ("BUG", "kernel BUG at drivers/vfio/vfio_main.c:77!"),
    "NULL": ("Oops", "BUG: kernel NULL pointer dereference, address: 0000000000000008"),
    "page fault": ("Oops", "BUG: unable to handle page fault for address: ffffc90000a00000"),
    "Oops": ("Oops", "Oops: 0002 [#1] PREEMPT SMP"),
    "Oops 6.12": ("Oops", "Oops: Oops: 0002 [#1] SMP"),
    "protection 6.1": (
        "Oops",
        "general protection fault, probably for non-canonical address 0xdead000000000108: 0000 [#1]"
        " PREEMPT SMP",
    ),
    "protection 6.12": (
        "Oops",
        "Oops: general protection fault, probably for non-canonical address 0xdead000000000108:"
        " 0000 [#1] SMP",
    ),
    "divide 6.1": ("Oops", "divide error: 0000 [#1] PREEMPT SMP"),
    "opcode 6.1": ("Oops", "invalid opcode: 0000 [#2] PREEMPT SMP"),
    "double fault": ("Oops", "traps: PANIC: double fault, error_code: 0x0"),
    "panic": ("panic", "Kernel panic - not syncing: Fatal exception"),
    # kernel/sched/core.c, mm/page_alloc.c, kernel/locking/spinlock_debug.c, kernel/workqueue.c
    "sleeping": (
        "BUG",
        "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:580",
    ),
    "atomic": ("BUG", "BUG: scheduling while atomic: python3/97/0x00000002"),
    "page": ("BUG", "BUG: Bad page state in process python3  pfn:01f3a"),
    "rss": ("BUG", "BUG: Bad rss-counter state mm:00000000a1b2c3d4 type:MM_FILEPAGES val:1"),
    "spinlock": ("BUG", "BUG: spinlock bad magic on CPU#0, python3/97"),
    "workqueue": (
        "BUG",
        "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 30s!",
    ),
    "slab": ("BUG", "BUG kmalloc-64 (Not tainted): Right Redzone overwritten"),
    "slab, tainted": ("BUG", "BUG vfio device (Tainted: G        W         ): Poison overwritten"),
    # kernel/locking/lockdep.c
    "circular": ("lockdep", "WARNING: possible circular locking dependency detected"),
    "recursive": ("lockdep", "WARNING: possible recursive locking detected"),
    "inversion": ("lockdep", "WARNING: possible irq lock inversion dependency detected"),
    "irq order": ("lockdep", "WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected"),
    "inconsistent": ("lockdep", "WARNING: inconsistent lock state"),
    "unlock": ("lockdep", "WARNING: bad unlock balance detected!"),
    "freed": ("lockdep", "WARNING: held lock freed!"),
    "held": ("lockdep", "WARNING: lock held when returning to user space!"),
    "still held": ("lockdep", "WARNING: python3/97 still has locks held!"),
    "nested": ("lockdep", "WARNING: Nested lock was not taken"),
    "RCU usage": ("lockdep", "WARNING: suspicious RCU usage"),
    "key": ("lockdep", "INFO: trying to register non-static key."),
    "context": ("lockdep", "[ BUG: Invalid wait context ]"),
    # mm/kasan/report.c, lib/ubsan.c, mm/kmemleak.c
    "KASAN": ("KASAN", "BUG: KASAN: slab-use-after-free in vfio_pci_core_ioctl+0x1b3/0x9a0 [vfio]"),
    "UBSAN": ("UBSAN", "UBSAN: array-index-out-of-bounds in drivers/vfio/pci/vfio_pci_rdwr.c:31:9"),
    "kmemleak": (
        "kmemleak",
        "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    ),
    # kernel/rcu/tree_stall.h, tree_exp.h, tasks.h
    "RCU self": ("RCU stall", "rcu: INFO: rcu_preempt self-detected stall on CPU"),
    "RCU other": ("RCU stall", "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:"),
    "RCU expedited": (
        "RCU stall",
        "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 0-...D } 5 jiffies",
    ),
    "RCU tasks": ("RCU stall", "INFO: rcu_tasks detected stalls on tasks:"),
    # kernel/hung_task.c, kernel/watchdog.c
    "hung 6.1": ("hung task", "INFO: task python3:97 blocked for more than 120 seconds."),
    "hung 7.3": (
        "hung task",
        "INFO: task python3:97 blocked in I/O wait for more than 120 seconds.",
    ),
    "soft lockup": ("lockup", "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [python3:97]"),
    "hard lockup 6.1": ("lockup", "NMI watchdog: Watchdog detected hard LOCKUP on cpu 0"),
    "hard lockup 7.3": ("lockup", "watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 1"),
    # lib/refcount.c, lib/list_debug.c
    "refcount": ("refcount", "refcount_t: underflow; use-after-free."),
    "list": ("list", "list_add corruption. prev->next should be next (ffff), but was 0000."),
}
HARMLESS = """\
[    0.000000] Linux version 7.3.4-lab (vfio@lab) (gcc (Debian 12.2.0-14+deb12u1) 12.2.0)
[    0.000000] [Firmware Bug]: TSC doesn't count with P0 frequency!
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable
[    0.000000] ACPI BIOS Warning (bug): 32/64X length mismatch in FADT/Pm1aEventBlock: 32/0
[    0.010000] kasan: KernelAddressSanitizer initialized
[    0.020000] Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar
[    0.020000] ... MAX_LOCKDEP_SUBCLASSES:  8
[    0.020000] RCU lockdep checking is enabled.
[    0.020000] ODEBUG: selftest passed
[    0.030000] rcu: 	RCU debug extended QS entry/exit.
[    0.030000] rcu: srcu_init: Setting srcu_struct sizes based on contention.
[    0.040000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks!
[    0.050000] MMIO Stale Data: Unknown: No mitigations
[    0.060000] INFO: lockdep is turned off.
[    0.070000] **   WARNING: This kernel shows pointers in its log at a price   **
[    1.000000] kmemleak: Kernel memory leak detector initialized (mem pool available: 15674)
[    1.100000] kmemleak: Automatic memory scanning thread started
[    1.200000] NMI watchdog: Enabled. Permanently consumes one hw-PMU counter.
[    2.000000] vfio-pci 0000:01:10.0: VF token incorrect for device
[    2.100000] vfio-noiommu device opened by user (python3:97)
[    2.200000] traps: python3[97] general protection fault ip:7f00 sp:7ffe error:0 in libc.so.6
[    2.300000] python3[97]: segfault at 10 ip 00007f3c1e sp 00007ffe error 4 in libc.so.6
[    2.400000] pci 0000:01:00.0: BAR 0 [mem 0xfe000000-0xfe01ffff]: assigned
[    2.500000] DEBUG: nothing to see
WARNING: nobody is at home: python3 says so
"""
WARN = """\
[    5.1] before
[    5.2] ------------[ cut here ]------------
[    5.2] vfio: the count is off by 2
[    5.2] WARNING: CPU: 0 PID: 97 at drivers/vfio/vfio_main.c:1021 vfio_df_close+0x6b/0x80
[    5.2] Modules linked in: vfio_pci
[    5.2] refcount_t: named here for the test
[    5.2] ---[ end trace 0000000000000000 ]---
[    5.3] after
"""
OOPS = """\
[    6.1] BUG: kernel NULL pointer dereference, address: 0000000000000000
[    6.1] #PF: supervisor write access in kernel mode
[    6.1] Oops: 0002 [#1] PREEMPT SMP
{registers}
[    6.1] ---[ end trace 0000000000000000 ]---
[    6.2] Kernel panic - not syncing: Fatal exception
[    6.2] Kernel Offset: disabled
[    6.2] ---[ end Kernel panic - not syncing: Fatal exception ]---
"""
LOCKDEP = """\
[    7.1] ======================================================
[    7.1] WARNING: possible circular locking dependency detected
[    7.1] 7.3.4-lab #1 Not tainted
[    7.1] ------------------------------------------------------
[    7.1]  *** DEADLOCK ***
"""


def kinds(text):
    return [one.kind for one in complaints(text)]


@pytest.mark.parametrize(("kind", "line"), HEADLINES.values(), ids=HEADLINES)
@pytest.mark.parametrize(
    "stamp", ["", "[   12.345678] ", "[   12.345678][    T1] ", "[   12.345678][   C0] "]
)
def test_each_complaint_is_known_by_its_first_line(stamp, kind, line):
    (found,) = complaints(f"[    1.0] before\n{stamp}{line}\n[   99.0] after\n")
    assert found.kind == kind
    assert found.headline == line


@pytest.mark.parametrize("line", HARMLESS.splitlines())
def test_what_a_healthy_kernel_says_is_no_complaint(line):
    assert kinds(line) == []


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.3"])
def test_a_boot_of_each_kernel_is_no_complaint(kernel):
    text = read_console(DATA / f"boot-{kernel}.txt")
    assert len(text.splitlines()) > 200
    assert complaints(text) == []


def test_a_complaint_amid_a_boot_is_found():
    (found,) = complaints(read_console(DATA / "boot-kasan.txt"))
    assert found.kind == "KASAN"
    assert found.headline == "BUG: KASAN: wild-memory-access in rcu_is_watching+0x1d/0x40"
    assert "common_interrupt+0xf/0xa0" in found.report


def test_a_report_is_one_complaint_with_its_message():
    (found,) = complaints(WARN)
    assert found.kind == "WARN"
    assert found.headline.startswith("WARNING: CPU: 0 PID: 97 at")
    assert found.report.splitlines() == WARN.splitlines()[1:-1]


def test_two_reports_are_two_complaints():
    assert kinds(WARN + WARN) == ["WARN", "WARN"]


def test_a_message_before_the_warning_is_not_counted_beside_it():
    text = WARN.replace("vfio: the count is off by 2", "refcount_t: underflow; use-after-free.")
    (found,) = complaints(text)
    assert found.headline == "refcount_t: underflow; use-after-free."
    assert "---[ end trace" in found.report


@pytest.mark.parametrize("registers", [3, 60])
def test_a_long_oops_is_one_complaint_and_its_panic_another(registers):
    text = OOPS.format(registers="\n".join(["[    6.1] RAX: 0: 0000 [#1]"] * registers))
    assert kinds(text) == ["Oops", "panic"]


def test_a_report_without_an_end_hides_none_that_follow():
    assert kinds(LOCKDEP + WARN + LOCKDEP) == ["lockdep", "WARN", "lockdep"]
    cut_short = WARN.replace("---[ end trace", "lost: ")
    assert kinds(cut_short + WARN) == ["WARN", "refcount", "WARN"]


def test_a_report_is_as_long_as_a_reader_needs():
    (found,) = complaints(LOCKDEP + "[    8.0] more\n" * 500)
    assert len(found.report.splitlines()) == console.REPORT_LINES


def test_the_headline_is_that_of_what_the_guest_died_of(tmp_path):
    path = tmp_path / "console.log"
    assert last_words(path) is None
    path.write_text(HARMLESS)
    assert last_words(path) is None
    path.write_text(LOCKDEP)
    assert last_words(path) == "WARNING: possible circular locking dependency detected"
    path.write_text(LOCKDEP + OOPS.format(registers=""))
    assert last_words(path) == "BUG: kernel NULL pointer dereference, address: 0000000000000000"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16)\r\n", "SeaBIOS (version 1.16)\n"),
        (b"\x1b[1;31mred\x1b[m and \x1b[38;5;9mmore\x1b[K\r\n", "red and more\n"),
        (b"\x1b(B\x1b7\x1b8\x1b=plain\x07\x00\x7f\r\n", "plain\n"),
        (b"tab\tstays\n", "tab\tstays\n"),
        (b"broken \xff byte\n", "broken \ufffd byte\n"),
        (b"cut off \x1b", "cut off "),
    ],
)
def test_a_console_is_read_without_its_control_sequences(tmp_path, raw, text):
    path = tmp_path / "console.log"
    path.write_bytes(raw)
    assert read_console(path) == text


def test_the_tail_is_the_last_lines(tmp_path):
    path = tmp_path / "console.log"
    assert tail(path) == ""
    path.write_text("".join(f"line {number}\r\n" for number in range(100)))
    assert tail(path, 2) == "line 98\nline 99"
    assert len(tail(path).splitlines()) == 40


@pytest.mark.parametrize(
    ("record", "line"),
    [
        ("6,339,5140900,-;NET: Registered\n", "[    5.140900] info: NET: Registered"),
        ("4,340,98765432109,-;vfio-pci: no\n SUBSYSTEM=pci\n", "[98765.432109] warn: vfio-pci: no"),
        ("12,1,0,-;from user space\n", "[    0.000000] warn: from user space"),
        (
            "3,1,7,-,caller=T97;text; with ; semicolons\n",
            "[    0.000007] err: text; with ; semicolons",
        ),
        ("6,1,7,-;\n", "[    0.000007] info: "),
    ],
)
def test_a_record_of_the_kernel_log_is_made_readable(record, line):
    assert readable(record) == line
