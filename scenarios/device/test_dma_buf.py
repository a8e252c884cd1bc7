"""What can be done with a BAR exported as a dma-buf, and for how long?

Kernel: drivers/vfio/pci/vfio_pci_dmabuf.c. The dma-buf is mapped for another device, which reads
the registers through it: the result shows whether the mapping exists.
"""

import functools
from errno import EFAULT, EINVAL, ENODEV, EOPNOTSUPP, EOVERFLOW

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.igb import SOURCE, Page
from vfio_lab.drivers.intel_nic import MTA
from vfio_lab.uapi import vfio
from vfio_lab.uapi.pci_regs import (
    PCI_CAP_ID_EXP,
    PCI_CAP_ID_PM,
    PCI_COMMAND,
    PCI_COMMAND_MEMORY,
    PCI_EXP_DEVCTL,
    PCI_EXP_DEVCTL_BCR_FLR,
    PCI_PM_CTRL,
)
from vfio_lab.vfio import Device
from vfio_lab_pytest.arguments import answered
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import shown_config
from vfio_lab_pytest.power import D0, D3HOT
from vfio_lab_pytest.verdicts import all_refused, refused

pytestmark = pytest.mark.topology("igb-pair")
MESSAGE = bytes(range(64))
BLANK = bytes(64)
BAR_BYTES = 0x2_0000
ELSEWHERE = 0x90_0000
LAST_PAGE = (1 << 64) - PAGE_BYTES
TABLE_PAGE, TABLE_OFFSET = MTA & -PAGE_BYTES, MTA % PAGE_BYTES
PAGE = (0, PAGE_BYTES)
GET_DMA_BUF = vfio.VFIO_DEVICE_FEATURE_GET | vfio.VFIO_DEVICE_FEATURE_DMA_BUF
OTHER_PAGE = (2 * PAGE_BYTES, PAGE_BYTES)
MALFORMED = {
    "off a page": {"region": 0, "ranges": [(1, PAGE_BYTES)]},
    "half a page": {"region": 0, "ranges": [(0, PAGE_BYTES // 2)]},
    "nothing": {"region": 0, "ranges": [(0, 0)]},
    "no range": {"region": 0, "ranges": []},
    "a page and nothing": {"region": 0, "ranges": [PAGE, (PAGE_BYTES, 0)]},
    "a flag": {"region": 0, "ranges": [PAGE], "flags": 1},
    "beyond the BAR": {"region": 0, "ranges": [(BAR_BYTES, PAGE_BYTES)]},
    "across its end": {"region": 0, "ranges": [(BAR_BYTES - PAGE_BYTES, 2 * PAGE_BYTES)]},
    "I/O ports": {"region": 2, "ranges": [PAGE]},
    "half of all there is": {"region": 0, "ranges": [(0, 1 << 63)]},
    "more than all there is": {"region": 0, "ranges": [(0, 1 << 63), (0, 1 << 63)]},
}
ABSENT = {
    "no BAR": {"region": 5, "ranges": [PAGE]},
    "the ROM": {"region": 6, "ranges": [PAGE]},
    "configuration space": {"region": 7, "ranges": [PAGE]},
}


def function_level_reset(device):
    """Reset a device by the bit in its configuration space."""
    config = shown_config(device)
    control = config.capability(PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL
    config.set_word(control, PCI_EXP_DEVCTL_BCR_FLR)


@pytest.fixture
def exporter(user, other_pf):
    """Another 82576 whose multicast table holds MESSAGE."""
    device = user.open(other_pf, access="cdev")
    device.write_region(0, MTA, MESSAGE)
    return device


@pytest.fixture
def map_exported(exporter, ioas_copier, ioas):
    """Map a page of the exporter's registers at an IOVA of the PF, through one dma-buf."""
    dma_buf = exporter.export_dma_buf(0, [(TABLE_PAGE, PAGE_BYTES)])
    iommufd = ioas_copier.device.iommufd
    return functools.partial(iommufd.ioas_map_file, ioas, dma_buf, 0, PAGE_BYTES)


@pytest.fixture
def reader(user, ioas_copier, ioas, map_exported):
    """The PF, which reads the exporter's table where it would read memory."""
    ioas_copier.device.iommufd.ioas_unmap(ioas, SOURCE, PAGE_BYTES)
    map_exported(iova=SOURCE)
    ioas_copier.source = Page(user.allocate(PAGE_BYTES), SOURCE + TABLE_OFFSET)
    return ioas_copier


@claim("F42")
def test_a_dma_buf_is_revoked_with_memory_decode(exporter, reader, map_exported):
    """Turning off memory decode revokes a dma-buf until it is mapped again."""
    exporter.write_config(PCI_COMMAND, PCI_COMMAND_MEMORY.to_bytes(2, "little"))
    assert reader.copy(BLANK) == MESSAGE
    exporter.write_config(PCI_COMMAND, bytes(2))
    assert reader.copy(BLANK) != MESSAGE
    with refused(ENODEV):
        map_exported(iova=ELSEWHERE)
    exporter.write_config(PCI_COMMAND, PCI_COMMAND_MEMORY.to_bytes(2, "little"))
    assert reader.copy(BLANK) != MESSAGE
    map_exported(iova=ELSEWHERE)
    reader.source = Page(reader.source.address, ELSEWHERE + TABLE_OFFSET)
    assert reader.copy(BLANK) == MESSAGE


@claim("F42")
@pytest.mark.parametrize("reset", [Device.reset, function_level_reset], ids=["call", "bit"])
def test_a_dma_buf_is_revoked_by_a_reset(exporter, reader, map_exported, reset):
    """A reset revokes a dma-buf until it is mapped again."""
    assert reader.copy(BLANK) == MESSAGE
    reset(exporter)
    exporter.write_region(0, MTA, MESSAGE)
    assert reader.copy(BLANK) != MESSAGE
    map_exported(iova=ELSEWHERE)
    reader.source = Page(reader.source.address, ELSEWHERE + TABLE_OFFSET)
    assert reader.copy(BLANK) == MESSAGE


@claim("F42")
def test_a_dma_buf_is_revoked_by_low_power_and_by_a_close(exporter, other_pf, map_exported):
    """Low power revokes a dma-buf until the device wakes, and a close revokes it for ever."""
    exporter.enter_low_power()
    with refused(ENODEV):
        map_exported(iova=ELSEWHERE)
    exporter.exit_low_power()
    map_exported(iova=ELSEWHERE)
    exporter.close()
    with refused(ENODEV):
        map_exported(iova=SOURCE + PAGE_BYTES)
    other_pf.unbind()
    assert other_pf.driver is None


@claim("F42")
def test_a_dma_buf_is_revoked_while_its_device_is_in_d3(exporter, map_exported):
    """A dma-buf cannot be mapped while its device is in D3hot."""
    config = shown_config(exporter)
    control = config.capability(PCI_CAP_ID_PM) + PCI_PM_CTRL
    config.set_word(control, D3HOT)
    with refused(ENODEV):
        map_exported(iova=ELSEWHERE)
    config.set_word(control, D0)
    assert map_exported(iova=ELSEWHERE)


@claim("F42")
def test_a_dma_buf_exported_with_decode_off_maps_after_decode_is_on(exporter, ioas_copier, ioas):
    """A dma-buf exported while memory decode is off can be mapped after it is turned on."""
    exporter.write_config(PCI_COMMAND, bytes(2))
    dma_buf = exporter.export_dma_buf(0, [PAGE])
    iommufd = ioas_copier.device.iommufd
    with refused(ENODEV):
        iommufd.ioas_map_file(ioas, dma_buf, 0, PAGE_BYTES, ELSEWHERE)
    exporter.write_config(PCI_COMMAND, PCI_COMMAND_MEMORY.to_bytes(2, "little"))
    assert iommufd.ioas_map_file(ioas, dma_buf, 0, PAGE_BYTES, ELSEWHERE)


@claim("F42")
def test_a_closed_dma_buf_does_not_hold_the_device(exporter, other_pf):
    """A closed dma-buf does not prevent its device from being closed and unbound."""
    exporter.user.close(exporter.export_dma_buf(0, [PAGE]))
    exporter.close()
    other_pf.unbind()
    assert other_pf.driver is None


@claim("F42")
def test_an_export_with_an_unreadable_argument_fails(exporter):
    """An export whose argument cannot be read fails with EFAULT."""
    feature = vfio.vfio_device_feature(argsz=PAGE_BYTES, flags=GET_DMA_BUF)
    all_refused(EFAULT, answered(exporter, {"FEATURE": (vfio.VFIO_DEVICE_FEATURE, feature)}))
    assert exporter.export_dma_buf(0, [PAGE]) > 0


@claim("F42")
def test_only_pages_of_a_memory_bar_are_exported(exporter, ioas_copier, ioas):
    """Only whole pages of a memory BAR can be exported."""
    all_refused(EINVAL, exporter.export_dma_buf, MALFORMED)
    all_refused(ENODEV, exporter.export_dma_buf, ABSENT)
    with refused(EOVERFLOW):
        exporter.export_dma_buf(0, [(LAST_PAGE, PAGE_BYTES)])
    two = exporter.export_dma_buf(0, [PAGE, OTHER_PAGE])
    with refused(EOPNOTSUPP):
        ioas_copier.device.iommufd.ioas_map_file(ioas, two, 0, PAGE_BYTES, ELSEWHERE)
    one = exporter.export_dma_buf(0, [OTHER_PAGE])
    assert ioas_copier.device.iommufd.ioas_map_file(ioas, one, 0, PAGE_BYTES, ELSEWHERE)
