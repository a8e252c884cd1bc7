"""Configuration space is compared register by register, by the kernel's names."""

import json
from pathlib import Path

import pytest

from vfio_lab.evidence.config_fields import config_fields, differing_fields
from vfio_lab.evidence.deviations import deviations
from vfio_lab.evidence.observed import Observed

SEEN = Path(__file__).parent / "data/report/7.3"
PF = "/sys/bus/pci/devices/0000:01:00.0/config"


@pytest.fixture(scope="module")
def space() -> bytes:
    """The configuration space of an 82576, as a guest had it."""
    folder = SEEN / "sriov-test_unbinding.py-test_unbinding_a_pf_waits_for_the_user_of_a_vf"
    return bytes.fromhex(json.loads((folder / "observed.json").read_text())["state"][PF])


def changed(space: bytes, at: int) -> bytes:
    """Return a copy with another value of one byte."""
    return space[:at] + bytes([space[at] ^ 0x01]) + space[at + 1 :]


REGISTERS = {
    0x04: "PCI_COMMAND",
    0x3C: "PCI_INTERRUPT_LINE",
    0x44: "PCI_PM_CTRL",
    0x72: "PCI_MSIX_FLAGS",
    0xA8: "PCI_EXP_DEVCTL",
    0x108: "PCI_ERR_UNCOR_MASK",
    0x170: "PCI_SRIOV_NUM_VF",
}


@pytest.mark.parametrize("at", REGISTERS)
def test_a_register_is_told_by_its_name(space: bytes, at: int) -> None:
    """A byte that differs is told as the register that it belongs to."""
    assert [name for name, _, _ in differing_fields(space, changed(space, at))] == [REGISTERS[at]]


def test_what_has_no_name_is_told_from_its_capability(space: bytes) -> None:
    """A byte of a capability that has no name is told by the capability and the distance."""
    ((seen, *_),) = differing_fields(space, changed(space, 0x160 + 0x19))
    assert seen == "PCI_SRIOV+0x19"


def test_capabilities_that_point_at_each_other_end(space: bytes) -> None:
    """A chain of capabilities that never ends is followed once."""
    space = space[:0x41] + b"\x40" + space[0x42:]
    assert [one.name for one in config_fields(space) if one.size == 0][:1] == ["PCI_PM"]


def test_writes_and_state_are_told_by_register(space: bytes) -> None:
    """A comparison names registers in what QEMU saw written and in what sysfs shows."""
    write = "0000:01:00.0 0x44 <- 0x3"
    before = Observed(state={PF: space.hex()}, writes=(write,))
    after = Observed(state={PF: changed(space, 0x04).hex()}, writes=())
    found = {(one.kind, one.subject): (one.before, one.after) for one in deviations(before, after)}
    assert found == {
        ("write", "BDF PCI_PM_CTRL <- 0x3"): ("present", "absent"),
        ("state", "/sys/bus/pci/devices/BDF/config PCI_COMMAND"): ("0x0103", "0x0102"),
    }
