"""What does the PF's user see of the SR-IOV capability, and can they change it?

Thread: 2018-unmanaged-sriov: the capability is shown, cannot be written, and is not emulated.
Kernel: drivers/vfio/pci/vfio_pci_config.c, vfio_direct_config_read() and
vfio_pci_config_rw_single().
"""

import pytest

from vfio_lab.uapi.pci_regs import (
    PCI_CACHE_LINE_SIZE,
    PCI_EXT_CAP_ID_SRIOV,
    PCI_EXT_CAP_SRIOV_SIZEOF,
    PCI_SRIOV_BAR,
    PCI_SRIOV_CTRL,
    PCI_SRIOV_CTRL_MSE,
    PCI_SRIOV_CTRL_VFE,
    PCI_SRIOV_NUM_VF,
)
from vfio_lab_pytest.claims import claim

ENABLED = PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE
SIZE = PCI_EXT_CAP_SRIOV_SIZEOF


@pytest.fixture
def place(config):
    """Where the PF's user finds the capability."""
    return config.extended(PCI_EXT_CAP_ID_SRIOV)


@claim("B27", "B29")
def test_the_pf_user_sees_the_hardwares_sriov_capability(pf, config, hardware, place):
    """The PF's user sees the hardware's SR-IOV capability, also after VFs come and go."""
    assert place == hardware.extended(PCI_EXT_CAP_ID_SRIOV)
    assert config.read(place, SIZE) == hardware.read(place, SIZE)
    assert config.word(place + PCI_SRIOV_CTRL) & ENABLED == 0
    pf.enable_vfs(2)
    assert config.word(place + PCI_SRIOV_CTRL) & ENABLED == ENABLED
    assert config.word(place + PCI_SRIOV_NUM_VF) == 2
    assert config.read(place, SIZE) == hardware.read(place, SIZE)
    pf.enable_vfs(0)
    assert config.word(place + PCI_SRIOV_NUM_VF) == 0


@claim("B28", "B42")
def test_the_pf_user_cannot_create_vfs_in_config_space(pf, config, hardware, place):
    """Writes by the PF's user to the SR-IOV capability succeed and enable no VFs."""
    before = hardware.read(place, SIZE)
    assert config.write(place + PCI_SRIOV_NUM_VF, b"\x02\x00") == 2
    assert config.write(place + PCI_SRIOV_CTRL, bytes([ENABLED, 0])) == 2
    assert config.write(place + PCI_SRIOV_BAR, b"\xff" * 4) == 4
    assert config.write(place, b"\xff" * SIZE) == SIZE
    assert (config.read(place, SIZE), hardware.read(place, SIZE)) == (before, before)
    assert (pf.numvfs, pf.vfs()) == (0, [])
    config.set_byte(PCI_CACHE_LINE_SIZE, 0x10)
    assert hardware.byte(PCI_CACHE_LINE_SIZE) == 0x10


@claim("B28")
def test_the_pf_user_cannot_remove_vfs_in_config_space(pf, vfs, config, hardware, place):
    """Writes by the PF's user to the SR-IOV capability do not remove existing VFs."""
    before = hardware.read(place, SIZE)
    assert config.write(place + PCI_SRIOV_CTRL, bytes(2)) == 2
    assert config.write(place, bytes(SIZE)) == SIZE
    assert (config.read(place, SIZE), hardware.read(place, SIZE)) == (before, before)
    assert (pf.numvfs, pf.vfs(), vfs[0].driver) == (2, vfs, "vfio-pci")
