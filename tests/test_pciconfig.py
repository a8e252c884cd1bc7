"""Capabilities are found by their chains, in either half of config space."""

import struct

import pytest

from lab.errors import AgentError
from lab.pciconfig import CAP_ID_PM, EXT_CAP_ID_SRIOV, capability, extended_capability

MSI, AER = 0x05, 0x01


@pytest.fixture
def config():
    """An igb in small: MSI then power management; AER then SR-IOV."""
    space = bytearray(4096)
    space[0x34] = 0x50
    space[0x50:0x52] = bytes([MSI, 0x40])
    space[0x40:0x42] = bytes([CAP_ID_PM, 0])
    struct.pack_into("<I", space, 0x100, AER | 1 << 16 | 0x160 << 20)
    struct.pack_into("<I", space, 0x160, EXT_CAP_ID_SRIOV | 1 << 16)
    return space


def reader(space):
    return lambda offset, size: bytes(space[offset : offset + size])


def test_a_capability_is_where_the_chain_says(config):
    assert capability(reader(config), CAP_ID_PM) == 0x40
    assert extended_capability(reader(config), EXT_CAP_ID_SRIOV) == 0x160


def test_a_capability_that_is_not_there_has_no_offset(config):
    assert capability(reader(config), 0x11) == 0
    assert extended_capability(reader(config), 0x0D) == 0


def test_a_ring_is_told(config):
    config[0x41] = 0x50
    struct.pack_into("<I", config, 0x160, EXT_CAP_ID_SRIOV | 1 << 16 | 0x100 << 20)
    with pytest.raises(AgentError, match="form a ring"):
        capability(reader(config), 0x11)
    with pytest.raises(AgentError, match="form a ring"):
        extended_capability(reader(config), 0x0D)
