"""What counts as left in a guest, and how kmemleak's reports are read."""

import pytest

from vfio_lab.machine.leftovers import Leak, contents, difference, parse_leaks

CARETAKER = 40
PRISTINE = {
    "/dev/vfio/vfio": "-> mode 666, owner 0, group 0",
    "/proc/interrupts": "  1:  0 0 IO-APIC 1-edge i8042\n",
    "/proc/iomem": "fe800000-fe9fffff : PCI Bus 0000:01\n  fe800000-fe81ffff : 0000:01:00.0\n",
    "/proc/vmstat": "nr_free_pages 9\nnr_foll_pin_acquired 70\nnr_foll_pin_released 70\n",
    "/proc/1/exe": "-> /usr/bin/dash",
    "/proc/2/exe": "-> ",
    "/proc/3/exe": "-> /run/vfio-lab/agent",
    "/proc/40/exe": "-> /run/vfio-lab/agent",
    "/proc/1/fd/0": "-> /dev/console",
    "/sys/module/vfio/refcnt": "3\n",
}


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("/dev/vfio/7", "-> mode 600, owner 0, group 0", "/dev/vfio/7 -> mode 600"),
        ("/proc/interrupts", "24: 0 0 MSI vfio-msix[0](0000:01:00.0)", "vfio-msix[0]"),
        ("/proc/iomem", PRISTINE["/proc/iomem"] + "    fe800000-fe81ffff : vfio\n", ": vfio"),
        ("/proc/vmstat", "nr_foll_pin_acquired 73\nnr_foll_pin_released 70\n", "0 at first, now 3"),
        ("/proc/77/exe", "-> /usr/bin/sleep", "/proc/77/exe -> /usr/bin/sleep"),
        ("/proc/1/fd/9", "-> anon_inode:[vfio-device]", "/proc/1/fd/9 -> anon_inode"),
        ("/sys/module/vfio/refcnt", "4\n", "/sys/module/vfio/refcnt: 3 at first, now 4"),
    ],
)
def test_what_is_left_is_told(path, text, told):
    before, after = contents(PRISTINE, CARETAKER), contents(PRISTINE | {path: text}, CARETAKER)
    (only,) = difference(before, after)
    assert told in only


def test_what_is_gone_is_told():
    rest = {path: text for path, text in PRISTINE.items() if path != "/dev/vfio/vfio"}
    told = difference(contents(PRISTINE, CARETAKER), contents(rest, CARETAKER))
    assert told == ["/dev/vfio/vfio is missing"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/proc/40/fd/3", "-> anon_inode:[vfio-device]"),
        ("/proc/9/exe", "-> "),
        ("/proc/1/fd/5", "-> socket:[88]"),
        ("/proc/interrupts", "  1:  9 9 IO-APIC 1-edge i8042\n"),
        ("/proc/vmstat", "nr_foll_pin_acquired 99\nnr_foll_pin_released 99\n"),
    ],
    ids=["the caretaker's own", "a kernel thread", "a socket", "a count", "pins that were undone"],
)
def test_what_comes_and_goes_is_not_told(path, text):
    before, after = contents(PRISTINE, CARETAKER), contents(PRISTINE | {path: text}, CARETAKER)
    assert difference(before, after) == []


REPORT = """unreferenced object 0xffff888104a2b000 (size 192):
  comm "agent", pid 97, jiffies 4294901234
  hex dump (first 32 bytes):
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace (crc 1234abcd):
    __kmalloc_cache_noprof+0x2d1/0x3a0
    vfio_pci_core_open_device+0x41/0x190 [vfio_pci_core]
    vfio_df_open+0x12c/0x2f0 [vfio]
    vfio_group_fops_unl_ioctl+0x3c1/0x9a0 [vfio]
    do_syscall_64+0x5b/0x110
unreferenced object 0xffff888104a2c000 (size 8):
  comm "kworker/0:1", pid 9, jiffies 4294901299
  backtrace (crc 0):
    [<ffffffff81234567>] kmemdup+0x20/0x40
"""


def test_leaks_say_who_allocated_where():
    first, second = parse_leaks(REPORT)
    called = "vfio_pci_core_open_device < vfio_df_open < vfio_group_fops_unl_ioctl"
    assert (first.pid, first.where) == (97, called)
    assert first.report.endswith("do_syscall_64+0x5b/0x110\n")
    assert second == Leak(9, "kmemdup", second.report)
    assert parse_leaks("") == []
