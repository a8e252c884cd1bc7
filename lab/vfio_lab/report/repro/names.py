"""The uAPI's names of numbers, for people who read a reproducer."""

from __future__ import annotations

from collections.abc import Mapping

from vfio_lab.uapi import iommufd, vfio, vfio_type1

FLAG_PREFIXES = {
    ("vfio_device_info", "flags"): (vfio, ("VFIO_DEVICE_FLAGS_",)),
    ("vfio_group_status", "flags"): (vfio, ("VFIO_GROUP_FLAGS_",)),
    ("vfio_region_info", "flags"): (vfio, ("VFIO_REGION_INFO_FLAG_",)),
    ("vfio_irq_info", "flags"): (vfio, ("VFIO_IRQ_INFO_",)),
    ("vfio_irq_set", "flags"): (vfio, ("VFIO_IRQ_SET_DATA_", "VFIO_IRQ_SET_ACTION_")),
    ("vfio_iommu_type1_dma_map", "flags"): (vfio_type1, ("VFIO_DMA_MAP_FLAG_",)),
    ("vfio_iommu_type1_dma_unmap", "flags"): (vfio_type1, ("VFIO_DMA_UNMAP_FLAG_",)),
    ("vfio_iommu_type1_dirty_bitmap", "flags"): (
        vfio_type1,
        ("VFIO_IOMMU_DIRTY_PAGES_FLAG_",),
    ),
    ("vfio_device_bind_iommufd", "flags"): (vfio, ("VFIO_DEVICE_BIND_FLAG_",)),
    ("iommu_ioas_map", "flags"): (iommufd, ("IOMMU_IOAS_MAP_",)),
    ("iommu_hwpt_alloc", "flags"): (iommufd, ("IOMMU_HWPT_ALLOC_",)),
}
INDEXES = {
    "vfio_irq_set": "_IRQ_INDEX",
    "vfio_irq_info": "_IRQ_INDEX",
    "vfio_region_info": "_REGION_INDEX",
}
NO_FEATURES = frozenset(
    f"VFIO_DEVICE_FEATURE_{name}" for name in ("MASK", "CLEAR_MASTER", "SET_MASTER")
)
PROT = {1: "PROT_READ", 2: "PROT_WRITE", 4: "PROT_EXEC"}
MAP = {1: "MAP_SHARED", 2: "MAP_PRIVATE", 0x10: "MAP_FIXED", 0x20: "MAP_ANONYMOUS"}
OPEN = {1: "O_WRONLY", 2: "O_RDWR", 0x800: "O_NONBLOCK", 0x80000: "O_CLOEXEC"}
ARGUMENTS = {
    "VFIO_SET_IOMMU": ("VFIO_TYPE1", "VFIO_NOIOMMU_IOMMU"),
    "VFIO_CHECK_EXTENSION": ("VFIO_TYPE1", "VFIO_NOIOMMU_IOMMU", "VFIO_UNMAP_ALL"),
}

GONE = frozenset({"VFIO_TYPE1_NESTING_IOMMU"})  # the headers of 7.3 have it no longer
LARGEST_DIGIT = 9
LARGEST_INT = (1 << 31) - 1


def flags(number: int, table: Mapping[int, str]) -> str:
    """Return a number as flags with names and a rest, `0` if it has none."""
    names, rest = [], number
    for bit, name in table.items():
        if bit and rest & bit == bit:
            names.append(name)
            rest &= ~bit
    return " | ".join([*names, *([f"{rest:#x}"] if rest or not names else [])])


def field(struct: str, name: str, value: int) -> str:
    """Return the value of a struct's field in C.

    Args:
        struct: the struct's name.
        name: the field's name.
        value: its value, neither a descriptor nor an address.
    """
    if struct == "vfio_device_feature" and name == "flags":
        return _feature(value)
    if (struct, name) in FLAG_PREFIXES and value:
        module, prefixes = FLAG_PREFIXES[struct, name]
        known = {
            number: constant
            for constant, number in vars(module).items()
            if constant.startswith(prefixes) and isinstance(number, int)
        }
        return flags(value, known)
    if name == "index" and struct in INDEXES:
        return _constant(vfio, value, ("VFIO_PCI_",), INDEXES[struct]) or str(value)
    return number(value)


def argument(call: str, value: int) -> str:
    """Return the argument of an ioctl that is a number."""
    if call in ARGUMENTS:
        for module in (vfio, vfio_type1):
            if name := _constant(module, value, ARGUMENTS[call], ""):
                return name
    return number(value)


def number(value: int) -> str:
    """Return a number in C, large ones in hex and unsigned."""
    if value < 0:
        return str(value)
    if value <= LARGEST_DIGIT:
        return str(value)
    return f"{value:#x}ULL" if value > LARGEST_INT else f"{value:#x}"


def _feature(value: int) -> str:
    ways = {
        number: name
        for name, number in vars(vfio).items()
        if name
        in ("VFIO_DEVICE_FEATURE_GET", "VFIO_DEVICE_FEATURE_SET", "VFIO_DEVICE_FEATURE_PROBE")
    }
    feature = value & vfio.VFIO_DEVICE_FEATURE_MASK
    names = {
        number: name
        for name, number in vars(vfio).items()
        if name.startswith("VFIO_DEVICE_FEATURE_")
        and name not in NO_FEATURES
        and isinstance(number, int)
        and number not in ways
    }
    rest = value & ~vfio.VFIO_DEVICE_FEATURE_MASK
    which = names.get(feature, number(feature))
    return " | ".join([*([flags(rest, ways)] if rest else []), which])


def _constant(module: object, value: int, prefixes: tuple[str, ...], suffix: str) -> str:
    for name, number_ in vars(module).items():
        fits = name.startswith(prefixes) and name.endswith(suffix) and name not in GONE
        if number_ == value and fits:
            return name
    return ""
