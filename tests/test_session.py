"""Prompts and commands in guests, as far as they go without one."""

import errno
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from vfio_lab.cli import main
from vfio_lab.client.call import Refusal
from vfio_lab.errors import LabError, UsageError
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.interactive import repl, session
from vfio_lab.util.cache import Cache

BASH = shutil.which("bash")
PF = "0000:01:00.0"


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path)


@pytest.fixture
def guest():
    kernel = SimpleNamespace(name="7.3", release="7.3.4-lab")
    return SimpleNamespace(
        machine=SimpleNamespace(topology=find_topology("igb-pair"), kernel=kernel)
    )


def test_what_is_under_test_is_in_variables_by_role():
    found = session.variables(find_topology("igb-pair"))
    assert found["PF0"] == PF
    assert set(found) == {"PF0", "PF1", "NIC0", "PORT0", "PORT1", "PORT2"}


def test_the_greeting_says_what_there_is(guest):
    said = session.greeting(guest)
    assert said.startswith("igb-pair on kernel 7.3 (7.3.4-lab): two igb PFs")
    assert re.search(rf"^  pf0 +{PF}  igb \[8086:10c9\]$", said, re.MULTILINE)


def test_what_bash_reads_first_is_right_and_says_who_and_where(guest):
    if BASH is None:
        pytest.skip("needs bash: it is not on the PATH")
    text = session.rc(guest)
    assert text.startswith(f"LAB=igb-pair/7.3\nHISTFILE={session.GUESTS_HISTORY}\n")
    done = subprocess.run([BASH, "-n"], input=text, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_shells_words_do_what_they_say(guest, tmp_path):
    if BASH is None:
        pytest.skip("needs bash: it is not on the PATH")
    function = tmp_path / "devices" / PF
    (tmp_path / "groups" / "7").mkdir(parents=True)
    (tmp_path / "drivers" / "vfio-pci").mkdir(parents=True)
    function.mkdir(parents=True)
    (function / "iommu_group").symlink_to("../../groups/7")
    (function / "driver").symlink_to("../../drivers/vfio-pci")
    for number in range(12):
        (function / f"virtfn{number}").symlink_to(f"../0000:01:10.{number}")
    asked = f"PF0={PF} PCI={tmp_path}; vfs 12; echo $VF2 $VF11; vfs 1; echo ${{VF1-}}; group $PF0"
    rc = session.rc(guest).replace("PCI=/sys/bus/pci\n", "")
    done = subprocess.run(
        [BASH, "-uc", f"{rc}\n{asked}"], text=True, capture_output=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[11:13] == ["VF11=0000:01:10.11", "0000:01:10.2 0000:01:10.11"]
    assert lines[13:] == ["VF0=0000:01:10.0", "", "7"]
    assert (function / "sriov_numvfs").read_text() == "1\n"


def test_history_is_kept_between_guests_up_to_a_point(cache):
    assert session._read_history(cache) == ""
    session._append_history(cache, "\nlspci\nvfs 2\n")
    session._append_history(cache, "")
    session._append_history(cache, "exit")
    assert session._read_history(cache) == "lspci\nvfs 2\nexit\n"
    session._append_history(cache, "true\n" * 2 * session.HISTORY_LINES)
    assert session._read_history(cache) == "true\n" * session.HISTORY_LINES
    assert (cache.root / session.HISTORY).stat().st_mode & 0o077 == 0


def test_a_shell_without_a_terminal_is_refused_before_anything_is_built(monkeypatch, capfd):
    monkeypatch.setattr(session, "pristine_guest", None)
    with pytest.raises(SystemExit) as ended:
        main(["shell"])
    assert ended.value.code == 2
    assert "hint: for scripts: `vfio-lab run" in capfd.readouterr().err


def test_a_wrong_topology_is_told_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(session.GuestFactory, "open", None)
    with pytest.raises(UsageError, match="no topology 'igp'"), session.pristine_guest("igp", None):
        pass


def test_refused_judges_as_in_scenarios(capfd):
    refusal = Refusal(errno.EACCES, "vf_user", "open", "the VF")
    with repl.refused(errno.EACCES):
        raise refusal
    assert capfd.readouterr().out == "vf_user: open(the VF): EACCES (Permission denied)\n"
    with pytest.raises(Refusal), repl.refused(errno.EINVAL):
        raise refusal
    with pytest.raises(AssertionError, match="but nothing was"), repl.refused(errno.EACCES):
        pass


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (LabError("it broke", hint="mend it"), "LabError: it broke\n  hint: mend it\n"),
        (
            Refusal(errno.EACCES, "u", "open", "x"),
            "Refusal: u: open(x): EACCES (Perm",
        ),
    ],
)
def test_what_the_lab_and_the_kernel_refuse_is_told_without_a_traceback(capfd, error, told):
    repl.Console({"fail": fail, "error": error}).runsource("fail(error)")
    assert capfd.readouterr().err.startswith(told)


def test_other_errors_have_their_traceback(capfd):
    repl.Console({}).runsource("1 / 0")
    assert "Traceback" in capfd.readouterr().err
