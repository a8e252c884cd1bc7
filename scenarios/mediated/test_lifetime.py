"""How are mediated devices made, opened and removed?

Documentation/driver-api/vfio-mediated-device.rst. Kernel: drivers/vfio/mdev/mdev_core.c,
mdev_device_create(); drivers/vfio/mdev/mdev_sysfs.c, create_store(); drivers/vfio/vfio_main.c,
vfio_unregister_group_dev().
"""

from errno import EBUSY, EEXIST, EINVAL, ENOENT, ENOSPC, EUSERS

import pytest

from vfio_lab.client.memory import PAGE_BYTES, pinned_bytes
from vfio_lab.errors import AgentError
from vfio_lab.uapi import vfio
from vfio_lab.vfio import Container
from vfio_lab.vfio.iommufd import IOMMU_PATH
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import locked_bytes
from vfio_lab_pytest.mediated import NAME, OTHER_NAME, mediated_type
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.usefixtures("mocks")
IOVA, SIZE = 0x10_0000, 4 * PAGE_BYTES


@claim("S01")
def test_a_device_has_a_name_of_its_own(serial_type, serial):
    """A second mediated device of the same name is refused with EEXIST."""
    with refused(EEXIST):
        serial_type.create(NAME)
    assert serial.present
    assert serial_type.create(OTHER_NAME).present


@claim("S02")
def test_a_name_is_a_uuid(serial_type):
    """A name that is no UUID is refused with EINVAL."""
    with refused(EINVAL):
        serial_type.create("serial")
    with refused(EINVAL):
        serial_type.create(str(NAME).replace("-", "_"))
    assert serial_type.create(NAME).present


@claim("S03")
@pytest.mark.parametrize(
    ("driver", "name", "number"), [("mtty", "2", ENOSPC), ("mdpy", "vga", EUSERS)]
)
def test_a_parent_has_as_many_devices_as_it_says(guest, driver, name, number):
    """A parent makes as many devices as it says, no more, and again one when one is removed."""
    kind = mediated_type(guest, driver, name)
    made = [kind.create(f"{str(NAME)[:-2]}{index:02x}") for index in range(kind.available)]
    assert kind.available == 0
    with refused(number):
        kind.create(OTHER_NAME)
    made[0].remove()
    assert kind.available == 1
    assert kind.create(OTHER_NAME).present


@claim("S04")
def test_removal_waits_for_the_user(guest, serial, serial_device):
    """The removal of a mediated device that is in use waits until its user closes it."""
    removing = serial.start_remove(guest.user("remover"))
    assert guest.is_inside(removing, "vfio_unregister_group_dev")
    assert serial_device.get_info().num_regions
    serial_device.close()
    removing.wait()
    assert not serial.present


@claim("S05")
def test_a_module_stays_while_its_device_is_used(guest, serial_device):
    """The module of a mediated device in use cannot be unloaded; afterwards it can."""
    with pytest.raises(AgentError, match="mtty failed"):
        guest.unload("mtty")
    serial_device.close()
    guest.unload("mtty")
    assert not guest.root.exists("/sys/class/mtty")


@claim("S06")
@pytest.mark.topology("noiommu")
def test_no_iommu_is_needed(guest, serial_device):
    """A mediated device opens through a group and a container on a machine without any IOMMU."""
    assert serial_device.get_info().flags & vfio.VFIO_DEVICE_FLAGS_PCI
    assert not serial_device.group.noiommu
    assert not guest.function("pf0").grouped


@claim("S07")
def test_nothing_is_pinned_before_it_is_needed(user, serial_device, device):
    """What is mapped for a mediated device alone is not pinned; for a PCI function, it is."""
    memory = user.allocate(SIZE)
    serial_device.container.map_dma(memory, IOVA, SIZE)
    assert locked_bytes(user) == 0
    device.container.map_dma(memory, IOVA, SIZE)
    assert locked_bytes(user) == SIZE


@claim("S08")
def test_a_mediated_device_is_used_through_an_iommufd(user, serial):
    """A mediated device takes an IOAS, whose mappings pin nothing, and no other object."""
    device = user.open(serial, access="cdev")
    iommufd = device.iommufd
    ioas = iommufd.ioas_alloc()
    with refused(ENOENT):
        device.attach_iommufd_pt(ioas + 100)
    assert device.attach_iommufd_pt(ioas) == ioas
    iommufd.ioas_map(ioas, user.allocate(SIZE), SIZE, IOVA)
    assert pinned_bytes(user) == 0
    device.detach_iommufd_pt()


@claim("S09")
def test_a_mediated_device_moves_to_another_address_space(user, serial):
    """A mediated device that is attached again leaves its IOAS, unless the new one is not there."""
    device = user.open(serial, access="cdev")
    iommufd = device.iommufd
    old, new = iommufd.ioas_alloc(), iommufd.ioas_alloc()
    device.attach_iommufd_pt(old)
    with refused(ENOENT):
        device.attach_iommufd_pt(new + 100)
    with refused(EBUSY):
        iommufd.destroy(old)
    device.attach_iommufd_pt(new)
    iommufd.destroy(old)
    with refused(EBUSY):
        iommufd.destroy(new)


@claim("S10")
def test_a_mediated_device_takes_an_iommufd_as_its_container(user, serial):
    """A mediated device opens by a group whose container is an iommufd, and pins nothing there."""
    container, group = Container(user, IOMMU_PATH), user.open_group(serial)
    group.set_container(container)
    container.set_iommu(vfio.VFIO_TYPE1v2_IOMMU)
    device = group.get_device_fd(str(serial))
    container.map_dma(user.allocate(SIZE), IOVA, SIZE)
    assert (pinned_bytes(user), locked_bytes(user)) == (0, 0)
    device.close()
    group.unset_container()
    with refused(EINVAL):
        group.get_device_fd(str(serial))
