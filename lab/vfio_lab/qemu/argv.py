"""The command line of QEMU, a pure function of what the guest is made of.

A template and its clones differ in paths, in who sees writes to memory, and in `-incoming`:
QEMU loads a saved state only into the machine that it was taken from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vfio_lab.arch import Architecture
from vfio_lab.errors import UsageError
from vfio_lab.hw.topology import Topology, Viommu
from vfio_lab.hw.tree import Function
from vfio_lab.qemu.capabilities import QemuCaps

# A boot translates 86 MB, a scenario 20; when the buffer is full all is translated again. Memory
# is taken as it fills, so that room to spare costs nothing.
TB_SIZE_MIB = 128
# sizeof(sun_path) less its NUL, see unix(7).
SOCKET_PATH_BYTES = 107
AGENT_PORT = "vfio-lab.agent"
INIT = "/usr/lib/vfio-lab/init"

PANIC = "panic=-1"  # reset at once, which ends QEMU


@dataclass(frozen=True)
class BootFiles:
    """What a guest boots from, or wakes up from.

    Args:
        kernel: the bzImage, or a vmlinux that QEMU can start.
        image: root file system, the first disk.
        fstype: its type.
        modules: squashfs for /lib/modules.
        payload: plain tar.
        ram: file that holds the guest's memory: written to by a template, copied on write by
            a clone; None keeps memory anonymous.
        state: file with a template's device state, which makes the guest its clone.
        initramfs: what the kernel starts with, None if it mounts the image itself.
        kernel_args: further words for the kernel's command line.
    """

    kernel: Path
    image: Path
    fstype: str
    modules: Path
    payload: Path
    ram: Path | None = None
    state: Path | None = None
    initramfs: Path | None = None
    kernel_args: tuple[str, ...] = ()

    def without_state(self) -> BootFiles:
        """Return the same guest booting afresh, in memory of its own."""
        return replace(self, ram=None, state=None)


@dataclass(frozen=True)
class RunFiles:
    """Where a guest's wires end.

    Args:
        folder: gets console.log, and the sockets that are not inherited.
        name: the guest's name, in process lists.
        qmp_fd: connected socket for the monitor that QEMU inherits; None listens on qmp.sock.
        agent_fd: the same for the agent; None listens on agent.sock.
        interactive: console and monitor on the terminal instead, and nobody at the agent's port.

    Raises:
        UsageError: the path of a socket would be too long.
    """

    folder: Path
    name: str
    qmp_fd: int | None = None
    agent_fd: int | None = None
    interactive: bool = False

    def __post_init__(self) -> None:
        """Refuse a folder in which no socket can be."""
        if self.interactive:
            return
        for fd, path in ((self.qmp_fd, self.qmp_socket), (self.agent_fd, self.agent_socket)):
            if fd is None and len(bytes(path)) > SOCKET_PATH_BYTES:
                raise UsageError(
                    "the path of a guest's socket is too long",
                    expected=f"at most {SOCKET_PATH_BYTES} bytes",
                    seen=f"{len(bytes(path))} bytes: {path}",
                    hint="choose a shorter folder",
                )

    @property
    def console(self) -> Path:
        """The serial console's log."""
        return self.folder / "console.log"

    @property
    def qmp_socket(self) -> Path:
        """Where the monitor listens when no socket is inherited."""
        return self.folder / "qmp.sock"

    @property
    def agent_socket(self) -> Path:
        """Where the agent's port listens when no socket is inherited."""
        return self.folder / "agent.sock"


def argv(
    topology: Topology, caps: QemuCaps, accelerator: str, boot: BootFiles, run: RunFiles
) -> list[str]:
    """Return the command line of a guest.

    With neither `boot.ram` nor `boot.state` it boots in memory of its own, with `ram` alone it
    boots as a template, with both it waits for a monitor's `migrate-incoming` and runs.

    Args:
        topology: its hardware.
        caps: the QEMU to be started.
        accelerator: `tcg` or `kvm`.
        boot: what it starts from.
        run: where its wires end.

    Raises:
        HostError: this QEMU lacks a device of the topology.
    """
    caps.require(topology.qemu_devices, f"topology {topology.name}")
    return [
        str(caps.binary),
        *_process(run),
        *_machine(topology, caps.architecture, accelerator),
        *_memory(topology, boot),
        *_kernel(topology, caps.architecture, boot),
        *_wires(run),
        *_furniture(topology, boot),
        *_under_test(topology),
        *(["-incoming", "defer"] if boot.state else []),
    ]


def _process(run: RunFiles) -> list[str]:
    # fmt: off
    return [
        "-name", f"guest={_value(run.name)},process=vfio-lab-guest,debug-threads=on",
        "-nodefaults",
        "-no-user-config",
        "-display", "none",
        "-action", "reboot=shutdown,panic=exit-failure",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ]
    # fmt: on


def _machine(topology: Topology, architecture: Architecture, accelerator: str) -> list[str]:
    kind, *settings = architecture.machine
    machine = [kind, "memory-backend=mem", *settings]
    if accelerator == "kvm":
        accel, cpu = "kvm", "host"
        machine.append(architecture.split_irqchip)  # which interrupt remapping needs
    else:
        accel, cpu = f"tcg,thread=multi,tb-size={TB_SIZE_MIB}", architecture.cpu
    # fmt: off
    return [
        "-machine", ",".join(machine),
        "-accel", accel,
        "-cpu", cpu,
        "-smp", str(topology.cpus),
        "-rtc", "base=utc",
        *(word for each in architecture.machine_globals for word in ("-global", each)),
        *_viommu(topology),
    ]
    # fmt: on


