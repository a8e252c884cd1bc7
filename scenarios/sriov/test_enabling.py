"""Who can enable VFs of a PF on vfio-pci, and when?

Thread: 2018-unmanaged-sriov, which rejected an ioctl in favour of sysfs and asked for limits that
were not merged. Kernel: drivers/vfio/pci/vfio_pci.c, vfio_pci_sriov_configure().
"""

from errno import EACCES, ENOENT, ENOTTY
from struct import pack

from vfio_lab.client.call import Buffer
from vfio_lab.client.sysfs import ENABLE_SRIOV
from vfio_lab.uapi.names import NAMES, Kind
from vfio_lab.uapi.vfio import io
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.tokens import TOKEN
from vfio_lab_pytest.verdicts import all_refused, refused

EVERY_CAPABILITY = range(41)
TWO_VFS = Buffer(pack("<III", 12, 0, 2))  # argsz, flags, and what such an ioctl would take
UNKNOWN_IOCTLS = {
    hex(number): {"request": number, "arg": TWO_VFS}
    for number in map(io, range(64))
    if number not in NAMES[Kind.DEVICE]
}


@claim("B01", "B02")
def test_vfio_pci_creates_vfs_only_with_enable_sriov(guest, root):
    """Writing sriov_numvfs fails with ENOENT until enable_sriov is set, then needs no new bind."""
    pf = guest.function("pf0")
    pf.bind("vfio-pci")
    assert root.read_file(ENABLE_SRIOV) == "N"
    with refused(ENOENT):
        pf.enable_vfs(1)
    assert (pf.numvfs, pf.vfs()) == (0, [])
    root.write_file(ENABLE_SRIOV, "Y")
    assert len(pf.enable_vfs(1)) == 1


@claim("B01", "B02")
def test_clearing_enable_sriov_takes_effect_at_once(root, pf):
    """Clearing enable_sriov takes effect at the next write, even on a PF bound before."""
    pf.enable_vfs(1)
    pf.enable_vfs(0)
    root.write_file(ENABLE_SRIOV, "N")
    with refused(ENOENT):
        pf.enable_vfs(1)
    assert (pf.numvfs, pf.vfs()) == (0, [])


@claim("B12")
def test_vfs_survive_the_clearing_of_enable_sriov(root, pf, vfs):
    """With enable_sriov cleared, sriov_numvfs cannot disable VFs, but unbinding the PF does."""
    root.write_file(ENABLE_SRIOV, "N")
    with refused(ENOENT):
        pf.write("sriov_numvfs", 0)
    assert (pf.numvfs, pf.vfs(), vfs[0].driver) == (2, vfs, "vfio-pci")
    pf.unbind()
    assert (pf.numvfs, pf.vfs(), vfs[0].present) == (0, [], False)


@claim("B13")
def test_the_number_of_vfs_may_change_while_the_pf_is_in_use(pf_user, vf_user, pf):
    """The number of VFs can change while a user has the PF open."""
    pf_fd = pf_user.open(pf, TOKEN)
    (vf,) = pf.enable_vfs(1)
    assert vf_user.open(vf, TOKEN).get_info().num_regions > 0
    vf_user.kill()
    assert pf.enable_vfs(0) == []
    assert len(pf.enable_vfs(3)) == 3
    assert pf_fd.get_info().num_regions > 0


@claim("B01")
def test_the_owner_of_a_pf_cannot_create_vfs(guest, root, pf):
    """A PF's unprivileged owner can write neither sriov_numvfs nor enable_sriov."""
    owner = guest.user("owner", uid=1000, drop=EVERY_CAPABILITY)
    root.syscall("chown", Buffer(f"/dev/vfio/{pf.group}\0".encode()), 1000, 1000)
    assert owner.open(pf).get_info().num_regions > 0
    with refused(EACCES):
        owner.write_file(f"{pf.path}/sriov_numvfs", "1")
    with refused(EACCES):
        owner.write_file(ENABLE_SRIOV, "Y")
    assert len(pf.enable_vfs(1)) == 1


@claim("B42")
def test_no_ioctl_creates_vfs(pf_user, pf):
    """No ioctl enables VFs: every ioctl number that vfio does not know fails with ENOTTY."""
    pf_fd = pf_user.open(pf, TOKEN)
    all_refused(ENOTTY, pf_fd.ioctl, UNKNOWN_IOCTLS)
    assert (pf.numvfs, pf.vfs()) == (0, [])
