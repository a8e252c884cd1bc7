"""The client: what a device packs into its calls, and what it reads from the answers."""

import struct
import uuid

import pytest

from vfio_lab.client.call import Buffer
from vfio_lab.errors import AgentError
from vfio_lab.uapi import vfio
from vfio_lab.vfio import Group, Iommufd
from vfio_lab.vfio.capabilities import capabilities
from vfio_lab.vfio.group import GroupDevice
from vfio_lab.vfio.hot_reset import hot_reset_info_bytes, left_in_buffer
from vfio_lab.vfio.paths import open_affected_groups

VF = "0000:01:10.0"
TOKEN = uuid.UUID("2ab74924-c335-45f4-9b16-8569e5b08258")


def test_binding_without_a_token_tells_the_size_every_kernel_knows(user, cdev):
    context = Iommufd(user)
    cdev.bind_iommufd(context)
    sent = user.argument("VFIO_DEVICE_BIND_IOMMUFD")
    assert sent.data == struct.pack("<IIiIQ", 16, 0, context.fd, 0, 0)
    assert sent.pointers == ()
    assert cdev.iommufd is context


def test_binding_with_a_token_points_at_its_bytes_in_text_order(user, cdev):
    cdev.bind_iommufd(5, TOKEN)
    sent = user.argument("VFIO_DEVICE_BIND_IOMMUFD")
    assert sent.data == struct.pack("<IIiIQ", 24, vfio.VFIO_DEVICE_BIND_FLAG_TOKEN, 5, 0, 0)
    assert sent.pointers == ((16, Buffer(bytes.fromhex(TOKEN.hex))),)


def test_bind_arguments_can_be_bent(user, cdev):
    cdev.bind_iommufd(-1, argsz=15, flags=2)
    assert user.argument("VFIO_DEVICE_BIND_IOMMUFD").data[:12] == struct.pack("<IIi", 15, 2, -1)
    cdev.bind_iommufd(5, token_pointer=64)
    assert user.argument("VFIO_DEVICE_BIND_IOMMUFD").data[16:] == struct.pack("<Q", 64)
    cdev.bind_iommufd(5, tail=b"\1")
    sent = user.argument("VFIO_DEVICE_BIND_IOMMUFD").data
    assert (len(sent), sent[0], sent[-1]) == (25, 25, 1)


def test_a_lying_size_gets_no_more_memory_than_a_page_or_so(user, device):
    device.get_info(argsz=0xFFFF_FFFF)
    sent = user.argument("VFIO_DEVICE_GET_INFO").data
    assert sent[:4] == b"\xff\xff\xff\xff"
    assert len(sent) == 1 << 16


def test_a_bad_pointer_is_passed_as_it_is(user, device):
    device.get_info(pointer=0)
    assert user.argument("VFIO_DEVICE_GET_INFO") == 0


def test_features_pack_header_and_data(user, device):
    device.set_vf_token(TOKEN)
    assert user.argument("VFIO_DEVICE_FEATURE").data == (
        struct.pack("<II", 24, vfio.VFIO_DEVICE_FEATURE_SET) + TOKEN.bytes
    )
    device.probe_feature(3, vfio.VFIO_DEVICE_FEATURE_SET)
    assert user.argument("VFIO_DEVICE_FEATURE").data == struct.pack("<II", 8, 0x60003)


def test_eventfds_are_set_as_signed_numbers(user, device):
    device.set_irq_eventfds(vfio.VFIO_PCI_MSIX_IRQ_INDEX, [9, -1], start=2)
    assert user.argument("VFIO_DEVICE_SET_IRQS").data == struct.pack(
        "<IIIIIii", 28, 0x24, 2, 2, 2, 9, -1
    )
    device.disable_irqs(vfio.VFIO_PCI_MSIX_IRQ_INDEX)
    assert user.argument("VFIO_DEVICE_SET_IRQS").data == struct.pack("<IIIII", 20, 0x21, 2, 0, 0)


def test_hot_reset_lists_groups_or_nothing(user, device):
    with Group(user, 7) as group:
        device.hot_reset([group, 99])
    packed = struct.pack("<IIIii", 20, 0, 2, group_fd(user), 99)
    assert user.argument("VFIO_DEVICE_PCI_HOT_RESET").data == packed
    device.hot_reset()
    assert user.argument("VFIO_DEVICE_PCI_HOT_RESET").data == struct.pack("<III", 12, 0, 0)
    device.hot_reset([1], count=5, flags=1, argsz=11)
    bent = struct.pack("<IIIi", 11, 1, 5, 1)
    assert user.argument("VFIO_DEVICE_PCI_HOT_RESET").data == bent


def test_an_execute_entered_is_the_execute_made(user, device):
    device.start_hot_reset([1, 2])
    sent = user.argument("VFIO_DEVICE_PCI_HOT_RESET").data
    device.hot_reset([1, 2])
    assert user.argument("VFIO_DEVICE_PCI_HOT_RESET").data == sent
    device.start_reset()
    assert user.argument("VFIO_DEVICE_RESET") == 0


