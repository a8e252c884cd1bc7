"""What does pci-pf-stub allow, and what does it leave behind?

Thread: 2018-unmanaged-sriov, whose subject landed as pci_sriov_configure_simple() and this stub.
Kernel: drivers/pci/pci-pf-stub.c; drivers/pci/iov.c, pci_iov_remove().
"""

from errno import EBUSY, EINVAL, ENODEV, ENOENT, EPERM

import pytest

from vfio_lab.hw.pci import driver_file
from vfio_lab.uapi.vfio import VFIO_GROUP_FLAGS_VIABLE
from vfio_lab.vfio import Container
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.removal import REQUEST_WITHIN_S, request_channel
from vfio_lab_pytest.tokens import TOKEN
from vfio_lab_pytest.verdicts import refused

STUB = "pci-pf-stub"


@pytest.fixture
def stub_pf(guest):
    """A PF on pci-pf-stub."""
    guest.load(STUB)
    function = guest.function("pf0")
    function.bind(STUB)
    return function


@pytest.fixture
def left_vf(stub_pf):
    """A VF whose PF was taken from pci-pf-stub."""
    (vf,) = stub_pf.enable_vfs(1)
    stub_pf.unbind()
    return vf


@claim("B23")
def test_pci_pf_stub_binds_only_by_driver_override(guest, root):
    """pci-pf-stub binds to an igb PF only by driver_override."""
    guest.load(STUB)
    pf = guest.function("pf0")
    with refused(ENODEV):
        root.write_file(driver_file(STUB, "bind"), str(pf))
    pf.bind(STUB)
    assert pf.driver == STUB
    assert len(guest.dmesg(f"{STUB} {pf}: claimed by {STUB}", level="info")) == 1


@claim("B23")
def test_vfs_of_pci_pf_stub_go_to_host_drivers(guest, vf_user, stub_pf):
    """VFs of a PF on pci-pf-stub go to host drivers, and on vfio-pci they need no token."""
    guest.load("igbvf")
    vf, other_vf = stub_pf.enable_vfs(2)
    assert (vf.driver, other_vf.driver) == ("igbvf", "igbvf")
    vf.bind("vfio-pci")
    with refused(EINVAL):
        vf_user.open(vf, TOKEN)
    assert vf_user.open(vf).get_info().num_regions > 0


@claim("B24")
def test_unbinding_pci_pf_stub_leaves_its_vfs(guest, stub_pf):
    """Unbinding pci-pf-stub leaves its VFs enabled, with a warning, until it is bound again."""
    (vf,) = stub_pf.enable_vfs(1)
    stub_pf.unbind()
    warning = f"{stub_pf}: driver left SR-IOV enabled after remove"
    assert len(guest.dmesg(warning, level="warn")) == 1
    with refused(ENOENT):
        stub_pf.write("sriov_numvfs", 0)
    assert (stub_pf.numvfs, vf.present) == (1, True)
    stub_pf.bind(STUB)
    stub_pf.write("sriov_numvfs", 0)
    assert (stub_pf.numvfs, vf.present) == (0, False)


@claim("B14")
def test_vfio_pci_refuses_a_pf_with_vfs(taints, guest, stub_pf, left_vf):
    """vfio-pci refuses a PF with VFs with a warning and without a taint."""
    with refused(EBUSY):
        stub_pf.bind("vfio-pci")
    warning = f"vfio-pci {stub_pf}: Cannot bind to PF with SR-IOV enabled"
    assert len(guest.dmesg(warning, level="warn")) == 1
    assert (stub_pf.driver, stub_pf.numvfs, left_vf.present) == (None, 1, True)
    assert guest.taints() == taints
    stub_pf.bind(STUB)
    stub_pf.write("sriov_numvfs", 0)
    stub_pf.bind("vfio-pci")
    assert stub_pf.driver == "vfio-pci"


@claim("B25")
def test_pci_pf_stub_waits_for_a_vf_in_use(vf_user, remover, stub_pf):
    """pci-pf-stub does not refuse to disable a VF in use: it waits, like vfio-pci."""
    (vf,) = stub_pf.enable_vfs(1)
    vf.bind("vfio-pci")
    used = vf_user.open(vf)
    asked = request_channel(vf_user, used)
    removal = stub_pf.start_write("sriov_numvfs", 0, by=remover)
    assert vf_user.await_event(asked, REQUEST_WITHIN_S) == 1
    assert not removal.returned
    used.close()
    removal.wait()
    assert (stub_pf.numvfs, vf.present) == (0, False)


@claim("B26")
@pytest.mark.topology("multifunction")
def test_a_device_on_pci_pf_stub_makes_its_group_unviable(guest, vf_user, nic):
    """A device on pci-pf-stub makes its group unviable, and a device on pci-stub does not."""
    guest.load(STUB)
    guest.load("pci-stub")
    sibling = guest.function("nic1")
    sibling.bind(STUB)
    group = vf_user.open_group(nic)
    assert group.get_status().flags == 0
    with refused(EPERM):
        group.set_container(Container(vf_user))
    sibling.bind("pci-stub")
    assert group.get_status().flags == VFIO_GROUP_FLAGS_VIABLE
    group.set_container(Container(vf_user))
