"""Choose KVM or TCG by booting a kernel, since /dev/kvm may open but still run no kernel."""

from __future__ import annotations

import json
import os
import platform
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from vfio_lab.arch import X86_64, Architecture
from vfio_lab.qemu.capabilities import QemuCaps
from vfio_lab.util.cache import Cache, digest
from vfio_lab.util.deadline import Deadline
from vfio_lab.util.process import how_it_ended

KVM = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BOOT = Path("/boot")
CPUINFO = Path("/proc/cpuinfo")
# What is the same for all CPUs of a kind, by architecture; not what changes, as the frequency.
CPU_FACTS = frozenset(
    {"vendor_id", "cpu family", "model", "model name", "stepping", "flags", "address sizes"}
    | {f"CPU {word}" for word in ("implementer", "architecture", "variant", "part", "revision")}
    | {"Features"}
)
# A kernel prints its first line within a second on most hosts; nested KVM under TCG took seven.
TRIAL_S = 30.0
# The earliest line that only a running kernel can print, past the decompressor.
ALIVE = b"Linux version"
# QEMU prints this if it cannot continue a guest; it then waits forever.
STUCK = (b"KVM internal error", b"KVM: entry failed", b"error: kvm run failed")


@dataclass(frozen=True)
class Accelerator:
    """The accelerator of guests.

    Args:
        name: `kvm` or `tcg`.
        reason: the reason for the choice, in one line.
    """

    name: str
    reason: str


def choose_accelerator(caps: QemuCaps, cache: Cache, bzimage: Path | None = None) -> Accelerator:
    """Return the accelerator for guests on this host; KVM is tried once per boot of the host.

    Args:
        caps: the QEMU.
        cache: the cache that keeps the result, and may have a kernel to try.
        bzimage: the kernel to try, by default one from the cache or from /boot.
    """
    guests = caps.architecture.name
    if platform.machine() != guests:
        return Accelerator(
            "tcg", f"KVM runs {guests} guests on {guests} hosts only, not {platform.machine()}"
        )
    if not KVM.exists():
        return Accelerator("tcg", f"there is no {KVM}")
    if not os.access(KVM, os.R_OK | os.W_OK):
        return Accelerator("tcg", f"{KVM} is closed to uid {os.geteuid()}: join the group kvm")
    bzimage = bzimage or _trial_kernel(cache, caps.architecture)
    if bzimage is None:
        return Accelerator("tcg", f"{KVM} opens, but there is no kernel yet to test it with")
    key = _trial_key(caps, bzimage)

    def judge(scratch: Path) -> None:
        for stale in cache.keys("accelerator"):
            cache.remove("accelerator", stale)
        verdict = try_kvm(caps.binary, bzimage, architecture=caps.architecture)
        (scratch / "verdict.json").write_text(json.dumps(asdict(verdict)))

    entry = cache.obtain("accelerator", key, judge)
    return Accelerator(**json.loads((entry / "verdict.json").read_text()))


def host_cpu() -> dict[str, str]:
    """Return what decides on the CPU that guests see on KVM: this host's, and its kernel."""
    first, _, _ = CPUINFO.read_text().partition("\n\n")
    lines = (line.partition(":") for line in first.splitlines())
    facts = {name.strip(): value.strip() for name, _, value in lines}
    known = {name: value for name, value in facts.items() if name in CPU_FACTS}
    return {**known, "kernel": platform.release()}


def _trial_kernel(cache: Cache, architecture: Architecture) -> Path | None:
    ours = sorted((cache.root / "kernel").glob(f"*/{architecture.boot_image.name}"))
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


def try_kvm(
    qemu: Path,
    bzimage: Path,
    patience_s: float = TRIAL_S,
    architecture: Architecture = X86_64,
) -> Accelerator:
    """Boot a kernel under KVM until it prints a line, gets stuck or runs out of time.

    Args:
        qemu: the binary.
        bzimage: the kernel.
        patience_s: how long to wait for the first line, in seconds.
        architecture: the architecture of both.
    """
    begun = time.monotonic()
    output = b""
    with _trial(qemu, bzimage, architecture) as process:
        for chunk in _output(process, Deadline.after(patience_s)):
            output += chunk
            if ALIVE in output or any(word in output for word in STUCK):
                break
        ended = process.poll()
    took_s = time.monotonic() - begun
    if ALIVE in output:
        return Accelerator("kvm", f"a kernel spoke {took_s:.1f} s after it was started under KVM")
    if is_blocked := next((word.decode() for word in STUCK if word in output), None):
        return Accelerator("tcg", f"{KVM} opens but runs no kernel: {is_blocked}")
    lines = output.decode(errors="replace").strip().splitlines()
    if ended is not None:
        last = lines[-1] if lines else "<no output>"
        return Accelerator("tcg", f"{KVM} opens but QEMU {how_it_ended(ended)}: {last}")
    return Accelerator("tcg", f"{KVM} opens but a kernel stayed silent for {took_s:.1f} s")


@contextmanager
def _trial(
    qemu: Path, bzimage: Path, architecture: Architecture
) -> Iterator[subprocess.Popen[bytes]]:
    # fmt: off
    command = [
        "setpriv", "--pdeathsig", "KILL", "--",
        os.fspath(qemu),
        "-nodefaults", "-no-user-config", "-no-reboot",
        "-display", "none",
        # The same as for guests; host kernels without KVM_IOAPIC support nothing else.
        "-machine", ",".join(filter(None, (architecture.machine[0], architecture.split_irqchip))),
        "-accel", "kvm",
        "-cpu", "host",
        "-m", "256M",
        "-serial", "stdio",
        "-kernel", os.fspath(bzimage),
        "-append", f"console={architecture.console} {architecture.early_console} panic=-1",
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
