"""The jail of a QEMU that runs an untrusted kernel.

A guest that breaks out of QEMU's devices is code with the rights of the user. In the jail it has no
network, so SSH goes through a relay that enters the network of the jail.

Source: bwrap(1), nsenter(1), network_namespaces(7); accel/accel-system.c (/dev/kvm).
"""

from __future__ import annotations

from pathlib import Path

from vfio_lab.qemu.argv import BootFiles
from vfio_lab.util.host_time import family
from vfio_lab.util.jail import Jail

DEVICES = (Path("/dev/null"), Path("/dev/urandom"))
KVM = Path("/dev/kvm")
# Copies both ways until either side ends.
RELAY = "exec 3<>/dev/tcp/$0/$1; cat <&3 & cat >&3 & wait -n; kill $(jobs -p)"
USER_NAMESPACE = "ns/user"


def qemu_jail(
    binary: Path, boot: BootFiles, folder: Path, accelerator: str, *, writes_memory: bool
) -> Jail:
    """Return the jail of a QEMU.

    Args:
        binary: QEMU.
        boot: the files that it boots or resumes from; a template's memory and state are written.
        folder: the folder for console and logs.
        accelerator: `tcg` or `kvm`.
        writes_memory: whether this QEMU opens a template's memory for writing to map it privately.
    """
    files = (boot.kernel, boot.image, boot.modules, boot.payload, boot.state, boot.initramfs)
    writable = [folder]
    visible = [_installation(binary), *(path for path in files if path is not None)]
    if boot.ram is not None and boot.state is None:
        writable.append(boot.ram.parent)
    elif boot.ram is not None:
        (writable if writes_memory else visible).append(boot.ram)
    devices = (*DEVICES, KVM) if accelerator == "kvm" else DEVICES
    return Jail(tuple(writable), tuple(visible), devices, dumps_core=True)


def relay(pid: int, host: str, port: int) -> tuple[str, ...]:
    """Return a command whose stdin and stdout are a connection to a port in the jail.

    Args:
        pid: the process that the lab started, or a supervisor of it; QEMU is its descendant.
        host: an address in the network of the jail.
        port: TCP port.
    """
    *_, qemu = family(pid)
    ours, its = (Path(f"/proc/{one}", USER_NAMESPACE).readlink() for one in ("self", qemu))
    user = () if ours == its else ("--user", "--preserve-credentials")
    enter = ("nsenter", f"--target={qemu}", *user, "--net", "--")
    return (*enter, "bash", "-c", RELAY, host, str(port))


def _installation(binary: Path) -> Path:
    """Return the folder with a QEMU's firmware: the prefix, or the sources that it was built in."""
    found = binary.resolve().parent.parent
    return binary if Path.home().resolve().is_relative_to(found) else found
