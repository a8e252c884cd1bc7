"""How many may have a group open?

Thread: 2013-groups (a group goes to one user whole). Kernel: drivers/vfio/group.c,
vfio_group_fops_open() and vfio_group_fops_release().
"""

from errno import EACCES, EBUSY

import pytest

from vfio_lab.uapi.vfio import VFIO_GROUP_FLAGS_VIABLE
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import hand_over, holders
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology("multifunction")
EVERY_CAPABILITY = range(41)
UID = 1000


@claim("E15")
def test_a_group_has_one_opener_at_a_time(user, rival, nic, group):
    """The next is refused, be it another or the same, until the first has closed."""
    with refused(EBUSY):
        user.open_group(nic)
    with refused(EBUSY):
        rival.open_group(nic)
    assert group.get_status().flags == VFIO_GROUP_FLAGS_VIABLE
    group.close()
    rival.open_group(nic)
    with refused(EBUSY):
        user.open_group(nic)


@claim("E15")
def test_all_devices_of_a_group_go_to_one_user(user, rival, nic, neighbour):
    """Who has one device of a group has kept the others from everybody else."""
    neighbour.bind("vfio-pci")
    device = user.open(nic)
    with refused(EBUSY):
        rival.open(neighbour)
    device.close()
    assert rival.open(neighbour)


@claim("E15")
def test_a_duplicate_is_no_other_opener(rival, nic, group):
    """The group is open until the last descriptor of its one open file is closed."""
    duplicate = group.dup()
    group.close()
    with refused(EBUSY):
        rival.open_group(nic)
    duplicate.close()
    assert rival.open_group(nic)


@claim("E15")
@pytest.mark.usefixtures("group")
def test_a_killed_opener_leaves_the_group_free(user, rival, nic):
    """kill -9 closes what the user held."""
    with refused(EBUSY):
        rival.open_group(nic)
    user.kill()
    assert rival.open_group(nic)


@claim("E15")
def test_a_group_is_given_to_a_user_with_its_node(guest, nic):
    """Whoever may open the node needs neither root nor a capability for anything else."""
    stranger = guest.user("stranger", uid=UID, drop=EVERY_CAPABILITY)
    with refused(EACCES):
        stranger.open(nic)
    hand_over(guest, nic, UID)
    assert stranger.open(nic).get_info().num_regions > 0


@claim("E16")
def test_an_open_device_keeps_its_group_open(guest, user, nic, ready):
    """The group's own descriptor is not needed for that, and the device goes on without it."""
    first = ready.get_device_fd(str(nic))
    assert holders(guest, "vfio_pci") == 1
    second = ready.get_device_fd(str(nic))
    ready.close()
    first.close()
    with refused(EBUSY):
        user.open_group(nic)
    assert second.get_info().num_regions > 0
    second.close()
    assert holders(guest, "vfio_pci") == 0
    assert user.open(nic)
