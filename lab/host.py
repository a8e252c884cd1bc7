"""What this machine has: tools, room, and an accelerator that works because it was tried."""

from __future__ import annotations

import json
import os
import platform
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.cache import Cache, digest
from lab.deadline import Deadline
from lab.errors import HostError
from lab.process import SYSTEM_PATH, how_it_ended

if TYPE_CHECKING:
    from lab.kernels.kernel import Kernel
    from lab.qemucaps import QemuCaps

KVM = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BOOT = Path("/boot")
INCLUDE = Path("/usr/include")
TRIAL_S = 5.0
# The earliest line that only a running kernel can print, past the decompressor.
ALIVE = b"Linux version"
# QEMU's report of a guest it cannot go on with; it then waits for ever.
STUCK = (b"KVM internal error", b"KVM: entry failed", b"error: kvm run failed")


@dataclass(frozen=True)
class Accelerator:
    """How guests run.

    Args:
        name: `kvm` or `tcg`.
        reason: why this one, one line.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Tool:
    """Something of the host's that the lab calls.

    Args:
        name: a command, or a header below /usr/include.
        package: the Debian package that brings it.
        purpose: `run`, `kernel`, `image`, `selftests` or `tree`: git, for sources brought along.
    """

    name: str
    package: str
    purpose: str

    @property
    def there(self) -> bool:
        """Whether this host has it."""
        if self.name.endswith(".h"):
            return (INCLUDE / self.name).exists() or any(INCLUDE.glob(f"*/{self.name}"))
        return which(self.name) is not None


TOOLS = (
    Tool("qemu-system-x86_64", "qemu-system-x86", "run"),
    Tool("setpriv", "util-linux", "run"),
    Tool("apt-get", "apt", "kernel"),
    Tool("dpkg-deb", "dpkg", "kernel"),
    Tool("gcc", "gcc", "kernel"),
    Tool("ld", "binutils", "kernel"),
    Tool("make", "make", "kernel"),
    Tool("flex", "flex", "kernel"),
    Tool("bison", "bison", "kernel"),
    Tool("bc", "bc", "kernel"),
    Tool("xz", "xz-utils", "kernel"),
    Tool("lz4", "lz4", "kernel"),
    Tool("zstd", "zstd", "kernel"),
    Tool("cpio", "cpio", "kernel"),
    Tool("rsync", "rsync", "kernel"),
    Tool("perl", "perl", "kernel"),
    Tool("depmod", "kmod", "kernel"),
    Tool("mksquashfs", "squashfs-tools", "kernel"),
    Tool("ccache", "ccache", "kernel"),
    Tool("gelf.h", "libelf-dev", "kernel"),
    Tool("openssl/ssl.h", "libssl-dev", "kernel"),
    Tool("git", "git", "tree"),
    Tool("mmdebstrap", "mmdebstrap", "image"),
    Tool("sqfstar", "squashfs-tools", "image"),
    Tool("newuidmap", "uidmap", "image"),
    Tool("unsquashfs", "squashfs-tools", "image"),
    Tool("cpio", "cpio", "image"),
    Tool("uuid/uuid.h", "uuid-dev", "selftests"),
    Tool("chromium-headless-shell", "chromium-headless-shell", "report"),
)


def which(name: str) -> Path | None:
    """Return where a command is, the administrator's folders included."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}")
    return None if found is None else Path(found)


def missing(purpose: str) -> list[Tool]:
    """Return the tools of a purpose that this host lacks."""
    return [tool for tool in TOOLS if tool.purpose == purpose and not tool.there]


def install_command(packages: Iterable[str]) -> str:
    """Return the command line that installs packages, as this user would type it."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get install --no-install-recommends {' '.join(sorted(set(packages)))}"


def need(purpose: str) -> None:
    """Check that every tool of a purpose is there.

    Raises:
        HostError: naming all that are missing and the command that installs them.
    """
    if lacking := missing(purpose):
        raise HostError(
            f"this host lacks tools for: {purpose}",
            seen=f"no {', '.join(tool.name for tool in lacking)}",
            hint=install_command(tool.package for tool in lacking),
        )


def need_space(folder: Path, size_bytes: int, what: str) -> None:
    """Check that a folder's disk has room.

    Raises:
        HostError: there is less than `size_bytes` free.
    """
    free = free_bytes(folder)
    if free < size_bytes:
        raise HostError(
            f"not enough disk space for {what}",
            expected=f"{megabytes(size_bytes)} free",
            seen=f"{megabytes(free)} free in {folder}",
            hint="`vfio-lab cache show` says what the cache holds; XDG_CACHE_HOME can move it",
        )


def free_bytes(folder: Path) -> int:
    """Return the room on the disk of a folder that may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def megabytes(size_bytes: int) -> str:
    """Return a size as people read it."""
    mega = size_bytes / (1 << 20)
    return f"{mega:.0f} MB" if mega < 1 << 10 else f"{mega / (1 << 10):.1f} GB"