def test_affected_groups_are_the_devices_own_and_each_other_once(user):
    groups = {"0000:01:00.0": 7, "0000:01:00.1": 8, "0000:01:00.2": 8}
    user.links = {f"/sys/bus/pci/devices/{bdf}/iommu_group": f"../{n}" for bdf, n in groups.items()}
    entries = (struct.pack("<IHBB", n, 0, 1, i) for i, n in enumerate(groups.values()))
    listed = struct.pack("<III", 36, 0, 3) + b"".join(entries)
    user.answers["VFIO_DEVICE_GET_PCI_HOT_RESET_INFO"] = lambda _: (listed,)
    own = Group(user, 7)
    device = GroupDevice(user, user._new_fd("device"), "0000:01:00.0", own)
    first, second = open_affected_groups(device)
    assert first is own
    assert second.label == "/dev/vfio/8"


def group_fd(user):
    """Return the only group's descriptor, which by now is closed."""
    return user.next_fd - 1


def test_hot_reset_info_names_functions_and_owners(device, user):
    def answer(_arg):
        entries = struct.pack("<IHBB", 5, 0, 1, 0) + struct.pack("<iHBB", -1, 0, 1, 0x82)
        return (struct.pack("<III", 28, 1, 2) + entries,)

    user.answers["VFIO_DEVICE_GET_PCI_HOT_RESET_INFO"] = answer
    info = device.hot_reset_info()
    assert (info.flags, info.count) == (vfio.VFIO_PCI_HOT_RESET_FLAG_DEV_ID, 2)
    assert info.bdfs == {"0000:01:00.0", "0000:01:10.2"}
    assert [one.devid for one in info.devices] == [5, vfio.VFIO_PCI_DEVID_NOT_OWNED]
    assert info.devids == {"0000:01:00.0": 5, "0000:01:10.2": vfio.VFIO_PCI_DEVID_NOT_OWNED}
    assert left_in_buffer(*answer(None)) == info
    sent = user.argument("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO").data
    assert len(sent) == struct.unpack_from("<I", sent)[0] == hot_reset_info_bytes() == 12 + 32 * 8


def test_what_stood_in_the_fields_of_info_is_sent(device, user):
    device.hot_reset_info(argsz=12, flags=1, count=2)
    sent = user.argument("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO").data
    assert sent == struct.pack("<III", 12, 1, 2)


def test_regions_are_reached_where_the_kernel_says_they_are(user, device):
    user.answers["VFIO_DEVICE_GET_REGION_INFO"] = lambda _: (
        struct.pack("<IIIIQQ", 32, 3, 7, 0, 4096, 7 << 40),
    )
    assert device.read_config(0x10, 4) == bytes(4)
    assert user.calls[-1] == ("pread", (7 << 40) + 0x10, 4)


def test_a_device_is_sent_to_sleep_with_an_eventfd_or_without(user, cdev):
    cdev.enter_low_power()
    assert user.argument("VFIO_DEVICE_FEATURE").data == struct.pack("<II", 8, 1 << 17 | 3)
    cdev.enter_low_power(wakeup=9)
    assert user.argument("VFIO_DEVICE_FEATURE").data == struct.pack("<IIiI", 16, 1 << 17 | 4, 9, 0)
    cdev.exit_low_power()
    assert user.argument("VFIO_DEVICE_FEATURE").data == struct.pack("<II", 8, 1 << 17 | 5)


def test_a_bar_is_exported_in_ranges_and_mapped_by_its_descriptor(user, cdev):
    user.answers["VFIO_DEVICE_FEATURE"] = 9
    assert cdev.export_dma_buf(1, [(0x1000, 0x2000), (0x4000, 0x1000)]) == 9
    sent = user.argument("VFIO_DEVICE_FEATURE").data
    head = struct.pack("<6I", 56, 1 << 16 | 11, 1, 0o2000002, 0, 2)
    assert sent == head + struct.pack("<4Q", 0x1000, 0x2000, 0x4000, 0x1000)
    with Iommufd(user) as context:
        assert context.ioas_map_file(3, 9, 0, 0x1000, 0x5000) == 0x5000
    sent = user.argument("IOMMU_IOAS_MAP_FILE").data
    assert sent == struct.pack("<IIIiQQQ", 40, 7, 3, 9, 0, 0x1000, 0x5000)


def test_attach_announces_a_pasid_only_when_there_is_one(user, cdev):
    cdev.attach_iommufd_pt(4)
    assert user.argument("VFIO_DEVICE_ATTACH_IOMMUFD_PT").data[0] == 12
    cdev.attach_iommufd_pt(4, flags=vfio.VFIO_DEVICE_ATTACH_PASID, pasid=1)
    assert user.argument("VFIO_DEVICE_ATTACH_IOMMUFD_PT").data[0] == 16


def test_capability_chains_are_walked_and_broken_ones_told():
    chain = bytes(8) + struct.pack("<HHI", 3, 1, 20) + b"abcd" + struct.pack("<HHI", 1, 2, 0)
    found = capabilities(chain, 8)
    assert [(one.id, one.version) for one in found] == [(3, 1), (1, 2)]
    assert found[0].data.endswith(b"abcd")
    assert capabilities(chain, 0) == ()
    with pytest.raises(AgentError, match="chain"):
        capabilities(bytes(8) + struct.pack("<HHI", 3, 1, 8), 8)
    with pytest.raises(AgentError, match="chain"):
        capabilities(chain, 4096)
