"""Which other devices leave a group viable?

Thread: 2013-groups (a device on a host driver makes its whole group unviable; on pci-stub or
pcieport it does not). Kernel: drivers/iommu/iommu.c, iommu_group_claim_dma_owner();
drivers/pci/pci-driver.c, pci_dma_configure(); drivers/vfio/group.c,
vfio_group_ioctl_get_status().
"""

from errno import EFAULT, EINVAL, ENODEV, EPERM

import pytest

from vfio_lab.client.memory import NOWHERE
from vfio_lab.uapi.vfio import (
    VFIO_GROUP_FLAGS_CONTAINER_SET,
    VFIO_GROUP_FLAGS_VIABLE,
    VFIO_TYPE1v2_IOMMU,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.groups import HOST_DRIVER, give
from vfio_lab_pytest.verdicts import refused

VIABLE = VFIO_GROUP_FLAGS_VIABLE
ATTACHED = VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET
TWO_FUNCTIONS = pytest.mark.topology("multifunction")
PORT_AND_NIC = pytest.mark.topology("switch")


@claim("E01")
@pytest.mark.topology("igb-pair")
def test_a_group_of_one_idle_device_is_viable(group, new_container):
    """A group with one idle device is viable, and its status says whether it is attached."""
    assert group.get_status().flags == VIABLE
    group.set_container(new_container)
    assert group.get_status().flags == ATTACHED
    group.unset_container()
    assert group.get_status().flags == VIABLE


@claim("E01")
@pytest.mark.topology("igb-pair")
def test_get_status_refuses_a_short_or_unmapped_struct(group):
    """VFIO_GROUP_GET_STATUS refuses a short struct and an unmapped address."""
    with refused(EINVAL):
        group.get_status(argsz=7)
    with refused(EFAULT):
        group.get_status(pointer=NOWHERE)
    assert group.get_status(argsz=16).flags == VIABLE


@claim("E02")
@TWO_FUNCTIONS
def test_a_neighbour_on_a_host_driver_makes_the_group_unviable(hosted, group, new_container):
    """A device on a host driver makes its group unviable until it is unbound."""
    assert (hosted.driver, group.get_status().flags) == (HOST_DRIVER, 0)
    with refused(EPERM):
        group.set_container(new_container)
    assert group.get_status().flags == 0
    with refused(EINVAL):
        new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    hosted.unbind()
    assert group.get_status().flags == VIABLE
    group.set_container(new_container)


@claim("E03")
@TWO_FUNCTIONS
def test_an_unbound_neighbour_leaves_the_group_viable(neighbour, nic, ready):
    """An unbound device leaves its group viable."""
    assert neighbour.driver is None
    assert neighbour.group == nic.group
    assert ready.get_status().flags == ATTACHED
    assert ready.get_device_fd(str(nic)).get_info().num_regions > 0


@claim("E04")
@TWO_FUNCTIONS
def test_a_neighbour_on_vfio_pci_opens_through_the_same_group(neighbour, nic, ready):
    """Two devices of a group on vfio-pci open through the group independently."""
    neighbour.bind("vfio-pci")
    first = ready.get_device_fd(str(nic))
    assert (nic.read("enable"), neighbour.read("enable")) == ("1", "0")
    second = ready.get_device_fd(str(neighbour))
    assert (nic.read("enable"), neighbour.read("enable")) == ("1", "1")
    first.close()
    assert (nic.read("enable"), neighbour.read("enable")) == ("0", "1")
    assert second.get_info().num_regions > 0


@claim("E04")
@TWO_FUNCTIONS
def test_a_group_exists_until_its_last_device_is_unbound(user, neighbour, nic):
    """A group's node stays until the last device of the group is unbound from vfio-pci."""
    neighbour.bind("vfio-pci")
    nic.unbind()
    assert user.open_group(neighbour).get_status().flags == VIABLE
    neighbour.unbind()
    assert not user.exists(f"/dev/vfio/{nic.group}")


@claim("E05")
@TWO_FUNCTIONS
def test_a_neighbour_on_pci_stub_leaves_the_group_viable(
    guest, neighbour, nic, group, new_container
):
    """A device on pci-stub leaves its group viable and does not open."""
    give(guest, neighbour, "pci-stub")
    assert group.get_status().flags == VIABLE
    group.set_container(new_container)
    new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    with refused(ENODEV):
        group.get_device_fd(str(neighbour))
    assert group.get_device_fd(str(nic))


@claim("E06")
@PORT_AND_NIC
def test_a_port_on_pcieport_leaves_the_group_viable(guest, nic, group, new_container):
    """A port on pcieport leaves its group viable and stays on pcieport."""
    port = guest.function("down1")
    assert (port.group, port.driver) == (nic.group, "pcieport")
    assert group.get_status().flags == VIABLE
    group.set_container(new_container)
    new_container.set_iommu(VFIO_TYPE1v2_IOMMU)
    group.get_device_fd(str(nic)).close()
    assert port.driver == "pcieport"


@claim("E07")
@TWO_FUNCTIONS
@pytest.mark.parametrize("driver", ["pci-pf-stub", "uio_pci_generic"])
def test_a_neighbour_on_an_unmarked_driver_makes_the_group_unviable(
    guest, neighbour, group, new_container, driver
):
    """A device on a driver without driver_managed_dma makes its group unviable."""
    give(guest, neighbour, driver)
    assert (neighbour.driver, group.get_status().flags) == (driver, 0)
    with refused(EPERM):
        group.set_container(new_container)
    neighbour.unbind()
    assert group.get_status().flags == VIABLE
    group.set_container(new_container)


@claim("E08")
@PORT_AND_NIC
def test_the_driver_of_a_port_decides_whether_its_group_is_viable(guest, group):
    """A port's driver decides whether its group is viable, and not that it is a port."""
    port = guest.function("down1")
    give(guest, port, "pci-pf-stub")
    assert group.get_status().flags == 0
    give(guest, port, "pci-stub")
    assert group.get_status().flags == VIABLE
    port.bind("pcieport")
    assert group.get_status().flags == VIABLE
