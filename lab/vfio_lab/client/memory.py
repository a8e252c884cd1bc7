"""A user's memory: arguments at unusual addresses, physical addresses and pinned memory."""

from __future__ import annotations

from vfio_lab.client.user import User
from vfio_lab.errors import UsageError
from vfio_lab.uapi.syscalls import O_RDONLY

PAGE_BYTES = 4096
ENTRY_BYTES = 8
PRESENT = 1 << 63
FRAME = (1 << 55) - 1
PROT_READ = 1
KIB = 1024
NOWHERE = 0x10  # an address that no process maps


def at_the_edge(user: User, data: bytes) -> int:
    """Put up to a page of bytes at the end of a mapping of the user's; return their address."""
    start = user.allocate(2 * PAGE_BYTES)
    user.munmap(start + PAGE_BYTES, PAGE_BYTES)
    user.poke(start + PAGE_BYTES - len(data), data)
    return start + PAGE_BYTES - len(data)


def read_only(user: User, data: bytes) -> int:
    """Put up to a page of bytes into read-only memory of the user's; return their address."""
    address = user.allocate(PAGE_BYTES)
    user.poke(address, data)
    user.syscall("mprotect", address, PAGE_BYTES, PROT_READ)
    return address


def physical_address(user: User, address: int, *, asker: User | None = None) -> int:
    """Return the physical address of memory that a user has touched.

    Args:
        user: whose memory.
        address: where the user has it.
        asker: the user that looks it up, by default `user`; needs CAP_SYS_ADMIN.

    Raises:
        UsageError: the page is not present, or the asker lacks the capability.

    Source: fs/proc/task_mmu.c, pagemap_read().
    """
    page, offset = divmod(address, PAGE_BYTES)
    reader = asker or user
    fd = reader.open_path(f"/proc/{user.pid}/pagemap", O_RDONLY)
    entry = int.from_bytes(reader.pread(fd, ENTRY_BYTES, page * ENTRY_BYTES), "little")
    reader.close(fd)
    if not entry & PRESENT or not entry & FRAME:
        raise UsageError(
            f"{reader.name} cannot tell where {address:#x} of {user.name} is",
            expected="a page that is present",
            seen=f"{entry:#x} in pagemap",
            hint="write to it first, and ask as a user with CAP_SYS_ADMIN",
        )
    return (entry & FRAME) * PAGE_BYTES + offset


def pinned_bytes(user: User) -> int:
    """Return how many bytes of a user's memory are pinned.

    Source: fs/proc/task_mmu.c, task_mem().
    """
    lines = user.read_file("/proc/self/status").splitlines()
    (line,) = [line for line in lines if line.startswith("VmPin:")]
    return int(line.split()[1]) * KIB
