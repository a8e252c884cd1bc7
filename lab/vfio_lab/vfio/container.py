"""The container of groups: /dev/vfio/vfio and its type1 IOMMU."""

from __future__ import annotations

import ctypes
import struct

from vfio_lab.client.call import Buffer
from vfio_lab.client.user import PendingCall, User
from vfio_lab.uapi import vfio, vfio_type1
from vfio_lab.uapi.layout import describe, offset_of
from vfio_lab.uapi.names import Kind
from vfio_lab.vfio.capabilities import Capability, capabilities
from vfio_lab.vfio.handle import Handle

VFIO_PATH = "/dev/vfio/vfio"
READ_WRITE = vfio_type1.VFIO_DMA_MAP_FLAG_READ | vfio_type1.VFIO_DMA_MAP_FLAG_WRITE
INFO_BYTES = 1024
BITS_A_BYTE = 8
BITMAP_ALIGNMENT_BYTES = 8


class Container(Handle):
    """An open container.

    Args:
        user: the user that opens it.
        path: the node; /dev/iommu is iommufd's compatible replacement.
    """

    kind = Kind.CONTAINER

    def __init__(self, user: User, path: str = VFIO_PATH) -> None:
        """Open the node."""
        super().__init__(user, user.open_path(path), path)

    def get_api_version(self) -> int:
        """VFIO_GET_API_VERSION."""
        return self.ioctl(vfio.VFIO_GET_API_VERSION).value

    def check_extension(self, extension: int) -> int:
        """VFIO_CHECK_EXTENSION."""
        return self.ioctl(vfio.VFIO_CHECK_EXTENSION, extension, about=str(extension)).value

    def set_iommu(self, iommu_type: int) -> None:
        """VFIO_SET_IOMMU."""
        self.ioctl(vfio.VFIO_SET_IOMMU, iommu_type, about=str(iommu_type))

    def get_info(self, *, argsz: int | None = None) -> vfio_type1.vfio_iommu_type1_info:
        """VFIO_IOMMU_GET_INFO."""
        return self._info(argsz)[0]

    def capabilities(self) -> tuple[Capability, ...]:
        """Return the capability chain of VFIO_IOMMU_GET_INFO."""
        info, tail = self._info(INFO_BYTES)
        return capabilities(bytes(info) + tail, info.cap_offset)

    def dma_avail(self) -> int:
        """Return how many more mappings are allowed, as reported by VFIO_IOMMU_GET_INFO."""
        data = self._capability(vfio_type1.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL)
        return vfio_type1.vfio_iommu_type1_info_dma_avail.from_buffer_copy(data).avail

    def iova_ranges(self) -> list[tuple[int, int]]:
        """Return the allowed ranges of VFIO_IOMMU_GET_INFO; the last address is inclusive."""
        data = self._capability(vfio_type1.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
        fixed = vfio_type1.vfio_iommu_type1_info_cap_iova_range
        count = fixed.from_buffer_copy(data).nr_iovas
        element, start = vfio_type1.vfio_iova_range, ctypes.sizeof(fixed)
        found = [
            element.from_buffer_copy(data, start + index * ctypes.sizeof(element))
            for index in range(count)
        ]
        return [(span.start, span.end) for span in found]

    def map_dma(
        self, vaddr: int, iova: int, size: int, flags: int = READ_WRITE, *, argsz: int | None = None
    ) -> None:
        """VFIO_IOMMU_MAP_DMA: map the user's memory at [iova, iova + size).

        Args:
            vaddr: address of the user's memory, page-aligned (4096 bytes).
            iova: first I/O virtual address, page-aligned (4096 bytes).
            size: bytes, page-aligned (4096 bytes).
            flags: VFIO_DMA_MAP_FLAG_*, the accesses that the device may make.
            argsz: the size passed to the kernel instead of the struct's, in bytes.
        """
        fixed = vfio_type1.vfio_iommu_type1_dma_map(
            argsz=_argsz_or_sizeof(argsz, vfio_type1.vfio_iommu_type1_dma_map),
            flags=flags,
            vaddr=vaddr,
            iova=iova,
            size=size,
        )
        self.exchange(vfio_type1.VFIO_IOMMU_MAP_DMA, fixed)

    def unmap_dma(self, iova: int, size: int, flags: int = 0, *, argsz: int | None = None) -> int:
        """VFIO_IOMMU_UNMAP_DMA of [iova, iova + size); return how many bytes were unmapped.

        Args:
            iova: first I/O virtual address, page-aligned (4096 bytes).
            size: bytes, page-aligned (4096 bytes).
            flags: VFIO_DMA_UNMAP_FLAG_*; with _ALL, `iova` and `size` must be 0.
            argsz: the size passed to the kernel instead of the struct's, in bytes.
        """
        fixed = vfio_type1.vfio_iommu_type1_dma_unmap(
            argsz=_argsz_or_sizeof(argsz, vfio_type1.vfio_iommu_type1_dma_unmap),
            flags=flags,
            iova=iova,
            size=size,
        )
        return self.exchange(vfio_type1.VFIO_IOMMU_UNMAP_DMA, fixed)[0].size

    def start_unmap_dma(self, iova: int, size: int) -> PendingCall:
        """Enter VFIO_IOMMU_UNMAP_DMA without waiting for it to return; see `unmap_dma`."""
        struct_type = vfio_type1.vfio_iommu_type1_dma_unmap
        fixed = struct_type(argsz=ctypes.sizeof(struct_type), iova=iova, size=size)
        request, label = vfio_type1.VFIO_IOMMU_UNMAP_DMA, "VFIO_IOMMU_UNMAP_DMA"
        return self.user.start("ioctl", self.fd, request, Buffer(bytes(fixed)), label=label)

    def dirty_pages(self, flags: int, data: bytes = b"", *, argsz: int | None = None) -> None:
        """VFIO_IOMMU_DIRTY_PAGES.

        Args:
            flags: one of VFIO_IOMMU_DIRTY_PAGES_FLAG_START, _STOP, _GET_BITMAP.
            data: bytes after the header; for GET_BITMAP a vfio_iommu_type1_dirty_bitmap_get.
            argsz: the size passed to the kernel instead of header and data, in bytes.
        """
        fixed = vfio_type1.vfio_iommu_type1_dirty_bitmap(argsz=0, flags=flags)
        fixed.argsz = len(bytes(fixed) + data) if argsz is None else argsz
        self.exchange(vfio_type1.VFIO_IOMMU_DIRTY_PAGES, fixed, data)

    def dirty_bitmap(self, iova: int, size: int, pgsize: int, *, room: int | None = None) -> bytes:
        """VFIO_IOMMU_DIRTY_PAGES with GET_BITMAP; return the bitmap, one bit per page.

        Args:
            iova: first I/O virtual address, page-aligned (4096 bytes).
            size: bytes, page-aligned (4096 bytes); the range may not split a mapping.
            pgsize: bytes that one bit stands for: the IOMMU's smallest page size.
            room: the bitmap's size passed to the kernel instead of the size needed, in bytes.
        """
        fixed = vfio_type1.vfio_iommu_type1_dirty_bitmap(
            flags=vfio_type1.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP
        )
        fields = bytes(fixed) + struct.pack("<QQ", iova, size)
        argument = _with_bitmap(fields, size, pgsize, room)
        about = f"GET_BITMAP iova={iova:#x} size={size:#x} pgsize={pgsize:#x}"
        return self.ioctl(vfio_type1.VFIO_IOMMU_DIRTY_PAGES, argument, about=about).out[1]

    def unmap_dma_dirty(self, iova: int, size: int, pgsize: int) -> tuple[int, bytes]:
        """VFIO_IOMMU_UNMAP_DMA with GET_DIRTY_BITMAP; return bytes unmapped and the bitmap.

        Args:
            iova: first I/O virtual address, page-aligned (4096 bytes).
            size: bytes, page-aligned (4096 bytes).
            pgsize: bytes that one bit stands for: the IOMMU's smallest page size.
        """
        struct_type = vfio_type1.vfio_iommu_type1_dma_unmap
        flags = vfio_type1.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
        fixed = struct_type(flags=flags, iova=iova, size=size)
        argument = _with_bitmap(bytes(fixed), size, pgsize)
        reply = self.ioctl(vfio_type1.VFIO_IOMMU_UNMAP_DMA, argument, about=describe(fixed))
        return struct_type.from_buffer_copy(reply.out[0]).size, reply.out[1]

    def _capability(self, wanted: int) -> bytes:
        (found,) = (entry.data for entry in self.capabilities() if entry.id == wanted)
        return found

    def _info(self, argsz: int | None) -> tuple[vfio_type1.vfio_iommu_type1_info, bytes]:
        fixed = vfio_type1.vfio_iommu_type1_info(
            argsz=_argsz_or_sizeof(argsz, vfio_type1.vfio_iommu_type1_info)
        )
        return self.exchange(vfio_type1.VFIO_IOMMU_GET_INFO, fixed)


def _with_bitmap(fields: bytes, size: int, pgsize: int, room: int | None = None) -> Buffer:
    """Return an argument: the fields, argsz set to its size, and a bitmap for a range's pages."""
    words = -(-(size // pgsize) // (BITS_A_BYTE * BITMAP_ALIGNMENT_BYTES))
    bitmap = Buffer(bytes(max(1, words) * BITMAP_ALIGNMENT_BYTES), out=True)
    room = len(bitmap.data) if room is None else room
    raw = bytearray(fields + bytes(vfio_type1.vfio_bitmap(pgsize=pgsize, size=room)))
    struct.pack_into("<I", raw, 0, len(raw))
    data = len(fields) + offset_of(vfio_type1.vfio_bitmap, "data")
    return Buffer(bytes(raw), out=True, pointers=((data, bitmap),))


def _argsz_or_sizeof(argsz: int | None, struct_type: type[ctypes.Structure]) -> int:
    return ctypes.sizeof(struct_type) if argsz is None else argsz
