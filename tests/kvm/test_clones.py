"""Clones on KVM: every one wakes, and sooner than without KVM."""

import statistics
import time
from dataclasses import replace

import click
import pytest

from vfio_lab.hw.catalogue import find_topology
from vfio_lab.machine.guest import Guest
from vfio_lab.machine.template import GuestFactory
from vfio_lab.qemu.accelerator import Accelerator
from vfio_lab.util.cache import Cache

IN_A_ROW = 50
COMPARED = 7
LARGEST_RATIO = 0.6
TOPOLOGY = "igb"


@pytest.fixture(scope="module")
def factory():
    """The guests of this host, which has KVM."""
    opened = GuestFactory.open(Cache.default(), "7.3")
    assert opened.accelerator.name == "kvm", opened.accelerator.reason
    return opened


def woken(spec, folder):
    """Clone a guest, and return the seconds until its kernel has answered a user."""
    began = time.monotonic()
    guest = Guest.start(folder.name, spec, folder)
    try:
        guest.root.read_file("/proc/uptime")
        return time.monotonic() - began
    finally:
        guest.close()


@pytest.fixture
def say(capsys):
    """Print a figure among the verdicts."""

    def print_line(text):
        with capsys.disabled():
            click.echo(f"\n{text}")

    return print_line


def test_clones_in_a_row_all_wake(factory, tmp_path, say):
    spec = factory.boot_spec(find_topology(TOPOLOGY))
    times = [woken(spec, tmp_path / f"clone{number}") for number in range(IN_A_ROW)]
    say(f"{IN_A_ROW} clones: p50 {statistics.median(times):.2f} s, worst {max(times):.2f} s")
    assert max(times) < 10 * statistics.median(times)


def test_a_clone_wakes_sooner_than_without_kvm(factory, tmp_path, say):
    without = replace(factory, accelerator=Accelerator("tcg", "for comparison"))
    specs = [one.boot_spec(find_topology(TOPOLOGY)) for one in (factory, without)]
    rounds = [
        [woken(spec, tmp_path / f"clone{number}-{which}") for which, spec in enumerate(specs)]
        for number in range(COMPARED)
    ]
    on_kvm, on_tcg = (statistics.median(times) for times in zip(*rounds, strict=True))
    say(f"clone on KVM {on_kvm:.2f} s, on TCG {on_tcg:.2f} s, ratio {on_kvm / on_tcg:.2f}")
    assert on_kvm / on_tcg < LARGEST_RATIO
