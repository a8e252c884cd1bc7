"""A user is held at a kernel function, the others go on, and its call ends as if nothing was."""

import pytest

from vfio_lab.errors import DeadlineExceeded, UsageError
from vfio_lab_pytest.held import TWO_CPUS

NUMVFS = "sriov_numvfs_store"
MAKES = "vfio_pci_core_sriov_configure"


@pytest.mark.topology(TWO_CPUS)
def test_a_held_call_ends_as_if_nothing_was(guest, pf):
    """A held user sleeps until it is let go, others go on, and the call's result is right."""
    held_user, other = guest.user("held"), guest.user("other")
    with guest.held(held_user, MAKES) as held:
        making = pf.start_write("sriov_numvfs", 3, by=held_user)
        held.wait()
        assert guest.is_blocked(making)
        assert other.read_file("/proc/self/comm")
        assert not making.returned
    making.wait()
    assert pf.numvfs == 3
    assert len(pf.vfs()) == 3


def test_one_vcpu_is_enough_and_users_are_told_apart(guest, pf):
    """On one vCPU too, the user that is to be held is held and another one is not."""
    held_user, other = guest.user("held"), guest.user("other")
    with guest.held(held_user, "vfio_pci_core_ioctl") as held:
        free = other.open(pf)
        assert free.get_info().num_regions > 0
        mine = free.passed_to(held_user)
        resetting = mine.start_reset()
        held.wait()
        assert free.get_info().num_regions > 0
        assert not resetting.returned
    assert resetting.wait().value == 0


def test_two_users_are_held_at_once(guest, pf):
    """Two users are held at one function and let go in the order of the blocks."""
    owner = guest.user("owner")
    device, children = owner.open(pf), [owner.fork(), owner.fork()]
    first, second = (device.inherited_by(child) for child in children)
    with guest.held(children[0], "vfio_pci_core_ioctl") as outer:
        one = first.start_reset()
        outer.wait()
        with guest.held(children[1], "vfio_pci_core_ioctl") as inner:
            other = second.start_reset()
            inner.wait()
        assert other.wait().value == 0
        assert not one.returned
    assert one.wait().value == 0


def test_who_never_comes_is_told(guest):
    """A user that does not enter the function is named, and the guest goes on."""
    user = guest.user("user")
    with (
        guest.held(user, NUMVFS) as held,
        pytest.raises(DeadlineExceeded, match=r"user never entered sriov_numvfs_store\(\)"),
    ):
        held.wait(timeout_s=0.2)
    assert user.read_file("/proc/self/comm")


def test_a_function_that_is_not_there_is_told(guest):
    """A function that the kernel does not have is refused before anything is held."""
    with (
        pytest.raises(UsageError, match="no task can be held"),
        guest.held(guest.user("user"), "no_function"),
    ):
        pass
