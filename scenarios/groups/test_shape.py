"""Which devices share a group?

Thread: 2013-groups (functions without isolation form a group; ACS isolates devices; a parameter to
assume ACS where there is none was announced and never merged). Kernel:
drivers/iommu/iommu.c, pci_device_group(); drivers/pci/pci.c, pci_enable_acs().
"""

import pytest

from vfio_lab.errors import UsageError
from vfio_lab.uapi.pci_regs import (
    PCI_ACS_CR,
    PCI_ACS_RR,
    PCI_ACS_SV,
    PCI_ACS_UF,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import AcsControl, sharing

REDIRECT = PCI_ACS_RR | PCI_ACS_CR
ACS = PCI_ACS_SV | REDIRECT | PCI_ACS_UF  # what the kernel sets if there is an IOMMU


@claim("E30")
@pytest.mark.parametrize(
    ("topology", "shared"),
    [
        pytest.param("multifunction", [{"nic0", "nic1"}], id="functions of one device"),
        pytest.param("bridge", [{"bridge0", "nic0", "nic1"}], id="behind a conventional bridge"),
    ],
    indirect=["topology"],
)
def test_devices_that_cannot_be_isolated_share_a_group(guest, shared):
    """Functions of one device, and devices behind a PCI bridge, share a group, and no others."""
    assert sharing(guest) == shared


@claim("E30")
@pytest.mark.topology("switch")
def test_vfs_below_a_port_without_acs_share_its_group(guest, vfs):
    """PF, VFs and a port without ACS above them share a group."""
    assert sharing(guest) == [{"down0", "pf0"}, {"down1", "nic0"}]
    assert {vf.group for vf in vfs} == {guest.function("down0").group}


@claim("E30")
@pytest.mark.topology("igb-pair")
def test_each_function_below_a_port_with_acs_has_its_own_group(guest, pf, vfs):
    """Each VF and each function below a port with ACS has its own group."""
    assert sharing(guest) == []
    groups = [pf.group, *(vf.group for vf in vfs)]
    assert len(set(groups)) == len(groups)
    pf.enable_vfs(0)
    kept = [int(name) for name in guest.root.listdir("/sys/kernel/iommu_groups")]
    assert set(kept) & set(groups) == {pf.group}


@claim("E31")
@pytest.mark.topology("acs")
def test_disable_acs_redir_merges_a_port_with_the_device_below_it(guest):
    """disable_acs_redir puts the named port and the device below it into one group."""
    assert {"port0", "nic0"} in sharing(guest)
    assert AcsControl(guest.function("port0")).value & REDIRECT == 0
    assert AcsControl(guest.function("port3")).value == ACS
    assert guest.function("port3").group != guest.function("nic3").group


@claim("E36")
@pytest.mark.topology("acs")
def test_config_acs_removes_acs_but_cannot_add_it(guest):
    """config_acs removes ACS from a port that has it and cannot add it to a port without."""
    assert sharing(guest) == [{"port0", "nic0"}, {"port1", "nic1"}, {"port2", "nic2"}]
    assert AcsControl(guest.function("port1")).value == 0
    with pytest.raises(UsageError, match="has no extended capability"):
        AcsControl(guest.function("port2"))


@claim("E38")
@pytest.mark.topology("acs")
def test_disable_acs_redir_leaves_other_acs_bits_to_the_firmware(guest):
    """A port named by disable_acs_redir does not get the kernel's setting of other ACS bits."""
    assert AcsControl(guest.function("port0")).value == 0
    assert AcsControl(guest.function("port3")).value == ACS


@claim("E37")
@pytest.mark.topology("acs")
def test_the_kernel_does_not_assume_acs(guest):
    """The kernel does not know pcie_acs_override, and ports without ACS share a group."""
    assert "pcie_acs_override=downstream,multifunction" in guest.root.read_file("/proc/cmdline")
    assert {"port2", "nic2"} in sharing(guest)


@claim("E35")
def test_acs_is_set_up_when_a_driver_binds(guest):
    """ACS bits that a port has lost are set again when its driver binds."""
    port = guest.function("port0")
    control = AcsControl(port)
    assert control.value == ACS
    port.unbind()
    control.clear()
    assert control.value == 0
    port.bind("pcieport")
    assert control.value == ACS
