"""The remote mode under stress; `make stress PART=remote` runs this file by its name."""

import time

import pytest
from support.loaned_host import DRIVER, loaned_host

from vfio_lab.campaign.results import Outcome
from vfio_lab.util.deadline import Deadline

__all__ = ["loaned_host"]
MATCH = "scenarios/vf_token/test_match.py"
CUT_S = 20.0
QMP_TIMEOUT_S = 20.0
WRONG = (Outcome.FAILED,)


def link(host, up):
    """Cut the network between the run and the machine, or mend it."""
    host.guest.qmp.execute(
        "set_link", deadline=Deadline.after(QMP_TIMEOUT_S), name="loopback", up=up
    )


def end(run):
    said, _ = run.communicate(timeout=600)
    return said


def nothing_wrong_was_said(host, said):
    run = host.records()
    assert not [one for one in run if one.outcome in WRONG], said
    assert "INTERNALERROR" not in said
    return run


def test_a_killed_sshd_leaves_the_machine_as_it_was(loaned_host):
    before = loaned_host.state()
    with loaned_host.start(MATCH) as run:
        loaned_host.await_driver("vfio-pci")
        killed = loaned_host.guest.root.run("pkill", "-9", "-f", "sshd.*root")
        assert not killed.exit
        said = end(run)
    assert run.returncode != 0
    loaned_host.await_state(before)
    assert loaned_host.pf.driver == DRIVER
    nothing_wrong_was_said(loaned_host, said)


def test_a_cut_network_leaves_the_machine_as_it_was(loaned_host):
    before = loaned_host.state()
    with loaned_host.start(MATCH) as run:
        loaned_host.await_driver("vfio-pci")
        link(loaned_host, up=False)
        time.sleep(CUT_S)
        link(loaned_host, up=True)
        said = end(run)
    loaned_host.await_state(before)
    nothing_wrong_was_said(loaned_host, said)


def test_a_full_disk_there_is_told(loaned_host):
    root = loaned_host.guest.root
    before = loaned_host.state()
    root.run("sh", "-c", "dd if=/dev/zero of=/run/filler bs=1M; true")
    said = loaned_host.run(MATCH).said
    root.run("rm", "-f", "/run/filler")
    loaned_host.await_state(before)
    assert "INTERNALERROR" not in said


def killed(host):
    host.guest.qemu.kill()


def rebooted(host):
    """Reset the machine; it comes up again, without the run's agent and connections."""
    deadline = Deadline.after(QMP_TIMEOUT_S)
    host.guest.qmp.execute("set-action", deadline=deadline, reboot="reset")
    host.guest.qmp.execute("system_reset", deadline=deadline)


@pytest.mark.parametrize("goes_away", [killed, rebooted])
def test_a_machine_that_goes_away_is_told(loaned_host, goes_away):
    with loaned_host.start(MATCH) as run:
        loaned_host.await_driver("vfio-pci")
        goes_away(loaned_host)
        said = end(run)
    assert run.returncode != 0
    nothing_wrong_was_said(loaned_host, said)
