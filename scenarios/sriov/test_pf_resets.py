"""How does a reset of the PF affect VFs in use?

Thread: 2020-vf-token: a PF's user can always deny service to VFs, by a reset if nothing else.
Kernel: drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_enable(), vfio_pci_core_disable() and
vfio_pci_ioctl_reset(); drivers/pci/iov.c, sriov_restore_state(). The scenarios look at a register
of the VF that a reset of its PF clears and a reset of the VF does not.
"""

from vfio_lab.uapi.pci_regs import (
    PCI_EXT_CAP_ID_SRIOV,
    PCI_SRIOV_CTRL,
    PCI_SRIOV_CTRL_MSE,
    PCI_SRIOV_CTRL_VFE,
    PCI_SRIOV_NUM_VF,
)
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.hot_reset import (
    CANARY,
    WIPED,
    canaries,
    with_canary,
)
from vfio_lab_pytest.sriov import revive
from vfio_lab_pytest.tokens import TOKEN

ENABLED = PCI_SRIOV_CTRL_VFE | PCI_SRIOV_CTRL_MSE


@claim("B36")
def test_the_first_open_of_a_pf_resets_its_vfs(pf_user, pf, vf, used_vf):
    """The first open of a PF resets its VFs while they are in use; a second open does not."""
    with_canary(used_vf)
    held = pf_user.open(pf, TOKEN)
    revive(vf)
    assert canaries(used_vf) == [WIPED]
    with_canary(used_vf)
    held.group.get_device_fd(f"{pf} vf_token={TOKEN}")
    assert canaries(used_vf) == [CANARY]
    assert (pf.numvfs, used_vf.get_info().num_regions > 0) == (2, True)


@claim("B36")
def test_the_last_close_of_a_pf_resets_its_vfs(pf, vf, used_vf, marked_pf):
    """The last close of a PF resets its VFs while they are in use; an earlier close does not."""
    second = marked_pf.group.get_device_fd(f"{pf} vf_token={TOKEN}")
    revive(vf)
    with_canary(used_vf)
    second.close()
    assert canaries(used_vf) == [CANARY]
    marked_pf.close()
    revive(vf)
    assert canaries(used_vf) == [WIPED]
    assert (pf.numvfs, canaries(with_canary(used_vf))) == (2, [CANARY])


@claim("B37")
def test_a_pf_user_resets_the_pf_under_used_vfs(pf, vfs, used_vf, marked_pf, hardware):
    """A PF's user can reset the PF and its VFs in use; the VFs stay enabled."""
    place = hardware.extended(PCI_EXT_CAP_ID_SRIOV)
    revive(vfs[0])
    with_canary(used_vf)
    marked_pf.reset()
    assert hardware.word(place + PCI_SRIOV_CTRL) & ENABLED == ENABLED
    assert hardware.word(place + PCI_SRIOV_NUM_VF) == 2
    assert (pf.numvfs, pf.vfs()) == (2, vfs)
    revive(vfs[0])
    assert canaries(marked_pf, used_vf) == [WIPED, WIPED]
    assert canaries(with_canary(used_vf)) == [CANARY]
