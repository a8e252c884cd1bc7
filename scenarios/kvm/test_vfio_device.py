"""What does KVM's VFIO device accept, and what does it hold?

Documentation/virt/kvm/devices/vfio.rst. Kernel: virt/kvm/vfio.c, kvm_vfio_file_add() and
kvm_vfio_file_del(); drivers/vfio/vfio_main.c, vfio_file_is_valid() and vfio_file_set_kvm().
"""

from errno import EBADF, EBUSY, EEXIST, EINVAL, ENOENT, ENXIO

import pytest

from vfio_lab.uapi.kvm import KVM_DEV_VFIO_FILE
from vfio_lab.vfio.kvm import KvmVfio
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.clients import load_kvm
from vfio_lab_pytest.verdicts import refused

UNKNOWN = 9


@pytest.fixture
def machine_of(guest, user):
    """A virtual machine of the user, with its VFIO device."""
    load_kvm(guest)
    return KvmVfio(user)


@claim("Q01")
def test_a_file_is_added_once_and_removed_once(machine_of, device):
    """Adding a group twice fails with EEXIST, removing it twice with ENOENT."""
    machine_of.add(device.group)
    with refused(EEXIST):
        machine_of.add(device.group)
    machine_of.remove(device.group)
    with refused(ENOENT):
        machine_of.remove(device.group)
    machine_of.add(device.group)


@claim("Q02")
def test_only_files_of_vfio_are_added(machine_of, device, irq_fd):
    """Adding a file that is none of vfio's fails with EINVAL, a closed descriptor with EBADF."""
    with refused(EINVAL):
        machine_of.add(irq_fd.fd)
    with refused(EINVAL):
        machine_of.add(device.container)
    with refused(EBADF):
        machine_of.add(1000)
    with refused(EBADF):
        machine_of.remove(1000)
    machine_of.add(device.group)


@claim("Q03")
def test_a_machine_has_one_vfio_device(machine_of):
    """Creating a second VFIO device of a virtual machine fails with EBUSY."""
    with refused(EBUSY):
        machine_of.create()
    machine_of.user.close(machine_of.fd)
    assert machine_of.create() > 0


@claim("Q04")
def test_an_unknown_attribute_is_refused(machine_of, device):
    """An attribute that is neither add nor remove fails with ENXIO."""
    with refused(ENXIO):
        machine_of.set_attr(KVM_DEV_VFIO_FILE, UNKNOWN, device.group.fd)
    with refused(ENXIO):
        machine_of.set_attr(UNKNOWN, 1, device.group.fd)
    machine_of.add(device.group)


@claim("Q05")
def test_a_machine_keeps_the_groups_that_it_was_given(machine_of, user, observer, pf):
    """A group that its user closed stays open while a virtual machine has it."""
    group = user.open_group(pf)
    machine_of.add(group)
    group.close()
    with refused(EBUSY):
        observer.open_group(pf)
    machine_of.close()
    assert observer.open_group(pf).get_status().flags & 1


@claim("Q06")
def test_a_machine_without_its_group_lets_the_device_go(machine_of, device, observer, pf):
    """A group that was removed from a virtual machine is free after its user closed it."""
    machine_of.add(device.group)
    machine_of.remove(device.group)
    device.close()
    assert observer.open(pf).get_info().num_regions > 0


@claim("Q07")
def test_a_device_is_opened_and_closed_beside_its_machine(machine_of, device, pf):
    """A device opens and closes while its group is in a virtual machine, and without it again."""
    machine_of.add(device.group)
    beside = device.group.get_device_fd(str(pf))
    machine_of.remove(device.group)
    assert beside.get_info().num_regions > 0
    beside.close()
    machine_of.add(device.group)
    machine_of.close()
    assert device.get_info().num_regions > 0


@claim("Q08")
def test_a_character_device_is_added_before_and_after_it_is_bound(machine_of, bound_device):
    """A machine takes a character device that is bound, and holds it until it is removed."""
    machine_of.add(bound_device)
    with refused(EEXIST):
        machine_of.add(bound_device)
    machine_of.remove(bound_device)
    with refused(ENOENT):
        machine_of.remove(bound_device)
    assert bound_device.get_info().num_regions > 0


@claim("Q09")
def test_a_killed_user_takes_machine_and_group_along(machine_of, user, device, observer, pf):
    """A group in a virtual machine is free after its user was killed."""
    machine_of.add(device.group)
    user.kill()
    assert observer.open(pf).get_info().num_regions > 0
