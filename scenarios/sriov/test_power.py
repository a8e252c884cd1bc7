"""When is a PF with VFs suspended?

VFs do not work while their PF is in D3hot. Kernel: drivers/vfio/pci/vfio_pci_core.c,
vfio_pci_core_sriov_configure(), vfio_pci_set_power_state() and vfio_pci_core_pm_entry().
"""

import pytest

from vfio_lab.uapi.pci_regs import PCI_CAP_ID_PM, PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK
from vfio_lab.uapi.vfio import VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, VFIO_DEVICE_FEATURE_SET
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.power import D0, D3HOT
from vfio_lab_pytest.tokens import TOKEN


@pytest.fixture
def power(config):
    """Where the PF's user finds the power management control register."""
    return config.capability(PCI_CAP_ID_PM) + PCI_PM_CTRL


@claim("B32")
def test_vfs_keep_their_pf_awake(pf):
    """An idle PF sleeps in D3hot, wakes when VFs are enabled, and sleeps again without them."""
    pf.await_value("power_state", "D3hot")
    pf.await_value("power/runtime_status", "suspended")
    pf.enable_vfs(1)
    assert (pf.read("power_state"), pf.read("power/runtime_status")) == ("D0", "active")
    pf.enable_vfs(0)
    pf.await_value("power/runtime_status", "suspended")
    pf.await_value("power_state", "D3hot")


@claim("B32")
def test_a_pf_that_lost_its_vfs_by_unbinding_sleeps_again(pf, vfs):
    """A PF whose VFs were removed by an unbind is suspended again after the next bind."""
    assert (vfs[0].present, pf.read("power/runtime_status")) == (True, "active")
    pf.bind("vfio-pci")
    pf.await_value("power/runtime_status", "suspended")
    pf.enable_vfs(1)
    assert (pf.read("power_state"), pf.read("power/runtime_status")) == ("D0", "active")


@claim("B33")
def test_a_user_cannot_put_a_pf_with_vfs_into_d3(pf, vfs, config, power):
    """A user's write of D3hot succeeds and has no effect while the PF has VFs."""
    assert config.write(power, bytes([D3HOT, 0])) == 2
    assert config.word(power) & PCI_PM_CTRL_STATE_MASK == D0
    assert (vfs[0].present, pf.read("power_state")) == (True, "D0")
    pf.enable_vfs(0)
    assert config.write(power, bytes([D3HOT, 0])) == 2
    assert config.word(power) & PCI_PM_CTRL_STATE_MASK == D3HOT
    assert pf.read("power_state") == "D3hot"


@claim("B34")
def test_enabling_vfs_returns_a_pf_from_d3(pf, vf_user, device, config, power):
    """Enabling VFs returns a PF in D3hot to D0, and the VFs work."""
    config.set_word(power, D3HOT)
    assert pf.read("power_state") == "D3hot"
    (vf,) = pf.enable_vfs(1)
    assert pf.read("power_state") == "D0"
    assert config.word(power) & PCI_PM_CTRL_STATE_MASK == D0
    device.set_vf_token(TOKEN)
    assert vf_user.open(vf, TOKEN).get_info().num_regions > 0


@claim("B35")
def test_a_pf_with_vfs_accepts_low_power_and_stays_awake(pf, vf_user, device):
    """LOW_POWER_ENTRY succeeds on a PF with VFs and takes effect after the last VF is gone."""
    (vf,) = pf.enable_vfs(1)
    device.set_vf_token(TOKEN)
    device.feature(VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, VFIO_DEVICE_FEATURE_SET)
    vf_user.open(vf, TOKEN).close()
    assert (pf.read("power_state"), pf.read("power/runtime_status")) == ("D0", "active")
    pf.enable_vfs(0)
    pf.await_value("power/runtime_status", "suspended")
    assert pf.read("power_state") == "D3hot"
