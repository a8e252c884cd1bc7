"""The channel: what it makes of a stream that splits, garbles, stalls or ends."""

import contextlib
import json
import socket
import struct
import threading
import time

import pytest

from vfio_lab.client import channel as module
from vfio_lab.client.channel import ROUTER, Channel, UserGone
from vfio_lab.errors import AgentError, DeadlineExceeded, GuestLost
from vfio_lab.util.deadline import Deadline

SOON_S = 0.02
CIRCUMSTANCES = {"seen": "QEMU exited with code 3", "tail": "Kernel panic"}


class FarEnd:
    """Stands where the agent does."""

    def __init__(self, sock):
        self.sock = sock

    def requests(self):
        lines = self.sock.recv(1 << 16).splitlines()
        return [
            (int(pid), json.loads(body)) for pid, body in (line.split(b" ", 1) for line in lines)
        ]

    def say(self, *messages):
        self.sock.sendall(b"".join(json.dumps(one).encode() + b"\n" for one in messages))

    def close(self):
        self.sock.close()


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours, "guest", error_context=CIRCUMSTANCES.copy), FarEnd(theirs)


def soon():
    return Deadline.after(SOON_S)


def in_time():
    return Deadline.after(10)


def test_a_request_is_a_line_with_the_user_in_front(ends):
    channel, far = ends
    channel.start(7, "syscall", "about", number=1, args=[2])
    assert far.requests() == [(7, {"id": 1, "op": "syscall", "args": {"number": 1, "args": [2]}})]


def test_an_answer_may_come_in_pieces(ends):
    channel, far = ends
    pending = channel.start(ROUTER, "op", "about")
    line = json.dumps({"id": pending.id, "text": "é" * 50}).encode() + b"\n"
    sender = threading.Thread(target=lambda: [far.sock.sendall(bytes([one])) for one in line])
    sender.start()
    assert pending.wait(in_time())["text"] == "é" * 50
    sender.join()


def test_answers_may_come_out_of_order_and_together(ends):
    channel, far = ends
    first, second, third = (channel.start(5, "op", str(number)) for number in range(3))
    far.say({"id": third.id, "value": 3}, {"id": first.id, "value": 1})
    assert first.wait(in_time())["value"] == 1
    assert third.answered
    assert not second.answered
    far.say({"id": second.id, "value": 2})
    assert second.wait(in_time())["value"] == 2
    assert third.wait(in_time())["value"] == 3


def test_a_late_answer_carries_the_last_one_and_the_circumstances(ends):
    channel, far = ends
    done = channel.start(5, "op", "the first call")
    far.say({"id": done.id, "value": 4711})
    done.wait(in_time())
    with pytest.raises(DeadlineExceeded) as late:
        channel.call(5, "op", "the second call", deadline=soon())
    assert "no answer to: the second call" in str(late.value)
    assert "4711" in late.value.seen
    assert "QEMU exited with code 3" in late.value.seen
    assert late.value.tail == "Kernel panic"


def test_a_request_stays_pending_after_a_deadline(ends):
    channel, far = ends
    pending = channel.start(5, "op", "about")
    with pytest.raises(DeadlineExceeded):
        pending.wait(soon())
    far.say({"id": pending.id, "value": 1})
    assert pending.wait(in_time())["value"] == 1


def test_a_passed_deadline_still_takes_what_is_there(ends):
    channel, far = ends
    pending = channel.start(5, "op", "about")
    far.say({"id": pending.id, "value": 1})
    assert pending.wait(Deadline.after(-1))["value"] == 1


def test_the_end_of_the_stream_is_a_lost_guest(ends):
    channel, far = ends
    pending = channel.start(5, "op", "about")
    far.close()
    for _ in range(2):
        with pytest.raises(GuestLost) as lost:
            pending.wait(in_time())
        assert lost.value.seen == "QEMU exited with code 3"
        assert lost.value.tail == "Kernel panic"


def test_a_request_to_a_lost_guest_says_what_it_was(ends):
    channel, far = ends
    far.close()
    with pytest.raises(GuestLost, match="before: open the PF"):
        channel.start(5, "op", "open the PF")


def test_a_stream_that_breaks_is_a_lost_guest():
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with ours:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        with pytest.raises(GuestLost, match="broke"):
            Channel(ours, "guest").await_ready(in_time())


def test_a_guest_that_does_not_listen_is_not_waited_for_without_end(ends, monkeypatch):
    channel, _ = ends
    monkeypatch.setattr(module, "SEND_TIMEOUT_S", SOON_S)
    with pytest.raises(DeadlineExceeded, match="does not listen to: a long story"):
        channel.start(5, "op", "a long story", data="x" * 10_000_000)


@pytest.mark.parametrize(
    "garbage",
    [b"Last login: Monday", b"{", b"[]", b"4711", b"{}", b'{"event": "exit"}', b"\xff", b""],
)
def test_what_is_no_answer_is_quoted_and_spoils_no_other(ends, garbage):
    channel, far = ends
    pending = channel.start(5, "op", "about")
    far.sock.sendall(garbage + b"\n" + json.dumps({"id": pending.id, "value": 1}).encode() + b"\n")
    with pytest.raises(AgentError) as error:
        pending.wait(in_time())
    assert error.value.seen == repr(garbage)
    assert pending.wait(in_time())["value"] == 1


def test_a_failure_of_the_agent_comes_with_its_traceback(ends):
    channel, far = ends
    pending = channel.start(5, "op", "peek(0x10)")
    far.say({"id": pending.id, "error": "Traceback ...\nKeyError: 3"})
    with pytest.raises(AgentError, match=r"the agent failed at: peek\(0x10\)") as error:
        pending.wait(in_time())
    assert error.value.tail.endswith("KeyError: 3")


def test_nobody_waits_for_a_user_that_is_gone(ends):
    channel, far = ends
    pending, other = channel.start(5, "op", "peek(0x10)"), channel.start(6, "op", "about")
    far.say({"event": "exit", "pid": 5, "exit": -11})
    with pytest.raises(UserGone, match=r"the user died at: peek\(0x10\)") as gone:
        pending.wait(in_time())
    assert gone.value.exit == -11
    with pytest.raises(DeadlineExceeded):
        other.wait(soon())


def test_the_last_answer_of_a_user_counts(ends):
    channel, far = ends
    pending = channel.start(5, "op", "about")
    far.say({"id": pending.id, "value": 1}, {"event": "exit", "pid": 5, "exit": 0})
    assert pending.wait(in_time())["value"] == 1


def test_an_agent_announces_itself(ends):
    channel, far = ends
    far.say({"event": "ready", "pid": 1})
    channel.await_ready(in_time())
    channel.await_ready(soon())


def test_an_agent_that_never_announces_itself_is_given_up(ends):
    channel, _ = ends
    with pytest.raises(DeadlineExceeded, match="never announced itself") as late:
        channel.await_ready(soon())
    assert "<none>" in late.value.seen
    assert late.value.tail == "Kernel panic"


def test_asking_whether_an_answer_is_there_does_not_wait(ends):
    channel, _ = ends
    began = time.monotonic()
    assert not channel.start(5, "op", "about").answered
    assert time.monotonic() - began < 1


def test_closing_hangs_up(ends):
    channel, far = ends
    channel.close()
    with contextlib.closing(far):
        assert far.sock.recv(1) == b""
