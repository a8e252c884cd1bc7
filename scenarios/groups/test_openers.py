"""How many users can have a group open?

Thread: 2013-groups (a whole group goes to one user). Kernel: drivers/vfio/group.c,
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
def test_a_group_has_one_opener_at_a_time(user, second_user, nic, group):
    """A group that is open cannot be opened again, by the same user or by another."""
    with refused(EBUSY):
        user.open_group(nic)
    with refused(EBUSY):
        second_user.open_group(nic)
    assert group.get_status().flags == VFIO_GROUP_FLAGS_VIABLE
    group.close()
    second_user.open_group(nic)
    with refused(EBUSY):
        user.open_group(nic)


@claim("E15")
def test_all_devices_of_a_group_go_to_one_user(user, second_user, nic, neighbour):
    """A user who has one device of a group open keeps other users from all its devices."""
    neighbour.bind("vfio-pci")
    device = user.open(nic)
    with refused(EBUSY):
        second_user.open(neighbour)
    device.close()
    assert second_user.open(neighbour)


@claim("E15")
def test_a_group_stays_open_until_its_last_duplicate_is_closed(second_user, nic, group):
    """A group stays open until the last duplicate of its descriptor is closed."""
    duplicate = group.dup()
    group.close()
    with refused(EBUSY):
        second_user.open_group(nic)
    duplicate.close()
    assert second_user.open_group(nic)


@claim("E15")
@pytest.mark.usefixtures("group")
def test_a_group_opens_again_after_its_user_is_killed(user, second_user, nic):
    """A group can be opened again after kill -9 of its user."""
    with refused(EBUSY):
        second_user.open_group(nic)
    user.kill()
    assert second_user.open_group(nic)


@claim("E15")
def test_an_unprivileged_owner_of_the_node_opens_the_device(guest, nic):
    """An unprivileged user who owns the group's node can open its device."""
    unprivileged_user = guest.user("unprivileged_user", uid=UID, drop=EVERY_CAPABILITY)
    with refused(EACCES):
        unprivileged_user.open(nic)
    hand_over(guest, nic, UID)
    assert unprivileged_user.open(nic).get_info().num_regions > 0


@claim("E16")
def test_an_open_device_keeps_its_group_open(guest, user, nic, ready):
    """A device keeps working and its group stays open after the group's descriptor is closed."""
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
