"""The command lines, one option a line, as a person would paste them."""

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_lab.errors import HostError, UsageError
from vfio_lab.hw.catalogue import TOPOLOGIES, find_topology
from vfio_lab.hw.topology import Topology
from vfio_lab.qemu.argv import BootFiles, RunFiles, argv
from vfio_lab.qemu.capabilities import QemuCaps

ALL = pytest.mark.parametrize("each", TOPOLOGIES.values(), ids=TOPOLOGIES)
CAPS = QemuCaps(
    Path("/usr/bin/qemu-system-x86_64"),
    (10, 0, 2),
    frozenset().union(*(each.qemu_devices for each in TOPOLOGIES.values())),
    "digest",
)
BOOT = BootFiles(
    kernel=Path("/cache/bzImage"),
    image=Path("/cache/root"),
    fstype="squashfs",
    modules=Path("/cache/modules"),
    payload=Path("/cache/payload"),
)
RUN = RunFiles(Path("/run/g1"), "g1", qmp_fd=3, agent_fd=4)

IGB = """\
/usr/bin/qemu-system-x86_64
-name guest=g1,process=vfio-lab-guest,debug-threads=on
-nodefaults
-no-user-config
-display none
-action reboot=shutdown,panic=exit-failure
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-machine q35,memory-backend=mem,sata=off,smbus=off,smm=off,usb=off,vmport=off
-accel tcg,thread=multi,tb-size=128
-cpu max
-smp 1
-rtc base=utc
-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off
-device intel-iommu,intremap=on
-m 512M
-object memory-backend-ram,id=mem,size=512M
-kernel /cache/bzImage
-append root=/dev/vda ro rootfstype=squashfs init=/usr/lib/vfio-lab/init \
console=ttyS0 panic=-1 no_timer_check tsc=reliable intel_iommu=on
-chardev file,id=console,path=/run/g1/console.log,append=off
-serial chardev:console
-chardev socket,id=qmp,fd=3
-mon chardev=qmp,mode=control
-chardev socket,id=agent,fd=4
-blockdev raw,node-name=image-file,read-only=on,\
file.driver=file,file.filename=/cache/root,file.locking=off
-blockdev raw,node-name=modules-file,read-only=on,\
file.driver=file,file.filename=/cache/modules,file.locking=off
-blockdev raw,node-name=payload-file,read-only=on,\
file.driver=file,file.filename=/cache/payload,file.locking=off
-device virtio-blk-pci,id=image,bus=pcie.0,addr=0x10,disable-legacy=on,\
drive=image-file,serial=image
-device virtio-blk-pci,id=modules,bus=pcie.0,addr=0x11,disable-legacy=on,\
drive=modules-file,serial=modules
-device virtio-blk-pci,id=payload,bus=pcie.0,addr=0x12,disable-legacy=on,\
drive=payload-file,serial=payload
-device virtio-serial-pci,id=agent,bus=pcie.0,addr=0x13,disable-legacy=on,max_ports=2
-device virtserialport,bus=agent.0,nr=1,chardev=agent,name=vfio-lab.agent
-netdev user,id=loopback,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:0-:22
-device virtio-net-pci,id=net,bus=pcie.0,addr=0x14,disable-legacy=on,netdev=loopback,romfile=,\
guest_announce=off
-object rng-builtin,id=entropy
-device virtio-rng-pci,id=rng,bus=pcie.0,addr=0x15,disable-legacy=on,rng=entropy
-device pvpanic-pci,id=panic,bus=pcie.0,addr=0x16
-device vmcoreinfo
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device igb,id=pf0,bus=port0,addr=0x00.0
"""

