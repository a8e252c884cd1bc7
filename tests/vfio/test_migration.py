"""The client: what the migration of a device packs into its calls, and where devices are found."""

import struct

import pytest

from vfio_lab.client.call import Buffer
from vfio_lab.uapi import vfio
from vfio_lab.uapi.vfio_migration import VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_STOP_COPY
from vfio_lab.vfio import Migration, cdev_node, group_node

GET, SET = vfio.VFIO_DEVICE_FEATURE_GET, vfio.VFIO_DEVICE_FEATURE_SET
UUID = "5e1f0c1e-6d3a-4c5e-9a41-0d3c9b2a7f10"


@pytest.fixture
def migration(device):
    return Migration(device)


def answering(state, fd):
    """Return an answer to the feature of the state."""
    return lambda arg: (arg.data[:8] + struct.pack("<Ii", state, fd),)


def test_a_state_is_asked_for_with_room_for_a_descriptor(user, migration):
    user.answers["VFIO_DEVICE_FEATURE"] = answering(VFIO_DEVICE_STATE_STOP, -1)
    assert migration.enter(VFIO_DEVICE_STATE_STOP) is None
    sent = user.argument("VFIO_DEVICE_FEATURE").data
    index = vfio.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE
    assert sent == struct.pack("<IIIi", 16, SET | index, VFIO_DEVICE_STATE_STOP, -1)
    assert migration.state() == VFIO_DEVICE_STATE_STOP


def test_a_state_that_begins_a_stream_gives_its_descriptor(user, migration):
    user.answers["VFIO_DEVICE_FEATURE"] = answering(VFIO_DEVICE_STATE_STOP_COPY, 7)
    begun = migration.enter(VFIO_DEVICE_STATE_STOP_COPY)
    assert begun is not None
    assert begun.fd == 7


def test_ranges_to_log_stand_behind_a_pointer(user, migration):
    migration.start_logging([(0x1000, 0x2000)])
    sent = user.argument("VFIO_DEVICE_FEATURE")
    index = vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_START
    assert sent.data == struct.pack("<IIQIIQ", 32, SET | index, 4096, 1, 0, 0)
    assert sent.pointers == ((24, Buffer(struct.pack("<QQ", 0x1000, 0x2000))),)


def test_a_log_of_nothing_has_no_pointer(user, migration):
    migration.start_logging([])
    assert user.argument("VFIO_DEVICE_FEATURE").pointers == ()


def test_a_device_is_found_by_its_kind_of_name(user):
    bdf = "0000:01:10.0"
    user.links = {
        f"/sys/bus/pci/devices/{bdf}/iommu_group": "../../7",
        f"/sys/bus/mdev/devices/{UUID}/iommu_group": "../../8",
    }
    user.folders = {f"/sys/bus/mdev/devices/{UUID}/vfio-dev": ["vfio3"]}
    assert (group_node(user, bdf), group_node(user, UUID)) == ("7", "8")
    assert cdev_node(user, UUID) == "vfio3"
