"""What does VFIO_GROUP_GET_DEVICE_FD accept?

Thread: mainline. Kernel: drivers/vfio/group.c, vfio_df_group_open() and
vfio_device_get_from_name(); drivers/vfio/container.c, vfio_group_use_container().
"""

from errno import EINVAL, EMFILE, ENODEV
from functools import partial

import pytest

from vfio_lab.uapi.vfio import VFIO_TYPE1v2_IOMMU
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import holders, limit_descriptors
from vfio_lab_pytest.verdicts import outcome, refused

pytestmark = pytest.mark.topology("multifunction")


@claim("E22")
def test_a_device_opens_once_its_container_has_a_type(guest, nic, group, new_container):
    """A device opens only after its group has a container and the container has a type."""
    with refused(EINVAL):
        group.get_device_fd(str(nic))
    group.set_container(new_container)
    with refused(EINVAL):
        group.get_device_fd(str(nic))
    assert (nic.read("enable"), holders(guest, "vfio_pci")) == ("0", 0)
    new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    device = group.get_device_fd(str(nic))
    assert (nic.read("enable"), holders(guest, "vfio_pci")) == ("1", 1)
    device.close()
    assert (nic.read("enable"), holders(guest, "vfio_pci")) == ("0", 0)
    nic.unbind()  # which would wait for remaining references to the device


@claim("E22")
def test_an_open_without_a_free_descriptor_holds_no_device(user, nic, ready):
    """An open that fails because the user has no free descriptor does not keep the device open."""
    limit_descriptors(user, ready.container.fd + 1)
    with refused(EMFILE):
        ready.get_device_fd(str(nic))
    ready.unset_container()
    nic.unbind()
    assert nic.driver is None


@claim("E23")
def test_a_name_of_no_device_of_the_group_is_refused(guest, nic, neighbour, ready):
    """A name that is not a vfio device of the group fails with ENODEV."""
    foreign = guest.function("nic2")
    foreign.bind("vfio-pci")
    names = [str(foreign), str(neighbour), "", "nic0", f"{nic}0", f"{nic}"[1:]]
    seen = {name: outcome(partial(ready.get_device_fd, name)) for name in names}
    assert seen == dict.fromkeys(names, ENODEV)
    assert ready.get_device_fd(str(nic)).get_info().num_regions > 0
