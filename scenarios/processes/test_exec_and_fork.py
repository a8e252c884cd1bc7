"""What survives a fork, and what an exec?

Kernel: drivers/vfio/group.c, vfio_device_open_file() (O_CLOEXEC); drivers/vfio/vfio_main.c,
vfio_device_fops_release(); drivers/vfio/vfio_iommu_type1.c, vfio_lock_acct().
"""

from errno import EBUSY

import pytest

from vfio_lab.client.memory import PAGE_BYTES, pinned_bytes
from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX as BAR
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.dma import IOVA, locked_bytes
from vfio_lab_pytest.verdicts import refused

SLEEP = ("/bin/sleep", "600")
SIZE = 4 * PAGE_BYTES


@claim("N01")
@pytest.mark.parametrize(
    "access", ["group", pytest.param("cdev", marks=pytest.mark.needs("VFIO_DEVICE_CDEV"))]
)
def test_another_program_holds_no_device(user, observer, function, access):
    """A device is closed when its user runs another program, mapped BARs included."""
    device = user.open(function, access=access)
    user.peek(device.mmap_region(BAR, PAGE_BYTES), 4, 4)
    running = user.exec(*SLEEP)
    function.unbind()
    assert function.driver is None
    assert not running.returned
    assert observer.open(function.bind_with_sriov(), access=access).get_info().num_regions > 0


@claim("N02")
def test_a_device_is_open_until_the_last_of_a_family_has_closed_it(
    user, observer, device, function
):
    """A device stays open in a forked child after the death of the user who opened it."""
    child = user.fork()
    inherited = device.inherited_by(child)
    user.kill()
    with refused(EBUSY):
        observer.open(function)
    assert inherited.get_info().num_regions > 0
    child.kill()
    assert observer.open(function).get_info().num_regions > 0


@claim("N03")
def test_a_mapped_bar_works_in_a_child(user, device):
    """A forked child inherits a mapped BAR, which works after the parent has unmapped its own."""
    mapped = device.mmap_region(BAR, PAGE_BYTES)
    before = user.peek(mapped, 8, 4)
    child = user.fork()
    user.munmap(mapped, PAGE_BYTES)
    assert child.peek(mapped, 8, 4) == before
    assert user.touch(mapped) is not None
    assert child.touch(mapped) is None


@claim("N04")
def test_a_child_is_not_charged_for_what_its_parent_mapped(user, mappings):
    """Memory that was mapped for DMA before a fork is charged to the parent alone."""
    mappings.map_dma(user.allocate(SIZE), IOVA, SIZE)
    child = user.fork()
    assert (locked_bytes(user), locked_bytes(child)) == (SIZE, 0)
    mappings.unmap_dma(IOVA, SIZE)
    assert locked_bytes(user) == 0


@claim("N05")
def test_what_a_child_unmaps_is_credited_to_its_parent(user, mappings):
    """Memory that a child unmaps is credited to the parent who mapped it."""
    mappings.map_dma(user.allocate(SIZE), IOVA, SIZE)
    child = user.fork()
    assert mappings.inherited_by(child).unmap_dma(IOVA, SIZE) == SIZE
    assert (locked_bytes(user), locked_bytes(child)) == (0, 0)


@claim("N06")
def test_a_mapping_outlives_the_user_who_made_it(user, mappings):
    """A mapping of a user who was killed stays while another process holds the container."""
    mappings.map_dma(user.allocate(SIZE), IOVA, SIZE)
    child = user.fork()
    user.kill()
    inherited = mappings.inherited_by(child)
    assert inherited.unmap_dma(IOVA, SIZE) == SIZE
    inherited.map_dma(child.allocate(SIZE), IOVA, SIZE)
    assert locked_bytes(child) == SIZE


@claim("N07")
def test_an_iommufds_mapping_outlives_the_user_who_made_it(user, attached, ioas):
    """A mapping in an IOAS stays after its user was killed while a child holds the iommufd."""
    attached.iommufd.ioas_map(ioas, user.allocate(SIZE), SIZE, IOVA)
    child = user.fork()
    user.kill()
    inherited = attached.iommufd.inherited_by(child)
    assert inherited.ioas_unmap(ioas, IOVA, SIZE) == SIZE
    inherited.ioas_map(ioas, child.allocate(SIZE), SIZE, IOVA)
    assert pinned_bytes(child) == SIZE
