"""What happens to capabilities that vfio does not know?

Kernel: drivers/vfio/pci/vfio_pci_config.c, vfio_ecap_init(), vfio_find_cap_start(). A CXL memory
device has several adjacent DVSEC capabilities, then DOE, which no kernel's vfio knows, and at the
end AER, which vfio knows.
"""

import pytest

from vfio_lab.uapi.pci_regs import PCI_EXT_CAP_ID_DOE, PCI_EXT_CAP_ID_DVSEC, PCI_EXT_CAP_ID_ERR
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.sriov import on_vfio_pci

pytestmark = pytest.mark.topology("cxl")
DOE, DVSEC, ERRORS = PCI_EXT_CAP_ID_DOE, PCI_EXT_CAP_ID_DVSEC, PCI_EXT_CAP_ID_ERR
DOE_CONTROL, INTERRUPTS_ON = 8, 2


@pytest.fixture
def function(guest):
    """The CXL memory device."""
    return on_vfio_pci(guest, "cxl0")


@claim("F17")
def test_unknown_capabilities_are_removed_from_the_chain(guest, function, config, hardware):
    """Unknown capabilities are removed from the chain, and the log says so."""
    assert list(hardware.extended_capabilities()) == [DVSEC, DOE, ERRORS]
    assert list(config.extended_capabilities()) == [ERRORS]
    assert config.extended(ERRORS) == hardware.extended(ERRORS)
    assert guest.dmesg(f"{function}: vfio_ecap_init: hiding ecap {DOE:#x}", level="info")


@claim("F61")
def test_a_capability_behind_adjacent_dvsec_is_not_hidden(config, hardware):
    """DOE behind adjacent DVSEC capabilities is not hidden and can be written."""
    assert list(config.extended_capabilities()) == [DVSEC, DOE, ERRORS]
    assert config.extended_capabilities() == hardware.extended_capabilities()
    control = config.extended(DOE) + DOE_CONTROL
    assert hardware.dword(control) & INTERRUPTS_ON == 0
    config.set_dword(control, INTERRUPTS_ON)
    assert hardware.dword(control) & INTERRUPTS_ON
