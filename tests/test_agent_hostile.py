"""The real agent, asked for what no host asks for: it says no and goes on."""

import contextlib
import itertools
import json
import os
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfio_lab.client.channel import ROUTER
from vfio_lab.errors import AgentError
from vfio_lab.util.deadline import Deadline, wait_until

EXAMPLES = 150
TIMEOUT_S = 20
NOBODY = 999_999_999
TOO_LONG = (32 << 20) + 1
MANY = 100
STRUCTURE = '{}[]",:\\ux-.ntfe \t\0\x7f'
NUMBERS = (-(1 << 63), -1, 0, 1, 3, 7, 8, 1 << 24, 1 << 40, (1 << 64) - 1, 1 << 64, 1.5, 1e300)
STRINGS = ("", "00", "0", "zz", "nul\0", "\ud83d\ude00", "\udc80", "/nonexistent", "x" * 5000)
# Left out: what would change the host's clock and log.
OPERATIONS = (
    *("become", "fork", "listdir", "poke", "read_file", "readlink", "run", "starve", "syscall"),
    *("write_file", "reserve", "snapshot", "spawn", "kill", "nonsense", ""),
)
NAMES = (
    *("args", "argv", "count", "data", "drop", "folder", "last_words", "name", "nth", "path"),
    *("pid", "pointers", "out", "signal", "size", "timeout_ms", "uid", "width", "offset"),
)
values = st.recursive(
    st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(STRINGS),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=20,
)
requests = st.fixed_dictionaries(
    {"op": st.sampled_from(OPERATIONS)},
    optional={"args": st.dictionaries(st.sampled_from(NAMES), values) | values},
)
FINE = json.dumps(
    {
        "id": 1,
        "op": "syscall",
        "args": {
            "number": 19,  # readv(), and what is left of that without a digit: write(), mmap()
            "args": [0, {"data": "00" * 32, "out": True, "pointers": [[16, {"data": "7f"}]]}, 1],
        },
    }
)
edits = st.lists(
    st.tuples(st.integers(0, len(FINE)), st.integers(0, 2), st.sampled_from(["", *STRUCTURE])),
    min_size=1,
    max_size=5,
)
ids = itertools.count(1 << 32)


class Target:
    """An agent and a user of it who may be killed by what they are asked."""

    def __init__(self, agent):
        self.agent = agent
        self.channel = agent.channel
        self.user = agent.user()

    def take(self, *lines):
        """Have bytes taken in, and see that the agent and its user are there afterwards."""
        self.channel.carrier.settimeout(TIMEOUT_S)
        self.channel.carrier.sendall(b"".join(line + b"\n" for line in lines))
        self.settle(self.user.pid)
        self.settle(ROUTER)
        if self.user.pid in self.channel.ended:
            self.user = self.agent.user()

    def settle(self, pid, number=None, request=None):
        """Make a request and wait for its answer, or for the user's end."""
        number = number or next(ids)
        self.channel._asked.add(number)
        request = {"op": "listdir", "args": {"path": "/proc/self"}} if request is None else request
        body = json.dumps({"id": number, **request})
        self.channel.carrier.sendall(f"{pid} {body}\n".encode())
        wait_until(
            f"an answer to {body[:200]}", lambda: self.told(pid, number), Deadline.after(TIMEOUT_S)
        )
        return self.channel.answers.pop(number, None)

    def told(self, pid, number):
        """Whether a request has been answered, in whatever way."""
        with contextlib.suppress(AgentError):  # a line without an id: what it was asked had none
            self.channel.pump(Deadline.after(0.01), once=True)
        return number in self.channel.answers or pid in self.channel.ended


@pytest.fixture(scope="module")
def hostile(start_agent):
    with start_agent() as agent:
        yield Target(agent)


@settings(max_examples=EXAMPLES)
@given(line=st.binary(max_size=300))
def test_whatever_comes_the_agent_goes_on(hostile, line):
    hostile.take(line)
    hostile.take(b"0 " + line)
    hostile.take(b"%d " % hostile.user.pid + line)


