"""Compares a guest's hardware with its topology."""

from __future__ import annotations

from vfio_lab.client.sysfs import PciFunction
from vfio_lab.errors import BuildError
from vfio_lab.hw.topology import Topology
from vfio_lab.hw.tree import EXPANDER, Function
from vfio_lab.hw.viommu import Viommu
from vfio_lab.machine.guest import Guest
from vfio_lab.qemu.capabilities import QemuCaps, dotted, saved_devices

# Where the firmware copies the ROM of the boot VGA device; the kernel shows the copy in its place.
# Source: arch/x86/pci/fixup.c, pci_fixup_video().
SHADOW_ROM = 0xC0000


# QEMU devices that have no state to save.
STATELESS = frozenset({"", EXPANDER.qemu})


def verify_migratable(topology: Topology, caps: QemuCaps) -> None:
    """Check that QEMU saves the state of each device: a clone of one that is not saved is wrong.

    Raises:
        BuildError: it does not; the error names the devices.
    """
    devices = {each.model.qemu: each.role for each in topology.functions}
    if lost := sorted(devices.keys() - STATELESS - saved_devices(caps.binary)):
        raise BuildError(
            f"no template can be made of topology {topology.name}",
            device=", ".join(devices[name] for name in lost),
            expected=f"{', '.join(lost)} in the output of `{caps.binary.name} -dump-vmstate`",
            seen=f"QEMU {dotted(caps.version)} does not save the state of this device",
            hint="set `unmigratable` in its model: its guests are booted, not cloned",
        )


def verify_hardware(guest: Guest) -> None:
    """Compare the guest's PCI functions and IOMMU groups with its topology.

    Raises:
        BuildError: they differ; the error names every difference.
    """
    wrong = [*_functions(guest), *_groups(guest)]
    if wrong:
        raise BuildError(
            f"the guest does not have the hardware of topology {guest.machine.topology.name}",
            guest=guest.name,
            seen="; ".join(wrong),
            where=guest.console,
            hint="compare with `vfio-lab topology show " + guest.machine.topology.name + "`",
        )


def _functions(guest: Guest) -> list[str]:
    wrong = []
    for promised in guest.machine.topology.functions:
        function = PciFunction(promised.bdf, guest.root)
        if not function.present:
            wrong.append(f"{promised.role} {promised.bdf} is missing")
            continue
        found = f"{int(function.read('vendor'), 16):04x}:{int(function.read('device'), 16):04x}"
        if found != (expected := f"{promised.vendor:04x}:{promised.device:04x}"):
            wrong.append(f"{promised.role} {promised.bdf} is {found}, not {expected}")
        if promised.model.bars:
            wrong += _bars(promised, function)
    return wrong


def _bars(promised: Function, function: PciFunction) -> list[str]:
    """Return the BARs whose size is not that of the topology.

    Source: drivers/pci/pci-sysfs.c, resource_show().
    """
    ranges = [line.split()[:2] for line in function.read("resource").splitlines()]
    starts = [int(start, 16) for start, _ in ranges]
    sizes = [int(end, 16) - int(start, 16) + 1 for start, end in ranges]
    return [
        f"BAR {bar.index} of {promised.role} has {sizes[bar.index]:#x} bytes, not {bar.size:#x}"
        for bar in promised.model.bars
        if sizes[bar.index] != bar.size and starts[bar.index] != SHADOW_ROM
    ]


def _groups(guest: Guest) -> list[str]:
    """Return the topology's groups that are split, merged or missing in the guest."""
    topology = guest.machine.topology
    if topology.viommu is Viommu.NONE or topology.groups_follow_boot_words:
        return []
    wrong = []
    for promised in topology.groups:
        expected = {str(function.bdf) for function in promised}
        leader = PciFunction(promised[0].bdf, guest.root)
        if topology.groups_wait_for_drivers and not leader.grouped:
            continue
        number = leader.group
        found = set(guest.root.listdir(f"/sys/kernel/iommu_groups/{number}/devices"))
        if found != expected:
            wrong.append(f"group {number} holds {sorted(found)}, not {sorted(expected)}")
    return wrong
