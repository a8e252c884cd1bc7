"""Decodes the bytes of arguments and answers into fields with the kernel's names.

Nothing is lost: bytes that have no name, such as padding, stay bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vfio_lab.errors import LabError
from vfio_lab.uapi import iommufd, vfio, vfio_data, vfio_migration, vfio_type1
from vfio_lab.vfio.capabilities import capabilities

Fields = dict[str, Any]
UUID_BYTES = 16
STRING = "char[]"


@dataclass(frozen=True)
class PointerTo:
    """A pointer to memory that the caller made for it.

    Args:
        value: the value that it points to.
    """

    value: object


@dataclass(frozen=True)
class Decoded:
    """A decoded argument.

    Args:
        struct: the C type's name.
        fields: by the kernel's names; a value is an int, a str, bytes, a `PointerTo`, fields, or a
            list of these.
        rest: the bytes after the fields.
    """

    struct: str
    fields: Mapping[str, Any]
    rest: bytes


class Reader:
    """Reads fields from bytes, one after the other.

    Args:
        data: the bytes.
        pointed: the memory that their pointers point to, by the pointer's offset.
    """

    def __init__(self, data: bytes, pointed: Mapping[int, bytes]) -> None:
        self.data = data
        self.pointed = pointed
        self.at = 0

    @property
    def rest(self) -> bytes:
        """The bytes that have not been read yet."""
        return self.data[self.at :]

    def struct(self, kind: type[ctypes.Structure]) -> Fields:
        """Read a struct; if the bytes end within it, only its complete fields."""
        start, fields = self.at, Fields()
        for name, c_type, *_ in kind._fields_:
            self._pad(start, getattr(kind, name).offset, fields)
            if len(self.rest) < ctypes.sizeof(c_type):
                return fields
            fields[_spelled(kind, name)] = self._value(name, c_type)
        self._pad(start, ctypes.sizeof(kind), fields)
        return fields

    def array(self, kind: Any, count: int) -> list[Any]:
        """Read up to `count` elements."""
        there = min(count, len(self.rest) // ctypes.sizeof(kind))
        return [self._value("", kind) for _ in range(there)]

    def bytes(self, size: int) -> bytes:
        """Read up to `size` bytes."""
        taken = self.rest[:size]
        self.at += len(taken)
        return taken

    def _pad(self, start: int, until: int, fields: Fields) -> None:
        at = self.at - start
        if at < until <= len(self.data) - start:
            fields[f"pad_{at}"] = self.bytes(until - at)

    def _value(self, name: str, kind: Any) -> Any:
        if issubclass(kind, ctypes.Structure):
            return self.struct(kind)
        if issubclass(kind, ctypes.Array):
            return self.array(kind._type_, kind._length_)
        at, raw = self.at, self.bytes(ctypes.sizeof(kind))
        if at in self.pointed:
            return PointerTo(_pointee(name, self.pointed[at]))
        return kind.from_buffer_copy(raw).value


Tail = Callable[[Reader, Fields], None]


def decode(call: str, data: bytes, pointed: Mapping[int, bytes]) -> Decoded | None:
    """Return an argument by its fields, None for bytes of unknown layout.

    Args:
        call: system call or ioctl, by its kernel name.
        data: the argument's bytes.
        pointed: the memory that their pointers point to, by the pointer's offset.
    """
    if call == "VFIO_GROUP_GET_DEVICE_FD":
        name, nul, rest = data.partition(b"\0")
        return Decoded(STRING, {"name": _text(name)}, rest) if nul else None
    if call not in LAYOUTS:
        return None
    kind, tail = LAYOUTS[call]
    reader = Reader(data, pointed)
    fields = reader.struct(kind)
    tail(reader, fields)
    return Decoded(kind.__name__, fields, reader.rest)


def _no_tail(_reader: Reader, _fields: Fields) -> None:
    """Leave what follows the struct as bytes."""


def _irq_data(reader: Reader, fields: Fields) -> None:
    flags, count = fields.get("flags", 0), fields.get("count", 0)
    if flags & vfio.VFIO_IRQ_SET_DATA_EVENTFD:
        fields["data"] = reader.array(ctypes.c_int32, count)
    elif flags & vfio.VFIO_IRQ_SET_DATA_BOOL:
        fields["data"] = reader.array(ctypes.c_uint8, count)


def _group_fds(reader: Reader, fields: Fields) -> None:
    fields["group_fds"] = reader.array(ctypes.c_int32, fields.get("count", 0))


def _dependent_devices(reader: Reader, fields: Fields) -> None:
    fields["devices"] = reader.array(vfio.vfio_pci_dependent_device, fields.get("count", 0))


def _feature_data(reader: Reader, fields: Fields) -> None:
    feature = fields.get("flags", 0) & vfio.VFIO_DEVICE_FEATURE_MASK
    if feature == vfio.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN and len(reader.rest) >= UUID_BYTES:
        fields["data"] = _uuid(reader.bytes(UUID_BYTES))
    elif feature in FEATURES and reader.rest:
        fields["data"] = data = reader.struct(FEATURES[feature])
        if feature == vfio.VFIO_DEVICE_FEATURE_DMA_BUF:
            data["dma_ranges"] = reader.array(vfio.vfio_region_dma_range, data.get("nr_ranges", 0))


def _dirty_bitmap(reader: Reader, fields: Fields) -> None:
    if fields.get("flags", 0) & vfio_type1.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP:
        fields["data"] = reader.struct(vfio_type1.vfio_iommu_type1_dirty_bitmap_get)


def _unmap_bitmap(reader: Reader, fields: Fields) -> None:
    if fields.get("flags", 0) & vfio_type1.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP:
        fields["data"] = reader.struct(vfio_type1.vfio_bitmap)


def _chain(call: str) -> Tail:
    """Return a function that reads the capabilities after a call's struct."""

    def take(reader: Reader, fields: Fields) -> None:
        first = fields.get("cap_offset", 0)
        if first < reader.at or any(reader.data[reader.at : first]):
            return
        with contextlib.suppress(LabError):  # a broken chain stays bytes
            found = capabilities(reader.data, first)
            fields["capabilities"] = [_capability(call, one.id, one.data) for one in found]
            reader.bytes(len(reader.rest))

    return take


