"""Is there a way into a guest for people and for scripts?"""

import signal

import pytest

from vfio_lab.errors import GuestLost
from vfio_lab.interactive import repl, session
from vfio_lab.uapi.vfio import VFIO_TYPE1v2_IOMMU

SCRIPT = "echo out $PF0; echo err >&2; lspci -s $PF0 | grep -c 82576; exit 7"
ONE_OF_TWO_FAILS = """
def test_passes(guest):
    assert guest.taints() == set()

def test_fails(guest):
    assert guest.taints() == {0}
"""


def test_a_command_has_our_streams_and_we_have_its_exit_code(guest, capfd):
    """A script gets what its command says and how it ends, also by a signal."""
    assert session.run_command(guest, ["sh", "-c", SCRIPT]) == 7
    assert capfd.readouterr() == (f"out {guest.function('pf0')}\n1\n", "err\n")
    assert session.run_command(guest, ["sh", "-c", "kill $$"]) == 128 + signal.SIGTERM
    assert session.run_command(guest, ["no-such-command"]) == 127


@pytest.mark.complains("panic")
def test_a_guest_that_panics_under_a_command_says_so(guest):
    """A script is not left waiting, and the error quotes the panic."""
    with pytest.raises(GuestLost) as lost:
        session.run_command(guest, ["sh", "-c", "echo c >/proc/sysrq-trigger"])
    assert "sysrq triggered crash" in str(lost.value)


def test_a_shell_knows_its_window_and_its_devices(at_a_terminal):
    """The prompt is on a terminal of the right size, and VFs are one word away."""
    shell = at_a_terminal("shell", "igb")
    assert shell.sees("pf0 ")
    assert shell.sees("igb/")
    shell.resizes(123, 45)
    shell.types(" until [ \"$(stty size)\" = '45 123' ]; do :; done; vfs 2; group $VF1; exit 5")
    assert shell.sees("\nVF1=0000:01:10.2")
    assert shell.sees("\n12")
    assert shell.exit_code() == 5


def test_pythons_prompt_has_the_objects_of_scenarios(guest):
    """What a scenario does can be pasted there."""
    names = repl.namespace(guest)
    console = repl.Console(names)
    assert names["VFIO_TYPE1v2_IOMMU"] == VFIO_TYPE1v2_IOMMU
    assert not console.push("pf = pf0.bind_with_sriov(); vf, other_vf = pf.enable_vfs(2)")
    assert not console.push("device = pf_user.open(pf, TOKEN)")
    assert console.push("with refused(EACCES): vf_user.open(vf)")
    assert not console.push("")
    assert not console.push("held = vf_user.open(vf, TOKEN)")
    assert names["held"].user is names["vf_user"]


def test_the_guest_of_a_failed_scenario_outlives_its_run_and_no_other_does(run_that_keeps):
    """With --lab-keep=fail one gets into what failed until one ends it as told."""
    run = run_that_keeps(ONE_OF_TWO_FAILS)
    assert run.qemus() == 1
    (kept,) = run.kept
    assert kept.lives()
    kept.end()
    assert run.await_qemus(0)
