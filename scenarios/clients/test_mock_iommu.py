"""Does the mock IOMMU do what its selftests rely on?

Kernel: drivers/iommu/iommufd/selftest.c, iommufd_test_dmabuf_get().
"""

import struct

import pytest

from vfio_lab.client.call import Buffer
from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.uapi.syscalls import O_CLOEXEC
from vfio_lab.vfio import Iommufd
from vfio_lab_pytest.claims import claim

pytestmark = pytest.mark.usefixtures("mock_iommu", "iommufd")
# Source: drivers/iommu/iommufd/iommufd_test.h.
IOMMU_TEST_CMD, TEST_CMD_BYTES = ord(";") << 8 | 0x80 + 32, 72
IOMMU_TEST_OP_DMABUF_GET = 22


def mock_dma_buf(iommufd, size):
    """Make a dma-buf of the mock, and return what the call returns."""
    asked = struct.pack("<6I", TEST_CMD_BYTES, IOMMU_TEST_OP_DMABUF_GET, 0, 0, size, O_CLOEXEC)
    room = Buffer(asked.ljust(TEST_CMD_BYTES, b"\0"), out=True)
    return iommufd.user.ioctl(iommufd.fd, IOMMU_TEST_CMD, room, name="IOMMU_TEST_CMD").value


def open_dma_bufs(root, user):
    """Return the descriptors of a user's dma-bufs."""
    folder = f"/proc/{user.pid}/fd"
    return [fd for fd in root.listdir(folder) if "dmabuf" in root.readlink(f"{folder}/{fd}")]


@claim("G39")
def test_the_descriptor_of_a_dma_buf_is_not_returned(root, user):
    """The mock makes a dma-buf, and returns 0 instead of the descriptor."""
    iommufd = Iommufd(user)
    assert open_dma_bufs(root, user) == []
    assert mock_dma_buf(iommufd, PAGE_BYTES) == 0
    (fd,) = open_dma_bufs(root, user)
    assert int(fd) > 0
