"""Every error of the lab's own says what its reader needs, and docs/errors.md explains it."""

import ast
import contextlib
import importlib
import pkgutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

import vfio_lab
from vfio_lab import errors
from vfio_lab.client import channel
from vfio_lab.client.channel import Channel, UserGone
from vfio_lab.errors import (
    AgentError,
    BootError,
    DeadlineExceeded,
    GuestLost,
    HostError,
    LabError,
    LaunchError,
    UsageError,
)
from vfio_lab.hw import catalogue
from vfio_lab.machine.guest import Guest
from vfio_lab.machine.ssh import Login, Ssh, SshError
from vfio_lab.qemu import qmp
from vfio_lab.qemu.capabilities import probe_qemu
from vfio_lab.qemu.process import Qemu
from vfio_lab.util import resources
from vfio_lab.util.deadline import Deadline, wait_until

LAB = Path(vfio_lab.__file__).parent
DOCS = (resources.root() / "docs" / "errors.md").read_text()
FACTS = {"seen": "QEMU exited with code 1", "tail": "Kernel panic", "where": Path("/console.log")}
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEy"
WHOLE = ("what", "guest", "seen", "tail", "where", "hint")


def subclasses(base):
    return {base, *(kind for one in base.__subclasses__() for kind in subclasses(one))}


def kinds():
    """Return every kind of error, of whichever module of the lab."""
    for module in pkgutil.walk_packages(vfio_lab.__path__, "vfio_lab."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {kind for kind in subclasses(LabError) if kind.__module__.startswith("vfio_lab.")}


def raises():
    """Yield every place in the lab that makes an error and says itself what was seen."""
    own = {kind for kind in kinds() if kind is LabError or "__init__" not in vars(kind)}
    names = {kind.__name__ for kind in own} - {"NotPermittedOnHost"}  # a rule, nothing was seen
    for path in sorted(LAB.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names:
                yield f"{path.relative_to(LAB)}:{node.lineno}", node


def guest_channel():
    ours, theirs = socket.socketpair()
    return theirs, Channel(ours, "igb-1", lambda: dict(FACTS), FACTS["where"])


def assert_whole(error, *fields):
    missing = [name for name in fields or WHOLE if not getattr(error, name)]
    assert missing == []
    for name in fields or WHOLE:
        assert str(getattr(error, name)).splitlines()[0] in str(error)


@pytest.mark.parametrize("kind", sorted(kinds() - {LabError}, key=lambda one: one.__name__))
def test_every_kind_is_explained_with_its_exit_code_and_has_a_hint(kind):
    assert f"| `{kind.__name__}` | {kind.exit_code} |" in DOCS
    assert kind.usual_hint


@pytest.mark.parametrize(
    ("place", "call"), list(raises()), ids=lambda one: one if isinstance(one, str) else ""
)
def test_no_error_says_only_that_it_failed(place, call):
    told = {keyword.arg for keyword in call.keywords}
    assert told & {"expected", "seen", "tail", "where", None}, place


def test_a_lost_guest_is_told_with_its_last_words():
    theirs, ours = guest_channel()
    theirs.close()
    with contextlib.closing(ours), pytest.raises(GuestLost) as lost:
        ours.call(channel.ROUTER, "x", "look", deadline=Deadline.after(1))
    assert_whole(lost.value)


def test_a_late_answer_is_told_with_the_guests_last_words():
    theirs, ours = guest_channel()
    with theirs, contextlib.closing(ours), pytest.raises(DeadlineExceeded) as late:
        ours.call(channel.ROUTER, "x", "look", deadline=Deadline.after(0.01))
    assert_whole(late.value)


def test_what_the_agent_failed_at_is_told_with_its_own_exception():
    theirs, ours = guest_channel()
    theirs.sendall(b'{"id": 1, "error": "Traceback"}\n')
    with theirs, contextlib.closing(ours), pytest.raises(AgentError) as failed:
        ours.call(channel.ROUTER, "x", "look", deadline=Deadline.after(1))
    assert_whole(failed.value, *WHOLE, "expected")


def test_a_line_that_is_no_answer_is_shown():
    theirs, ours = guest_channel()
    theirs.sendall(b"login:\n")
    with theirs, contextlib.closing(ours), pytest.raises(AgentError) as strange:
        ours.call(channel.ROUTER, "x", "look", deadline=Deadline.after(1))
    assert_whole(strange.value, "what", "guest", "expected", "seen", "where", "hint")


def test_a_user_that_died_is_told_with_its_signal():
    theirs, ours = guest_channel()
    theirs.sendall(b'{"event": "exit", "pid": 7, "exit": -11}\n')
    with theirs, contextlib.closing(ours), pytest.raises(UserGone) as gone:
        ours.call(7, "x", "look", deadline=Deadline.after(1))
    assert gone.value.seen == "exit -11"
    assert_whole(gone.value, "what", "guest", "expected", "seen", "where", "hint")


def test_a_monitor_that_closes_is_told_with_the_guests_last_words(tmp_path):
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(GuestLost) as lost:
        qmp.Qmp(ours, "igb-1", tmp_path / "qmp.jsonl", lambda: dict(FACTS))
    assert_whole(lost.value)


def test_a_guest_that_never_wakes_is_told_by_topology_and_kernel(tmp_path):
    machine = SimpleNamespace(
        topology=catalogue.find_topology("igb"), kernel=SimpleNamespace(name="7.3")
    )
    guest = SimpleNamespace(name="igb-1", machine=machine, folder=tmp_path, close=lambda: None)
    with pytest.raises(BootError) as late, Guest._delivery(guest, "boot"):
        raise DeadlineExceeded("no answer", guest="igb-1", **FACTS)
    assert_whole(late.value, *WHOLE, "expected")


def test_a_qemu_that_cannot_start_is_told_with_the_way_to_try_it(tmp_path):
    with pytest.raises(LaunchError) as refused:
        Qemu.launch(["no-such-qemu"], tmp_path / "log", [])
    assert_whole(refused.value, "what", "seen", "hint")


def test_no_ssh_is_told_with_the_command_to_try(tmp_path):
    (tmp_path / "host.pub").write_text(f"ssh-ed25519 {KEY}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SshError) as refused:
        Ssh(Login("127.0.0.1", port, host_key=tmp_path / "host.pub"), Deadline.after(5))
    assert_whole(refused.value, "what", "seen", "hint")
    assert f"ssh -p{port}" in refused.value.hint


def test_a_misspelt_name_is_told_with_those_that_are_close():
    with pytest.raises(UsageError) as refused:
        catalogue.find_topology("igb-pear")
    assert_whole(refused.value, "what", "expected", "hint")
    assert "igb-pair" in refused.value.hint


def test_a_host_without_qemu_is_told_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/none")
    probe_qemu.cache_clear()  # another test may have found it
    with pytest.raises(HostError) as refused:
        probe_qemu()
    assert_whole(refused.value, "what", "hint")


def test_a_wait_in_vain_shows_the_last_thing_seen():
    with pytest.raises(DeadlineExceeded) as late:
        wait_until("rain", lambda: 0, Deadline.after(0))
    assert_whole(late.value, "what", "seen", "hint")


def test_no_output_is_told_as_such():
    assert "| <empty>" in str(errors.BuildError("it", tail=""))
