"""Which attach and detach calls are refused, and what does a refused one leave behind?

Kernel: drivers/vfio/device_cdev.c, vfio_df_ioctl_attach_pt() and vfio_df_ioctl_detach_pt().
"""

import functools
from errno import EFAULT, EINVAL

from vfio_lab.client.memory import NOWHERE, at_the_edge, read_only
from vfio_lab.drivers.igb import UNTOUCHED
from vfio_lab.uapi.layout import offset_of
from vfio_lab.uapi.vfio import (
    VFIO_DEVICE_ATTACH_PASID,
    VFIO_DEVICE_DETACH_PASID,
    vfio_device_attach_iommufd_pt,
    vfio_device_detach_iommufd_pt,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import all_refused, refused

MESSAGE = bytes(range(64))
NOTHING = UNTOUCHED * len(MESSAGE)
ATTACH_BYTES = offset_of(vfio_device_attach_iommufd_pt, "pasid")
DETACH_BYTES = ATTACH_BYTES - 4
MALFORMED_ATTACHES = {
    "short": {"argsz": ATTACH_BYTES - 1},
    "without room for its PASID": {"flags": VFIO_DEVICE_ATTACH_PASID, "argsz": ATTACH_BYTES},
    "of an unknown kind": {"flags": VFIO_DEVICE_ATTACH_PASID << 1},
}
MALFORMED_DETACHES = {
    "short": {"argsz": DETACH_BYTES - 1},
    "without room for its PASID": {"flags": VFIO_DEVICE_DETACH_PASID, "argsz": DETACH_BYTES},
    "of an unknown kind": {"flags": VFIO_DEVICE_DETACH_PASID << 1},
}


@claim("F100")
def test_a_malformed_attach_is_refused(ioas_copier):
    """A malformed attach is refused and leaves the device where it was."""
    device = ioas_copier.device
    attach = functools.partial(device.attach_iommufd_pt, device.iommufd.ioas_alloc())
    all_refused(EINVAL, attach, MALFORMED_ATTACHES)
    with refused(EFAULT):
        attach(pointer=NOWHERE)
    assert ioas_copier.copy(MESSAGE) == MESSAGE
    attach()
    assert ioas_copier.copy(MESSAGE) == NOTHING


@claim("F100")
def test_a_malformed_detach_is_refused(ioas_copier):
    """A malformed detach is refused and leaves the device where it was."""
    detach = ioas_copier.device.detach_iommufd_pt
    all_refused(EINVAL, detach, MALFORMED_DETACHES)
    with refused(EFAULT):
        detach(pointer=NOWHERE)
    assert ioas_copier.copy(MESSAGE) == MESSAGE
    detach()
    assert ioas_copier.copy(MESSAGE) == NOTHING


@claim("F100")
def test_a_detached_device_can_be_detached_again(ioas_copier, ioas):
    """A detached device can be detached again, and attached later."""
    device = ioas_copier.device
    device.detach_iommufd_pt()
    device.detach_iommufd_pt()
    assert ioas_copier.copy(MESSAGE) == NOTHING
    device.attach_iommufd_pt(ioas)
    device.reset()
    ioas_copier.start()
    assert ioas_copier.copy(MESSAGE) == MESSAGE


@claim("F100")
def test_an_attach_whose_answer_cannot_be_written_detaches(ioas_copier, ioas):
    """An attach whose answer cannot be written detaches the device from both address spaces."""
    user, device = ioas_copier.device.user, ioas_copier.device
    attach = vfio_device_attach_iommufd_pt(argsz=ATTACH_BYTES, pt_id=ioas)
    with refused(EFAULT):
        device.attach_iommufd_pt(ioas, pointer=read_only(user, bytes(attach)))
    assert ioas_copier.copy(MESSAGE) == NOTHING
    device.attach_iommufd_pt(ioas)
    device.reset()
    ioas_copier.start()
    assert ioas_copier.copy(MESSAGE) == MESSAGE


@claim("F59")
def test_a_device_without_pasids_refuses_an_attach_with_a_pasid(ioas_copier, ioas):
    """A device without PASIDs refuses an attach with a PASID and stays attached as it was."""
    with refused(EINVAL):
        ioas_copier.device.attach_iommufd_pt(ioas, flags=VFIO_DEVICE_ATTACH_PASID, pasid=1)
    assert ioas_copier.copy(MESSAGE) == MESSAGE


@claim("F99")
def test_an_attach_with_a_pasid_needs_room_for_it(ioas_copier, ioas):
    """An attach with a PASID and no room for it fails with EFAULT and changes nothing."""
    attach = vfio_device_attach_iommufd_pt(
        argsz=ATTACH_BYTES + 4, flags=VFIO_DEVICE_ATTACH_PASID, pt_id=ioas
    )
    edge = at_the_edge(ioas_copier.device.user, bytes(attach)[:ATTACH_BYTES])
    with refused(EFAULT):
        ioas_copier.device.attach_iommufd_pt(ioas, pointer=edge)
    assert ioas_copier.copy(MESSAGE) == MESSAGE


@claim("F99")
def test_detaching_a_pasid_detaches_nothing_else(ioas_copier):
    """Detaching a PASID that is not attached succeeds and does not detach the device."""
    device = ioas_copier.device
    device.detach_iommufd_pt(flags=VFIO_DEVICE_DETACH_PASID, pasid=1)
    with refused(EINVAL):
        device.detach_iommufd_pt(flags=VFIO_DEVICE_DETACH_PASID, argsz=DETACH_BYTES)
    edge = vfio_device_detach_iommufd_pt(argsz=DETACH_BYTES + 4, flags=VFIO_DEVICE_DETACH_PASID)
    with refused(EFAULT):
        device.detach_iommufd_pt(pointer=at_the_edge(device.user, bytes(edge)[:DETACH_BYTES]))
    assert ioas_copier.copy(MESSAGE) == MESSAGE
