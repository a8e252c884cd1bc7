"""A guest that is used twice: each turn has evidence of its own, and what stays is told."""

import contextlib

import pytest

from vfio_lab.client.sysfs import ENABLE_SRIOV
from vfio_lab.errors import LeftBehind
from vfio_lab.evidence.collect import collect_evidence
from vfio_lab.machine.long_life import LongLife
from vfio_lab.uapi.vfio import VFIO_PCI_MSIX_IRQ_INDEX

VFS = 2
# A process that is no user of the lab's, and holds a container.
STRANGER = "exec 9<>/dev/vfio/vfio; exec sleep 600 </dev/null >/dev/null 2>&1 &"


@pytest.fixture
def life(machine, tmp_path):
    """A guest for several scenarios."""
    with contextlib.closing(
        LongLife.begin("long", machine, tmp_path / "long", keepable=False)
    ) as life:
        yield life


@pytest.fixture
def turn(life, tmp_path):
    """A function that begins a scenario's turn."""
    return lambda name: life.begin_turn(name, name, tmp_path / name)


def use_everything(guest):
    """Hold open, with an interrupt and mapped memory, a PF that may not remove its VFs."""
    pf = guest.function("pf0").bind_with_sriov()
    pf.enable_vfs(VFS)
    guest.root.write_file(ENABLE_SRIOV, "N")
    pf.write("reset_method", "")
    user = guest.user("user")
    device = user.open(pf)
    device.set_irq_eventfds(VFIO_PCI_MSIX_IRQ_INDEX, [user.eventfd()])
    device.container.map_dma(user.allocate(4096), 0, 4096)


def test_what_a_scenario_does_is_undone_and_in_its_own_evidence(turn, tmp_path):
    """The second scenario finds the guest as the first one did, and shows its own acts only."""
    for name in ("first", "second"):
        guest = turn(name)
        assert guest.function("pf0").driver is None
        assert guest.function("pf0").numvfs == 0
        assert guest.function("pf0").read("reset_method") == "flr pm bus"
        use_everything(guest)
        collect_evidence(guest)
        guest.close()
    logs = [(tmp_path / name / "kernel.log").read_text() for name in ("first", "second")]
    assert [log.count("VF 0000:01:10.0 driver_override") for log in logs] == [1, 1]
    calls = [(tmp_path / name / "transcript.log").read_text() for name in ("first", "second")]
    assert [text.count("VFIO_GROUP_GET_DEVICE_FD") for text in calls] == [1, 1]
    console = (tmp_path / "second" / "console.log").read_text()
    assert console.count("VF 0000:01:10.0 driver_override") == 1


def test_what_stays_names_the_scenario_and_ends_the_life(life, turn):
    """A process that holds a container is told, with what it holds; no other scenario comes."""
    turn("first").close()
    guest = turn("second")
    guest.root.run("sh", "-c", STRANGER)
    with pytest.raises(LeftBehind, match="second left something") as left:
        guest.close()
    assert "/exe -> /usr/bin/sleep" in str(left.value.seen)
    assert "/dev/vfio/vfio" in str(left.value.seen)
    assert "/sys/module/vfio/refcnt: " in str(left.value.seen)
    assert life.over


def test_at_the_end_vfio_is_unloaded(life, turn):
    """A life that left nothing ends without an error, and its guest is gone."""
    guest = turn("first")
    use_everything(guest)
    guest.close()
    life.end()
    assert life.guest.qemu.ended
