import struct

from vfio_lab.drivers.igb import (
    BAR_BYTES,
    DESCRIPTOR_BYTES,
    MDIC,
    PAGE_BYTES,
    RING_ENTRIES,
    RX_RING_OFFSET,
    SOURCE,
    STATUS,
    STATUS_LU,
    TARGET,
    TDH,
    TDT,
    UNTOUCHED,
    Loopback,
)

MESSAGE = bytes(range(60))


class Adapter:
    """A user whose memory holds registers of a device that copies once it is told to."""

    name = "user"

    def __init__(self):
        self.memory = bytearray(1 << 20)
        self.unmapped = []

    def munmap(self, address, size):
        self.unmapped.append((address, size))

    def allocate(self, _size):
        return 0

    def peek(self, address, size, _width=0):
        return bytes(self.memory[address : address + size])

    def poke(self, address, data, width=0):
        self.memory[address : address + len(data)] = data
        if width:
            self.obey(address - Device.bar, data)

    def obey(self, register, data):
        if register == MDIC:
            self.memory[Device.bar + STATUS] |= STATUS_LU
        if register == TDT:
            self.memory[Device.bar + TDH] = data[0]
            self.copy((data[0] - 1) % RING_ENTRIES)

    def copy(self, index):
        at = index * DESCRIPTOR_BYTES
        source, command, _ = struct.unpack_from("<QII", self.memory, at)
        target, _ = struct.unpack_from("<QQ", self.memory, RX_RING_OFFSET + at)
        assert (source, target) == (SOURCE, TARGET)
        length = command & 0xFFFF
        self.memory[2 * PAGE_BYTES : 2 * PAGE_BYTES + length] = self.peek(PAGE_BYTES, length)


class Device:
    """An open device whose registers are in the adapter's memory."""

    bar = 1 << 16

    def __init__(self, user):
        self.user = user
        self.command = b""

    def mmap_region(self, _index, _size):
        return self.bar

    def write_config(self, _offset, data):
        self.command = data


def test_the_loopback_hands_its_descriptors_over_and_returns_what_was_copied():
    loopback = Loopback(device := Device(Adapter()))
    loopback.start()
    assert device.command == b"\x06\x00"
    assert [loopback.copy(MESSAGE) for _ in range(9)] == [MESSAGE] * 9


def test_a_closed_loopback_has_unmapped_what_it_mapped_once():
    adapter = Adapter()
    with Loopback(Device(adapter)) as loopback:
        assert adapter.unmapped == []
    loopback.close()
    assert adapter.unmapped == [(Device.bar, BAR_BYTES), (0, 3 * PAGE_BYTES)]


class Deaf(Adapter):
    """An adapter whose device takes descriptors and copies nothing."""

    def copy(self, index):
        """Copy nothing."""


def test_what_the_device_does_not_write_stays_untouched():
    loopback = Loopback(Device(Deaf()))
    loopback.start()
    assert loopback.copy(MESSAGE) == UNTOUCHED * len(MESSAGE)
