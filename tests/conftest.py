"""The real agent, as a process of the host: everything but the guest around it."""

import contextlib
import functools
import os
import socket
import subprocess
from dataclasses import dataclass

import hypothesis
import pytest

from vfio_lab.client.channel import ROUTER, Channel
from vfio_lab.client.user import User
from vfio_lab.image import agent as program
from vfio_lab.util.cache import Cache
from vfio_lab.util.deadline import Deadline

# How long an example takes says how busy the host is.
hypothesis.settings.register_profile(
    "busy host", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy host")

TIMEOUT_S = 20
# As guests have it, and so that it ends at the first thing that C leaves undefined.
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
BUILDS = {"static": program.STATIC, "sanitized": SANITIZERS}
# A user's bad address is the user's end, by the signal that the kernel sends.
OPTIONS = "handle_segv=0:handle_sigbus=0:handle_abort=0:abort_on_error=1:detect_leaks=1"


@dataclass
class Agent:
    """A running agent and the channel to it."""

    process: subprocess.Popen
    channel: Channel

    def ask(self, op, **args):
        return self.channel.call(ROUTER, op, op, deadline=Deadline.after(TIMEOUT_S), **args)

    def user(self, name="user", uid=0, drop=()):
        answer = self.ask("spawn", name=name, uid=uid, drop=list(drop))
        entries = []
        user = User(self.channel, answer["value"], name, entries.append)
        user.transcript = entries
        return user


@contextlib.contextmanager
def running_agent(path):
    ours, theirs = socket.socketpair()
    with contextlib.closing(ours):
        with theirs:
            environment = {**os.environ, "ASAN_OPTIONS": OPTIONS}
            command = [path, "--stdio"]
            process = subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs)
        channel = Channel(ours, "agent")
        try:
            channel.await_ready(Deadline.after(TIMEOUT_S))
            yield Agent(process, channel)
        finally:
            channel.close()
            process.wait(TIMEOUT_S)


@pytest.fixture(scope="session", params=BUILDS)
def start_agent(request):
    """Return what starts an agent and ends it."""
    path = program.build_agent(Cache.default(), BUILDS[request.param])
    return functools.partial(running_agent, path)


@pytest.fixture(scope="module")
def shared_agent(start_agent):
    """An agent for tests that leave it as they found it."""
    with start_agent() as agent:
        yield agent


@pytest.fixture
def agent(start_agent):
    """An agent of the test's own, to be damaged at will."""
    with start_agent() as agent:
        yield agent


@pytest.fixture
def user(shared_agent):
    """A user without any privilege but the test's own."""
    user = shared_agent.user()
    yield user
    if user.pid not in shared_agent.channel.ended:
        user.kill()


class Witness:
    """A FIFO that tells whether anybody still has it open for writing."""

    def __init__(self, path):
        os.mkfifo(path)
        self.path = str(path)
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def held(self):
        try:
            return os.read(self.fd, 1) != b""
        except BlockingIOError:
            return True

    def give_to(self, user):
        return user.open_path(self.path, os.O_WRONLY)


@pytest.fixture
def witness(tmp_path):
    witness = Witness(tmp_path / "witness")
    yield witness
    os.close(witness.fd)


@pytest.fixture
def as_root():
    """Skip where the host does not let the test change uids and capabilities."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it changes uids and capabilities")
