"""What can a user change in the capabilities of a device's config space?

Kernel: drivers/vfio/pci/vfio_pci_config.c, init_pci_cap_*_perm(), vfio_*_config_write().
"""

import pytest

from vfio_lab.drivers.intel_nic import MTA
from vfio_lab.uapi.pci_regs import (
    PCI_CAP_ID_EXP,
    PCI_CAP_ID_MSI,
    PCI_CAP_ID_MSIX,
    PCI_CAP_ID_PM,
    PCI_ERR_COR_MASK,
    PCI_ERR_UNCOR_MASK,
    PCI_EXP_DEVCAP,
    PCI_EXP_DEVCTL,
    PCI_EXP_DEVCTL2,
    PCI_EXP_DEVCTL2_ARI,
    PCI_EXP_DEVCTL2_COMP_TIMEOUT,
    PCI_EXP_DEVCTL_BCR_FLR,
    PCI_EXP_DEVCTL_PAYLOAD,
    PCI_EXT_CAP_ID_ERR,
    PCI_EXT_CAP_ID_SRIOV,
    PCI_MSI_ADDRESS_HI,
    PCI_MSI_ADDRESS_LO,
    PCI_MSI_DATA_64,
    PCI_MSI_FLAGS,
    PCI_MSI_FLAGS_ENABLE,
    PCI_MSI_MASK_64,
    PCI_MSIX_FLAGS,
    PCI_MSIX_FLAGS_ENABLE,
    PCI_PM_CTRL,
    PCI_PM_CTRL_PME_ENABLE,
    PCI_SRIOV_CTRL,
)
from vfio_lab.uapi.vfio import VFIO_PCI_MSI_IRQ_INDEX
from vfio_lab_pytest.claims import claim

ONES = 0xFFFFFFFF
POISONED_TLP = 0x1000  # PCI_ERR_UNC_POISON_TLP
BAD_TLP = 0x40  # PCI_ERR_COR_BAD_TLP


@claim("F18")
def test_pme_is_hidden_from_the_user(config, hardware):
    """A user can neither see nor enable PME."""
    control = config.capability(PCI_CAP_ID_PM) + PCI_PM_CTRL
    config.set_word(control, PCI_PM_CTRL_PME_ENABLE)
    assert config.word(control) & PCI_PM_CTRL_PME_ENABLE == 0
    assert hardware.word(control) & PCI_PM_CTRL_PME_ENABLE == 0
    hardware.set_word(control, PCI_PM_CTRL_PME_ENABLE)
    assert hardware.word(control) & PCI_PM_CTRL_PME_ENABLE
    assert config.word(control) & PCI_PM_CTRL_PME_ENABLE == 0


@claim("F19")
def test_msi_cannot_be_turned_on_in_config_space(device, config, hardware, irq_fd):
    """A write to the MSI enable bit has no effect until VFIO_DEVICE_SET_IRQS has set up MSI."""
    flags = config.capability(PCI_CAP_ID_MSI) + PCI_MSI_FLAGS
    off = config.word(flags)
    config.set_word(flags, off | PCI_MSI_FLAGS_ENABLE)
    assert (config.word(flags), hardware.word(flags)) == (off, off)
    device.set_irq_eventfds(VFIO_PCI_MSI_IRQ_INDEX, [irq_fd.fd])
    config.set_word(flags, off)
    assert hardware.word(flags) == off
    config.set_word(flags, off | PCI_MSI_FLAGS_ENABLE)
    assert config.word(flags) == off | PCI_MSI_FLAGS_ENABLE
    assert hardware.word(flags) == off | PCI_MSI_FLAGS_ENABLE


@claim("F19")
def test_msi_address_and_data_do_not_reach_the_hardware(config, hardware):
    """MSI address and data that a user writes read back but do not reach the hardware."""
    msi = config.capability(PCI_CAP_ID_MSI)
    real = hardware.read(msi, 16)
    config.set_dword(msi + PCI_MSI_ADDRESS_LO, 0xFEE01230)
    config.set_dword(msi + PCI_MSI_ADDRESS_HI, 0x11)
    config.set_word(msi + PCI_MSI_DATA_64, 0x4567)
    config.set_dword(msi + PCI_MSI_MASK_64, 1)
    assert config.dword(msi + PCI_MSI_ADDRESS_LO) == 0xFEE01230
    assert config.dword(msi + PCI_MSI_ADDRESS_HI) == 0x11
    assert config.word(msi + PCI_MSI_DATA_64) == 0x4567
    assert hardware.read(msi, 16) == real
    assert hardware.dword(msi + PCI_MSI_MASK_64) == 1


