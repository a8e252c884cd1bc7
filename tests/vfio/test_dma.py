"""The client: what containers and iommufd pack when they map memory."""

import struct
import uuid

from vfio_lab.uapi import iommufd, vfio_type1
from vfio_lab.vfio import Container, Iommufd

VF = "0000:01:10.0"
TOKEN = uuid.UUID("2ab74924-c335-45f4-9b16-8569e5b08258")


def test_dma_is_mapped_and_unmapped_in_bytes(user):
    with Container(user) as container:
        container.map_dma(0x1000, 0x2000, 0x3000)
        sent = user.argument("VFIO_IOMMU_MAP_DMA").data
        assert sent == struct.pack("<IIQQQ", 32, 3, 0x1000, 0x2000, 0x3000)
        user.answers["VFIO_IOMMU_UNMAP_DMA"] = lambda _: (struct.pack("<IIQQ", 24, 0, 0, 0x1000),)
        assert container.unmap_dma(0x2000, 0x3000) == 0x1000


def test_a_containers_limits_are_read_from_its_capabilities(user):
    ranges = struct.pack("<HHIIIQQQQ", 1, 1, 0, 2, 0, 0, 0xFFF, 0x2000, 0x2FFF) + bytes(64)
    info = struct.pack("<IIQII", 1024, 3, 4096, 24, 0) + struct.pack("<HHIII", 3, 1, 40, 7, 0)
    user.answers["VFIO_IOMMU_GET_INFO"] = lambda _: (info + ranges,)
    with Container(user) as container:
        assert container.dma_avail() == 7
        assert container.iova_ranges() == [(0, 0xFFF), (0x2000, 0x2FFF)]


def filled(arg):
    return arg.data, b"\1" * len(arg.pointers[0][1].data)


def test_an_unmap_brings_a_bitmap_along(user):
    user.answers["VFIO_IOMMU_UNMAP_DMA"] = filled
    with Container(user) as container:
        assert container.unmap_dma_dirty(0x10000, 65 * 4096, 4096) == (65 * 4096, b"\1" * 16)
    sent = user.argument("VFIO_IOMMU_UNMAP_DMA")
    assert sent.data == struct.pack("<IIQQQQQ", 48, 1, 0x10000, 65 * 4096, 4096, 16, 0)
    assert sent.pointers[0][0] == 40


def test_a_dirty_bitmap_is_pointed_at(user):
    user.answers["VFIO_IOMMU_DIRTY_PAGES"] = filled
    with Container(user) as container:
        assert container.dirty_bitmap(0x10000, 65 * 4096, 4096) == b"\1" * 16
    sent = user.argument("VFIO_IOMMU_DIRTY_PAGES")
    get = vfio_type1.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP
    assert sent.data == struct.pack("<IIQQQQQ", 48, get, 0x10000, 65 * 4096, 4096, 16, 0)
    assert sent.pointers[0][0] == 40


def test_iova_ranges_come_back_as_pairs(user):
    def answer(_arg):
        head = struct.pack("<IIIIQQ", 32, 1, 1, 0, 0, 1)
        return head, struct.pack("<QQ", 0, 0xFFF)

    user.answers["IOMMU_IOAS_IOVA_RANGES"] = answer
    with Iommufd(user) as context:
        assert context.ioas_iova_ranges(1) == [(0, 0xFFF)]
    assert user.argument("IOMMU_IOAS_IOVA_RANGES").pointers[0][0] == 16


def test_an_address_asked_for_is_a_fixed_one(user):
    with Iommufd(user) as context:
        context.ioas_map(1, 0x5000, 0x1000, iova=0)
        fixed = struct.unpack_from("<II", user.argument("IOMMU_IOAS_MAP").data)[1]
        assert fixed & iommufd.IOMMU_IOAS_MAP_FIXED_IOVA
        context.ioas_map(1, 0x5000, 0x1000)
        free = struct.unpack_from("<II", user.argument("IOMMU_IOAS_MAP").data)[1]
        assert not free & iommufd.IOMMU_IOAS_MAP_FIXED_IOVA


def test_a_container_may_be_an_iommufd_and_names_its_ioctls(user):
    container = Container(user, "/dev/iommu")
    container.ioctl(iommufd.IOMMU_IOAS_ALLOC)
    with Iommufd.of(container) as context:
        context.vfio_ioas(iommufd.IOMMU_VFIO_IOAS_GET)
    assert [name for name, *_ in user.calls] == [
        "open",
        "IOMMU_IOAS_ALLOC",
        "IOMMU_VFIO_IOAS",
        "close",
    ]
    assert list(user.open_fds.values()) == ["/dev/iommu"]
