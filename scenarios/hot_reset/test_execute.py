"""Which groups does a hot reset require, and how does it treat other descriptors?

Thread: 2023-hot-reset-info, where device descriptors in the array were proposed and rejected.
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_ioctl_pci_hot_reset_groups() and
vfio_pci_dev_set_hot_reset(); drivers/vfio/group.c, vfio_file_is_group().
"""

from ctypes import sizeof
from errno import EBADF, EBUSY, EFAULT, EINVAL

import pytest

from vfio_lab.client.memory import NOWHERE, at_the_edge
from vfio_lab.uapi.vfio import VFIO_DEVICE_PCI_HOT_RESET, vfio_pci_hot_reset
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import give
from vfio_lab_pytest.hot_reset import (
    ASLEEP,
    CANARY,
    WIPED,
    canaries,
    listed,
    with_canary,
)
from vfio_lab_pytest.verdicts import outcome, refused

pytestmark = pytest.mark.topology("multifunction")

HEADER = sizeof(vfio_pci_hot_reset)
COMMAND = 4  # offset of the command register in config space
NO_FD = 999  # a descriptor that no user has open


def beside(device, one, first):
    """Do a hot reset with a descriptor before or after the group that it requires."""
    device.hot_reset([one, device.group] if first else [device.group, one])


@claim("C21")
def test_one_group_resets_both_functions(held, held_sibling):
    """A user who has the group can reset both of its functions, from either of them."""
    command = held.read_config(COMMAND, 2)
    held.hot_reset([held.group])
    assert canaries(held, held_sibling) == [WIPED, WIPED]
    assert held.read_config(COMMAND, 2) == held_sibling.read_config(COMMAND, 2) == command
    with_canary(held)
    with_canary(held_sibling)
    held_sibling.hot_reset([held.group])
    assert canaries(held, held_sibling) == [WIPED, WIPED]


@claim("C21")
def test_a_hot_reset_includes_functions_that_are_not_open(sibling, held, held_sibling):
    """A hot reset wakes and resets a function that is not open, which is then suspended again."""
    held_sibling.close()
    sibling.await_value(*ASLEEP)
    held.hot_reset([held.group])
    sibling.await_value(*ASLEEP)
    again = held.group.get_device_fd(str(sibling))
    assert canaries(held, again) == [WIPED, WIPED]


@claim("C21")
def test_the_canary_survives_a_close(sibling, held, held_sibling):
    """A close alone does not reset the function, so a wiped mark comes from the hot reset."""
    held_sibling.close()
    sibling.await_value(*ASLEEP)
    again = held.group.get_device_fd(str(sibling))
    assert canaries(held, again) == [CANARY, CANARY]


@claim("C01", "C20")
def test_a_sibling_outside_vfio_prevents_the_hot_reset(guest, nic, neighbour, held):
    """A function outside vfio-pci is listed in hot-reset info and prevents the hot reset."""
    assert neighbour.driver is None
    with refused(EINVAL):
        held.hot_reset([held.group])
    give(guest, neighbour, "pci-stub")
    assert held.hot_reset_info().devices == listed(nic, neighbour)
    with refused(EINVAL):
        held.hot_reset([held.group])
    assert canaries(held) == [CANARY]
    neighbour.bind("vfio-pci")
    held.hot_reset([held.group])
    assert canaries(held) == [WIPED]


@claim("C16")
def test_a_hot_reset_requires_the_group_of_the_device(held, held_sibling, foreign_group):
    """A hot reset with the group of another device only is refused."""
    with refused(EINVAL):
        held.hot_reset([foreign_group])
    assert canaries(held, held_sibling) == [CANARY, CANARY]
    held.hot_reset([held.group])
    assert canaries(held, held_sibling) == [WIPED, WIPED]


