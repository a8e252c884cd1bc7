from vfio_lab.drivers.e1000 import E1000, ICR, ICS, IMS, MDIO_DONE
from vfio_lab.drivers.igb import EICR, EICS, EIMS, GPIE, Igb
from vfio_lab.drivers.intel_nic import MTA, IntelNic


class Registers:
    """Stands where an open device does: keeps what is written to BAR 0."""

    def __init__(self):
        self.seen = []

    def read_region(self, region, offset, size):
        self.seen.append(("read", region, offset))
        return (0x12345678).to_bytes(size, "little")

    def write_region(self, region, offset, data):
        self.seen.append((region, offset, int.from_bytes(data, "little")))
        return len(data)


def test_registers_are_words_of_bar_0():
    device = Registers()
    assert IntelNic(device).read(MTA) == 0x12345678
    IntelNic(device).write(MTA, 0xA5)
    assert device.seen == [("read", 0, MTA), (0, MTA, 0xA5)]


def test_an_interrupt_is_enabled_and_raised_and_taken_back():
    device = Registers()
    E1000(device).interrupt()
    E1000(device).acknowledge()
    assert device.seen == [(0, IMS, MDIO_DONE), (0, ICS, MDIO_DONE), ("read", 0, ICR)]


def test_a_vector_is_forgotten_enabled_and_raised():
    device = Registers()
    Igb(device).interrupt_vector(3)
    assert device.seen == [(0, GPIE, 16), (0, EICR, 8), (0, EIMS, 8), (0, EICS, 8)]
