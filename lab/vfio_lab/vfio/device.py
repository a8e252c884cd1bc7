"""A device: its ioctls and its regions."""

from __future__ import annotations

import contextlib
import ctypes
import struct
import uuid
from collections.abc import Iterable, Sequence
from typing import Self

from vfio_lab.client.call import Buffer
from vfio_lab.client.user import PendingCall, User
from vfio_lab.uapi import vfio
from vfio_lab.uapi.layout import describe
from vfio_lab.uapi.names import Kind
from vfio_lab.uapi.syscalls import O_CLOEXEC, O_RDWR
from vfio_lab.vfio.capabilities import Capability, capabilities
from vfio_lab.vfio.handle import Handle, descriptor
from vfio_lab.vfio.hot_reset import HotResetInfo, hot_reset_info_bytes, parse_hot_reset_info

EVENTFD_TRIGGER = vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER
TRIGGER = vfio.VFIO_IRQ_SET_DATA_NONE | vfio.VFIO_IRQ_SET_ACTION_TRIGGER
MASK = vfio.VFIO_IRQ_SET_DATA_NONE | vfio.VFIO_IRQ_SET_ACTION_MASK
UNMASK = vfio.VFIO_IRQ_SET_DATA_NONE | vfio.VFIO_IRQ_SET_ACTION_UNMASK
INFO_BYTES = 1024