@claim("C17")
def test_a_hot_reset_accepts_a_group_twice_but_not_three_times(held, held_sibling):
    """A hot reset of two functions accepts the same group twice but not three times."""
    with refused(EINVAL):
        held.hot_reset([held.group] * 3)
    assert canaries(held, held_sibling) == [CANARY, CANARY]
    held.hot_reset([held.group, held.group.dup()])
    assert canaries(held, held_sibling) == [WIPED, WIPED]


@claim("C18")
def test_a_hot_reset_accepts_one_additional_group(held, held_sibling, foreign_group):
    """A hot reset of two functions accepts an additional group, in any order, but not two."""
    held.hot_reset([foreign_group, held.group])
    assert canaries(held, held_sibling) == [WIPED, WIPED]
    with_canary(held)
    with_canary(held_sibling)
    held.hot_reset([held.group, foreign_group])
    assert canaries(held, held_sibling) == [WIPED, WIPED]
    with refused(EINVAL):
        held.hot_reset([held.group, foreign_group, foreign_group])


@claim("C15")
@pytest.mark.parametrize("first", [True, False], ids=["before the group", "behind the group"])
def test_a_hot_reset_accepts_only_groups(user, held, held_sibling, unaffected, first):
    """A hot reset refuses descriptors of devices, even beside the required group."""
    null = user.open_path("/dev/null")
    strangers = [held, user.open(unaffected), held.container, null]
    answers = {outcome(lambda one=one: beside(held, one, first)) for one in strangers}
    assert answers == {EINVAL}
    assert outcome(lambda: beside(held, NO_FD, first)) == EBADF
    assert outcome(lambda: beside(held, -1, first)) == EBADF
    assert canaries(held, held_sibling) == [CANARY, CANARY]
    beside(held, held.group, first)
    assert canaries(held, held_sibling) == [WIPED, WIPED]


@claim("C15")
def test_malformed_hot_resets_are_refused(user, held, held_sibling):
    """A hot reset refuses short structs, flags, no groups, and arrays or structs out of reach."""
    group = [held.group]
    assert outcome(lambda: held.hot_reset(group, argsz=HEADER - 1)) == EINVAL
    assert outcome(lambda: held.hot_reset(group, flags=1)) == EINVAL
    assert outcome(lambda: held.hot_reset(group, flags=1 << 31)) == EINVAL
    assert outcome(lambda: held.hot_reset([])) == EINVAL
    edge = at_the_edge(user, bytes(vfio_pci_hot_reset(argsz=HEADER + 4, count=1)))
    assert outcome(lambda: held.ioctl(VFIO_DEVICE_PCI_HOT_RESET, edge)) == EFAULT
    assert outcome(lambda: held.ioctl(VFIO_DEVICE_PCI_HOT_RESET, NOWHERE)) == EFAULT
    assert canaries(held, held_sibling) == [CANARY, CANARY]
    held.hot_reset(group)
    assert canaries(held, held_sibling) == [WIPED, WIPED]


@claim("C15")
@pytest.mark.usefixtures("sibling")
def test_a_hot_reset_releases_its_groups(user, unaffected, held, foreign_group):
    """A hot reset releases the groups that it was given, whether it succeeds or not."""
    held.hot_reset([held.group, foreign_group])
    assert outcome(lambda: held.hot_reset([foreign_group])) == EINVAL
    assert outcome(lambda: held.hot_reset([foreign_group, NO_FD])) == EBADF
    assert outcome(lambda: held.hot_reset([foreign_group, held])) == EINVAL
    with refused(EBUSY):
        user.open_group(unaffected)
    foreign_group.close()
    assert user.open_group(unaffected)


@claim("C15")
def test_a_hot_reset_reads_as_many_groups_as_count_says(held, held_sibling):
    """A hot reset reads as many groups as count says, even if argsz has no room for them."""
    held.hot_reset([held.group, NO_FD], count=1)
    assert canaries(held, held_sibling) == [WIPED, WIPED]
    with_canary(held)
    held.hot_reset([held.group], argsz=HEADER)
    assert canaries(held) == [WIPED]