def memory_bytes() -> tuple[int, int]:
    """Return this machine's memory and how much of it programs could still take."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    sizes = {fields[0].rstrip(":"): int(fields[1]) << 10 for fields in lines}
    return sizes["MemTotal"], sizes["MemAvailable"]


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def accelerator(caps: QemuCaps, cache: Cache, kernel: Kernel | None = None) -> Accelerator:
    """Return how guests run here, having tried it once since this machine booted.

    Args:
        caps: the QEMU.
        cache: where the answer is kept, and where a kernel to try may be.
        kernel: what to boot for a trial; else one of the cache, else one of /boot.
    """
    if platform.machine() != "x86_64":
        return Accelerator(
            "tcg", f"KVM runs x86 guests on x86 hosts only, not {platform.machine()}"
        )
    if not KVM.exists():
        return Accelerator("tcg", f"there is no {KVM}")
    if not os.access(KVM, os.R_OK | os.W_OK):
        return Accelerator("tcg", f"{KVM} is closed to uid {os.geteuid()}: join the group kvm")
    bzimage = _trial_kernel(cache) if kernel is None else kernel.bzimage
    if bzimage is None:
        return Accelerator("tcg", f"{KVM} opens, but there is no kernel yet to try it with")
    key = _trial_key(caps, bzimage)

    def judge(scratch: Path) -> None:
        for stale in cache.keys("accelerator"):
            cache.remove("accelerator", stale)
        (scratch / "verdict.json").write_text(json.dumps(asdict(try_kvm(caps.binary, bzimage))))

    entry = cache.obtain("accelerator", key, judge)
    return Accelerator(**json.loads((entry / "verdict.json").read_text()))


def _trial_kernel(cache: Cache) -> Path | None:
    ours = sorted((cache.root / "kernel").glob("*/bzImage"))
    theirs = sorted(BOOT.glob("vmlinuz*"), key=lambda path: path.stat().st_mtime)
    readable = [path for path in [*theirs, *ours] if os.access(path, os.R_OK)]
    return readable[-1] if readable else None


def _trial_key(caps: QemuCaps, bzimage: Path) -> str:
    stat = bzimage.stat()
    return digest(
        {
            "qemu": caps.digest,
            "kernel": [os.fspath(bzimage), stat.st_size, stat.st_mtime_ns],
            "boot": BOOT_ID.read_text().strip(),
        }
    )[:16]


def try_kvm(qemu: Path, bzimage: Path, patience_s: float = TRIAL_S) -> Accelerator:
    """Boot a kernel under KVM until it speaks, gets stuck or runs out of time.

    Args:
        qemu: the binary.
        bzimage: the kernel.
        patience_s: how long it may take to its first line, seconds.
    """
    begun = time.monotonic()
    output = b""
    with _trial(qemu, bzimage) as process:
        for chunk in _output(process, Deadline.after(patience_s)):
            output += chunk
            if ALIVE in output or any(word in output for word in STUCK):
                break
        ended = process.poll()
    took_s = time.monotonic() - begun
    if ALIVE in output:
        return Accelerator("kvm", f"a kernel spoke {took_s:.1f} s after it was started under KVM")
    if stuck := next((word.decode() for word in STUCK if word in output), None):
        return Accelerator("tcg", f"{KVM} opens but runs no kernel: {stuck}")
    said = output.decode(errors="replace").strip().splitlines()
    if ended is not None:
        last = said[-1] if said else "<no output>"
        return Accelerator("tcg", f"{KVM} opens but QEMU {how_it_ended(ended)}: {last}")
    return Accelerator("tcg", f"{KVM} opens but a kernel stayed silent for {took_s:.1f} s")


@contextmanager
def _trial(qemu: Path, bzimage: Path) -> Iterator[subprocess.Popen[bytes]]:
    # fmt: off
    command = [
        "setpriv", "--pdeathsig", "KILL", "--",
        os.fspath(qemu),
        "-nodefaults", "-no-user-config", "-no-reboot",
        "-display", "none",
        "-machine", "q35",
        "-accel", "kvm",
        "-cpu", "host",
        "-m", "256M",
        "-serial", "stdio",
        "-kernel", os.fspath(bzimage),
        "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1",
    ]
    # fmt: on
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _output(process: subprocess.Popen[bytes], deadline: Deadline) -> Iterator[bytes]:
    assert process.stdout is not None
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while ready.select(deadline.remaining_s):
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                process.wait()
                return
            yield chunk
