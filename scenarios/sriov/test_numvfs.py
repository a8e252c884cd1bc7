"""Which values does sriov_numvfs accept, and how does it refuse others?

Kernel: drivers/pci/iov.c, sriov_numvfs_store(): the number first, then the driver.
"""

from errno import EBUSY, EINVAL, ENOENT, ENOMEM, ERANGE

import pytest

from vfio_lab.client.sysfs import ENABLE_SRIOV
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import all_refused, refused

NONSENSE = {
    text: {"attribute": "sriov_numvfs", "value": text}
    for text in ("-1", "65536", "two", "1.5", "1 2", "")
}


@claim("B06")
def test_numvfs_must_be_a_16_bit_number(pf):
    """A value that is not a 16-bit number fails with EINVAL; hexadecimal is accepted."""
    all_refused(EINVAL, pf.write, NONSENSE)
    assert pf.numvfs == 0
    pf.write("sriov_numvfs", "0x2")
    assert pf.numvfs == 2


@claim("B06", "B09")
def test_numvfs_is_checked_before_the_driver(guest):
    """A number above sriov_totalvfs fails with ERANGE even if the PF has no driver."""
    pf = guest.function("pf0")
    assert (pf.driver, pf.read("sriov_totalvfs")) == (None, "8")
    with refused(ERANGE):
        pf.write("sriov_numvfs", 9)
    with refused(ERANGE):
        pf.write("sriov_numvfs", 65535)
    with refused(EINVAL):
        pf.write("sriov_numvfs", 65536)
    with refused(ENOENT):
        pf.write("sriov_numvfs", 8)


@claim("B06")
def test_a_pf_on_vfio_pci_has_as_many_vfs_as_its_hardware(guest, pf):
    """All eight VFs of the hardware can be enabled, and no more."""
    with refused(ERANGE):
        pf.write("sriov_numvfs", 9)
    assert len(pf.enable_vfs(8)) == 8
    assert guest.dmesg("VFs requested; only") == []


@claim("B07")
def test_igb_keeps_one_vf_for_itself_while_it_has_the_pf(guest):
    """igb limits sriov_totalvfs to 7 of the hardware's 8 VFs while it is bound to the PF."""
    guest.load("igb")
    pf = guest.function("pf0")
    pf.bind("igb")
    assert pf.read("sriov_totalvfs") == "7"
    with refused(ERANGE):
        pf.write("sriov_numvfs", 8)
    pf.unbind()
    assert pf.read("sriov_totalvfs") == "8"
    pf.bind("vfio-pci")
    assert pf.read("sriov_totalvfs") == "8"


@claim("B08")
def test_a_pf_without_driver_accepts_its_current_numvfs(guest):
    """Writing 0 VFs to an unbound PF without VFs succeeds, and writing 1 fails."""
    pf = guest.function("pf0")
    pf.write("sriov_numvfs", 0)
    with refused(ENOENT):
        pf.write("sriov_numvfs", 1)
    assert pf.numvfs == 0


@claim("B08")
def test_writing_the_current_numvfs_does_not_call_the_driver(guest, root, pf, vfs):
    """Writing the current number of VFs succeeds even if vfio-pci would refuse it."""
    root.write_file(ENABLE_SRIOV, "N")
    pf.write("sriov_numvfs", 2)
    assert pf.vfs() == vfs
    assert len(guest.dmesg("Captured SR-IOV VF")) == 2
    with refused(ENOENT):
        pf.write("sriov_numvfs", 0)


@claim("B09")
def test_an_unbound_pf_cannot_enable_vfs(guest):
    """Enabling VFs of an unbound PF fails with ENOENT, and the log says why."""
    pf = guest.function("pf0")
    with refused(ENOENT):
        pf.write("sriov_numvfs", 1)
    reason = "no driver bound to device; cannot configure SR-IOV"
    assert len(guest.dmesg(f"pci {pf}: {reason}", level="info")) == 1
    assert (pf.numvfs, pf.vfs()) == (0, [])


@claim("B10")
def test_a_driver_without_sriov_cannot_enable_vfs(guest):
    """Enabling VFs of a PF on pci-stub fails with ENOENT, and the log says why."""
    guest.load("pci-stub")
    pf = guest.function("pf0")
    pf.bind("pci-stub")
    with refused(ENOENT):
        pf.write("sriov_numvfs", 1)
    reason = "driver does not support SR-IOV configuration via sysfs"
    assert len(guest.dmesg(f"pci-stub {pf}: {reason}", level="info")) == 1
    assert (pf.numvfs, pf.vfs()) == (0, [])


@claim("B11")
def test_numvfs_changes_only_through_0(guest, pf, vfs):
    """Changing a non-zero number of VFs fails with EBUSY and a warning; 0 must come between."""
    with refused(EBUSY):
        pf.write("sriov_numvfs", 1)
    with refused(EBUSY):
        pf.write("sriov_numvfs", 3)
    warning = f"vfio-pci {pf}: 2 VFs already enabled. Disable before enabling"
    assert len(guest.dmesg(f"{warning} 1 VFs", level="warn")) == 1
    assert len(guest.dmesg(f"{warning} 3 VFs", level="warn")) == 1
    assert (pf.numvfs, pf.vfs(), vfs[1].driver) == (2, vfs, "vfio-pci")
    pf.enable_vfs(0)
    assert len(pf.enable_vfs(3)) == 3


@claim("B40")
@pytest.mark.topology("nvme-no-room")
@pytest.mark.needs(arch="x86_64", because="without firmware the kernel itself makes room for VFs")
def test_without_mmio_space_vfs_are_not_enabled(guest, pf):
    """Without MMIO space, enabling VFs fails with ENOMEM and leaves the PF idle and suspended."""
    with refused(ENOMEM):
        pf.enable_vfs(1)
    message = f"vfio-pci {pf}: not enough MMIO resources for SR-IOV"
    assert len(guest.dmesg(message, level="err")) == 1
    assert (pf.numvfs, pf.vfs()) == (0, [])
    pf.await_value("power/runtime_status", "suspended")
    with refused(ENOMEM):
        pf.enable_vfs(1)
