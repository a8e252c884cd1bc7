"""The hardware of a guest as a frozen value."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from vfio_lab.arch import AARCH64, ARCHITECTURES, X86_64, Architecture
from vfio_lab.errors import UsageError
from vfio_lab.hw.models import (
    DISK,
    GENERIC_HOST_BRIDGE,
    HOST_BRIDGE,
    LPC,
    NET,
    PANIC,
    RNG,
    SERIAL,
)
from vfio_lab.hw.tree import (
    EXPANDER,
    PCI_BRIDGE,
    Endpoint,
    Expander,
    Function,
    Node,
    grouped,
    numbered,
)
from vfio_lab.hw.viommu import Viommu

# Away from the low slots, so that what is under test has the same addresses in every lab.
INFRASTRUCTURE: Mapping[int, Endpoint] = MappingProxyType(
    {
        0x00: Endpoint("host", HOST_BRIDGE),
        0x10: Endpoint("image", DISK),
        0x11: Endpoint("modules", DISK),
        0x12: Endpoint("payload", DISK),
        0x13: Endpoint("agent", SERIAL),
        0x14: Endpoint("net", NET),
        0x15: Endpoint("rng", RNG),
        0x16: Endpoint("panic", PANIC),
        0x1F: Endpoint("lpc", LPC),
    }
)
GENERIC: Mapping[int, Endpoint] = MappingProxyType(
    {
        slot: Endpoint("host", GENERIC_HOST_BRIDGE) if node.role == "host" else node
        for slot, node in INFRASTRUCTURE.items()
        if node.model is not LPC
    }
)
BUILT_IN = MappingProxyType({X86_64.name: INFRASTRUCTURE, AARCH64.name: GENERIC})
# Words for the command line of an x86-64 kernel, and what other kernels call them.
INTEL_ONLY = "intel_iommu="
ELSEWHERE = MappingProxyType({"iommu=pt": "iommu.passthrough=1"})
IOMMU_SLOT, SLOTS = 0x17, 0x20
MEMORY_MIB = 512
INFRASTRUCTURE_ROLES = frozenset(node.role for node in INFRASTRUCTURE.values()) | {"iommu"}


@dataclass(frozen=True)
class Topology:
    """The hardware of a guest.

    Args:
        name: as on the command line.
        summary: what it is good for, one line.
        below: what is on the root bus, from device 1 up.
        viommu: what translates DMA.
        viommu_options: its properties, each `name=value`, that differ from the lab's usual ones. A
            name is taken with and without QEMU's prefix `x-`.
        cpus: virtual CPUs; under TCG a second one makes nothing faster.
        memory_mib: RAM, in MiB.
        boot_words: further words for the kernel's command line.
        architecture: the machine's, as printed by `uname -m`.
    """

    name: str
    summary: str
    children: tuple[Node, ...]
    viommu: Viommu = Viommu.INTEL
    viommu_options: tuple[str, ...] = ()
    cpus: int = 1
    memory_mib: int = MEMORY_MIB
    boot_words: tuple[str, ...] = ()
    architecture: str = X86_64.name

    def __repr__(self) -> str:
        """Return `Topology(igb)`."""
        return f"{type(self).__name__}({self.name})"

    def on(self, architecture: Architecture) -> Topology:
        """Return the same hardware on a machine of an architecture, as far as the machine has it.

        An Intel IOMMU of the usual settings becomes an SMMUv3.
        """
        if architecture.name == self.architecture:
            return self
        viommu = self.viommu
        if viommu is Viommu.INTEL and not self.viommu_options:
            viommu = Viommu.SMMUV3
        words = tuple(ELSEWHERE.get(word, word) for word in self.boot_words)
        return replace(self, architecture=architecture.name, viommu=viommu, boot_words=words)

    @property
    def _shared_bridges(self) -> list[str]:
        """The conventional bridges with several devices, whose DMA looks like that of one.

        Source: drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c, arm_smmu_insert_master().
        """
        parents = Counter(function.parent for function in self.functions)
        bridges = (each.role for each in self.functions if each.model.qemu == PCI_BRIDGE.qemu)
        return [role for role in bridges if parents[role] > 1]

    @property
    def lacking(self) -> str:
        """What the architecture's machine lacks of it, empty if it can be had."""
        if self.architecture == X86_64.name:
            return ""
        if self.viommu in (Viommu.INTEL, Viommu.AMD):
            return " ".join((self.viommu.value, *(f"with {one}" for one in self.viommu_options)))
        if self.viommu is Viommu.SMMUV3 and self._shared_bridges:
            return f"{self.viommu.value} for a second device behind a conventional bridge"
        # QEMU describes a second host bridge in ACPI only; the guests read a device tree.
        return EXPANDER.qemu if any(isinstance(one, Expander) for one in self.children) else ""

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """All PCI functions that the guest finds before any VF exists, in bus order."""
        own = dict(enumerate(self.children, start=1))
        taken: dict[int, Node] = {**BUILT_IN[self.architecture], **own}
        model = self.viommu.model
        if model is not None:
            # QEMU makes the function of an amd-iommu itself, in the first slot that is free.
            free = next(slot for slot in range(1, SLOTS) if slot not in taken)
            slot = free if self.viommu is Viommu.AMD else IOMMU_SLOT
            taken[slot] = Endpoint("iommu", model)
        return numbered(taken)

    @property
    def viommu_settings(self) -> tuple[str, ...]:
        """All properties of the vIOMMU, each `name=value`."""
        return self.viommu.settings(self.viommu_options)

    @property
    def endpoints(self) -> tuple[Function, ...]:
        """The functions that are not part of the lab's own infrastructure."""
        return tuple(each for each in self.functions if each.role not in INFRASTRUCTURE_ROLES)

    @property
    def pfs(self) -> tuple[Function, ...]:
        """The functions that can have VFs."""
        return tuple(each for each in self.functions if each.model.sriov)

    @cached_property
    def groups(self) -> tuple[tuple[Function, ...], ...]:
        """The IOMMU groups that the guest makes of them; none without a vIOMMU."""
        if self.viommu is Viommu.NONE:
            return ()
        translated = [each for each in self.functions if not each.bypasses]
        return grouped([function for function in translated if function.role != "iommu"])

    @property
    def groups_wait_for_drivers(self) -> bool:
        """Whether a function may be in no group yet until a driver has probed it.

        With a virtio-iommu, or if a device tree tells of the IOMMU, it is so on 6.1 and 6.12, and
        no longer on 7.3.

        Source: drivers/acpi/scan.c, acpi_dma_configure_id(); drivers/acpi/viot.c;
        drivers/of/device.c, of_dma_configure_id().
        """
        return self.viommu is Viommu.VIRTIO or self.architecture == AARCH64.name

    @property
    def groups_follow_boot_words(self) -> bool:
        """Whether boot parameters shape its groups, which not every kernel knows."""
        return any("config_acs=" in word for word in self.boot_words)

    @property
    def kernel_args(self) -> tuple[str, ...]:
        """What the kernel's command line says about this hardware."""
        words = (*self.viommu.kernel_args(self.viommu_settings), *self.boot_words)
        foreign = self.architecture != X86_64.name
        return tuple(word for word in words if not (foreign and word.startswith(INTEL_ONLY)))

    @property
    def options(self) -> tuple[str, ...]:
        """The kernel options without which it is not what it is here for."""
        return ("VIRTIO_IOMMU",) if self.viommu is Viommu.VIRTIO else ()

    @property
    def unmigratable(self) -> str:
        """Why QEMU cannot save a guest of this kind, empty if it can."""
        reasons = {function.model.unmigratable for function in self.functions}
        return "; ".join(sorted(reasons - {""}))

    @property
    def freezable(self) -> bool:
        """Whether a template can be made of it; if not, its guests boot afresh."""
        return not self.unmigratable

    @property
    def qemu_devices(self) -> frozenset[str]:
        """The device types that QEMU must have."""
        models = {function.model for function in self.functions}
        names = {name for model in models for name in (model.qemu, *model.needs)}
        return frozenset(
            names | {self.viommu.value, "vmcoreinfo", ARCHITECTURES[self.architecture].serial}
        ) - {""}

    def function(self, role: str) -> Function:
        """Return the function that plays a role, such as `pf0`.

        Raises:
            UsageError: there is none; names those that are close.
        """
        by_role = {function.role: function for function in self.functions}
        if role not in by_role:
            raise unknown_name(f"topology {self.name} has no function", role, by_role)
        return by_role[role]


def unknown_name(what: str, name: str, known: Mapping[str, object]) -> UsageError:
    """Return the error for a name that is none of those known; it names those that are close.

    Args:
        what: how the message begins.
        name: what was asked for.
        known: what there is, by name.
    """
    close = difflib.get_close_matches(name, known)
    return UsageError(
        f"{what} {name!r}",
        expected=f"one of {', '.join(known)}",
        hint=f"did you mean {' or '.join(close)}?" if close else None,
    )