def _viommu(topology: Topology) -> list[str]:
    if topology.viommu is Viommu.INTEL:
        return ["-device", "intel-iommu,intremap=on"]
    if topology.viommu is Viommu.VIRTIO:
        return ["-device", _device(topology, "iommu", *topology.function("iommu").model.options)]
    return []


def _memory(topology: Topology, boot: BootFiles) -> list[str]:
    size = f"{topology.memory_mib}M"
    if boot.ram is None:
        backend = f"memory-backend-ram,id=mem,size={size}"
    else:
        share = "off" if boot.state else "on"
        backend = (
            f"memory-backend-file,id=mem,size={size},mem-path={_value(boot.ram)},share={share}"
        )
    # fmt: off
    return [
        "-m", size,
        "-object", backend,
    ]
    # fmt: on


def _kernel(topology: Topology, architecture: Architecture, boot: BootFiles) -> list[str]:
    root = ("root=/dev/vda", "ro", f"rootfstype={boot.fstype}", f"init={INIT}")
    console = f"console={architecture.console}"
    words = (
        *root,
        console,
        PANIC,
        *architecture.boot_words,
        *topology.kernel_args,
        *boot.kernel_args,
    )
    # fmt: off
    return [
        "-kernel", str(boot.kernel),
        *(("-initrd", str(boot.initramfs)) if boot.initramfs else ()),
        "-append", " ".join(words),
    ]
    # fmt: on


def _wires(run: RunFiles) -> list[str]:
    if run.interactive:
        # fmt: off
        return [
            "-serial", "mon:stdio",
            "-chardev", "null,id=agent",
        ]
        # fmt: on
    # fmt: off
    return [
        "-chardev", f"file,id=console,path={_value(run.console)},append=off",
        "-serial", "chardev:console",
        "-chardev", _socket("qmp", run.qmp_fd, run.qmp_socket),
        "-mon", "chardev=qmp,mode=control",
        "-chardev", _socket("agent", run.agent_fd, run.agent_socket),
    ]
    # fmt: on


def _socket(name: str, fd: int | None, path: Path) -> str:
    if fd is not None:
        return f"socket,id={name},fd={fd}"
    return f"socket,id={name},path={_value(path)},server=on,wait=off"


def _furniture(topology: Topology, boot: BootFiles) -> list[str]:
    disks = {"image": boot.image, "modules": boot.modules, "payload": boot.payload}
    blockdevs = [
        word
        for role, path in disks.items()
        for word in (
            "-blockdev",
            f"raw,node-name={role}-file,read-only=on,"
            f"file.driver=file,file.filename={_value(path)},file.locking=off",
        )
    ]
    # fmt: off
    return [
        *blockdevs,
        *(word for role in disks for word in ("-device", _disk(topology, role))),
        "-device", _device(topology, "agent", "max_ports=2"),
        "-device", f"virtserialport,bus=agent.0,nr=1,chardev=agent,name={AGENT_PORT}",
        "-netdev", "user,id=loopback,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:0-:22",
        "-device", _device(topology, "net", "netdev=loopback", "romfile=", "guest_announce=off"),
        "-object", "rng-builtin,id=entropy",
        "-device", _device(topology, "rng", "rng=entropy"),
        "-device", _device(topology, "panic"),
        "-device", "vmcoreinfo",  # where a guest says how to read its core
    ]
    # fmt: on


def _disk(topology: Topology, role: str) -> str:
    # Letters follow the order of probing, which is any; the guest finds its disks by number.
    return _device(topology, role, f"drive={role}-file", f"serial={role}")


def _device(topology: Topology, role: str, *options: str) -> str:
    function = topology.function(role)
    words = [function.model.qemu, f"id={role}", "bus=pcie.0", f"addr={function.bdf.device:#04x}"]
    if function.model.qemu.startswith("virtio-"):
        words.append("disable-legacy=on")  # no I/O ports to map, no transitional IDs
    return ",".join([*words, *options])


def _under_test(topology: Topology) -> list[str]:
    words: list[str] = []
    for number, function in enumerate(topology.endpoints, start=1):
        if "nvme-subsys" in function.model.needs:
            words += ["-device", "nvme-subsys,id=nvme-subsys,nqn=vfio-lab"]
        words += [word for one in function.model.objects for word in ("-object", one)]
        words += ["-device", _plugged(function, number)]
    return words


def _plugged(function: Function, number: int) -> str:
    at = f"{function.bdf.device:#04x}.{function.bdf.function}"
    words = [
        function.model.qemu,
        f"id={function.role}",
        f"bus={function.parent or 'pcie.0'}",
        f"addr={at}",
    ]
    if function.multifunction:
        words.append("multifunction=on")
    if function.is_slot:
        words += [f"chassis={number}", f"slot={number}", f"hotplug={_switch(function.hotplug)}"]
    return ",".join([*words, *function.model.options])


def _switch(value: bool) -> str:
    return "on" if value else "off"


def _value(value: object) -> str:
    # A comma would begin the next option; QEMU takes two for one.
    return str(value).replace(",", ",,")