# What follows the lab's own infrastructure.
UNDER_TEST = {
    "igb": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device igb,id=pf0,bus=port0,addr=0x00.0
""",
    "igb-bus": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=off
-device igb,id=pf0,bus=port0,addr=0x00.0
""",
    "igb-pair": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device pcie-root-port,id=port1,bus=pcie.0,addr=0x02.0,chassis=2,slot=2,hotplug=on
-device pcie-root-port,id=port2,bus=pcie.0,addr=0x03.0,chassis=3,slot=3,hotplug=on
-device igb,id=pf0,bus=port0,addr=0x00.0
-device igb,id=pf1,bus=port1,addr=0x00.0
-device e1000e,id=nic0,bus=port2,addr=0x00.0,romfile=
""",
    "multifunction": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device e1000e,id=nic2,bus=pcie.0,addr=0x02.0,romfile=
-device e1000e,id=nic0,bus=port0,addr=0x00.0,multifunction=on,romfile=
-device e1000e,id=nic1,bus=port0,addr=0x00.1,multifunction=on,romfile=
""",
    "bridge": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device pcie-pci-bridge,id=bridge0,bus=port0,addr=0x00.0
-device e1000,id=nic0,bus=bridge0,addr=0x01.0,romfile=
-device e1000,id=nic1,bus=bridge0,addr=0x02.0,romfile=
""",
    "nic-bridge": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device e1000e,id=nic0,bus=port0,addr=0x00.0,multifunction=on,romfile=
-device pcie-pci-bridge,id=bridge0,bus=port0,addr=0x00.1,multifunction=on
-device e1000,id=nic1,bus=bridge0,addr=0x01.0,romfile=
""",
    "switch": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device x3130-upstream,id=up0,bus=port0,addr=0x00.0
-device xio3130-downstream,id=down0,bus=up0,addr=0x00.0,chassis=3,slot=3,hotplug=on
-device xio3130-downstream,id=down1,bus=up0,addr=0x01.0,chassis=4,slot=4,hotplug=on
-device igb,id=pf0,bus=down0,addr=0x00.0
-device e1000e,id=nic0,bus=down1,addr=0x00.0,romfile=
""",
    "acs": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device pcie-root-port,id=port1,bus=pcie.0,addr=0x02.0,chassis=2,slot=2,hotplug=on
-device pcie-root-port,id=port2,bus=pcie.0,addr=0x03.0,chassis=3,slot=3,hotplug=on,disable-acs=on
-device pcie-root-port,id=port3,bus=pcie.0,addr=0x04.0,chassis=4,slot=4,hotplug=on
-device e1000e,id=nic0,bus=port0,addr=0x00.0,romfile=
-device e1000e,id=nic1,bus=port1,addr=0x00.0,romfile=
-device e1000e,id=nic2,bus=port2,addr=0x00.0,romfile=
-device e1000e,id=nic3,bus=port3,addr=0x00.0,romfile=
""",
    "nvme-sriov": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device nvme-subsys,id=nvme-subsys,nqn=vfio-lab
-device nvme,id=nvme0,bus=port0,addr=0x00.0,serial=vfio-lab,subsys=nvme-subsys,\
sriov_max_vfs=4,sriov_vq_flexible=8,sriov_vi_flexible=4,max_ioqpairs=26,msix_qsize=27
""",
    "nvme-no-room": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device nvme-subsys,id=nvme-subsys,nqn=vfio-lab
-device nvme,id=nvme0,bus=port0,addr=0x00.0,serial=vfio-lab,subsys=nvme-subsys,\
sriov_max_vfs=80,sriov_vq_flexible=160,sriov_vi_flexible=300,sriov_max_vi_per_vf=300,\
max_ioqpairs=162,msix_qsize=301
""",
    "virtio-iommu": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device igb,id=pf0,bus=port0,addr=0x00.0
""",
    "misc-devices": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device pcie-root-port,id=port1,bus=pcie.0,addr=0x02.0,chassis=2,slot=2,hotplug=on
-device pcie-root-port,id=port2,bus=pcie.0,addr=0x03.0,chassis=3,slot=3,hotplug=on
-device pcie-root-port,id=port3,bus=pcie.0,addr=0x04.0,chassis=4,slot=4,hotplug=on
-device pcie-root-port,id=port4,bus=pcie.0,addr=0x05.0,chassis=5,slot=5,hotplug=on
-device VGA,id=vga0,bus=port0,addr=0x00.0
-device e1000e,id=rom0,bus=port1,addr=0x00.0
-device virtio-rng-pci,id=rng0,bus=port2,addr=0x00.0,rng=entropy,disable-legacy=on
-device nec-usb-xhci,id=usb0,bus=port3,addr=0x00.0,msi=on
-device sdhci-pci,id=sd0,bus=port4,addr=0x00.0
""",
    "large-bars": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device pcie-root-port,id=port1,bus=pcie.0,addr=0x02.0,chassis=2,slot=2,hotplug=on
-device pcie-root-port,id=port2,bus=pcie.0,addr=0x03.0,chassis=3,slot=3,hotplug=on
-object memory-backend-ram,id=mem0-ram,size=67108864,share=on
-device ivshmem-plain,id=mem0,bus=port0,addr=0x00.0,memdev=mem0-ram,master=on
-object memory-backend-ram,id=mem1-ram,size=1073741824,share=on
-device ivshmem-plain,id=mem1,bus=port1,addr=0x00.0,memdev=mem1-ram,master=on
-object memory-backend-ram,id=mem2-ram,size=2097152,share=on
-device ivshmem-plain,id=mem2,bus=port2,addr=0x00.0,memdev=mem2-ram,master=on
""",
    "qemu-devices": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device edu,id=edu0,bus=pcie.0,addr=0x02.0,dma_mask=0xffffffffffffffff
-device pcie-root-port,id=port1,bus=pcie.0,addr=0x03.0,chassis=3,slot=3,hotplug=on
-device igb,id=pf0,bus=port0,addr=0x00.0
-device pci-testdev,id=test0,bus=port1,addr=0x00.0,membar=16777216
""",
    "nics": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device pcie-root-port,id=port1,bus=pcie.0,addr=0x02.0,chassis=2,slot=2,hotplug=on
-device pcie-root-port,id=port2,bus=pcie.0,addr=0x03.0,chassis=3,slot=3,hotplug=on
-device pcie-root-port,id=port3,bus=pcie.0,addr=0x04.0,chassis=4,slot=4,hotplug=on
-device pcie-root-port,id=port4,bus=pcie.0,addr=0x05.0,chassis=5,slot=5,hotplug=on
-device e1000e,id=nic0,bus=port0,addr=0x00.0,romfile=
-device e1000e,id=nic1,bus=port1,addr=0x00.0,romfile=
-device e1000e,id=nic2,bus=port2,addr=0x00.0,romfile=
-device e1000e,id=nic3,bus=port3,addr=0x00.0,romfile=
-device e1000e,id=nic4,bus=port4,addr=0x00.0,multifunction=on,romfile=
-device e1000e,id=nic5,bus=port4,addr=0x00.1,multifunction=on,romfile=
""",
    "cxl": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-object memory-backend-ram,id=cxl-memory,size=256M
-device cxl-type3,id=cxl0,bus=port0,addr=0x00.0,volatile-memdev=cxl-memory
""",
    "noiommu": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device pcie-root-port,id=port1,bus=pcie.0,addr=0x02.0,chassis=2,slot=2,hotplug=on
-device igb,id=pf0,bus=port0,addr=0x00.0
-device e1000e,id=nic0,bus=port1,addr=0x00.0,multifunction=on,romfile=
-device e1000e,id=nic1,bus=port1,addr=0x00.1,multifunction=on,romfile=
""",
    "mixed": """\
-device pcie-root-port,id=port0,bus=pcie.0,addr=0x01.0,chassis=1,slot=1,hotplug=on
-device pxb-pcie,id=expander0,bus=pcie.0,addr=0x02.0,bus_nr=128,bypass_iommu=on
-device igb,id=pf0,bus=port0,addr=0x00.0
-device pcie-root-port,id=port1,bus=expander0,addr=0x00.0,chassis=4,slot=4,hotplug=on
-device e1000e,id=nic0,bus=port1,addr=0x00.0,romfile=
""",
}
UNDER_TEST["igb-large"] = UNDER_TEST["igb"]
UNDER_TEST |= dict.fromkeys(
    (
        "intel-pt",
        "intel-strict",
        "scalable",
        "no-remapping",
        "amd-iommu",
    ),
    UNDER_TEST["igb"],
)
VIRTIO_IOMMU = "-device virtio-iommu-pci,id=iommu,bus=pcie.0,addr=0x17,disable-legacy=on,aw-bits=64"
VIOMMU = {
    "virtio-iommu": VIRTIO_IOMMU,
    "misc-devices": VIRTIO_IOMMU,
    "noiommu": None,
    "scalable": "-device intel-iommu,intremap=on,scalable-mode=on,flts=on",
    "no-remapping": "-device intel-iommu,intremap=off",
    "amd-iommu": "-device amd-iommu,intremap=off",
}


def lines(words: list[str]) -> list[str]:
    """Put each option on one line with its value."""
    together = [words[0]]
    for word in words[1:]:
        if word.startswith("-"):
            together.append(word)
        else:
            together[-1] += f" {word}"
    return together


def command(each: Topology, boot: BootFiles = BOOT, run: RunFiles = RUN) -> list[str]:
    return lines(argv(each, CAPS, "tcg", boot, run))


def differences(one: list[str], other: list[str]) -> set[str]:
    return set(one) ^ set(other)


def test_the_whole_command_line() -> None:
    assert command(find_topology("igb")) == IGB.splitlines()


@ALL
def test_the_hardware_under_test(each: Topology) -> None:
    found = command(each)
    furniture_ends = found.index("-device vmcoreinfo") + 1
    last = ["-device amd-iommu,intremap=off"] if each.name == "amd-iommu" else []
    assert found[furniture_ends:] == [*UNDER_TEST[each.name].splitlines(), *last]


@ALL
def test_topologies_differ_in_nothing_but_their_hardware(each: Topology) -> None:
    def common(topology: Topology) -> list[str]:
        viommu = VIOMMU.get(topology.name, "-device intel-iommu,intremap=on")
        mib = topology.memory_mib
        memory = {f"-object memory-backend-ram,id=mem,size={mib}M", f"-m {mib}M"}
        own = {*UNDER_TEST[topology.name].splitlines(), viommu, *memory}
        return [line for line in command(topology) if line not in own and "-append" not in line]

    assert common(each) == common(find_topology("igb"))


@ALL
def test_the_viommu(each: Topology) -> None:
    viommus = [line for line in command(each) if re.match(r"-device \S+-iommu\b", line)]
    expected = VIOMMU.get(each.name, "-device intel-iommu,intremap=on")
    assert viommus == ([expected] if expected else [])


@ALL
def test_the_kernel_is_told_of_the_hardware(each: Topology) -> None:
    (append,) = (line for line in command(each) if line.startswith("-append"))
    assert append.endswith(" ".join(("tsc=reliable", *each.kernel_args)))


def test_more_words_for_the_kernel_come_last() -> None:
    boot = dataclasses.replace(BOOT, kernel_args=("loglevel=8", "slub_debug=F"))
    (append,) = (line for line in command(find_topology("igb"), boot) if line.startswith("-append"))
    assert append.endswith("intel_iommu=on loglevel=8 slub_debug=F")


def test_a_template_writes_its_memory_to_a_file() -> None:
    template = dataclasses.replace(BOOT, ram=Path("/t/ram"))
    assert differences(command(find_topology("igb")), command(find_topology("igb"), template)) == {
        "-object memory-backend-ram,id=mem,size=512M",
        "-object memory-backend-file,id=mem,size=512M,mem-path=/t/ram,share=on",
    }


@ALL
def test_a_clone_differs_from_its_template_in_sharing_and_waking_alone(each: Topology) -> None:
    template = dataclasses.replace(BOOT, ram=Path("/t/ram"))
    clone = dataclasses.replace(template, state=Path("/t/state"))
    memory = f"-object memory-backend-file,id=mem,size={each.memory_mib}M,mem-path=/t/ram"
    assert differences(command(each, template), command(each, clone)) == {
        f"{memory},share=on",
        f"{memory},share=off,readonly=on,rom=off",
        "-incoming defer",
    }


def test_a_clone_forgets_its_template_to_boot_afresh() -> None:
    clone = dataclasses.replace(BOOT, ram=Path("/t/ram"), state=Path("/t/state"))
    assert clone.without_state() == BOOT


def test_kvm_wants_its_irqchip_split_for_interrupt_remapping() -> None:
    tcg = lines(argv(find_topology("igb"), CAPS, "tcg", BOOT, RUN))
    kvm = lines(argv(find_topology("igb"), CAPS, "kvm", BOOT, RUN))
    machine = next(line for line in tcg if line.startswith("-machine"))
    assert differences(tcg, kvm) == {
        "-accel tcg,thread=multi,tb-size=128",
        "-accel kvm",
        "-cpu max",
        "-cpu host",
        machine,
        f"{machine},kernel-irqchip=split",
    }


def test_size_of_the_machine() -> None:
    large = dataclasses.replace(find_topology("igb"), cpus=4, memory_mib=2048)
    found = command(large)
    assert {"-smp 4", "-m 2048M", "-object memory-backend-ram,id=mem,size=2048M"} <= set(found)


def test_sockets_listen_in_the_folder_unless_inherited() -> None:
    run = RunFiles(Path("/run/g1"), "g1")
    assert differences(command(find_topology("igb")), command(find_topology("igb"), run=run)) == {
        "-chardev socket,id=qmp,fd=3",
        "-chardev socket,id=agent,fd=4",
        "-chardev socket,id=qmp,path=/run/g1/qmp.sock,server=on,wait=off",
        "-chardev socket,id=agent,path=/run/g1/agent.sock,server=on,wait=off",
    }


def test_at_a_terminal_the_console_is_the_terminal() -> None:
    run = RunFiles(Path("/run/g1"), "g1", interactive=True)
    found = command(find_topology("igb"), run=run)
    assert {"-serial mon:stdio", "-chardev null,id=agent"} <= set(found)
    assert not any("/run/g1" in line for line in found)


def test_a_folder_too_deep_for_sockets_is_refused() -> None:
    deep = Path("/") / ("d" * 97)
    RunFiles(deep / "x", "g", qmp_fd=3, agent_fd=4)
    RunFiles(deep / "x", "g", interactive=True)
    with pytest.raises(UsageError, match="socket is too long") as refused:
        RunFiles(deep, "g", qmp_fd=3)
    assert "109 bytes" in str(refused.value)
    RunFiles(deep, "g", agent_fd=4)  # qmp.sock is two bytes shorter


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1).map(Path))
def test_no_path_can_add_an_option(name: Path) -> None:
    boot = dataclasses.replace(BOOT, ram=Path("/t") / name, image=Path("/i") / name)
    words = argv(find_topology("igb"), CAPS, "tcg", boot, RunFiles(Path("/r") / name, "g", 3, 4))
    assert len(words) == len(argv(find_topology("igb"), CAPS, "tcg", BOOT, RUN))
    ram, console = (str(path).replace(",", ",,") for path in (Path("/t") / name, Path("/r") / name))
    assert f"memory-backend-file,id=mem,size=512M,mem-path={ram},share=on" in words
    assert f"file,id=console,path={console}/console.log,append=off" in words


def test_a_qemu_that_lacks_a_device_is_refused() -> None:
    lacking = dataclasses.replace(CAPS, devices=CAPS.devices - {"nvme-subsys"})
    argv(find_topology("igb"), lacking, "tcg", BOOT, RUN)
    with pytest.raises(HostError, match="topology nvme-sriov needs devices") as refused:
        argv(find_topology("nvme-sriov"), lacking, "tcg", BOOT, RUN)
    assert "nvme-subsys" in str(refused.value)


@ALL
def test_every_device_named_is_one_that_was_asked_for(each: Topology) -> None:
    named = {
        line.removeprefix("-device ").split(",")[0]
        for line in command(each)
        if line.startswith("-device ")
    }
    assert named | {"isa-serial"} == each.qemu_devices - {"AMDVI-PCI"}  # amd-iommu makes it
