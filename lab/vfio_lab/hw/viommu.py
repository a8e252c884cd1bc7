"""What translates the DMA of a guest's devices."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

from vfio_lab.hw.models import AMD_IOMMU, VIRTIO_IOMMU
from vfio_lab.hw.tree import Model


class Viommu(enum.Enum):
    """What translates the guest's DMA, by QEMU's name for the device."""

    INTEL = "intel-iommu"
    AMD = "amd-iommu"
    SMMUV3 = "arm-smmuv3"
    VIRTIO = "virtio-iommu-pci"
    NONE = ""

    @property
    def model(self) -> Model | None:
        """What it is on the PCI bus, None if it is not there."""
        return _MODELS.get(self)

    def settings(self, others: Iterable[str]) -> tuple[str, ...]:
        """Return all its properties, each `name=value`.

        Args:
            others: properties that are added to the lab's usual ones, or replace them.
        """
        words = (*_USUAL[self], *others)
        return tuple({word.partition("=")[0]: word for word in words}.values())

    def kernel_args(self, settings: Iterable[str]) -> tuple[str, ...]:
        """Return what the kernel's command line says about it.

        Args:
            settings: all its properties.
        """
        # An SMMUv3 stands before an ITS, which knows devices apart.
        isolated = self in (Viommu.NONE, Viommu.SMMUV3) or _REMAPPING in settings
        return (*_KERNEL_ARGS[self], *(() if isolated else _UNSAFE_INTERRUPTS))


_MODELS: Mapping[Viommu, Model] = {Viommu.AMD: AMD_IOMMU, Viommu.VIRTIO: VIRTIO_IOMMU}
_REMAPPING = "intremap=on"
_USUAL: Mapping[Viommu, tuple[str, ...]] = {
    Viommu.INTEL: (_REMAPPING,),
    # With remapping on, the kernel finds no southbridge IOAPIC in QEMU's tables and turns it off.
    Viommu.AMD: ("intremap=off",),
    Viommu.SMMUV3: (),
    Viommu.VIRTIO: VIRTIO_IOMMU.options,
    Viommu.NONE: (),
}
# VFIO refuses devices whose interrupts are not remapped unless told otherwise; a scenario about
# that refusal writes N to the parameters in sysfs.
_UNSAFE_INTERRUPTS = (
    "vfio_iommu_type1.allow_unsafe_interrupts=1",
    "iommufd.allow_unsafe_interrupts=1",
)
_KERNEL_ARGS: Mapping[Viommu, tuple[str, ...]] = {
    Viommu.INTEL: ("intel_iommu=on",),
    Viommu.AMD: (),
    Viommu.SMMUV3: (),
    Viommu.VIRTIO: (),
    # VFIO's own no-IOMMU switch stays off: that it is needed is for scenarios to show.
    Viommu.NONE: ("intel_iommu=off",),
}
