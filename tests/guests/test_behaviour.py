"""Behaviour of real guests: equal where nothing differs, and told where something does."""

from dataclasses import replace

import pytest

from vfio_lab.campaign.behaviour import deviation_text
from vfio_lab.client.config_space import ConfigSpace
from vfio_lab.evidence.collect import collect_evidence
from vfio_lab.evidence.deviations import deviations
from vfio_lab.evidence.observed import read_observed
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.machine.base import start_user
from vfio_lab.uapi import vfio
from vfio_lab.uapi.pci_regs import PCI_CACHE_LINE_SIZE, PCI_INTERRUPT_LINE

IDLE = "/sys/module/vfio_pci/parameters/disable_idle_d3"


@pytest.fixture
def observed(guest_factory, tmp_path):
    """Bind a PF, read its state and open its group in a guest of its own, after `before`."""

    def look(name, before=lambda _guest: None):
        guest = guest_factory.start(name, find_topology("igb"), tmp_path / name)
        try:
            before(guest)
            pf = guest.function("pf0")
            pf.bind_with_sriov()
            guest.user("user").open_path(f"/dev/vfio/{pf.group}")
            collect_evidence(guest)
        finally:
            guest.close()
        return read_observed(guest.folder)

    return look


def keep_awake(guest):
    """Have vfio-pci keep idle devices awake, unseen by the transcript."""
    start_user(guest.channel, "stranger").write_file(IDLE, "Y")


def touch_configuration(guest):
    """Write a register of the PF that no call of the scenario reads."""
    ConfigSpace.of_hardware(guest.function("pf0")).set_byte(PCI_CACHE_LINE_SIZE, 4)


def log_something(guest):
    """Have the kernel log a line."""
    start_user(guest.channel, "stranger").write_file("/dev/kmsg", "<4>something else")


def test_two_guests_of_one_template_behave_alike(observed):
    first, second = observed("first"), observed("second")
    assert first is not None
    assert first.calls
    assert first.state
    assert first.writes
    assert deviations(first, second) == ()


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (keep_awake, f"state {IDLE}: N -> Y"),
        (touch_configuration, "write BDF PCI_CACHE_LINE_SIZE <- 0x4: absent -> present"),
        (log_something, "log line absent -> present: warn: something else"),
    ],
)
def test_what_a_scenario_does_not_ask_shows_all_the_same(observed, before, told):
    found = [
        deviation_text(one) for one in deviations(observed("first"), observed("other", before))
    ]
    assert told in found


def test_what_no_scenario_asks_is_asked_at_the_end(guest_factory, tmp_path):
    """Of two guests whose user only opens the PF, one with another line number differs by it."""
    seen = []
    for line in (10, 11):
        guest = guest_factory.start(f"line {line}", find_topology("igb"), tmp_path / str(line))
        try:
            pf = guest.function("pf0")
            pf.bind_with_sriov()
            device = guest.user("user").open(pf)
            stranger = replace(device.user, record=lambda _entry: None)
            offset = (vfio.VFIO_PCI_CONFIG_REGION_INDEX << 40) + PCI_INTERRUPT_LINE
            stranger.pwrite(device.fd, bytes([line]), offset)
            collect_evidence(guest)
        finally:
            guest.close()
        seen.append(read_observed(guest.folder))
    assert [deviation_text(one) for one in deviations(*seen)] == [
        "pread64 config PCI_INTERRUPT_LINE: 0x0a -> 0x0b"
    ]
