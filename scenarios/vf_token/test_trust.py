"""What does the token not restrict?

Thread: 2020-vf-token and 2018-unmanaged-sriov, where taints and reset restrictions were discussed.
"""

from errno import EACCES

import pytest

from vfio_lab.drivers.intel_nic import RDBAL
from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.tokens import OTHER, TOKEN
from vfio_lab_pytest.verdicts import all_refused

MARK = b"\x80\x34\x56\x78"
LOG_BURST = 10  # include/linux/ratelimit_types.h, DEFAULT_RATELIMIT_BURST

by_reason = pytest.mark.parametrize(
    ("options", "reason"),
    [
        pytest.param("", "VF token required to access device", id="no token"),
        pytest.param(
            f" vf_token={OTHER}", "Incorrect VF token provided for device", id="wrong token"
        ),
    ],
)


@claim("A47")
def test_sriov_under_a_users_pf_taints_nothing(taints, guest, pf_user, vf_user, pf, vf):
    """Binding, enabling SR-IOV and opening PF and VF do not taint the kernel."""
    pf_user.open(pf, TOKEN)
    vf_user.open(vf, TOKEN)
    assert guest.taints() == taints


@claim("A48")
def test_an_administrator_resets_a_pf_in_use_without_a_token(pf_user, vf_user, pf, vf):
    """An administrator can reset a PF in use through sysfs, which also resets its VFs."""
    pf_user.open(pf, TOKEN)
    held = vf_user.open(vf, TOKEN)
    held.write_region(VFIO_PCI_BAR0_REGION_INDEX, RDBAL, MARK)
    assert held.read_region(VFIO_PCI_BAR0_REGION_INDEX, RDBAL, len(MARK)) == MARK
    pf.write("reset", 1)
    assert held.read_region(VFIO_PCI_BAR0_REGION_INDEX, RDBAL, len(MARK)) != MARK


@claim("A48")
def test_an_administrator_resets_a_vf_in_use_without_a_token(pf_user, vf_user, pf, vf):
    """An administrator can reset a VF in use through sysfs, and its user keeps the VF."""
    pf_user.open(pf, TOKEN)
    held = vf_user.open(vf, TOKEN)
    vf.write("reset", 1)
    assert held.get_info().num_regions > 0


@claim("A02", "A03", "A50")
@by_reason
def test_refusals_are_logged_ten_at_a_time(guest, pf_user, vf_user, pf, vf, options, reason):
    """Refused opens of a VF are logged at most ten times in five seconds."""
    pf_user.open(pf, TOKEN)
    group = vf_user.open_group(vf)
    all_refused(EACCES, group.get_device_fd, [f"{vf}{options}"] * 2 * LOG_BURST)
    assert len(guest.dmesg(f"vfio-pci {vf}: {reason}", level="info")) == LOG_BURST


@claim("A12", "A13", "A50")
@by_reason
@pytest.mark.usefixtures("used_vf")
def test_refusals_of_a_pf_are_logged_ten_at_a_time(guest, pf_user, pf, options, reason):
    """Refused opens of a PF are logged at most ten times in five seconds."""
    group = pf_user.open_group(pf)
    all_refused(EACCES, group.get_device_fd, [f"{pf}{options}"] * 2 * LOG_BURST)
    assert len(guest.dmesg(f"vfio-pci {pf}: {reason}", level="info")) == LOG_BURST
