"""Can a user who owns all devices in hot-reset info do the hot reset?

Thread: 2023-hot-reset-info. Both sides wanted that: one said that a hot reset should depend on
ownership alone, the other that it must match hot-reset info.
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_dev_set_hot_reset().
"""

import pytest

from vfio_lab.vfio import open_affected_groups
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.hot_reset import WIPED, canaries, with_canary


@claim("C39")
@pytest.mark.parametrize(
    ("topology", "role"),
    [
        ("igb", "pf0"),
        ("igb-bus", "pf0"),
        ("multifunction", "nic1"),
        ("bridge", "nic1"),
        ("nic-bridge", "nic1"),
        ("switch", "pf0"),
        ("nvme-sriov", "nvme0"),
        pytest.param("noiommu", "nic1", marks=claim("C19")),
    ],
    indirect=["topology"],
)
def test_the_owner_of_all_listed_groups_can_hot_reset(user, all_on_vfio_pci, role):
    """A user who owns all listed groups can do the hot reset on every topology without VFs."""
    device = with_canary(user.open(all_on_vfio_pci[role]))
    device.hot_reset(open_affected_groups(device))
    assert canaries(device) == [WIPED]


@claim("C40")
@pytest.mark.topology("igb")
@pytest.mark.usefixtures("vfs")
def test_the_owner_of_all_listed_groups_can_hot_reset_a_pf_in_a_slot(marked_pf):
    """The owner of all listed groups can reset a PF with VFs if its slot does not cover them."""
    marked_pf.hot_reset(open_affected_groups(marked_pf))
    assert canaries(marked_pf) == [WIPED]


@claim("C41")
@pytest.mark.topology("igb-bus")
@pytest.mark.usefixtures("vfs")
def test_the_owner_of_all_listed_groups_can_hot_reset_a_pf_on_a_bus(marked_pf):
    """The owner of all listed groups can reset a PF with VFs if they share its device set."""
    marked_pf.hot_reset(open_affected_groups(marked_pf))
    assert canaries(marked_pf) == [WIPED]