@settings(max_examples=EXAMPLES)
@given(request=requests)
def test_every_request_is_answered_or_is_the_users_end(hostile, request):
    hostile.settle(ROUTER, request=request) if request["op"] != "kill" else None
    hostile.settle(hostile.user.pid, request=request)
    hostile.take()


@settings(max_examples=EXAMPLES)
@given(edits=edits)
def test_a_damaged_request_is_no_users_end(hostile, edits):
    line = FINE
    for place, deleted, inserted in edits:
        line = line[:place] + inserted + line[place + deleted :]
    pid = hostile.user.pid
    hostile.take(b"%d " % pid + line.replace("\n", "").encode())
    assert pid not in hostile.channel.ended


@pytest.mark.parametrize("deep", [31, 33, 100_000])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_nesting_is_followed_as_far_as_a_bound(hostile, deep, brackets):
    opening, closing = brackets if brackets == "[]" else ('{"args":', "}")
    value = opening * deep + "0" + closing * deep
    number = next(ids)
    body = f'{{"id":{number},"op":"nonsense","args":{value}}}'.encode()
    hostile.channel._asked.add(number)
    hostile.take(b"0 " + body, b"%d " % hostile.user.pid + body)
    assert (number in hostile.channel.answers) == (deep == 31)


def test_buffers_point_to_each_other_as_far_as_a_bound(hostile):
    buffer = {"data": "00" * 8}
    for _ in range(9):
        buffer = {"data": "00" * 8, "pointers": [[0, buffer]]}
    for args in ([buffer], [{"data": "00" * 8, "pointers": [[0, {"data": ""}]] * 2000}]):
        request = {"op": "syscall", "args": {"number": 39, "args": args}}
        assert "buffers" in hostile.settle(hostile.user.pid, request=request)["error"]


def test_a_request_that_is_too_long_is_left_out(hostile):
    for address in (b"0 ", b"%d " % hostile.user.pid):
        hostile.take(address + b'{"id":1,"op":"' + b"x" * TOO_LONG + b'"}')
    assert hostile.user.exists("/")


def test_an_answer_that_is_too_long_is_none(hostile):
    size = 9 << 20
    address = hostile.user.allocate(size)
    args = {"address": address, "size": size, "width": 0}
    assert (
        "more than"
        in hostile.settle(hostile.user.pid, request={"op": "peek", "args": args})["error"]
    )
    hostile.user.munmap(address, size)


def test_a_command_that_says_too_much_is_ended(hostile):
    with pytest.raises(AgentError) as error:
        hostile.user.run("cat", "/dev/zero")
    assert "said more than" in error.value.tail


def test_a_user_who_takes_in_nothing_keeps_nobody_waiting(agent):
    user, other = agent.user(), agent.user()
    user.start("poll", 0, 0, 3_600_000)
    late = [user.start_write_file("/nonexistent", "x" * (1 << 20)) for _ in range(12)]
    assert other.exists("/")
    with pytest.raises(AgentError, match="write_file") as error:
        late[-1].wait()
    assert "of requests to take in" in error.value.tail
    user.kill()


def test_what_is_for_nobody_is_refused(hostile):
    answer = hostile.settle(NOBODY, request={"op": "listdir"})
    assert answer["error"] == f"there is no user with pid {NOBODY}"
    for pid in (-1, 0, os.getpid(), 1 << 40):
        request = {"op": "kill", "args": {"pid": pid, "signal": 9}}
        assert hostile.settle(ROUTER, request=request)["error"].startswith("there is no user")


def test_there_are_only_so_many_users_ahead_of_need(hostile):
    answer = hostile.settle(ROUTER, request={"op": "reserve", "args": {"count": 1 << 40}})
    assert "can be put in reserve" in answer["error"]


def test_only_so_many_requests_wait_for_an_end(agent):
    user = agent.user()
    busy = user.start("poll", 0, 0, 3_600_000)
    waiting = [user.start_kill(signal.SIGCONT) for _ in range(MANY)]
    with pytest.raises(AgentError) as error:
        waiting[-1].wait(Deadline.after(TIMEOUT_S))
    assert "wait for its end already" in error.value.tail
    assert not busy.returned
