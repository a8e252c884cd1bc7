"""When does a VF count as in use?

Thread: 2020-vf-token. Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_finish_enable() and
vfio_pci_core_close_device(). A PF opens without a token if and only if no VF is in use, so the
scenarios open the PF to find out.
"""

from ctypes import sizeof
from errno import EACCES, EFAULT, EINVAL

import pytest

from vfio_lab.client.memory import PAGE_BYTES, read_only
from vfio_lab.uapi.vfio import (
    VFIO_DEVICE_BIND_FLAG_TOKEN,
    VFIO_DEVICE_BIND_IOMMUFD,
    VFIO_PCI_BAR0_REGION_INDEX,
    vfio_device_bind_iommufd,
)
from vfio_lab.vfio import Cdev, Container, Iommufd
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.tokens import TOKEN
from vfio_lab_pytest.verdicts import refused


@pytest.fixture
def read_only_bind(vf_user):
    """Address of a well-formed bind in memory that the kernel cannot write its answer to."""
    bind = vfio_device_bind_iommufd(
        argsz=sizeof(vfio_device_bind_iommufd),
        flags=VFIO_DEVICE_BIND_FLAG_TOKEN,
        iommufd=Iommufd(vf_user).fd,
        token_uuid_ptr=read_only(vf_user, TOKEN.bytes),
    )
    return read_only(vf_user, bytes(bind))


@claim("A17")
def test_two_opens_of_a_vf_count_until_the_last_close(pf_user, pf, vf, used_vf):
    """A VF is in use from its first open to its last close."""
    second = used_vf.group.get_device_fd(f"{vf} vf_token={TOKEN}")
    used_vf.user.close(used_vf.fd)
    with refused(EACCES):
        pf_user.open(pf)
    second.close()
    assert pf_user.open(pf)


@claim("A17")
def test_a_mapped_bar_keeps_a_vf_used(pf_user, vf_user, pf, used_vf):
    """A mapped BAR keeps a VF in use after its last descriptor is closed."""
    address = used_vf.mmap_region(VFIO_PCI_BAR0_REGION_INDEX, PAGE_BYTES)
    used_vf.close()
    with refused(EACCES):
        pf_user.open(pf)
    vf_user.munmap(address, PAGE_BYTES)
    assert pf_user.open(pf)


@claim("A17")
def test_opening_a_vf_again_keeps_the_count_of_users_correct(pf_user, vf_user, pf, vf, used_vf):
    """Opening and closing a VF several times leaves the count of users correct."""
    used_vf.close()
    vf_user.open(vf, TOKEN).close()
    again = vf_user.open(vf, TOKEN)
    with refused(EACCES):
        pf_user.open(pf)
    again.close()
    assert pf_user.open(pf)


@claim("A17")
def test_a_refused_open_does_not_count_the_vf_as_in_use(pf_user, vf_user, pf, vf):
    """A refused open of a VF does not make the VF count as in use."""
    pf_user.open(pf, TOKEN).close()
    with refused(EACCES):
        vf_user.open(vf)
    assert pf_user.open(pf)


@claim("A17")
def test_an_open_that_fails_after_the_token_check_does_not_count(pf_user, vf_user, pf, vf):
    """An open that fails because the container has no type does not count the VF as in use."""
    pf_user.open(pf, TOKEN).close()
    group = vf_user.open_group(vf)
    group.set_container(Container(vf_user))
    with refused(EINVAL):
        group.get_device_fd(f"{vf} vf_token={TOKEN}")
    pf_user.open(pf).close()
    group.close()
    vf_user.open(vf, TOKEN)
    with refused(EACCES):
        pf_user.open(pf)


@claim("A18")
def test_a_duplicate_of_a_vf_descriptor_counts_until_it_is_closed(pf_user, pf, used_vf):
    """A dup() of a VF's descriptor keeps the VF in use until it is closed, too."""
    duplicate = used_vf.dup()
    used_vf.close()
    with refused(EACCES):
        pf_user.open(pf)
    duplicate.close()
    assert pf_user.open(pf)


@claim("A18")
def test_a_forked_child_keeps_a_vf_used_after_its_parent(pf_user, vf_user, pf, used_vf):
    """A forked child keeps the VF in use after its parent has closed it."""
    child = vf_user.fork()
    used_vf.close()
    with refused(EACCES):
        pf_user.open(pf)
    child.kill()
    assert pf_user.open(pf)


@claim("A18")
@pytest.mark.usefixtures("used_vf")
def test_a_killed_user_leaves_the_vf_unused(pf_user, vf_user, pf):
    """A VF is no longer in use after kill -9 of its user."""
    with refused(EACCES):
        pf_user.open(pf)
    vf_user.kill()
    assert pf_user.open(pf)


@claim("A18")
def test_a_killed_parent_leaves_the_vf_in_use_by_its_child(pf_user, vf_user, pf, used_vf):
    """A VF stays in use while any process has it open, even after kill -9 of its opener."""
    child = vf_user.fork()
    vf_user.kill()
    with refused(EACCES):
        pf_user.open(pf)
    used_vf.inherited_by(child).close()
    assert pf_user.open(pf)


@claim("A19")
def test_every_open_of_a_used_vf_needs_the_token(vf, used_vf):
    """A user who has a VF open needs the token for another open of it."""
    with refused(EACCES):
        used_vf.group.get_device_fd(str(vf))
    assert used_vf.group.get_device_fd(f"{vf} vf_token={TOKEN}")


@claim("A20")
def test_the_pf_stays_closed_until_no_vf_is_in_use(pf_user, vf_user, pf, other_vf, used_vf):
    """A PF does not open without a token until all its VFs are closed."""
    other = vf_user.open(other_vf, TOKEN)
    with refused(EACCES):
        pf_user.open(pf)
    used_vf.close()
    with refused(EACCES):
        pf_user.open(pf)
    other.close()
    assert pf_user.open(pf)


@claim("A39")
def test_a_vf_bound_by_cdev_counts_as_used(pf_user, vf_user, pf, vf):
    """A VF opened on the cdev path counts as in use."""
    pf_user.open(pf, TOKEN).close()
    bound = vf_user.open(vf, TOKEN, access="cdev")
    with refused(EACCES):
        pf_user.open(pf)
    bound.close()
    assert pf_user.open(pf)


@claim("A39")
def test_a_bind_that_fails_after_the_token_check_does_not_count(
    pf_user, vf_user, pf, vf, read_only_bind
):
    """A bind whose answer cannot be written does not count the VF as in use."""
    pf_user.open(pf, TOKEN).close()
    cdev = Cdev(vf_user, vf.cdev)
    with refused(EFAULT):
        cdev.ioctl(VFIO_DEVICE_BIND_IOMMUFD, read_only_bind)
    pf_user.open(pf).close()
    cdev.bind_iommufd(Iommufd(vf_user), TOKEN)
    with refused(EACCES):
        pf_user.open(pf)
