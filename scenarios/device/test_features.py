"""Which device features does vfio-pci have?

Kernel: drivers/vfio/vfio_main.c, vfio_ioctl_device_feature(); drivers/vfio/pci/vfio_pci_core.c,
vfio_pci_core_ioctl_feature().
"""

import functools
from errno import EINVAL, ENOTTY

from vfio_lab.uapi import vfio
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.tokens import TOKEN
from vfio_lab_pytest.verdicts import outcome, refused

GET, PROBE, SET = (
    vfio.VFIO_DEVICE_FEATURE_GET,
    vfio.VFIO_DEVICE_FEATURE_PROBE,
    vfio.VFIO_DEVICE_FEATURE_SET,
)
LOW_POWER = {
    vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
    vfio.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
    vfio.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
}
MIGRATION = {
    vfio.VFIO_DEVICE_FEATURE_MIGRATION,
    vfio.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
    vfio.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
}
DMA_LOGGING = {
    vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
    vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
    vfio.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
}
OTHERS = {vfio.VFIO_DEVICE_FEATURE_BUS_MASTER, vfio.VFIO_DEVICE_FEATURE_ZPCI_ERROR, 14, 0xFFFF}
ABSENT = MIGRATION | DMA_LOGGING | OTHERS
ROOM = bytes(64)


def answers(device, indexes, flags):
    """Return what a device says to each feature."""
    return {
        index: outcome(functools.partial(device.feature, index, flags, ROOM)) for index in indexes
    }


@claim("F41")
def test_a_feature_that_a_device_lacks_is_enotty(device):
    """PROBE, GET and SET of a feature that a device does not have fail with ENOTTY."""
    for_each = dict.fromkeys(ABSENT, ENOTTY)
    assert answers(device, ABSENT, PROBE) == for_each
    assert answers(device, ABSENT, GET) == for_each
    assert answers(device, ABSENT, SET) == for_each
    assert answers(device, LOW_POWER, PROBE) == dict.fromkeys(LOW_POWER, 0)


@claim("F41")
def test_a_vf_has_the_features_of_any_device(pf_user, vf_user, pf, vf):
    """A VF has all features of other devices and no token feature."""
    pf_fd, vf_fd = pf_user.open(pf, TOKEN), vf_user.open(vf, TOKEN)
    assert answers(vf_fd, LOW_POWER, PROBE | SET) == dict.fromkeys(LOW_POWER, 0)
    assert answers(vf_fd, ABSENT, PROBE) == dict.fromkeys(ABSENT, ENOTTY)
    pf_fd.probe_feature(vfio.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN)
    with refused(ENOTTY):
        vf_fd.probe_feature(vfio.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN)


@claim("F95")
def test_without_migration_the_second_precopy_feature_is_invalid(device):
    """Without migration support, only the second precopy feature fails with EINVAL."""
    feature = {vfio.VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2}
    assert answers(device, feature, PROBE) == dict.fromkeys(feature, EINVAL)
    assert answers(device, feature, SET) == dict.fromkeys(feature, EINVAL)
