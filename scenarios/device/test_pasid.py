"""Can a device be attached under a PASID?

Kernel: drivers/vfio/device_cdev.c, vfio_df_ioctl_attach_pt() and vfio_df_ioctl_detach_pt().
"""

from errno import EINVAL

from fixtures.claims import claim
from fixtures.verdicts import refused
from lab.uapi.vfio import VFIO_DEVICE_ATTACH_PASID, VFIO_DEVICE_DETACH_PASID

MESSAGE = bytes(range(64))


@claim("F59")
def test_a_device_without_pasids_is_attached_under_none(ioas_copier, ioas):
    """Attaching with a PASID is EINVAL and leaves the device attached as it was."""
    with refused(EINVAL):
        ioas_copier.device.attach_iommufd_pt(ioas, flags=VFIO_DEVICE_ATTACH_PASID, pasid=1)
    assert ioas_copier.copy(MESSAGE) == MESSAGE


@claim("F99")
def test_detaching_a_pasid_detaches_nothing_else(ioas_copier):
    """A PASID that is not attached is detached for nothing, and takes room in the argument."""
    device = ioas_copier.device
    device.detach_iommufd_pt(flags=VFIO_DEVICE_DETACH_PASID, pasid=1)
    with refused(EINVAL):
        device.detach_iommufd_pt(flags=VFIO_DEVICE_DETACH_PASID, argsz=8)
    with refused(EINVAL):
        device.detach_iommufd_pt(flags=VFIO_DEVICE_DETACH_PASID << 1)
    assert ioas_copier.copy(MESSAGE) == MESSAGE
