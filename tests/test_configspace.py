import pytest

from vfio_lab.client.config_space import ConfigSpace
from vfio_lab.errors import UsageError


class Bytes:
    """Four kilobytes that remember what was written."""

    def __init__(self, content):
        self.memory = bytearray(4096)
        for offset, data in content.items():
            self.memory[offset : offset + len(data)] = data
        self.space = ConfigSpace(
            lambda offset, size: bytes(self.memory[offset : offset + size]), self.write
        )

    def write(self, offset, data):
        self.memory[offset : offset + len(data)] = data
        return len(data)


def test_registers_are_little_endian():
    space = Bytes({0x10: b"\x78\x56\x34\x12"}).space
    assert (space.byte(0x10), space.word(0x10), space.dword(0x10)) == (0x78, 0x5678, 0x12345678)


def test_registers_are_written_in_their_size():
    memory = Bytes({0: b"\xff" * 8})
    memory.space.set_byte(0, 1)
    memory.space.set_word(2, 0x0203)
    memory.space.set_dword(4, 0x04050607)
    assert memory.memory[:8] == b"\x01\xff\x03\x02\x07\x06\x05\x04"


def test_the_chain_is_walked_in_its_order():
    space = Bytes({0x34: b"\x40", 0x40: b"\x01\x80", 0x80: b"\x10\x50", 0x50: b"\x05\x00"}).space
    assert list(space.capabilities().items()) == [(1, 0x40), (0x10, 0x80), (5, 0x50)]
    assert space.capability(5) == 0x50


def test_the_extended_chain_is_walked_past_an_empty_header():
    first, second = 0x150 << 20, 0x0003 | 1 << 16
    space = Bytes({0x100: first.to_bytes(4, "little"), 0x150: second.to_bytes(4, "little")}).space
    assert space.extended_capabilities() == {3: 0x150}
    assert space.extended(3) == 0x150


def test_a_missing_capability_is_named_with_those_that_are_there():
    space = Bytes({0x34: b"\x40", 0x40: b"\x01\x00"}).space
    with pytest.raises(UsageError, match="no capability 0x11") as missing:
        space.capability(0x11)
    assert missing.value.seen == "0x1 at 0x40"


def test_a_chain_that_bites_its_tail_ends():
    space = Bytes({0x34: b"\x40", 0x40: b"\x01\x40"}).space
    assert space.capabilities() == {1: 0x40}
