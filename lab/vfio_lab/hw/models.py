"""The kinds of devices that QEMU emulates and the lab's topologies are made of."""

from __future__ import annotations

from dataclasses import replace

from vfio_lab.hw.tree import ROM, Bar, Model, Sriov

VIRTIO = 0x1AF4
REDHAT = 0x1B36
INTEL = 0x8086
NEC = 0x1033
AMD = 0x1022
QEMU_OWN = 0x1234
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

IGB = Model(
    "igb",
    INTEL,
    0x10C9,
    bars=(Bar(0, 128 * KIB), Bar(1, 128 * KIB), Bar(2, 32, io=True), Bar(3, 16 * KIB)),
    sriov=Sriov(
        total_vfs=8,
        offset=0x80,
        stride=2,
        device=0x10CA,
        bars=(Bar(0, 16 * KIB), Bar(3, 16 * KIB)),
    ),
)
E1000E = Model(
    "e1000e",
    INTEL,
    0x10D3,
    options=("romfile=",),
    bars=(Bar(0, 128 * KIB), Bar(1, 128 * KIB), Bar(2, 32, io=True), Bar(3, 16 * KIB)),
)
E1000 = Model(
    "e1000",
    INTEL,
    0x100E,
    options=("romfile=",),
    bars=(Bar(0, 128 * KIB), Bar(1, 64, io=True)),
)


def _nvme(total_vfs: int, bar_bytes: int, *resources: str) -> Model:
    named = ("serial=vfio-lab", "subsys=nvme-subsys", f"sriov_max_vfs={total_vfs}")
    return Model(
        "nvme",
        REDHAT,
        0x0010,
        options=(*named, *resources),
        needs=("nvme-subsys",),
        bars=(Bar(0, bar_bytes),),
        sriov=Sriov(
            total_vfs=total_vfs, offset=1, stride=1, device=0x0010, bars=(Bar(0, bar_bytes),)
        ),
        unmigratable="QEMU saves no state of its nvme device",
    )


# A VF gets its queues and vectors from the PF's flexible ones: 8 and 4 make 2 and 1 for each.
NVME = _nvme(
    4,
    16 * KIB,
    "sriov_vq_flexible=8",
    "sriov_vi_flexible=4",
    "max_ioqpairs=26",
    "msix_qsize=27",
)
# So many vectors make VF BARs of 32 KiB, 80 of which exceed the 2 MiB that a port's window has.
NVME_CROWD = _nvme(
    80,
    32 * KIB,
    "sriov_vq_flexible=160",
    "sriov_vi_flexible=300",
    "sriov_max_vi_per_vf=300",
    "max_ioqpairs=162",
    "msix_qsize=301",
)

# With the ROM that QEMU brings for it.
E1000E_ROM = replace(E1000E, options=(), bars=(*E1000E.bars, Bar(ROM, 256 * KIB)))
VGA = Model(
    "VGA",
    QEMU_OWN,
    0x1111,
    bars=(Bar(0, 16 * MIB), Bar(2, 4 * KIB), Bar(ROM, 64 * KIB)),
)
VIRTIO_RNG = Model(
    "virtio-rng-pci",
    VIRTIO,
    0x1044,
    options=("rng=entropy", "disable-legacy=on"),
    bars=(Bar(1, 4 * KIB), Bar(4, 16 * KIB)),
)
XHCI_MSI = Model("nec-usb-xhci", NEC, 0x0194, options=("msi=on",), bars=(Bar(0, 16 * KIB),))
SDHCI = Model("sdhci-pci", REDHAT, 0x0007, bars=(Bar(0, 256),))
# Neighbouring capabilities of one kind (DVSEC), and one that vfio does not know behind them.
CXL_MEMORY = Model(
    "cxl-type3",
    INTEL,
    0x0D93,
    options=("volatile-memdev=cxl-memory",),
    objects=("memory-backend-ram,id=cxl-memory,size=256M",),
    bars=(Bar(0, 64 * KIB), Bar(2, 4 * KIB), Bar(4, 4 * KIB)),
    unmigratable="QEMU saves no state of its cxl-type3 device",
)

# A device of QEMU's own that copies between memory and a buffer of its own, and interrupts. Its
# driver's documentation limits addresses to 28 bits, a property to what is asked for.
EDU = Model(
    "edu",
    QEMU_OWN,
    0x11E8,
    options=("dma_mask=0xffffffffffffffff",),
    bars=(Bar(0, MIB),),
    unmigratable="QEMU saves no state of its edu device",
)


def shared_memory(size: int, name: str) -> Model:
    """Return a device whose BAR 2 is memory.

    Args:
        size: bytes, a power of two.
        name: the memory's, unique in a topology.
    """
    return Model(
        "ivshmem-plain",
        VIRTIO,
        0x1110,
        options=(f"memdev={name}", "master=on"),  # which QEMU can save
        objects=(f"memory-backend-ram,id={name},size={size},share=on",),
        bars=(Bar(0, 256), Bar(2, size)),
    )


def test_device(size: int) -> Model:
    """Return QEMU's test device, whose BAR 2 keeps nothing that is written; BAR 1 is I/O ports.

    Args:
        size: bytes, a power of two.
    """
    return Model(
        "pci-testdev",
        REDHAT,
        0x0005,
        options=(f"membar={size}",),
        bars=(Bar(0, 4 * KIB), Bar(1, 256, io=True), Bar(2, size)),
        unmigratable="QEMU saves no state of its pci-testdev device",
    )


DISK = Model("virtio-blk-pci", VIRTIO, 0x1042)
SERIAL = Model("virtio-serial-pci", VIRTIO, 0x1043, needs=("virtserialport",))
NET = Model("virtio-net-pci", VIRTIO, 0x1041)
RNG = Model("virtio-rng-pci", VIRTIO, 0x1044)
PANIC = Model("pvpanic-pci", REDHAT, 0x0011)
# 64 bits of address, so that the last page of the address space can be asked for; QEMU gives 39.
VIRTIO_IOMMU = Model("virtio-iommu-pci", VIRTIO, 0x1057, options=("aw-bits=64",))
# It comes with QEMU's amd-iommu, which is not on the PCI bus.
AMD_IOMMU = Model(
    "AMDVI-PCI", AMD, 0x1419, unmigratable="QEMU saves no state of its amd-iommu device"
)
HOST_BRIDGE = Model("", INTEL, 0x29C0)
LPC = Model("", INTEL, 0x2918)
GENERIC_HOST_BRIDGE = Model("", REDHAT, 0x0008)  # of QEMU's virt