class Device(Handle):
    """An open device, opened through its group or its character device."""

    kind = Kind.DEVICE
    behind: tuple[Handle, ...] = ()

    def owning(self, *behind: Handle) -> None:
        """Make `close` also close these handles, in order, after the device."""
        self.behind = behind

    def close(self) -> None:
        """Close the device and the handles it owns; an error does not stop the others."""
        with contextlib.ExitStack() as rest:
            for handle in reversed(self.behind):
                rest.callback(handle.close)
            super().close()

    def _under(self, user: User, fd: int) -> Self:
        twin = super()._under(user, fd)
        twin.behind = ()
        return twin

    def get_info(
        self, *, argsz: int | None = None, pointer: int | None = None
    ) -> vfio.vfio_device_info:
        """VFIO_DEVICE_GET_INFO."""
        fixed = vfio.vfio_device_info(argsz=_argsz_or_sizeof(argsz, vfio.vfio_device_info))
        return self.exchange(vfio.VFIO_DEVICE_GET_INFO, fixed, pointer=pointer)[0]

    def capabilities(self) -> tuple[Capability, ...]:
        """Return the capability chain of VFIO_DEVICE_GET_INFO."""
        info, tail = self.exchange(
            vfio.VFIO_DEVICE_GET_INFO, vfio.vfio_device_info(argsz=INFO_BYTES)
        )
        return capabilities(bytes(info) + tail, info.cap_offset)

    def get_region_info(self, index: int, *, argsz: int | None = None) -> vfio.vfio_region_info:
        """VFIO_DEVICE_GET_REGION_INFO."""
        fixed = vfio.vfio_region_info(
            argsz=_argsz_or_sizeof(argsz, vfio.vfio_region_info), index=index
        )
        return self.exchange(vfio.VFIO_DEVICE_GET_REGION_INFO, fixed)[0]

    def region_capabilities(self, index: int) -> tuple[Capability, ...]:
        """Return the capability chain of VFIO_DEVICE_GET_REGION_INFO."""
        fixed = vfio.vfio_region_info(argsz=INFO_BYTES, index=index)
        info, tail = self.exchange(vfio.VFIO_DEVICE_GET_REGION_INFO, fixed)
        return capabilities(bytes(info) + tail, info.cap_offset)

    def get_irq_info(self, index: int, *, argsz: int | None = None) -> vfio.vfio_irq_info:
        """VFIO_DEVICE_GET_IRQ_INFO."""
        fixed = vfio.vfio_irq_info(argsz=_argsz_or_sizeof(argsz, vfio.vfio_irq_info), index=index)
        return self.exchange(vfio.VFIO_DEVICE_GET_IRQ_INFO, fixed)[0]

    def set_irqs(  # noqa: PLR0913 - the fields of struct vfio_irq_set
        self,
        index: int,
        flags: int,
        start: int = 0,
        count: int = 0,
        data: bytes = b"",
        *,
        argsz: int | None = None,
    ) -> int:
        """VFIO_DEVICE_SET_IRQS; return its value, which may be a number of vectors.

        Args:
            index: VFIO_PCI_INTX_IRQ_INDEX, _MSI_, _MSIX_, _ERR_ or _REQ_.
            flags: one VFIO_IRQ_SET_DATA_* or'ed with one VFIO_IRQ_SET_ACTION_*.
            start: the first vector, from 0.
            count: how many vectors; 0 with DATA_NONE and ACTION_TRIGGER disables the index.
            data: with DATA_BOOL one byte per vector; with DATA_EVENTFD a descriptor of 4 bytes
                per vector.
            argsz: the size passed to the kernel instead of struct and data, in bytes.
        """
        fixed = vfio.vfio_irq_set(flags=flags, index=index, start=start, count=count)
        fixed.argsz = ctypes.sizeof(fixed) + len(data) if argsz is None else argsz
        argument = Buffer(bytes(fixed) + data)
        about = describe(fixed) + (f" + {data.hex()}" if data else "")
        return self.ioctl(vfio.VFIO_DEVICE_SET_IRQS, argument, about=about).value

    def set_irq_eventfds(self, index: int, eventfds: Sequence[int], start: int = 0) -> int:
        """Set the eventfds that vfio signals for consecutive vectors.

        Args:
            index: VFIO_PCI_*_IRQ_INDEX.
            eventfds: one descriptor per vector; -1 removes the vector's eventfd.
            start: the first vector, from 0.
        """
        data = struct.pack(f"<{len(eventfds)}i", *eventfds)
        return self.set_irqs(index, EVENTFD_TRIGGER, start, len(eventfds), data)

    def start_set_irq_eventfds(self, index: int, eventfds: Sequence[int]) -> PendingCall:
        """Enter VFIO_DEVICE_SET_IRQS, as `set_irq_eventfds` does, without waiting for it."""
        data = struct.pack(f"<{len(eventfds)}i", *eventfds)
        fixed = vfio.vfio_irq_set(flags=EVENTFD_TRIGGER, index=index, count=len(eventfds))
        fixed.argsz = ctypes.sizeof(fixed) + len(data)
        request, label = vfio.VFIO_DEVICE_SET_IRQS, "VFIO_DEVICE_SET_IRQS"
        argument, words = Buffer(bytes(fixed) + data), f"{self.fd}, {describe(fixed)}"
        return self.user.start("ioctl", self.fd, request, argument, label=label, about=words)

    def disable_irqs(self, index: int) -> None:
        """Disable an interrupt index."""
        self.set_irqs(index, TRIGGER)

    def mask_irq(self, index: int) -> None:
        """Mask the first interrupt of an index."""
        self.set_irqs(index, MASK, 0, 1)

    def unmask_irq(self, index: int) -> None:
        """Unmask the first interrupt of an index."""
        self.set_irqs(index, UNMASK, 0, 1)

    def trigger_irqs(self, index: int, start: int = 0, count: int = 1) -> None:
        """Make vfio signal the eventfds of interrupts, without the hardware.

        Args:
            index: VFIO_PCI_*_IRQ_INDEX.
            start: the first vector, from 0.
            count: how many vectors.
        """
        self.set_irqs(index, TRIGGER, start, count)

    def reset(self) -> None:
        """VFIO_DEVICE_RESET."""
        self.ioctl(vfio.VFIO_DEVICE_RESET)

    def start_reset(self) -> PendingCall:
        """Enter VFIO_DEVICE_RESET without waiting for it to return."""
        label, about = "VFIO_DEVICE_RESET", f"{self.fd}"
        return self.user.start(
            "ioctl", self.fd, vfio.VFIO_DEVICE_RESET, 0, label=label, about=about
        )

    def start_hot_reset(self, groups: Iterable[Handle | int]) -> PendingCall:
        """Enter VFIO_DEVICE_PCI_HOT_RESET without waiting for it to return."""
        argument, about = _hot_reset(groups)
        request, label = vfio.VFIO_DEVICE_PCI_HOT_RESET, "VFIO_DEVICE_PCI_HOT_RESET"
        words = f"{self.fd}, {about}"
        return self.user.start("ioctl", self.fd, request, argument, label=label, about=words)

    def hot_reset_info(
        self,
        *,
        argsz: int | None = None,
        flags: int = 0,
        count: int = 0,
        pointer: int | None = None,
    ) -> HotResetInfo:
        """VFIO_DEVICE_GET_PCI_HOT_RESET_INFO.

        Args:
            argsz: the size passed to the kernel, by default that of a buffer for 32 devices.
            flags: the field's value before the call.
            count: the field's value before the call.
            pointer: the address to pass instead of the struct's.
        """
        size = hot_reset_info_bytes() if argsz is None else argsz
        fixed, tail = self.exchange(
            vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
            vfio.vfio_pci_hot_reset_info(argsz=size, flags=flags, count=count),
            pointer=pointer,
        )
        return parse_hot_reset_info(fixed, tail)

    def hot_reset(
        self,
        fds: Iterable[Handle | int] = (),
        *,
        argsz: int | None = None,
        flags: int = 0,
        count: int | None = None,
    ) -> None:
        """VFIO_DEVICE_PCI_HOT_RESET.

        Args:
            fds: groups that prove ownership; none for a device opened by its character device.
            argsz: the size passed to the kernel instead of the argument's, in bytes.
            flags: reserved, 0.
            count: the number of descriptors passed to the kernel instead of the true number.
        """
        argument, about = _hot_reset(fds, argsz=argsz, flags=flags, count=count)
        self.ioctl(vfio.VFIO_DEVICE_PCI_HOT_RESET, argument, about=about)

    def feature(
        self, index: int, flags: int, data: bytes = b"", *, argsz: int | None = None
    ) -> bytes:
        """VFIO_DEVICE_FEATURE; return the data after the call.

        Args:
            index: the feature's number; or'ed into the flags.
            flags: VFIO_DEVICE_FEATURE_GET, _SET, _PROBE.
            data: bytes after the header.
            argsz: the size passed to the kernel instead of the argument's, in bytes.
        """
        fixed = vfio.vfio_device_feature(flags=flags | index)
        fixed.argsz = ctypes.sizeof(fixed) + len(data) if argsz is None else argsz
        return self.exchange(vfio.VFIO_DEVICE_FEATURE, fixed, data)[1]

    def probe_feature(self, index: int, flags: int = 0) -> None:
        """Probe whether a feature supports GET or SET, as in `flags`; the kernel refuses if not."""
        self.feature(index, vfio.VFIO_DEVICE_FEATURE_PROBE | flags)

    def set_vf_token(self, token: uuid.UUID) -> None:
        """VFIO_DEVICE_FEATURE_PCI_VF_TOKEN; the bytes are in the order of the UUID's text."""
        self.feature(
            vfio.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, vfio.VFIO_DEVICE_FEATURE_SET, token.bytes
        )

    def enter_low_power(self, wakeup: int | None = None) -> None:
        """VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, or _ENTRY_WITH_WAKEUP with an eventfd."""
        index, data = vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, b""
        if wakeup is not None:
            index = vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP
            data = bytes(vfio.vfio_device_low_power_entry_with_wakeup(wakeup_eventfd=wakeup))
        self.feature(index, vfio.VFIO_DEVICE_FEATURE_SET, data)

    def exit_low_power(self) -> None:
        """VFIO_DEVICE_FEATURE_LOW_POWER_EXIT."""
        self.feature(vfio.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, vfio.VFIO_DEVICE_FEATURE_SET)

    def export_dma_buf(
        self, region: int, ranges: Sequence[tuple[int, int]], *, flags: int = 0
    ) -> int:
        """VFIO_DEVICE_FEATURE_DMA_BUF; return the descriptor of the dma-buf.

        Args:
            region: the BAR.
            ranges: (offset, length) of each part of the BAR, in bytes.
            flags: reserved, 0.
        """
        wanted = vfio.vfio_device_feature_dma_buf(
            region_index=region, open_flags=O_RDWR | O_CLOEXEC, flags=flags, nr_ranges=len(ranges)
        )
        fixed = vfio.vfio_device_feature(
            flags=vfio.VFIO_DEVICE_FEATURE_GET | vfio.VFIO_DEVICE_FEATURE_DMA_BUF
        )
        data = bytes(wanted) + b"".join(struct.pack("<QQ", *span) for span in ranges)
        fixed.argsz = ctypes.sizeof(fixed) + len(data)
        about = f"DMA_BUF {describe(wanted)} ranges={list(ranges)}"
        argument = Buffer(bytes(fixed) + data)
        return self.ioctl(vfio.VFIO_DEVICE_FEATURE, argument, about=about).value

    def ioeventfd(  # noqa: PLR0913 - the fields of struct vfio_device_ioeventfd
        self, region: int, offset: int, data: int, fd: int, flags: int, *, argsz: int | None = None
    ) -> None:
        """VFIO_DEVICE_IOEVENTFD: write `data` to a region's offset when the eventfd is signalled.

        Args:
            region: region index.
            offset: offset in the region, in bytes.
            data: the value to write.
            fd: the eventfd; -1 removes the rule.
            flags: the width, VFIO_DEVICE_IOEVENTFD_8 to _64.
            argsz: the size passed to the kernel instead of the struct's, in bytes.
        """
        fixed = vfio.vfio_device_ioeventfd(
            argsz=_argsz_or_sizeof(argsz, vfio.vfio_device_ioeventfd),
            flags=flags,
            offset=self.region_offset(region) + offset,
            data=data,
            fd=fd,
        )
        self.exchange(vfio.VFIO_DEVICE_IOEVENTFD, fixed)

    def region_offset(self, index: int) -> int:
        """Return a region's offset in the device's file, as reported by the kernel."""
        return self.get_region_info(index).offset

    def read_region(self, index: int, offset: int, size: int) -> bytes:
        """Read from a region with pread(2).

        Args:
            index: region index, VFIO_PCI_*_REGION_INDEX.
            offset: bytes from the start of the region.
            size: bytes; vfio splits them into aligned accesses of at most 8 bytes.
        """
        return self.user.pread(self.fd, size, self.region_offset(index) + offset)

    def write_region(self, index: int, offset: int, data: bytes) -> int:
        """Write to a region with pwrite(2) and return how many bytes were written.

        Args:
            index: region index, VFIO_PCI_*_REGION_INDEX.
            offset: bytes from the start of the region.
            data: the bytes to write; vfio splits them into aligned accesses of at most 8 bytes.
        """
        return self.user.pwrite(self.fd, data, self.region_offset(index) + offset)

    def read_config(self, offset: int, size: int) -> bytes:
        """Read the config space as presented by vfio."""
        return self.read_region(vfio.VFIO_PCI_CONFIG_REGION_INDEX, offset, size)

    def write_config(self, offset: int, data: bytes) -> int:
        """Write the config space presented by vfio and return how many bytes were written."""
        return self.write_region(vfio.VFIO_PCI_CONFIG_REGION_INDEX, offset, data)

    def start_write_config(self, offset: int, data: bytes) -> PendingCall:
        """Enter the call that `write_config` makes without waiting for it."""
        place = self.region_offset(vfio.VFIO_PCI_CONFIG_REGION_INDEX) + offset
        return self.user.start("pwrite64", self.fd, Buffer(data), len(data), place)

    def mmap_region(self, index: int, size: int, offset: int = 0) -> int:
        """Map part of a region with MAP_SHARED and return the address.

        Args:
            index: region index, VFIO_PCI_*_REGION_INDEX.
            size: bytes; the kernel rounds them up to whole pages.
            offset: bytes from the start of the region, a multiple of the page size.
        """
        return self.user.mmap(self.fd, size, self.region_offset(index) + offset)


def _argsz_or_sizeof(argsz: int | None, struct_type: type[ctypes.Structure]) -> int:
    return ctypes.sizeof(struct_type) if argsz is None else argsz


def _hot_reset(
    fds: Iterable[Handle | int],
    *,
    argsz: int | None = None,
    flags: int = 0,
    count: int | None = None,
) -> tuple[Buffer, str]:
    numbers = [descriptor(handle) for handle in fds]
    data = struct.pack(f"<{len(numbers)}i", *numbers)
    fixed = vfio.vfio_pci_hot_reset(flags=flags, count=len(numbers) if count is None else count)
    fixed.argsz = ctypes.sizeof(fixed) + len(data) if argsz is None else argsz
    return Buffer(bytes(fixed) + data), f"{describe(fixed)} fds={numbers}"
