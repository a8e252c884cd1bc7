"""What does a device that logs its DMA accept to log and to report?

include/uapi/linux/vfio.h, VFIO_DEVICE_FEATURE_DMA_LOGGING_START and what follows. Kernel:
drivers/vfio/vfio_main.c, vfio_ioctl_device_feature_logging_start() and ..._report(). The device,
samples/vfio-mdev/mtty.c, does no DMA, so its log is always empty.
"""

from errno import E2BIG, EINVAL, EOVERFLOW

import pytest

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.uapi import vfio
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import all_refused, refused

pytestmark = pytest.mark.usefixtures("mocks")
SIZE = 4 * PAGE_BYTES
MOST_RANGES = 256
LAST_PAGE = (1 << 64) - PAGE_BYTES


@claim("T40")
def test_ranges_of_whole_pages_are_logged(migration):
    """Ranges to log must be whole pages of the size that is asked for: EINVAL if not."""
    all_refused(EINVAL, migration.start_logging, [[(1, SIZE)], [(0, SIZE - 1)]])
    with refused(EINVAL):
        migration.start_logging([(PAGE_BYTES, SIZE)], page_size=2 * PAGE_BYTES)
    migration.start_logging([(0, SIZE), (2 * SIZE, SIZE)])
    migration.stop_logging()


@claim("T41")
def test_ranges_to_log_do_not_overlap(migration):
    """Ranges to log may touch but not overlap: EINVAL."""
    with refused(EINVAL):
        migration.start_logging([(0, SIZE), (SIZE - PAGE_BYTES, SIZE)])
    migration.start_logging([(0, SIZE), (SIZE, SIZE)])


@claim("T42")
def test_ranges_to_log_end_within_the_address_space(migration):
    """A range to log that ends beyond 64 bits fails with EOVERFLOW."""
    with refused(EOVERFLOW):
        migration.start_logging([(LAST_PAGE, 2 * PAGE_BYTES)])
    migration.start_logging([(LAST_PAGE - PAGE_BYTES, PAGE_BYTES)])


@claim("T43")
def test_ranges_to_log_are_at_most_a_page_full(migration):
    """No range to log is EINVAL, more than 256 are E2BIG."""
    ranges = [(2 * SIZE * index, SIZE) for index in range(MOST_RANGES + 1)]
    with refused(EINVAL):
        migration.start_logging([])
    with refused(E2BIG):
        migration.start_logging(ranges)
    migration.start_logging(ranges[:-1])


@claim("T44")
def test_a_report_has_a_bit_for_each_page(user, migration):
    """The page size of a report must be a power of two of 4 KiB or more: EINVAL if not."""
    bitmap = user.allocate(PAGE_BYTES)
    migration.start_logging([(0, SIZE)])
    with refused(EINVAL):
        migration.report_log(0, SIZE, bitmap, page_size=2048)
    with refused(EINVAL):
        migration.report_log(0, SIZE, bitmap, page_size=3 * PAGE_BYTES)
    with refused(EOVERFLOW):
        migration.report_log(LAST_PAGE, SIZE, bitmap)
    migration.report_log(0, SIZE, bitmap, page_size=2 * PAGE_BYTES)


@claim("T45")
def test_a_report_clears_no_bit(user, migration):
    """A report sets bits of the user's bitmap and clears none."""
    bitmap = user.allocate(PAGE_BYTES)
    user.poke(bitmap, b"\xa5")
    migration.start_logging([(0, SIZE)])
    migration.report_log(0, SIZE, bitmap)
    assert user.peek(bitmap, 1) == b"\xa5"


@claim("T46")
def test_the_log_is_started_and_read_but_not_otherwise(migration):
    """Starting and stopping the log can be set only, its report can be read only."""
    device, probe = migration.device, vfio.VFIO_DEVICE_FEATURE_PROBE
    get, put = vfio.VFIO_DEVICE_FEATURE_GET, vfio.VFIO_DEVICE_FEATURE_SET
    controls = (
        vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
        vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
    )
    all_refused(EINVAL, lambda index: device.feature(index, probe | get), controls)
    with refused(EINVAL):
        device.feature(vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, probe | put)
    device.feature(vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, probe | get)
    device.feature(controls[0], probe | put)
