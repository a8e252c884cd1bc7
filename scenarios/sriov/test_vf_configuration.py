"""What does vfio emulate for the user of a VF?

A VF's hardware has no IDs, no INTx and no memory enable bit. Kernel:
drivers/vfio/pci/vfio_pci_config.c, vfio_config_init() and __vfio_pci_memory_enabled().
"""

from errno import EINVAL, EIO

from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.drivers.intel_nic import RDBAL
from vfio_lab.uapi.pci_regs import (
    PCI_COMMAND,
    PCI_COMMAND_MEMORY,
    PCI_INTERRUPT_PIN,
    PCI_VENDOR_ID,
)
from vfio_lab.uapi.vfio import VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_INTX_IRQ_INDEX
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.devices import shown_config, turn_off
from vfio_lab_pytest.hot_reset import (
    CANARY,
    canaries,
    with_canary,
)
from vfio_lab_pytest.sriov import revive
from vfio_lab_pytest.tokens import TOKEN
from vfio_lab_pytest.verdicts import refused

NO_IDS = 0xFFFFFFFF
VF_IDS = 0x10CA8086


@claim("B30")
def test_a_vf_shows_ids_that_its_hardware_lacks(vf_config, vf_hardware):
    """A VF's user reads vendor and device IDs that the VF's hardware does not have."""
    assert vf_hardware.dword(PCI_VENDOR_ID) == NO_IDS
    assert vf_config.dword(PCI_VENDOR_ID) == VF_IDS
    assert (vf_config.word(PCI_VENDOR_ID), vf_config.word(PCI_VENDOR_ID + 2)) == (0x8086, 0x10CA)
    vf_config.set_dword(PCI_VENDOR_ID, 0)
    assert vf_config.dword(PCI_VENDOR_ID) == VF_IDS


@claim("B30")
def test_a_vf_has_no_intx(pf_user, pf, used_vf, vf_config):
    """A VF has interrupt pin 0 and no INTx, and its PF has one."""
    assert vf_config.byte(PCI_INTERRUPT_PIN) == 0
    assert used_vf.get_irq_info(VFIO_PCI_INTX_IRQ_INDEX).count == 0
    with refused(EINVAL):
        used_vf.set_irq_eventfds(VFIO_PCI_INTX_IRQ_INDEX, [used_vf.user.eventfd()])
    held = pf_user.open(pf, TOKEN)
    assert shown_config(held).byte(PCI_INTERRUPT_PIN) == 1
    assert held.get_irq_info(VFIO_PCI_INTX_IRQ_INDEX).count == 1


@claim("B31")
def test_memory_decode_of_a_vf_has_no_effect(vf_user, vf, used_vf, vf_config):
    """Memory decode of a VF is on after the open, and vfio refuses no access while it is off."""
    assert vf_config.word(PCI_COMMAND) & PCI_COMMAND_MEMORY
    address = with_canary(used_vf).mmap_region(VFIO_PCI_BAR0_REGION_INDEX, 4 * PAGE_BYTES)
    turn_off(vf_config, PCI_COMMAND_MEMORY)
    assert not vf_config.word(PCI_COMMAND) & PCI_COMMAND_MEMORY
    assert canaries(used_vf) == [vf_user.peek(address + RDBAL, 4, width=4)] != [CANARY]
    revive(vf)
    assert (canaries(used_vf), vf_user.peek(address + RDBAL, 4, width=4)) == ([CANARY], CANARY)


@claim("B31")
def test_memory_decode_of_a_pf_has_an_effect(marked_pf):
    """Turning off memory decode makes access to a PF's BARs fail with EIO."""
    turn_off(shown_config(marked_pf), PCI_COMMAND_MEMORY)
    with refused(EIO):
        canaries(marked_pf)
    shown_config(marked_pf).set_word(PCI_COMMAND, PCI_COMMAND_MEMORY)
    assert canaries(marked_pf) == [CANARY]
