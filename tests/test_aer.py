import struct

from vfio_lab.client.aer import BAD_TLP, COMPLETION_TIMEOUT, inject
from vfio_lab.client.sysfs import PciFunction
from vfio_lab.hw.pci import Bdf


class Root:
    """An administrator who notes what is written."""

    written = b""
    closed = False

    def open_path(self, _path):
        return 7

    def write(self, _fd, data):
        self.written = data

    def close(self, _fd):
        self.closed = True


def test_an_error_is_told_with_the_function_it_is_of():
    root = Root()
    function = PciFunction(Bdf.parse("0001:02:03.4"), root)
    inject(function, uncorrectable=COMPLETION_TIMEOUT, correctable=BAD_TLP)
    assert root.written == struct.pack(
        "<4B7I", 2, 3, 4, 0, COMPLETION_TIMEOUT, BAD_TLP, 0, 0, 0, 0, 1
    )
    assert root.closed
