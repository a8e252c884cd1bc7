"""How does a user get the picture of a mediated display?

include/uapi/linux/vfio.h, VFIO_DEVICE_QUERY_GFX_PLANE and VFIO_DEVICE_GET_GFX_DMABUF. Kernel:
samples/vfio-mdev/mdpy.c, mdpy_query_gfx_plane(); samples/vfio-mdev/mbochs.c,
mbochs_query_gfx_plane() and mbochs_get_gfx_dmabuf().
"""

from errno import EACCES, EINVAL, ENOENT, ENOMEM, ENOTTY

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.mbochs import set_mode
from vfio_lab.uapi.syscalls import PROT_READ
from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX as MEMORY
from vfio_lab.uapi.vfio_migration import (
    VFIO_GFX_PLANE_TYPE_DMABUF,
    VFIO_GFX_PLANE_TYPE_PROBE,
    VFIO_GFX_PLANE_TYPE_REGION,
)
from vfio_lab.vfio.graphics import plane_dma_buf, query_plane
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import outcome, refused

pytestmark = pytest.mark.usefixtures("mocks")
PROBE, REGION, BUFFER = (
    VFIO_GFX_PLANE_TYPE_PROBE,
    VFIO_GFX_PLANE_TYPE_REGION,
    VFIO_GFX_PLANE_TYPE_DMABUF,
)
WIDTH, HEIGHT, BYTES_A_PIXEL = 640, 480, 4
XRGB8888 = int.from_bytes(b"XR24", "little")
PICTURE = b"picture!"


@pytest.fixture
def shown(buffer_display):
    """The display with a picture: its mode is set and its plane exists."""
    set_mode(buffer_display, WIDTH, HEIGHT)
    outcome(lambda: query_plane(buffer_display, BUFFER))  # see S33
    return buffer_display


def size_of(user, fd):
    """Return the size of an open dma-buf, in bytes."""
    fields = user.read_file(f"/proc/self/fdinfo/{fd}").split()
    return int(fields[fields.index("size:") + 1])


@claim("S30")
def test_a_display_says_how_its_plane_is_shown(region_display, device):
    """A display whose plane is a region takes that kind of query alone: EINVAL for others."""
    query_plane(region_display, PROBE | REGION)
    with refused(EINVAL):
        query_plane(region_display, PROBE | BUFFER)
    with refused(EINVAL):
        query_plane(region_display, REGION | BUFFER)
    with refused(EINVAL):
        query_plane(region_display, REGION, argsz=8)
    with refused(ENOTTY):
        query_plane(device, PROBE | REGION)


@claim("S31")
def test_a_plane_is_described(region_display):
    """The plane of a display has the size and format of its type, in a region that is mapped."""
    plane = query_plane(region_display, REGION)
    assert (plane.width, plane.height, plane.drm_format) == (WIDTH, HEIGHT, XRGB8888)
    assert plane.stride == WIDTH * BYTES_A_PIXEL
    assert plane.size == region_display.get_region_info(plane.region_index).size
    address = region_display.mmap_region(plane.region_index, plane.size)
    user, last = region_display.user, plane.stride * (HEIGHT - 1)
    user.poke(address + last, PICTURE)
    memory = region_display.mmap_region(MEMORY, plane.size)
    assert user.peek(memory + last, len(PICTURE)) == PICTURE


@claim("S32")
def test_a_display_without_a_mode_has_no_plane(buffer_display):
    """A display that shows nothing says so by a plane of no size, not by an error."""
    query_plane(buffer_display, PROBE | BUFFER)
    with refused(EINVAL):
        query_plane(buffer_display, PROBE | REGION)
    plane = query_plane(buffer_display, BUFFER)
    assert (plane.width, plane.height, plane.size, plane.drm_format) == (0, 0, 0, 0)


@claim("S33")
def test_the_first_query_of_a_mode_fails(buffer_display):
    """The first query after a mode was set fails with ENOMEM, the second describes the plane."""
    set_mode(buffer_display, WIDTH, HEIGHT)
    with refused(ENOMEM):
        query_plane(buffer_display, BUFFER)
    plane = query_plane(buffer_display, BUFFER)
    assert (plane.width, plane.height, plane.drm_format) == (WIDTH, HEIGHT, XRGB8888)


@claim("S34")
def test_a_plane_is_a_dma_buf(shown):
    """The dma-buf of a plane has the plane's size; a number of no plane is ENOENT."""
    plane = query_plane(shown, BUFFER)
    with refused(ENOENT):
        plane_dma_buf(shown, plane.region_index + 1)
    assert size_of(shown.user, plane_dma_buf(shown, plane.region_index)) == plane.size


@claim("S35")
def test_a_picture_outlives_its_display(shown):
    """The dma-buf of a plane is still there when the display was closed."""
    plane = query_plane(shown, BUFFER)
    fd = plane_dma_buf(shown, plane.region_index)
    shown.close()
    assert size_of(shown.user, fd) == plane.size
    shown.user.close(fd)


@claim("S38")
def test_a_plane_cannot_be_mapped(shown):
    """Mapping the dma-buf of a plane fails: EACCES for writing, EINVAL for reading."""
    fd = plane_dma_buf(shown, query_plane(shown, BUFFER).region_index)
    with refused(EACCES):
        shown.user.mmap(fd, PAGE_BYTES)
    with refused(EINVAL):
        shown.user.mmap(fd, PAGE_BYTES, protection=PROT_READ)
    assert shown.mmap_region(MEMORY, PAGE_BYTES)


@claim("S36")
def test_every_access_is_to_the_start_of_the_memory(region_display):
    """A read or a write of any address of mdpy's memory is one of its first bytes."""
    user, address = region_display.user, region_display.mmap_region(MEMORY, 2 * PAGE_BYTES)
    user.poke(address + PAGE_BYTES, b"late")
    region_display.write_region(MEMORY, PAGE_BYTES, b"else")
    assert user.peek(address, 4) == b"else"
    assert user.peek(address + PAGE_BYTES, 4) == b"late"
    assert region_display.read_region(MEMORY, PAGE_BYTES, 4) == b"else"


@claim("S37")
def test_a_read_is_two_pages_off(buffer_display):
    """Reading mbochs's memory gives what is mapped two pages later."""
    address = buffer_display.mmap_region(MEMORY, 3 * PAGE_BYTES)
    buffer_display.user.poke(address, PICTURE)
    buffer_display.user.poke(address + 2 * PAGE_BYTES, PICTURE[::-1])
    assert buffer_display.read_region(MEMORY, 0, len(PICTURE)) == PICTURE[::-1]
