"""Debug a guest: QEMU's gdbstub on a clone, and a core of its memory when it panics."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath

from vfio_lab.errors import BuildError, LabError, UsageError
from vfio_lab.hw.topology import Topology
from vfio_lab.kernels import export, ktree, packaged
from vfio_lab.kernels.packaged import Kernel
from vfio_lab.machine.guest import Guest
from vfio_lab.machine.template import GuestFactory
from vfio_lab.util.cache import Cache
from vfio_lab.util.deadline import Deadline

QMP_TIMEOUT_S = 20.0
DUMP_TIMEOUT_S = 120.0
FOREVER_S = 10 * 365 * 86400.0
CORE = "vmcore"
SOCKET = "gdb"
VMCOREINFO_OPTION = "FW_CFG_SYSFS"
SECTIONS = "/sys/module/{}/sections/.text"


@contextlib.contextmanager
def stubbed(
    guest_factory: GuestFactory, topology: Topology, folder: Path
) -> Iterator[tuple[Guest, Path]]:
    """Yield a guest and the socket on which QEMU listens for gdb.

    Args:
        guest_factory: the factory, which has the kernel and the image.
        topology: the guest's hardware.
        folder: the folder for the guest's console and logs.
    """
    with tempfile.TemporaryDirectory(prefix="vfio-lab-") as short:  # a socket's path must be short
        socket = Path(short) / SOCKET
        socket.symlink_to(folder.resolve() / SOCKET)  # QEMU's folder, the only one in its jail
        guest = guest_factory.start("debug", topology, folder)
        try:
            guest.listen_for_gdb(SOCKET)
            yield guest, socket
        finally:
            guest.close()


def symbols_folder(built: Kernel, cache: Cache) -> Path | None:
    """Return the build folder with a kernel's vmlinux and unstripped modules, None without one.

    The build folder of a packaged kernel is built if necessary.
    """
    if built.name in packaged.kernel_catalogue().specs:
        return ktree.ensure_tree(built.name, cache).bench.out
    tree = packaged.facts(built).get("tree")
    return None if tree is None else export.build_folder(Path(str(tree)), cache)


def gdb(guest: Guest, socket: Path, out: Path | None) -> str:
    """Return the command line of gdb with the symbols of the kernel and the loaded modules.

    Args:
        guest: the guest to debug.
        socket: QEMU's gdbstub.
        out: the folder that the kernel was built in; without it gdb has no symbols.
    """
    words = ["gdb", "-ex", f"target remote {socket}"]
    if out is not None:
        loaded = {PurePath(path).stem.replace("-", "_"): path for path in _modules(out)}
        for name in guest.root.listdir("/sys/module"):
            with contextlib.suppress(LabError, KeyError, OSError):
                address = guest.root.read_file(SECTIONS.format(name)).strip()
                words += ["-ex", f"add-symbol-file {loaded[name]} {address}"]
        words.append(str(out / "vmlinux"))
    return shlex.join(words)


def pause_on_panic(guest: Guest) -> None:
    """Make QEMU pause a guest that panics, with the details that a core needs (vmcoreinfo).

    Raises:
        UsageError: the kernel cannot pass vmcoreinfo to QEMU.

    Source: drivers/firmware/qemu_fw_cfg.c, write_vmcoreinfo().
    """
    booted = guest.machine.kernel
    if booted.option(VMCOREINFO_OPTION) is None:
        raise UsageError(
            f"cannot take a usable core of kernel {booted.name}",
            guest=guest.name,
            expected=f"CONFIG_{VMCOREINFO_OPTION}, by which the kernel passes vmcoreinfo to QEMU",
            seen="a kernel built without that option",
            hint="use the kernel's source tree: the lab builds it with that option",
        )
    guest.load("qemu_fw_cfg")
    guest.qmp.execute("set-action", deadline=Deadline.after(QMP_TIMEOUT_S), panic="pause")


def await_core(guest: Guest, timeout_s: float = FOREVER_S) -> Path:
    """Wait until the guest panics, and write its memory to a core that drgn can open.

    Args:
        guest: a guest after `pause_on_panic`; it stays paused.
        timeout_s: how long to wait for the panic, in seconds.

    Raises:
        DeadlineExceeded: the guest did not panic.
        BuildError: QEMU could not write the core.
    """
    guest.qmp.await_event("GUEST_PANICKED", deadline=Deadline.after(timeout_s))
    core = guest.folder / CORE
    guest.qmp.execute(
        "dump-guest-memory",
        deadline=Deadline.after(DUMP_TIMEOUT_S),
        paging=False,
        protocol=f"file:{core}",
    )
    if not core.exists():
        raise BuildError("QEMU wrote no core", guest=guest.name, where=guest.folder)
    return core


def _modules(out: Path) -> list[str]:
    return [str(path) for path in out.rglob("*.ko")]