def _capability(call: str, number: int, data: bytes) -> Fields:
    kind, array = CAPABILITIES.get((call, number), (vfio.vfio_info_cap_header, None))
    reader = Reader(data, {})
    fields = reader.struct(kind)
    if array is not None:
        name, count, element = array
        fields[name] = reader.array(element, fields.get(count, 0))
    if any(reader.rest):
        fields["rest"] = reader.rest
    return {**fields.pop("header", {}), **fields}


def _pointee(field: str, data: bytes) -> object:
    if not any(data):
        return data
    if field == "token_uuid_ptr" and len(data) == UUID_BYTES:
        return _uuid(data)
    if field == "allowed_iovas":
        element = iommufd.iommu_iova_range
        used = len(data.rstrip(b"\0"))
        return Reader(data, {}).array(element, -(-used // ctypes.sizeof(element)))
    return data


def _spelled(kind: type[ctypes.Structure], name: str) -> str:
    """Return the kernel's spelling of a name; Python would mangle `__reserved`."""
    hidden = kind.__module__ == iommufd.__name__ and name.startswith("reserved")
    return f"__{name}" if hidden else name


def _uuid(data: bytes) -> str:
    return str(uuid.UUID(bytes=data))


def _text(data: bytes) -> str | bytes:
    return data.decode() if data.isascii() else data


class container_fd(ctypes.Structure):  # noqa: N801 - the kernel has no name for it
    """Argument of VFIO_GROUP_SET_CONTAINER."""

    _fields_ = (("fd", ctypes.c_int32),)


class pollfd(ctypes.Structure):  # noqa: N801 - the kernel's name
    """One element of poll()'s first argument."""

    _fields_ = (("fd", ctypes.c_int32), ("events", ctypes.c_int16), ("revents", ctypes.c_int16))


class rlimit(ctypes.Structure):  # noqa: N801 - the kernel's name
    """Argument of setrlimit()."""

    _fields_ = (("rlim_cur", ctypes.c_uint64), ("rlim_max", ctypes.c_uint64))


FEATURES = {
    vfio.VFIO_DEVICE_FEATURE_MIGRATION: vfio_data.vfio_device_feature_migration,
    vfio.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: vfio_data.vfio_device_feature_mig_state,
    vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP: (
        vfio.vfio_device_low_power_entry_with_wakeup
    ),
    vfio.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: vfio_data.vfio_device_feature_mig_data_size,
    vfio.VFIO_DEVICE_FEATURE_BUS_MASTER: vfio_data.vfio_device_feature_bus_master,
    vfio.VFIO_DEVICE_FEATURE_DMA_BUF: vfio.vfio_device_feature_dma_buf,
}
CAPABILITIES: Mapping[tuple[str, int], tuple[type[ctypes.Structure], tuple[str, str, Any] | None]]
CAPABILITIES = {
    ("VFIO_DEVICE_GET_INFO", vfio.VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP): (
        vfio_data.vfio_device_info_cap_pci_atomic_comp,
        None,
    ),
    ("VFIO_DEVICE_GET_REGION_INFO", vfio.VFIO_REGION_INFO_CAP_SPARSE_MMAP): (
        vfio.vfio_region_info_cap_sparse_mmap,
        ("areas", "nr_areas", vfio.vfio_region_sparse_mmap_area),
    ),
    ("VFIO_DEVICE_GET_REGION_INFO", vfio.VFIO_REGION_INFO_CAP_TYPE): (
        vfio_data.vfio_region_info_cap_type,
        None,
    ),
    ("VFIO_IOMMU_GET_INFO", vfio_type1.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE): (
        vfio_type1.vfio_iommu_type1_info_cap_iova_range,
        ("iova_ranges", "nr_iovas", vfio_type1.vfio_iova_range),
    ),
    ("VFIO_IOMMU_GET_INFO", vfio_type1.VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION): (
        vfio_data.vfio_iommu_type1_info_cap_migration,
        None,
    ),
    ("VFIO_IOMMU_GET_INFO", vfio_type1.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL): (
        vfio_type1.vfio_iommu_type1_info_dma_avail,
        None,
    ),
}
LAYOUTS: Mapping[str, tuple[type[ctypes.Structure], Tail]] = {
    "VFIO_GROUP_GET_STATUS": (vfio.vfio_group_status, _no_tail),
    "VFIO_GROUP_SET_CONTAINER": (container_fd, _no_tail),
    "VFIO_DEVICE_GET_INFO": (vfio.vfio_device_info, _chain("VFIO_DEVICE_GET_INFO")),
    "VFIO_DEVICE_GET_REGION_INFO": (vfio.vfio_region_info, _chain("VFIO_DEVICE_GET_REGION_INFO")),
    "VFIO_DEVICE_GET_IRQ_INFO": (vfio.vfio_irq_info, _no_tail),
    "VFIO_DEVICE_SET_IRQS": (vfio.vfio_irq_set, _irq_data),
    "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO": (vfio.vfio_pci_hot_reset_info, _dependent_devices),
    "VFIO_DEVICE_PCI_HOT_RESET": (vfio.vfio_pci_hot_reset, _group_fds),
    "VFIO_DEVICE_IOEVENTFD": (vfio.vfio_device_ioeventfd, _no_tail),
    "VFIO_DEVICE_FEATURE": (vfio.vfio_device_feature, _feature_data),
    "VFIO_DEVICE_BIND_IOMMUFD": (vfio.vfio_device_bind_iommufd, _no_tail),
    "VFIO_DEVICE_ATTACH_IOMMUFD_PT": (vfio.vfio_device_attach_iommufd_pt, _no_tail),
    "VFIO_DEVICE_DETACH_IOMMUFD_PT": (vfio.vfio_device_detach_iommufd_pt, _no_tail),
    "VFIO_MIG_GET_PRECOPY_INFO": (vfio_migration.vfio_precopy_info, _no_tail),
    "VFIO_IOMMU_GET_INFO": (vfio_type1.vfio_iommu_type1_info, _chain("VFIO_IOMMU_GET_INFO")),
    "VFIO_IOMMU_MAP_DMA": (vfio_type1.vfio_iommu_type1_dma_map, _no_tail),
    "VFIO_IOMMU_UNMAP_DMA": (vfio_type1.vfio_iommu_type1_dma_unmap, _unmap_bitmap),
    "VFIO_IOMMU_DIRTY_PAGES": (vfio_type1.vfio_iommu_type1_dirty_bitmap, _dirty_bitmap),
    **{
        name.upper(): (struct, _no_tail)
        for name, struct in vars(iommufd).items()
        if isinstance(struct, type) and hasattr(iommufd, name.upper())
    },
    "IOMMU_GET_HW_INFO": (iommufd.iommu_hw_info, _no_tail),
    "poll": (pollfd, _no_tail),
    "setrlimit": (rlimit, _no_tail),
}
