"""What happens to the VFs that vfio-pci creates?

Thread: 2020-vf-token: VFs of a user's PF must not reach drivers of the host by themselves.
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_bus_notifier(); drivers/pci/iov.c.
"""

import pytest

from vfio_lab.uapi.pci_regs import PCI_COMMAND, PCI_COMMAND_MEMORY
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.tokens import TOKEN

NO_OVERRIDE = "(null)"


@claim("B03")
def test_new_vfs_are_bound_to_vfio_pci_at_once(guest, pf):
    """Each new VF gets a driver_override, is bound to vfio-pci, and is logged once."""
    guest.load("igbvf")
    first, second = pf.enable_vfs(2)
    assert (first.driver, second.driver) == ("vfio-pci", "vfio-pci")
    assert (first.read("driver_override"), second.read("driver_override")) == ("vfio-pci",) * 2
    captured = f"vfio-pci {pf}: Captured SR-IOV VF"
    assert len(guest.dmesg(f"{captured} {first} driver_override", level="info")) == 1
    assert len(guest.dmesg(f"{captured} {second} driver_override", level="info")) == 1
    assert len(guest.dmesg("Captured SR-IOV VF")) == 2


@claim("B03")
def test_vfs_are_captured_each_time_they_are_created(guest, pf):
    """VFs that are created again are captured like the first ones."""
    pf.enable_vfs(1)
    pf.enable_vfs(0)
    (vf,) = pf.enable_vfs(1)
    assert (vf.driver, vf.read("driver_override")) == ("vfio-pci", "vfio-pci")
    assert len(guest.dmesg(f"{pf}: Captured SR-IOV VF {vf} driver_override")) == 2


@claim("B04")
def test_turning_autoprobe_off_does_not_keep_vfio_pci_from_its_vfs(pf):
    """driver_override takes precedence over sriov_drivers_autoprobe=0."""
    pf.write("sriov_drivers_autoprobe", 0)
    (vf,) = pf.enable_vfs(1)
    assert (vf.driver, vf.read("driver_override")) == ("vfio-pci", "vfio-pci")


@claim("B05")
def test_turning_autoprobe_off_keeps_host_drivers_from_vfs(guest):
    """VFs of a PF on igb stay unbound with autoprobe off and go to igbvf with autoprobe on."""
    guest.load("igb")
    guest.load("igbvf")
    pf = guest.function("pf0")
    pf.bind("igb")
    pf.write("sriov_drivers_autoprobe", 0)
    (vf,) = pf.enable_vfs(1)
    assert (vf.driver, vf.read("driver_override")) == (None, NO_OVERRIDE)
    pf.enable_vfs(0)
    pf.write("sriov_drivers_autoprobe", 1)
    (vf,) = pf.enable_vfs(1)
    assert (vf.driver, vf.read("driver_override")) == ("igbvf", NO_OVERRIDE)


@claim("B38")
def test_pf_and_vfs_are_in_a_group_each(pf, vfs):
    """A PF and each of its VFs have an IOMMU group of their own."""
    assert len({pf.group, vfs[0].group, vfs[1].group}) == 3


@claim("B03", "B39")
@pytest.mark.parametrize(
    ("topology", "places"),
    [("igb", ["10.0", "10.2", "10.4"]), ("nvme-sriov", ["00.1", "00.2", "00.3"])],
    indirect=["topology"],
)
def test_vfs_have_the_addresses_of_offset_and_stride(pf_user, vf_user, pf, places):
    """VFs have the addresses that the hardware's offset and stride give, for any kind of PF."""
    vfs = pf.enable_vfs(3)
    assert [str(vf) for vf in vfs] == [f"0000:01:{place}" for place in places]
    assert {vf.driver for vf in vfs} == {"vfio-pci"}
    pf_user.open(pf, TOKEN)
    assert vf_user.open(vfs[2], TOKEN).get_info().num_regions > 0


@claim("B41")
def test_enabling_vfs_turns_on_memory_decode_of_the_pf(guest, pf, hardware):
    """Enabling VFs turns on a PF's memory decode if it was off, and the log says so."""
    pf.enable_vfs(1)
    hardware.set_word(PCI_COMMAND, 0)
    pf.enable_vfs(0)
    pf.enable_vfs(1)
    assert hardware.word(PCI_COMMAND) == PCI_COMMAND_MEMORY
    assert len(guest.dmesg(f"vfio-pci {pf}: enabling device (0000 -> 0002)", level="info")) == 1