@claim("F64")
def test_msix_and_sriov_enable_are_read_only_in_config_space(config, hardware):
    """A user cannot enable MSI-X or VFs in config space."""
    msix = config.capability(PCI_CAP_ID_MSIX) + PCI_MSIX_FLAGS
    sriov = config.extended(PCI_EXT_CAP_ID_SRIOV) + PCI_SRIOV_CTRL
    before = (hardware.word(msix), hardware.dword(sriov))
    config.set_word(msix, PCI_MSIX_FLAGS_ENABLE)
    config.set_dword(sriov, ONES)
    assert (hardware.word(msix), hardware.dword(sriov)) == before
    assert (config.word(msix), config.dword(sriov)) == before


@claim("F65")
def test_payload_sizes_read_back_and_do_not_reach_the_device(config, hardware):
    """MPS and MRRS read back as written, and the device keeps its MPS."""
    control = config.capability(PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL
    payload = hardware.word(control) & PCI_EXP_DEVCTL_PAYLOAD
    config.set_word(control, 0x5040)
    assert config.word(control) == 0x5040
    assert hardware.word(control) & PCI_EXP_DEVCTL_PAYLOAD == payload
    config.set_word(control, 0)
    assert config.word(control) == 0


@claim("F65")
def test_a_user_can_change_device_control_2_except_ari(config, hardware):
    """A user cannot change ARI but can change the rest of Device Control 2."""
    control = config.capability(PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL2
    before = hardware.word(control)
    config.set_word(control, PCI_EXP_DEVCTL2_ARI | PCI_EXP_DEVCTL2_COMP_TIMEOUT)
    assert hardware.word(control) & PCI_EXP_DEVCTL2_ARI == before & PCI_EXP_DEVCTL2_ARI
    assert config.word(control) == hardware.word(control)


@claim("F66")
def test_a_function_level_reset_in_config_space_resets_the_device(config, hardware, registers):
    """Setting the FLR bit resets the device, keeps its BARs, and reads back as 0."""
    control = config.capability(PCI_CAP_ID_EXP) + PCI_EXP_DEVCTL
    header = hardware.read(0, 64)
    registers.write(MTA, ONES)
    config.set_word(control, config.word(control))
    assert registers.read(MTA) == ONES
    config.set_word(control, config.word(control) | PCI_EXP_DEVCTL_BCR_FLR)
    assert registers.read(MTA) == 0
    assert config.word(control) & PCI_EXP_DEVCTL_BCR_FLR == 0
    assert hardware.read(0, 64) == header


@claim("F66")
@pytest.mark.topology("igb-pair")
def test_the_flr_bit_of_a_device_without_flr_has_no_effect(nic_config, nic_registers):
    """Setting the FLR bit of a device without FLR has no effect, and the bit reads as 0."""
    express = nic_config.capability(PCI_CAP_ID_EXP)
    assert nic_config.dword(express + PCI_EXP_DEVCAP) >> 28 & 1 == 0
    nic_registers.write(MTA, ONES)
    nic_config.set_word(express + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR)
    assert nic_config.word(express + PCI_EXP_DEVCTL) & PCI_EXP_DEVCTL_BCR_FLR == 0
    assert nic_registers.read(MTA) == ONES


@claim("F67")
def test_a_user_can_change_aer_masks_but_not_the_header(config, hardware):
    """A user can change the masks of the AER capability but not its header."""
    errors = config.extended(PCI_EXT_CAP_ID_ERR)
    header = config.dword(errors)
    config.set_dword(errors, 0)
    config.set_dword(errors + PCI_ERR_UNCOR_MASK, POISONED_TLP)
    config.set_dword(errors + PCI_ERR_COR_MASK, BAD_TLP)
    assert config.dword(errors) == header
    assert hardware.dword(errors + PCI_ERR_UNCOR_MASK) == POISONED_TLP
    assert hardware.dword(errors + PCI_ERR_COR_MASK) == BAD_TLP
