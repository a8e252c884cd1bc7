"""What does hot-reset info report, and how?

Thread: 2023-hot-reset-info, which left hot-reset info on the group path as it was.
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_ioctl_get_pci_hot_reset_info() and
vfio_pci_fill_devs().
"""

from errno import EFAULT, EINVAL, ENODEV, ENOSPC

import pytest

from vfio_lab.client.memory import NOWHERE, at_the_edge, read_only
from vfio_lab.uapi.vfio import vfio_pci_hot_reset_info
from vfio_lab.vfio import Container
from vfio_lab.vfio.hot_reset import HotResetInfo, hot_reset_info_bytes, left_in_buffer
from vfio_lab.vfio.iommufd import IOMMU_PATH
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.hot_reset import CANARY, canaries, listed
from vfio_lab_pytest.verdicts import refused

pytestmark = pytest.mark.topology("multifunction")

EXACT = hot_reset_info_bytes(2)
HEADER = hot_reset_info_bytes(0)
GARBAGE = 0xFFFFFFFF


@claim("C01", "C14")
def test_hot_reset_info_on_a_group_lists_groups_and_no_flags(nic, sibling, held):
    """On the group path, hot-reset info lists each function with its group and sets no flags."""
    both = listed(nic, sibling)
    assert held.hot_reset_info(flags=GARBAGE, count=GARBAGE).flags == 0
    assert held.hot_reset_info(argsz=EXACT) == HotResetInfo(EXACT, 0, 2, both)
    other = held.group.get_device_fd(str(sibling))
    assert other.hot_reset_info(argsz=EXACT) == HotResetInfo(EXACT, 0, 2, both)
    assert canaries(held) == [CANARY]


@claim("C43")
def test_hot_reset_info_with_iommufd_as_container_lists_groups(user, nic, neighbour):
    """Hot-reset info lists groups for a device of a group, even with an iommufd as container."""
    group = user.open_group(nic)
    group.set_container(Container(user, IOMMU_PATH))
    info = group.get_device_fd(str(nic)).hot_reset_info()
    assert (info.flags, info.devices) == (0, listed(nic, neighbour))


@claim("C43")
def test_hot_reset_info_lists_groups_after_a_cdev_was_open(user, nic, neighbour):
    """Hot-reset info lists groups on the group path, even after an open on the cdev path."""
    user.open(nic, access="cdev").close()
    info = user.open(nic).hot_reset_info()
    assert (info.flags, info.devices) == (0, listed(nic, neighbour))


@claim("C11")
@pytest.mark.parametrize("argsz", [HEADER, EXACT - 1], ids=["no room", "one byte short"])
def test_a_short_hot_reset_info_returns_the_count(nic, neighbour, held, argsz):
    """A short hot-reset info buffer fails with ENOSPC and returns only the count."""
    with refused(ENOSPC) as short:
        held.hot_reset_info(argsz=argsz, flags=GARBAGE, count=GARBAGE)
    seen = left_in_buffer(short.value.out[0])
    assert (seen.argsz, seen.flags, seen.count) == (argsz, 0, 2)
    assert not any(short.value.out[0][HEADER:])
    assert held.hot_reset_info(argsz=EXACT).devices == listed(nic, neighbour)


@claim("C12")
def test_malformed_hot_reset_infos_are_refused(user, nic, neighbour, held):
    """Hot-reset info refuses a short struct, and a struct or list out of reach."""
    with refused(EINVAL):
        held.hot_reset_info(argsz=HEADER - 1)
    with refused(EINVAL):
        held.hot_reset_info(argsz=0)
    with refused(EFAULT):
        held.hot_reset_info(pointer=NOWHERE)
    header = bytes(vfio_pci_hot_reset_info(argsz=EXACT))
    with refused(EFAULT):
        held.hot_reset_info(pointer=at_the_edge(user, header))
    with refused(EFAULT):
        held.hot_reset_info(pointer=read_only(user, bytes(vfio_pci_hot_reset_info(argsz=HEADER))))
    assert held.hot_reset_info(argsz=EXACT).devices == listed(nic, neighbour)


@claim("C10", "C15")
def test_a_device_on_the_root_bus_supports_no_hot_reset(user, unaffected, held):
    """A device on the root bus, with no bridge above, supports no hot reset."""
    device = user.open(unaffected)
    with refused(ENODEV):
        device.hot_reset_info()
    with refused(ENODEV):
        device.hot_reset([device.group])
    assert held.hot_reset_info().count == 2
