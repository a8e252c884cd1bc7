"""iommufd: address spaces and page tables of devices opened as character devices."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Self

from vfio_lab.client.call import Buffer
from vfio_lab.client.user import PendingCall, User
from vfio_lab.uapi import iommufd
from vfio_lab.uapi.layout import offset_of
from vfio_lab.uapi.names import Kind
from vfio_lab.vfio.handle import Handle

IOMMU_PATH = "/dev/iommu"
READ_WRITE = iommufd.IOMMU_IOAS_MAP_READABLE | iommufd.IOMMU_IOAS_MAP_WRITEABLE
MOST_RANGES = 64


class Iommufd(Handle):
    """An open iommufd context.

    Args:
        user: the user that opens it.
        path: the node.
    """

    kind = Kind.IOMMUFD

    def __init__(self, user: User, path: str = IOMMU_PATH) -> None:
        """Open the node."""
        super().__init__(user, user.open_path(path), path)

    @classmethod
    def of(cls, container: Handle) -> Self:
        """Return the iommufd that a container is, by a descriptor of its own.

        Args:
            container: one of /dev/iommu, or of a kernel whose /dev/vfio/vfio is iommufd's.
        """
        twin = cls.__new__(cls)
        Handle.__init__(twin, container.user, container.user.dup(container.fd), container.label)
        return twin

    def destroy(self, object_id: int) -> None:
        """IOMMU_DESTROY."""
        fixed = iommufd.iommu_destroy(size=_size(iommufd.iommu_destroy), id=object_id)
        self.exchange(iommufd.IOMMU_DESTROY, fixed)

    def ioas_alloc(self, flags: int = 0, *, size: int | None = None) -> int:
        """IOMMU_IOAS_ALLOC; return the ID of the new address space."""
        fixed = iommufd.iommu_ioas_alloc(size=_size(iommufd.iommu_ioas_alloc, size), flags=flags)
        return self.exchange(iommufd.IOMMU_IOAS_ALLOC, fixed)[0].out_ioas_id

    def ioas_map(
        self,
        ioas_id: int,
        user_va: int,
        length: int,
        iova: int | None = None,
        flags: int = READ_WRITE,
    ) -> int:
        """IOMMU_IOAS_MAP: map the user's memory; return the first IOVA.

        Args:
            ioas_id: the address space.
            user_va: address of the user's memory, page-aligned (4096 bytes) while a device is
                attached.
            length: bytes, page-aligned (4096 bytes) while a device is attached.
            iova: first I/O virtual address, aligned like `user_va`; None: the kernel chooses.
            flags: IOMMU_IOAS_MAP_*, the accesses that the device may make; FIXED_IOVA is added
                with an `iova`.
        """
        fixed = iommufd.iommu_ioas_map(
            size=_size(iommufd.iommu_ioas_map),
            flags=flags | (0 if iova is None else iommufd.IOMMU_IOAS_MAP_FIXED_IOVA),
            ioas_id=ioas_id,
            user_va=user_va,
            length=length,
            iova=iova or 0,
        )
        return self.exchange(iommufd.IOMMU_IOAS_MAP, fixed)[0].iova

    def ioas_map_file(self, ioas_id: int, fd: int, start: int, length: int, iova: int) -> int:
        """IOMMU_IOAS_MAP_FILE: map part of a file, readable and writable; return the first IOVA.

        Args:
            ioas_id: the address space.
            fd: a memfd, or a dma-buf of a kind that the kernel supports.
            start: bytes from the start of the file, page-aligned (4096 bytes) while a device is
                attached.
            length: bytes, page-aligned (4096 bytes) while a device is attached.
            iova: first I/O virtual address, page-aligned (4096 bytes) while a device is attached.
        """
        fixed = iommufd.iommu_ioas_map_file(
            size=_size(iommufd.iommu_ioas_map_file),
            flags=READ_WRITE | iommufd.IOMMU_IOAS_MAP_FIXED_IOVA,
            ioas_id=ioas_id,
            fd=fd,
            start=start,
            length=length,
            iova=iova,
        )
        return self.exchange(iommufd.IOMMU_IOAS_MAP_FILE, fixed)[0].iova

    def ioas_unmap(self, ioas_id: int, iova: int, length: int) -> int:
        """IOMMU_IOAS_UNMAP; return how many bytes were unmapped.

        Args:
            ioas_id: the address space.
            iova: first I/O virtual address; the range may not split a mapping.
            length: bytes; IOVA 0 with 2**64 - 1 bytes unmaps everything.
        """
        fixed = iommufd.iommu_ioas_unmap(
            size=_size(iommufd.iommu_ioas_unmap), ioas_id=ioas_id, iova=iova, length=length
        )
        return self.exchange(iommufd.IOMMU_IOAS_UNMAP, fixed)[0].length

    def ioas_copy(  # noqa: PLR0913, PLR0917 - the fields of struct iommu_ioas_copy
        self,
        source: int,
        source_iova: int,
        target: int,
        length: int,
        target_iova: int | None = None,
        flags: int = READ_WRITE,
    ) -> int:
        """IOMMU_IOAS_COPY: map what another address space maps; return the first IOVA.

        Args:
            source: the address space that maps it.
            source_iova: where it maps it.
            target: the address space that will map it too.
            length: bytes.
            target_iova: where it will map it; None: the kernel chooses.
            flags: IOMMU_IOAS_MAP_*, as for `ioas_map`.
        """
        fixed = iommufd.iommu_ioas_copy(
            size=_size(iommufd.iommu_ioas_copy),
            flags=flags | (0 if target_iova is None else iommufd.IOMMU_IOAS_MAP_FIXED_IOVA),
            dst_ioas_id=target,
            src_ioas_id=source,
            length=length,
            dst_iova=target_iova or 0,
            src_iova=source_iova,
        )
        return self.exchange(iommufd.IOMMU_IOAS_COPY, fixed)[0].dst_iova

    def ioas_allow_iovas(self, ioas_id: int, ranges: Sequence[tuple[int, int]]) -> None:
        """IOMMU_IOAS_ALLOW_IOVAS: keep other ranges free; the last address is inclusive."""
        data = b"".join(bytes(iommufd.iommu_iova_range(*span)) for span in ranges)
        fixed = iommufd.iommu_ioas_allow_iovas(
            size=_size(iommufd.iommu_ioas_allow_iovas), ioas_id=ioas_id, num_iovas=len(ranges)
        )
        where = offset_of(iommufd.iommu_ioas_allow_iovas, "allowed_iovas")
        pointers = ((where, Buffer(data)),) if data else ()
        self.exchange(iommufd.IOMMU_IOAS_ALLOW_IOVAS, fixed, pointers=pointers)

    def change_process(self, *, reserved: int = 0) -> None:
        """IOMMU_IOAS_CHANGE_PROCESS: charge the caller with what all address spaces pin."""
        fixed = iommufd.iommu_ioas_change_process(
            size=_size(iommufd.iommu_ioas_change_process), reserved=reserved
        )
        self.exchange(iommufd.IOMMU_IOAS_CHANGE_PROCESS, fixed)

    def start_change_process(self) -> PendingCall:
        """Enter IOMMU_IOAS_CHANGE_PROCESS without waiting for it to return."""
        fixed = iommufd.iommu_ioas_change_process(size=_size(iommufd.iommu_ioas_change_process))
        request, label = iommufd.IOMMU_IOAS_CHANGE_PROCESS, "IOMMU_IOAS_CHANGE_PROCESS"
        return self.user.start("ioctl", self.fd, request, Buffer(bytes(fixed)), label=label)

    def ioas_iova_ranges(self, ioas_id: int) -> list[tuple[int, int]]:
        """IOMMU_IOAS_IOVA_RANGES; return the allowed ranges; the last address is inclusive."""
        element = ctypes.sizeof(iommufd.iommu_iova_range)
        room = Buffer(bytes(MOST_RANGES * element), out=True)
        fixed = iommufd.iommu_ioas_iova_ranges(
            size=_size(iommufd.iommu_ioas_iova_ranges), ioas_id=ioas_id, num_iovas=MOST_RANGES
        )
        where = offset_of(iommufd.iommu_ioas_iova_ranges, "allowed_iovas")
        argument = Buffer(bytes(fixed), out=True, pointers=((where, room),))
        reply = self.ioctl(iommufd.IOMMU_IOAS_IOVA_RANGES, argument, about=f"ioas_id={ioas_id}")
        count = iommufd.iommu_ioas_iova_ranges.from_buffer_copy(reply.out[0]).num_iovas
        ranges = [
            iommufd.iommu_iova_range.from_buffer_copy(reply.out[1], index * element)
            for index in range(count)
        ]
        return [(span.start, span.last) for span in ranges]

    def ioas_noiommu_get_pa(
        self, ioas_id: int, iova: int, length: int, flags: int = 0, *, reserved: int = 0
    ) -> tuple[int, int]:
        """IOMMU_IOAS_NOIOMMU_GET_PA; return the physical address and the contiguous length.

        Args:
            ioas_id: the address space.
            iova: an I/O virtual address that is mapped.
            length: the number of bytes wanted.
            flags: reserved, 0.
            reserved: the value of the reserved field.
        """
        fixed = iommufd.iommu_ioas_noiommu_get_pa(
            size=_size(iommufd.iommu_ioas_noiommu_get_pa),
            flags=flags,
            ioas_id=ioas_id,
            reserved=reserved,
            iova=iova,
            length=length,
        )
        seen, _ = self.exchange(iommufd.IOMMU_IOAS_NOIOMMU_GET_PA, fixed)
        return seen.out_phys, seen.length

    def vfio_ioas(self, op: int, ioas_id: int = 0) -> int:
        """IOMMU_VFIO_IOAS: get, set or clear the compatibility address space; return its ID."""
        fixed = iommufd.iommu_vfio_ioas(size=_size(iommufd.iommu_vfio_ioas), ioas_id=ioas_id, op=op)
        return self.exchange(iommufd.IOMMU_VFIO_IOAS, fixed)[0].ioas_id

    def option(self, option_id: int, op: int, object_id: int = 0, value: int = 0) -> int:
        """IOMMU_OPTION; return the value.

        Args:
            option_id: IOMMU_OPTION_*.
            op: IOMMU_OPTION_OP_SET or _GET.
            object_id: the object that has the option; 0 for the whole context.
            value: the value to set.
        """
        fixed = iommufd.iommu_option(
            size=_size(iommufd.iommu_option),
            option_id=option_id,
            op=op,
            object_id=object_id,
            val64=value,
        )
        return self.exchange(iommufd.IOMMU_OPTION, fixed)[0].val64

    def get_hw_info(self, dev_id: int) -> iommufd.iommu_hw_info:
        """IOMMU_GET_HW_INFO without driver data."""
        fixed = iommufd.iommu_hw_info(size=_size(iommufd.iommu_hw_info), dev_id=dev_id)
        return self.exchange(iommufd.IOMMU_GET_HW_INFO, fixed)[0]


def _size(struct: type[ctypes.Structure], argsz: int | None = None) -> int:
    return ctypes.sizeof(struct) if argsz is None else argsz
