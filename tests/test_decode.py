"""Arguments of ioctls by the kernel's field names, and nothing of them lost."""

import ctypes
import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_lab.evidence.decode import LAYOUTS, PointerTo, decode
from vfio_lab.uapi import iommufd, vfio, vfio_data, vfio_type1
from vfio_lab.uapi.names import NAMES

TOKEN = uuid.UUID("6c1b3f6e-2f0a-4c53-9a52-0d6f2c7b8e11")
WITHOUT_A_STRUCT = {
    "VFIO_CHECK_EXTENSION",
    "VFIO_DEVICE_RESET",
    "VFIO_GET_API_VERSION",
    "VFIO_GROUP_GET_DEVICE_FD",
    "VFIO_GROUP_UNSET_CONTAINER",
    "VFIO_IOMMU_DISABLE",
    "VFIO_IOMMU_ENABLE",
    "VFIO_SET_IOMMU",
}
NOT_KNOWN_HERE = {
    "IOMMU_FAULT_QUEUE_ALLOC",
    "IOMMU_HWPT_INVALIDATE",
    "IOMMU_HW_QUEUE_ALLOC",
    "IOMMU_VDEVICE_ALLOC",
    "IOMMU_VEVENTQ_ALLOC",
    "IOMMU_VIOMMU_ALLOC",
    "VFIO_DEVICE_GET_GFX_DMABUF",
    "VFIO_DEVICE_QUERY_GFX_PLANE",
}


def fields(call, data, pointed=()):
    return decode(call, data, dict(pointed)).fields


def test_every_ioctl_whose_struct_is_in_uapi_is_decoded():
    named = {name for table in NAMES.values() for name in table.values()}
    assert named - set(LAYOUTS) == WITHOUT_A_STRUCT | NOT_KNOWN_HERE


def test_a_struct_has_all_its_fields_padding_included():
    found = decode("VFIO_DEVICE_GET_INFO", struct.pack("<6I", 24, 2, 9, 5, 0, 7), {})
    assert found.struct == "vfio_device_info"
    assert found.fields == {
        "argsz": 24,
        "flags": 2,
        "num_regions": 9,
        "num_irqs": 5,
        "cap_offset": 0,
        "pad": 7,
    }
    assert found.rest == b""


def test_padding_that_the_kernel_does_not_name_is_bytes():
    kind = vfio_data.vfio_iommu_type1_info_cap_migration
    info = vfio_type1.vfio_iommu_type1_info(cap_offset=24)
    capability = bytearray(bytes(kind(flags=1, pgsize_bitmap=4096, max_dirty_bitmap_size=9)))
    capability[:2] = b"\x02\0"
    capability[12:16] = b"\xaa\xbb\0\0"
    (found,) = fields("VFIO_IOMMU_GET_INFO", bytes(info) + bytes(capability))["capabilities"]
    assert found["pad_12"] == b"\xaa\xbb\0\0"
    assert found["pgsize_bitmap"] == 4096


def test_a_struct_that_is_cut_short_has_its_whole_fields_and_the_rest():
    found = decode("VFIO_DEVICE_BIND_IOMMUFD", struct.pack("<IIi", 16, 0, 3) + b"\1\2", {})
    assert found.fields == {"argsz": 16, "flags": 0, "iommufd": 3}
    assert found.rest == b"\1\2"


def test_what_follows_a_struct_is_decoded_by_what_the_struct_says():
    head = struct.pack("<5I", 28, vfio.VFIO_IRQ_SET_DATA_EVENTFD, 2, 0, 2)
    found = decode("VFIO_DEVICE_SET_IRQS", head + struct.pack("<2i", 7, -1) + b"x", {})
    assert found.fields["data"] == [7, -1]
    assert found.rest == b"x"
    boolean = struct.pack("<5I", 22, vfio.VFIO_IRQ_SET_DATA_BOOL, 2, 0, 2)
    assert fields("VFIO_DEVICE_SET_IRQS", boolean + b"\0\1")["data"] == [0, 1]
    hot = struct.pack("<3Ii", 16, 0, 1, 5)
    assert fields("VFIO_DEVICE_PCI_HOT_RESET", hot)["group_fds"] == [5]


