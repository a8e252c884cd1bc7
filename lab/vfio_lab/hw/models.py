"""The kinds of devices that QEMU emulates and the lab's topologies are made of."""

from __future__ import annotations

from vfio_lab.hw.tree import Model, Sriov

VIRTIO = 0x1AF4
REDHAT = 0x1B36
INTEL = 0x8086
NEC = 0x1033
QEMU_OWN = 0x1234

IGB = Model(
    "igb",
    INTEL,
    0x10C9,
    sriov=Sriov(total_vfs=8, offset=0x80, stride=2, device=0x10CA),
)
E1000E = Model("e1000e", INTEL, 0x10D3, options=("romfile=",))
E1000 = Model("e1000", INTEL, 0x100E, options=("romfile=",))


def _nvme(total_vfs: int, *resources: str) -> Model:
    named = ("serial=vfio-lab", "subsys=nvme-subsys", f"sriov_max_vfs={total_vfs}")
    return Model(
        "nvme",
        REDHAT,
        0x0010,
        options=(*named, *resources),
        needs=("nvme-subsys",),
        sriov=Sriov(total_vfs=total_vfs, offset=1, stride=1, device=0x0010),
        unmigratable="QEMU saves no state of its nvme device",
    )


# A VF gets its queues and vectors from the PF's flexible ones: 8 and 4 make 2 and 1 for each.
NVME = _nvme(4, "sriov_vq_flexible=8", "sriov_vi_flexible=4", "max_ioqpairs=26", "msix_qsize=27")
# So many vectors make VF BARs of 32 KiB, 80 of which exceed the 2 MiB that a port's window has.
NVME_CROWD = _nvme(
    80,
    "sriov_vq_flexible=160",
    "sriov_vi_flexible=300",
    "sriov_max_vi_per_vf=300",
    "max_ioqpairs=162",
    "msix_qsize=301",
)

# With the ROM that QEMU brings for it.
E1000E_ROM = Model("e1000e", INTEL, 0x10D3)
VGA = Model("VGA", QEMU_OWN, 0x1111)
VIRTIO_RNG = Model("virtio-rng-pci", VIRTIO, 0x1044, options=("rng=entropy", "disable-legacy=on"))
XHCI_MSI = Model("nec-usb-xhci", NEC, 0x0194, options=("msi=on",))
SDHCI = Model("sdhci-pci", REDHAT, 0x0007)
# Neighbouring capabilities of one kind (DVSEC), and one that vfio does not know behind them.
CXL_MEMORY = Model(
    "cxl-type3",
    INTEL,
    0x0D93,
    options=("volatile-memdev=cxl-memory",),
    objects=("memory-backend-ram,id=cxl-memory,size=256M",),
    unmigratable="QEMU saves no state of its cxl-type3 device",
)

DISK = Model("virtio-blk-pci", VIRTIO, 0x1042)
SERIAL = Model("virtio-serial-pci", VIRTIO, 0x1043, needs=("virtserialport",))
NET = Model("virtio-net-pci", VIRTIO, 0x1041)
RNG = Model("virtio-rng-pci", VIRTIO, 0x1044)
PANIC = Model("pvpanic-pci", REDHAT, 0x0011)
# 64 bits of address, so that the last page of the address space can be asked for; QEMU gives 39.
VIRTIO_IOMMU = Model("virtio-iommu-pci", VIRTIO, 0x1057, options=("aw-bits=64",))
HOST_BRIDGE = Model("", INTEL, 0x29C0)
LPC = Model("", INTEL, 0x2918)
