"""What taints the kernel, what logs a warning, and when?

Thread: 2019-noiommu. "The tainting imposed by this model [...] was intended to be a big warning."
Kernel: drivers/vfio/group.c, vfio_group_find_or_alloc() and vfio_device_open_file();
drivers/vfio/vfio_main.c, __vfio_register_dev().
"""

import pytest

from vfio_lab.vfio import Container
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.noiommu import TAINT_USER, allow_noiommu

pytestmark = [pytest.mark.topology("noiommu"), pytest.mark.usefixtures("taints", "unsafe")]

OF_GROUP = "Adding kernel taint for vfio-noiommu group on device"
OF_CDEV = "Adding kernel taint for vfio-noiommu cdev"
OPENED = "vfio-noiommu device opened by user"


@claim("D06")
def test_a_noiommu_bind_taints_and_warns_once(taints, guest):
    """Binding a device without an IOMMU sets TAINT_USER and logs one warning."""
    pf = guest.function("pf0")
    assert TAINT_USER not in taints
    assert (guest.taints(), guest.dmesg("taint")) == (taints, [])
    pf.bind("vfio-pci")
    assert guest.taints() == taints | {TAINT_USER}
    assert len(guest.dmesg(f"vfio-pci {pf}: {OF_GROUP}", level="warn")) == 1


@claim("D07")
def test_each_noiommu_bind_warns_and_the_taint_stays(guest, nic, other_nic):
    """Each bind of a no-IOMMU device logs a warning, and the taint survives the unbind."""
    assert len(guest.dmesg(f"vfio-pci {nic}: {OF_GROUP}", level="warn")) == 1
    assert len(guest.dmesg(f"vfio-pci {other_nic}: {OF_GROUP}", level="warn")) == 1
    nic.bind("vfio-pci")
    assert len(guest.dmesg(f"vfio-pci {nic}: {OF_GROUP}", level="warn")) == 2
    nic.unbind()
    other_nic.unbind()
    allow_noiommu(guest, allowed=False)
    assert TAINT_USER in guest.taints()


@claim("D17")
def test_each_open_through_a_group_logs_its_opener(guest, pf_user, pf):
    """Each open of a no-IOMMU device logs its opener's name and pid and adds no taint."""
    opened = f"vfio-pci {pf}: {OPENED} (pf_user:{pf_user.pid})"
    before = guest.taints()
    held = pf_user.open(pf)
    assert len(guest.dmesg(opened, level="warn")) == 1
    held.group.get_device_fd(str(pf))
    assert len(guest.dmesg(opened, level="warn")) == 2
    assert guest.taints() == before


@claim("D10")
def test_a_noiommu_bind_warns_for_the_cdev_too(taints, guest, pf):
    """Binding a no-IOMMU device logs one warning for its group and one for its cdev."""
    assert len(guest.dmesg(f"vfio-pci {pf}: {OF_GROUP}", level="warn")) == 1
    assert len(guest.dmesg(f"vfio-pci {pf}: {OF_CDEV}", level="warn")) == 1
    assert guest.taints() == taints | {TAINT_USER}


@claim("D17")
def test_opening_and_attaching_a_noiommu_group_logs_no_warning(guest, pf_user, pf):
    """Opening a no-IOMMU group and attaching it log no warning."""
    group = pf_user.open_group(pf)
    group.set_container(Container(pf_user))
    assert not guest.dmesg(OPENED)
