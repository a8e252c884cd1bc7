"""Does a machine that is not the lab's own get back the device that it loaned?"""

from support.loaned_host import DRIVER

from vfio_lab.campaign.results import Outcome

PASSED, SKIPPED = Outcome.PASSED, Outcome.SKIPPED
MATCH = "scenarios/vf_token/test_match.py"
OTHERS = "scenarios/vf_token/test_other_devices.py"
HANDFUL = "wrong and group or nil_uuid or of_another or not_count_as_in_use"
EXPECTED = [PASSED, PASSED, SKIPPED, SKIPPED, SKIPPED]


def test_scenarios_run_on_a_real_machine_and_leave_it_as_it_was(loaned_host):
    """A run over SSH passes what the machine can show, skips the rest, and cleans up."""
    before = loaned_host.state()
    run = loaned_host.run(MATCH, OTHERS, "-k", HANDFUL)
    assert run.exit == 0, run.said
    assert [one.outcome for one in run.scenarios] == EXPECTED, run.said
    assert loaned_host.state() == before


def test_a_pf_whose_interface_is_up_is_refused(loaned_host):
    """A device in use is not touched, and the run says what it is in use for."""
    loaned_host.interface("up")
    before = loaned_host.state()
    run = loaned_host.run(MATCH)
    assert (run.exit, run.scenarios) == (2, ()), run.said
    assert "is up" in run.said
    assert loaned_host.state() == before


def test_a_killed_run_leaves_the_machine_as_it_was(loaned_host):
    """When the run's end of the connection is gone, the machine puts itself back."""
    before = loaned_host.state()
    with loaned_host.start(MATCH) as run:
        loaned_host.await_driver("vfio-pci")
        run.kill()
    loaned_host.await_state(before)
    assert loaned_host.pf.driver == DRIVER
