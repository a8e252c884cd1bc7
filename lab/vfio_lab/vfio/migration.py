"""The migration of a device: its states, the stream of its state, and the log of its DMA."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

from vfio_lab.client.call import Buffer
from vfio_lab.uapi import vfio, vfio_data, vfio_migration
from vfio_lab.uapi.layout import offset_of
from vfio_lab.uapi.names import Kind
from vfio_lab.vfio.device import Device
from vfio_lab.vfio.handle import Handle

GET, SET = vfio.VFIO_DEVICE_FEATURE_GET, vfio.VFIO_DEVICE_FEATURE_SET
NO_FILE = -1
HEADER_BYTES = ctypes.sizeof(vfio.vfio_device_feature)
RANGES_OFFSET = offset_of(vfio_migration.vfio_device_feature_dma_logging_control, "ranges")
LONGEST_READ_BYTES = 1 << 16
PAGE_BYTES = 4096


class MigrationFile(Handle):
    """The file through which a device's state leaves or enters."""

    kind = Kind.MIGRATION

    def read(self, size: int = LONGEST_READ_BYTES) -> bytes:
        """Read from the stream; nothing at its end."""
        return self.user.read(self.fd, size)

    def write(self, data: bytes) -> int:
        """Write to the stream; return how many bytes were taken."""
        return self.user.write(self.fd, data)

    def precopy_info(
        self, *, argsz: int | None = None, flags: int = 0
    ) -> vfio_migration.vfio_precopy_info:
        """VFIO_MIG_GET_PRECOPY_INFO.

        Args:
            argsz: the size passed to the kernel instead of the struct's, in bytes.
            flags: the field's value before the call.
        """
        size = ctypes.sizeof(vfio_migration.vfio_precopy_info) if argsz is None else argsz
        fixed = vfio_migration.vfio_precopy_info(argsz=size, flags=flags)
        return self.exchange(vfio_migration.VFIO_MIG_GET_PRECOPY_INFO, fixed)[0]


class Migration:
    """The migration features of an open device.

    Args:
        device: the device, opened in either way.
    """

    def __init__(self, device: Device) -> None:
        """Ask nothing yet."""
        self.device = device

    def flags(self) -> int:
        """VFIO_DEVICE_FEATURE_MIGRATION: return VFIO_MIGRATION_*."""
        room = bytes(ctypes.sizeof(vfio_data.vfio_device_feature_migration))
        seen = self.device.feature(vfio.VFIO_DEVICE_FEATURE_MIGRATION, GET, room)
        return vfio_data.vfio_device_feature_migration.from_buffer_copy(seen).flags

    def state(self) -> int:
        """VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: return the state, VFIO_DEVICE_STATE_*."""
        return self._device_state(GET, 0).device_state

    def enter(self, state: int) -> MigrationFile | None:
        """VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: change the state; return the stream, if one begins.

        Args:
            state: VFIO_DEVICE_STATE_*.

        Raises:
            Refusal: the kernel refuses; the device may have gone a part of the way.
        """
        seen = self._device_state(SET, state)
        if seen.data_fd == NO_FILE:
            return None
        return MigrationFile(self.device.user, seen.data_fd, f"state of {self.device.label}")

    def data_size(self) -> int:
        """VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: return the length of STOP_COPY's stream, in bytes."""
        room = bytes(ctypes.sizeof(vfio_data.vfio_device_feature_mig_data_size))
        seen = self.device.feature(vfio.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, GET, room)
        return vfio_data.vfio_device_feature_mig_data_size.from_buffer_copy(seen).stop_copy_length

    def start_logging(self, ranges: Sequence[tuple[int, int]], page_size: int = PAGE_BYTES) -> None:
        """VFIO_DEVICE_FEATURE_DMA_LOGGING_START.

        Args:
            ranges: (IOVA, length) of what to log, in bytes.
            page_size: bytes for which the log has one bit.
        """
        control = vfio_migration.vfio_device_feature_dma_logging_control(
            page_size=page_size, num_ranges=len(ranges)
        )
        listed = Buffer(b"".join(struct.pack("<QQ", *each) for each in ranges))
        index = vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_START
        fixed = vfio.vfio_device_feature(flags=SET | index)
        fixed.argsz = HEADER_BYTES + ctypes.sizeof(control)
        pointers = ((HEADER_BYTES + RANGES_OFFSET, listed),) if ranges else ()
        self.device.exchange(vfio.VFIO_DEVICE_FEATURE, fixed, bytes(control), pointers=pointers)

    def stop_logging(self) -> None:
        """VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP."""
        self.device.feature(vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, SET)

    def report_log(self, iova: int, length: int, bitmap: int, page_size: int = PAGE_BYTES) -> None:
        """VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT.

        Args:
            iova: the first address that is asked for.
            length: bytes that are asked for.
            bitmap: address of the user's memory in which the kernel sets bits.
            page_size: bytes for which the bitmap has one bit.
        """
        wanted = vfio_migration.vfio_device_feature_dma_logging_report(
            iova=iova, length=length, page_size=page_size, bitmap=bitmap
        )
        index = vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT
        self.device.feature(index, GET, bytes(wanted))

    def _device_state(self, flags: int, state: int) -> vfio_data.vfio_device_feature_mig_state:
        wanted = vfio_data.vfio_device_feature_mig_state(device_state=state, data_fd=NO_FILE)
        index = vfio.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE
        seen = self.device.feature(index, flags, bytes(wanted))
        return vfio_data.vfio_device_feature_mig_state.from_buffer_copy(seen)
