"""What can a guest reach that has broken out of its QEMU?

QEMU's monitor stands for it: `chardev-add` opens files and sockets with the rights of the process.
"""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from vfio_lab.errors import GuestKilled, QemuCrashed
from vfio_lab.hw.catalogue import find_topology
from vfio_lab.machine.guest import Guest
from vfio_lab.qemu.confinement import DEVICES
from vfio_lab.qemu.qmp import QmpRefusal
from vfio_lab.util import jail
from vfio_lab.util.deadline import Deadline, wait_until
from vfio_lab.util.host_time import family

pytestmark = pytest.mark.skipif(
    jail.why_not() is not None, reason=f"needs bubblewrap: {jail.why_not()}"
)
ANSWER_S = 10.0
LOGIN_S = 60
NO_FILES = ("tmpfs", "proc", "devtmpfs")  # of others
NAMESPACES = ("mnt", "net", "pid", "ipc", "uts")


def started(machine, folder, **changes):
    """Return a guest whose kernel has that origin."""
    kernel = replace(machine.kernel, **changes)
    return contextlib.closing(Guest.start("twin", replace(machine, kernel=kernel), folder))


@pytest.fixture
def jailed(machine, tmp_path):
    with started(machine, tmp_path / "jailed", lasting=False) as guest:
        yield guest


@pytest.fixture
def plain(machine, tmp_path):
    with started(machine, tmp_path / "plain") as guest:
        yield guest


def opens(guest, kind, **data):
    """Return whether QEMU opens a file or a socket."""
    backend = {"type": kind, "data": data}
    with contextlib.suppress(QmpRefusal):
        guest.qmp.execute(
            "chardev-add", deadline=Deadline.after(ANSWER_S), id=kind + "-probe", backend=backend
        )
        return True
    return False


def connects(guest, kind, **address):
    return opens(guest, "socket", addr={"type": kind, "data": address}, server=False)


@pytest.fixture
def probes(tmp_path):
    """Attempts to write a file, to read one, and to reach a port and a socket, as a user may."""
    secret, planted, path = (tmp_path / name for name in ("secret", "planted", "agent"))
    secret.write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()
        port = str(server.getsockname()[1])

        def write(guest):
            opens(guest, "file", out=str(planted))
            return planted.exists()

        def read(guest):
            return opens(guest, "pipe", device=str(secret))

        yield {
            "write": write,
            "read": read,
            "connect": lambda guest: connects(guest, "inet", host="127.0.0.1", port=port),
            "agent": lambda guest: connects(guest, "unix", path=str(path)),
        }


@pytest.mark.parametrize("attempt", ["write", "read", "connect", "agent"])
def test_the_jail_refuses_what_the_sandbox_leaves(plain, jailed, probes, attempt):
    """QEMU's seccomp filter allows it, as SECURITY.md lists; the jail of strangers' kernels not."""
    assert not probes[attempt](jailed)
    assert probes[attempt](plain)


def test_the_file_system_is_read_only_but_for_the_run_folder(jailed):
    *_, qemu = family(jailed.qemu.process.pid)
    inside = Path(f"/proc/{qemu}/root")
    mounts = [line.split() for line in Path(f"/proc/{qemu}/mounts").read_text().splitlines()]
    writable = {
        where
        for _, where, kind, options, *_ in mounts
        if "rw" in options.split(",") and kind not in NO_FILES and (inside / where[1:]).exists()
    }
    assert writable - set(map(str, DEVICES)) == {str(jailed.folder)}
    assert list((inside / "home").iterdir()) == []


def test_its_namespaces_are_its_own(plain, jailed):
    def spaces(guest):
        *_, qemu = family(guest.qemu.process.pid)
        return {name: Path(f"/proc/{qemu}/ns/{name}").readlink() for name in NAMESPACES}

    ours, its = spaces(plain), spaces(jailed)
    assert ours == {name: Path(f"/proc/self/ns/{name}").readlink() for name in NAMESPACES}
    assert not set(ours.values()) & set(its.values())


def test_one_can_log_in_through_the_relay(jailed):
    assert jailed.root.exists("/run/vfio-lab/settled")
    done = jailed.ssh.run("uname", "-r", deadline=Deadline.after(LOGIN_S))
    assert done.stdout.strip() == jailed.machine.kernel.release
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((jailed.login.host, jailed.login.port))


def test_the_login_command_that_is_printed_works(jailed):
    words = [*jailed.login.command(), "-o", "LogLevel=ERROR", "uname", "-r"]
    shell = ["sh", "-c", shlex.join(words)]
    done = subprocess.run(shell, capture_output=True, text=True, check=False, timeout=LOGIN_S)
    assert (done.stdout.strip(), done.returncode) == (jailed.machine.kernel.release, 0), done.stderr


@pytest.mark.parametrize(
    ("number", "loss"), [(signal.SIGKILL, GuestKilled), (signal.SIGSEGV, QemuCrashed)]
)
def test_the_end_of_qemu_is_told_as_what_it_is(jailed, number, loss):
    *_, qemu = family(jailed.qemu.process.pid)
    os.kill(qemu, number)
    with pytest.raises(loss):
        jailed.root.read_file("/proc/version")


def test_nothing_is_left_of_a_guest_that_is_closed(jailed):
    pids = list(family(jailed.qemu.process.pid))
    jailed.close()
    assert len(pids) > 1
    gone = Deadline.after(ANSWER_S)
    wait_until("its end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), gone)


def test_a_template_is_frozen_in_the_jail_too(guest_factory, tmp_path):
    digest = uuid.uuid4().hex  # so that there is none yet
    kernel = replace(guest_factory.kernel, lasting=False, digest=digest)
    spec = replace(guest_factory, kernel=kernel).boot_spec(find_topology("igb"))
    assert spec.jail(tmp_path) is not None
    with contextlib.closing(Guest.start("clone", spec, tmp_path / "clone")) as clone:
        assert clone.root.read_file("/proc/version")
