"""The monitor, against a real QEMU without a machine."""

import contextlib
import gc
import json
import shutil
import socket
import threading
import time

import pytest

from vfio_lab.errors import DeadlineExceeded, GuestLost
from vfio_lab.qemu import qmp as module
from vfio_lab.qemu.process import Qemu
from vfio_lab.qemu.qmp import Qmp, QmpRefusal
from vfio_lab.util.deadline import Deadline

BINARY = "qemu-system-x86_64"
AT_ONCE_S = 2.0


def soon():
    return Deadline.after(0.05)


def in_time():
    return Deadline.after(20)


@pytest.fixture
def wire():
    """Our end of a monitor's socket, and the one for QEMU to inherit."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def qemu(wire, tmp_path):
    """A QEMU that waits for its monitor."""
    if shutil.which(BINARY) is None:
        pytest.skip(f"needs QEMU: no {BINARY} on the PATH")
    _, theirs = wire
    # fmt: off
    command = [
        BINARY,
        "-machine", "none",
        "-nodefaults",
        "-display", "none",
        "-S",
        "-chardev", f"socket,id=monitor,fd={theirs.fileno()}",
        "-mon", "chardev=monitor,mode=control",
    ]
    # fmt: on
    process = Qemu.launch(command, tmp_path / "qemu.log", [theirs.fileno()])
    theirs.close()
    yield process
    process.kill()


@pytest.fixture
def qmp(wire, qemu, tmp_path):  # noqa: ARG001 - the QEMU at the other end
    with contextlib.closing(Qmp(wire[0], "guest", tmp_path / "qmp.jsonl")) as monitor:
        yield monitor


def test_a_command_returns_what_qemu_returns(qmp):
    status = qmp.execute("query-status", deadline=in_time())
    assert status["status"] == "prelaunch"
    assert status["running"] is False


def test_underscores_in_names_stand_for_hyphens(qmp):
    text = qmp.execute("human-monitor-command", deadline=in_time(), command_line="info version")
    assert text.strip()[0].isdigit()


def test_a_refusal_says_what_and_why_and_ends_nothing(qmp, tmp_path):
    with pytest.raises(QmpRefusal, match="QEMU refused no-such-command") as refusal:
        qmp.execute("no-such-command", deadline=in_time())
    assert "has not been found" in refusal.value.seen
    assert refusal.value.guest == "guest"
    assert refusal.value.where == tmp_path / "qmp.jsonl"
    assert qmp.execute("query-status", deadline=in_time())


def test_events_are_kept_until_somebody_asks(qmp):
    qmp.execute("cont", deadline=in_time())
    qmp.execute("stop", deadline=in_time())
    assert qmp.await_event("STOP", deadline=in_time())["event"] == "STOP"
    assert qmp.await_event("RESUME", deadline=soon())["event"] == "RESUME"
    with pytest.raises(DeadlineExceeded):
        qmp.await_event("RESUME", deadline=soon())


def test_an_event_may_come_later(qmp):
    qmp.execute("cont", deadline=in_time())
    qmp.await_event("RESUME", deadline=in_time())
    qmp.execute("quit", deadline=in_time())
    assert qmp.await_event("SHUTDOWN", deadline=in_time())["data"]["reason"] == "host-qmp-quit"


def test_an_event_that_does_not_come_is_named_with_the_last_that_did(qmp):
    qmp.execute("cont", deadline=in_time())
    with pytest.raises(DeadlineExceeded, match="did not answer MIGRATION") as late:
        qmp.await_event("MIGRATION", deadline=soon())
    assert "RESUME" in late.value.seen
    assert qmp.execute("query-status", deadline=in_time())["running"] is True


def test_a_command_that_ran_out_of_time_does_not_confuse_the_next(qmp):
    with pytest.raises(DeadlineExceeded, match="did not answer query-version"):
        qmp.execute("query-version", deadline=Deadline.after(0))
    assert qmp.execute("query-status", deadline=in_time())["status"] == "prelaunch"


def test_a_qemu_that_dies_is_noticed_at_once_whatever_is_awaited(qemu, qmp):
    threading.Timer(0.1, qemu.process.kill).start()
    began = time.monotonic()
    with pytest.raises(GuestLost, match="closed during STOP"):
        qmp.await_event("STOP", deadline=in_time())
    with pytest.raises(GuestLost, match="closed during STOP"):
        qmp.await_event("STOP", deadline=in_time())
    with pytest.raises(GuestLost, match="closed during query-status"):
        qmp.execute("query-status", deadline=in_time())
    assert time.monotonic() - began < AT_ONCE_S


def test_the_last_events_of_a_dead_qemu_are_not_lost(qemu, qmp):
    qmp.execute("cont", deadline=in_time())
    qemu.kill()
    assert qmp.await_event("RESUME", deadline=in_time())


def test_every_message_is_logged_with_its_time(qmp, tmp_path):
    qmp.execute("cont", deadline=in_time())
    qmp.await_event("RESUME", deadline=in_time())
    with pytest.raises(QmpRefusal):
        qmp.execute("no-such-command", deadline=in_time())
    lines = [json.loads(line) for line in (tmp_path / "qmp.jsonl").read_text().splitlines()]
    assert all(abs(line["at"] - time.time()) < 60 for line in lines)
    kinds = [({"execute", "return", "error", "event"} & set(line)).pop() for line in lines]
    assert sorted(kinds) == ["error", "event", "execute", "execute", "return"]
    assert (tmp_path / "qmp.jsonl").stat().st_mode & 0o077 == 0


def test_hanging_up_leaves_qemu_running(wire, qemu, tmp_path):
    Qmp(wire[0], "guest", tmp_path / "qmp.jsonl").close()
    assert not qemu.await_end(soon())


def test_hanging_up_on_a_dead_qemu_is_no_error(wire, qemu, tmp_path):
    monitor = Qmp(wire[0], "guest", tmp_path / "qmp.jsonl")
    qemu.kill()
    monitor.close()


def test_a_monitor_that_is_closed_does_not_greet(wire, tmp_path):
    wire[1].close()
    with pytest.raises(GuestLost, match="closed during greeting"):
        Qmp(wire[0], "guest", tmp_path / "qmp.jsonl")
    gc.collect()  # what is left open warns, and a warning is an error


def test_a_monitor_that_says_nothing_is_not_waited_for(wire, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GREETING_TIMEOUT_S", 0.05)
    with pytest.raises(DeadlineExceeded, match="did not answer greeting"):
        Qmp(wire[0], "guest", tmp_path / "qmp.jsonl")
    gc.collect()


def test_a_monitor_that_speaks_another_language_is_no_monitor(wire, tmp_path):
    wire[1].sendall(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(GuestLost, match="closed during greeting"):
        Qmp(wire[0], "guest", tmp_path / "qmp.jsonl")
    gc.collect()
