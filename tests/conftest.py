"""The real agent, as a process of the host: everything but the guest around it."""

import contextlib
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

import vfio_lab
from vfio_lab.client.channel import ROUTER, Channel
from vfio_lab.client.user import User
from vfio_lab.util.deadline import Deadline

# How long an example takes says how busy the host is.
hypothesis.settings.register_profile(
    "busy host", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy host")

LAB = Path(vfio_lab.__file__).parent
TIMEOUT_S = 20
COMMAND = [sys.executable, "-S", "-m", "agent", "--stdio"]


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
def running_agent():
    ours, theirs = socket.socketpair()
    with contextlib.closing(ours):
        with theirs:
            process = subprocess.Popen(COMMAND, cwd=LAB, stdin=theirs, stdout=theirs)
        channel = Channel(ours, "agent")
        try:
            channel.await_ready(Deadline.after(TIMEOUT_S))
            yield Agent(process, channel)
        finally:
            channel.close()
            process.wait(TIMEOUT_S)


@pytest.fixture(scope="session")
def start_agent():
    """Return what starts an agent and ends it."""
    return running_agent


@pytest.fixture(scope="module")
def shared_agent():
    """An agent for tests that leave it as they found it."""
    with running_agent() as agent:
        yield agent


@pytest.fixture
def agent():
    """An agent of the test's own, to be damaged at will."""
    with running_agent() as agent:
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