def test_no_more_elements_are_decoded_than_are_there():
    head = struct.pack("<3I", 12, 0, 0xFFFFFFFF)
    one = struct.pack("<IHBB", 4, 0, 1, 8)
    found = decode("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", head + one + b"\1\2", {})
    assert found.fields["devices"] == [{"group_id": 4, "segment": 0, "bus": 1, "devfn": 8}]
    assert found.rest == b"\1\2"


def test_a_features_data_is_decoded_by_its_number():
    flags = vfio.VFIO_DEVICE_FEATURE_SET | vfio.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN
    token = fields("VFIO_DEVICE_FEATURE", struct.pack("<II", 24, flags) + TOKEN.bytes)
    assert token["data"] == str(TOKEN)
    wakeup = vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP
    data = struct.pack("<IIiI", 16, wakeup, 6, 0)
    assert fields("VFIO_DEVICE_FEATURE", data)["data"] == {"wakeup_eventfd": 6, "reserved": 0}
    ranges = struct.pack("<4I4Q", 0, 2, 0, 2, 0, 4096, 8192, 4096)
    head = struct.pack("<II", 56, vfio.VFIO_DEVICE_FEATURE_DMA_BUF)
    assert fields("VFIO_DEVICE_FEATURE", head + ranges)["data"]["dma_ranges"] == [
        {"offset": 0, "length": 4096},
        {"offset": 8192, "length": 4096},
    ]
    unknown = decode("VFIO_DEVICE_FEATURE", struct.pack("<II", 10, 0xFFF) + b"\1\2", {})
    assert unknown.rest == b"\1\2"


def test_the_capabilities_of_an_info_are_decoded():
    info = bytes(vfio.vfio_region_info(argsz=1024, cap_offset=32))
    mappable = struct.pack("<HHI", 3, 1, 40)
    areas = struct.pack("<HHIII2Q", 1, 1, 0, 1, 0, 8192, 4096)
    found = decode("VFIO_DEVICE_GET_REGION_INFO", info + mappable + areas + bytes(900), {})
    one, other = found.fields["capabilities"]
    assert one == {"id": 3, "version": 1, "next": 40}
    assert other["areas"] == [{"offset": 8192, "size": 4096}]
    assert (other["id"], other["nr_areas"], found.rest) == (1, 1, b"")


@pytest.mark.parametrize("offset", [4, 33, 1 << 31])
def test_a_broken_chain_of_capabilities_stays_bytes(offset):
    info = vfio.vfio_region_info(argsz=1024, cap_offset=offset)
    found = decode("VFIO_DEVICE_GET_REGION_INFO", bytes(info) + b"\1\2\3", {})
    assert "capabilities" not in found.fields
    assert found.rest == b"\1\2\3"


def test_a_pointer_shows_what_it_leads_to():
    data = struct.pack("<IIiIQ", 24, 1, 3, 0, 0)
    found = fields("VFIO_DEVICE_BIND_IOMMUFD", data, {16: TOKEN.bytes})
    assert found["token_uuid_ptr"] == PointerTo(str(TOKEN))
    kind = iommufd.iommu_ioas_iova_ranges
    where = kind.allowed_iovas.offset
    ranges = struct.pack("<QQ", 0, 0xFFF) + bytes(64)
    found = fields("IOMMU_IOAS_IOVA_RANGES", bytes(kind(size=32)), {where: ranges})
    assert found["allowed_iovas"] == PointerTo([{"start": 0, "last": 0xFFF}])


def test_reserved_fields_of_iommufd_have_the_kernels_spelling():
    kind = iommufd.iommu_ioas_map
    assert "__reserved" in fields("IOMMU_IOAS_MAP", bytes(ctypes.sizeof(kind)))


def test_a_call_without_a_struct_is_not_decoded():
    assert decode("VFIO_DEVICE_RESET", b"\1\2", {}) is None
    assert decode("0x3b99", b"\1\2", {}) is None


def test_a_devices_name_is_a_string():
    found = decode("VFIO_GROUP_GET_DEVICE_FD", b"0000:01:10.0 vf_token=1\0", {})
    assert found.fields == {"name": "0000:01:10.0 vf_token=1"}
    assert decode("VFIO_GROUP_GET_DEVICE_FD", b"no end", {}) is None


@given(st.sampled_from(sorted(LAYOUTS)), st.binary(max_size=200))
def test_any_bytes_can_be_decoded(call, data):
    found = decode(call, data, {})
    assert found.rest == b"" or data.endswith(found.rest)
