"""The structs, numbers and names of vfio_lab.uapi, against the kernel's own headers.

Headers are looked for in the folders of $VFIO_LAB_UAPI_HEADERS, in the cached kernels and on
the host. An older header lacks some names; a header that has the newest must have them all.
"""

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vfio_lab.uapi import (
    iommufd,
    kvm,
    names,
    vfio,
    vfio_data,
    vfio_migration,
    vfio_type1,
)
from vfio_lab.uapi.layout import (
    describe,
    kernel_struct,
    offset_of,
    u8,
    u32,
    u64,
)
from vfio_lab.uapi.names import Kind, ioctl_name
from vfio_lab.util.cache import Cache

MODULES = {
    "vfio.h": (vfio, vfio_data, vfio_migration, vfio_type1),
    "iommufd.h": (iommufd,),
    "kvm.h": (kvm,),
}
NEWEST = {
    "vfio.h": "VFIO_DEVICE_FEATURE_ZPCI_ERROR",
    "iommufd.h": "IOMMU_IOAS_NOIOMMU_GET_PA",
    "kvm.h": "KVM_DEV_VFIO_FILE",
}
# 35890f85573c kept the number and took the name away.
RENAMED = {"VFIO_TYPE1_NESTING_IOMMU": "__VFIO_RESERVED_TYPE1_NESTING_IOMMU"}
GCC = shutil.which("gcc")


def header_folders():
    listed = os.environ.get("VFIO_LAB_UAPI_HEADERS", "").split(os.pathsep)
    cached = sorted(Cache.default().root.glob("kernel/*/uapi"))
    return [Path(one) for one in listed if one] + cached + [Path("/usr/include")]


def headers():
    """Return every header found, and a skip that names each one found nowhere."""
    found = []
    for name in MODULES:
        paths = [folder / "linux" / name for folder in header_folders()]
        there = [path for path in paths if path.is_file()]
        missing = pytest.mark.skip(reason=f"no linux/{name} on this host or in the cache")
        found += there or [pytest.param(name, marks=missing)]
    return found


def structs(name):
    for module in MODULES[name]:
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, ctypes.Structure)
                and value.__module__ == module.__name__
            ):
                yield value


def constants(name):
    for module in MODULES[name]:
        for key, value in vars(module).items():
            if key.startswith(("VFIO_", "IOMMU", "KVM_")) and isinstance(value, int):
                yield key, value


def body(text, struct):
    match = re.search(rf"^struct {struct} \{{(.*?)^\}};", text, re.DOTALL | re.MULTILINE)
    return match[1] if match else None


def field_in_c(text, name):
    spellings = [one for one in (name, f"__{name}") if re.search(rf"\b{one}\b", text)]
    return spellings[0] if spellings else None


def questions(path):
    """Return what to ask of the header, as expression -> our answer, and the names it lacks."""
    text = path.read_text()
    asked, absent = {}, []
    for key, value in constants(path.name):
        newer = RENAMED.get(key)
        spelled = newer if newer and newer in text else key
        if re.search(rf"\b{spelled}\b", text):
            asked[f"(long long)({spelled})"] = value
        else:
            absent.append(key)
    for struct in structs(path.name):
        content = body(text, struct.__name__)
        fields = {name: content and field_in_c(content, name) for name, _ in struct._fields_}
        absent += [f"{struct.__name__}.{name}" for name, spelled in fields.items() if not spelled]
        if content and all(fields.values()):
            asked[f"(long long)sizeof(struct {struct.__name__})"] = ctypes.sizeof(struct)
        for name, spelled in fields.items():
            if spelled:
                member = f"struct {struct.__name__}, {spelled}"
                size = f"sizeof(((struct {struct.__name__} *)0)->{spelled})"
                asked[f"(long long)offsetof({member})"] = offset_of(struct, name)
                asked[f"(long long){size}"] = getattr(struct, name).size
    return asked, absent


def ask_compiler(path, expressions, folder):
    prints = "\n".join(
        f'printf("{"," if index else ""}%lld", {one});' for index, one in enumerate(expressions)
    )
    source = folder / "ask.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <linux/types.h>\n#ifndef __counted_by\n"
        "#define __counted_by(member)\n#endif\n#ifndef __user\n#define __user\n#endif\n"
        f'#include "{path}"\nint main(void) {{ {prints} return 0; }}\n'
    )
    program = folder / "ask"
    subprocess.run([GCC, "-w", "-o", program, source], check=True, timeout=60)
    answer = subprocess.run([program], check=True, capture_output=True, text=True, timeout=10)
    return dict(zip(expressions, map(int, answer.stdout.split(",")), strict=True))


@pytest.mark.skipif(GCC is None, reason="no gcc on this host")
@pytest.mark.parametrize("path", headers(), ids=str)
def test_layouts_and_numbers_are_those_of_the_kernel_header(path, tmp_path):
    asked, absent = questions(path)
    assert ask_compiler(path, list(asked), tmp_path) == asked
    if NEWEST[path.name] in path.read_text():
        assert absent == []


def test_fields_get_natural_alignment():
    @kernel_struct
    class sample(ctypes.Structure):  # noqa: N801 - as in vfio_lab.uapi
        small: u8
        large: u64
        last: u32

    assert [offset_of(sample, name) for name, _ in sample._fields_] == [0, 8, 16]
    assert ctypes.sizeof(sample) == 24


def test_a_struct_describes_itself_in_words():
    info = vfio.vfio_device_info(argsz=24, flags=3, num_regions=9)
    assert describe(info).startswith("argsz=24 flags=0x3 num_regions=9 ")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind.DEVICE, "VFIO_DEVICE_PCI_HOT_RESET"),
        (Kind.CONTAINER, "VFIO_IOMMU_MAP_DMA"),
        (Kind.IOMMUFD, "VFIO_IOMMU_MAP_DMA"),
    ],
)
def test_a_shared_number_is_named_by_the_kind_of_file(kind, name):
    assert vfio.VFIO_DEVICE_PCI_HOT_RESET == vfio_type1.VFIO_IOMMU_MAP_DMA
    assert ioctl_name(kind, vfio.VFIO_DEVICE_PCI_HOT_RESET) == name


def test_a_number_without_a_name_stays_a_number():
    assert ioctl_name(Kind.GROUP, 0x3BFF) == "0x3bff"


def test_every_ioctl_number_has_a_name_on_some_kind_of_file():
    named = {name for table in names.NAMES.values() for name in table.values()}
    numbers = {
        key
        for name in MODULES
        for key, value in constants(name)
        if value >> 8 == vfio.VFIO_TYPE and value & 0xFF >= vfio.VFIO_BASE
    }
    assert numbers == named
