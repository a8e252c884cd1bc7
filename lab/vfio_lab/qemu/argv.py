"""The command line of QEMU, as a pure function of the guest's hardware and files.

A template and its clones differ only in paths, in whether writes to memory are shared, and in
`-incoming`: QEMU loads a saved state only into an identical machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vfio_lab.arch import Architecture
from vfio_lab.errors import UsageError
from vfio_lab.hw.topology import Topology
from vfio_lab.hw.tree import Function
from vfio_lab.hw.viommu import Viommu
from vfio_lab.qemu.capabilities import CONFIG_WRITES, QemuCaps

# TCG translates 86 MB of code for a boot and 20 MB for a scenario. A full buffer is flushed and
# everything is translated again. Memory is allocated as the buffer fills, so spare size is free.
TB_SIZE_MIB = 128
# sizeof(sun_path) less its NUL, see unix(7).
SOCKET_PATH_BYTES = 107
AGENT_PORT = "vfio-lab.agent"
INIT = "/usr/lib/vfio-lab/init"

CONFIG_WRITES_LOG = "config-writes.log"

PANIC = "panic=-1"  # reset at once, which ends QEMU


@dataclass(frozen=True)
class BootFiles:
    """The files that a guest boots or resumes from.

    Args:
        kernel: the image, or a vmlinux that QEMU can start.
        image: the root file system, the first disk.
        fstype: the type of the root file system.
        modules: the squashfs for /lib/modules.
        payload: the payload, a plain tar.
        ram: the file with the guest's memory: a template writes it, a clone maps it copy-on-write;
            None uses anonymous memory.
        state: the file with a template's device state, for a clone of the template.
        initramfs: the initramfs, None if the kernel mounts the image itself.
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
        """Return the same files for a fresh boot in anonymous memory."""
        return replace(self, ram=None, state=None)


@dataclass(frozen=True)
class RunFiles:
    """The host's ends of a guest's console, monitor and agent port.

    Args:
        folder: the folder for console.log, and for sockets that are not inherited.
        name: the guest's name, for process lists.
        qmp_fd: a connected socket for the monitor that QEMU inherits; None listens on qmp.sock.
        agent_fd: the same for the agent; None listens on agent.sock.
        interactive: connect console and monitor to the terminal, and leave the agent's port
            unconnected.

    Raises:
        UsageError: the path of a socket would be too long.
    """

    folder: Path
    name: str
    qmp_fd: int | None = None
    agent_fd: int | None = None
    interactive: bool = False

    def __post_init__(self) -> None:
        """Check that the paths of sockets in the folder are short enough."""
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
    def config_writes(self) -> Path:
        """The log of what the guest writes to configuration space."""
        return self.folder / CONFIG_WRITES_LOG

    @property
    def qmp_socket(self) -> Path:
        """The path on which the monitor listens if no socket is inherited."""
        return self.folder / "qmp.sock"

    @property
    def agent_socket(self) -> Path:
        """The path on which the agent's port listens if no socket is inherited."""
        return self.folder / "agent.sock"


def argv(
    topology: Topology, caps: QemuCaps, accelerator: str, boot: BootFiles, run: RunFiles
) -> list[str]:
    """Return the command line of a guest.

    Without `boot.ram` and `boot.state` the guest boots in anonymous memory. With `ram` only it
    boots as a template. With both it waits for the command `migrate-incoming` and then runs.

    Args:
        topology: the guest's hardware.
        caps: the QEMU to be started.
        accelerator: `tcg` or `kvm`.
        boot: the files that it starts from.
        run: the host's ends of its console, monitor and agent port.

    Raises:
        HostError: this QEMU lacks a device of the topology.
    """
    caps.require(topology.qemu_devices, f"topology {topology.name}")
    return [
        str(caps.binary),
        *_process(run),
        *(_tracing(run) if caps.traces and not run.interactive else []),
        *_machine(topology, caps, accelerator),
        *_memory(topology, caps, boot),
        *_kernel(topology, caps.architecture, boot),
        *_wires(run),
        *_infrastructure(topology, boot),
        *_under_test(topology),
        *(_viommu(topology, caps) if topology.viommu is Viommu.AMD else []),
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


def _tracing(run: RunFiles) -> list[str]:
    return ["-trace", f"enable={CONFIG_WRITES}", "-D", str(run.config_writes)]


def _machine(topology: Topology, caps: QemuCaps, accelerator: str) -> list[str]:
    architecture = caps.architecture
    kind, *settings = architecture.machine
    machine = [kind, "memory-backend=mem", *settings]
    if topology.pfs:
        machine += architecture.machine_for_vfs
    if topology.viommu is Viommu.SMMUV3:
        machine.append("iommu=smmuv3")
    if accelerator == "kvm":
        accel, cpu = "kvm", "host"
        if architecture.split_irqchip:  # which interrupt remapping needs
            machine.append(architecture.split_irqchip)
    else:
        accel, cpu = f"tcg,thread=multi,tb-size={TB_SIZE_MIB}", architecture.cpu
    # fmt: off
    return [
        "-machine", ",".join(machine),
        "-accel", accel,
        "-cpu", cpu,
        "-smp", str(topology.cpus),
        "-rtc", "base=utc",
        *(word for setting in architecture.machine_globals for word in ("-global", setting)),
        # An amd-iommu takes a slot of its own choice, so it comes after all that have theirs.
        *(_viommu(topology, caps) if topology.viommu is not Viommu.AMD else []),
    ]
    # fmt: on


def _viommu(topology: Topology, caps: QemuCaps) -> list[str]:
    settings = caps.spelled(topology.viommu.value, topology.viommu_settings)
    if topology.viommu is Viommu.VIRTIO:
        return ["-device", _device(topology, "iommu", *settings)]
    if topology.viommu in (Viommu.NONE, Viommu.SMMUV3):  # an SMMUv3 is a part of the machine
        return []
    return ["-device", ",".join([topology.viommu.value, *settings])]


def _memory(topology: Topology, caps: QemuCaps, boot: BootFiles) -> list[str]:
    size = f"{topology.memory_mib}M"
    if boot.ram is None:
        backend = f"memory-backend-ram,id=mem,size={size}"
    else:
        share = "on"
        if boot.state:  # a clone; its template's memory is not its own to change
            share = f"off{',readonly=on,rom=off' if caps.opens_memory_read_only else ''}"
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
    if boot.state and architecture.reloads:
        return []
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


def _infrastructure(topology: Topology, boot: BootFiles) -> list[str]:
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
        "-device", "vmcoreinfo",  # lets the guest pass vmcoreinfo, which a core needs
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
        words += [word for definition in function.model.objects for word in ("-object", definition)]
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
    # A comma would begin the next option; QEMU reads a double comma as a comma.
    return str(value).replace(",", ",,")
