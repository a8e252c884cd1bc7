"""Does the lab keep its own promises about guests?"""

import contextlib
import os
import signal
import socket
import time
from errno import EACCES, EBUSY, ENOENT, EPERM
from pathlib import Path

import pytest

from vfio_lab.client.channel import UserGone
from vfio_lab.drivers.igb import Loopback
from vfio_lab.errors import GuestLost
from vfio_lab.machine.base import start_user
from vfio_lab.machine.guest import Guest
from vfio_lab.uapi.syscalls import CAP_SYS_ADMIN, O_WRONLY
from vfio_lab.util.cache import Cache
from vfio_lab.util.deadline import Deadline
from vfio_lab_pytest.verdicts import refused

GONE_WITHIN_S = 2.0
CLOCKS_AGREE_S = 5
FIRST_PACKET_S = 5
HOST_NAME = "/proc/sys/kernel/hostname"
EVERY_CAPABILITY = range(41)


def draws(guest):
    """Return two random UUIDs, which no other clone may draw."""
    return {guest.root.read_file("/proc/sys/kernel/random/uuid") for _ in range(2)}


def written_files(pid):
    """Return the regular files that a process has opened for writing."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        info = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{pid}/fdinfo/{link.name}").read_text().splitlines()
            if line.startswith("flags")
        )
        if link.resolve().is_file() and int(info["flags"], 8) & os.O_ACCMODE:
            found.add(link.resolve())
    return found


def test_a_clone_opens_no_file_of_the_cache_for_writing(guest):
    """Template, image and payload are closed to whoever breaks out of a guest."""
    written = written_files(guest.qemu.process.pid)
    assert guest.console.resolve() in written
    cache = Cache.default().root.resolve()
    assert not [path for path in written if path.is_relative_to(cache)]


@pytest.mark.complains("panic")
def test_a_panic_ends_the_scenario_at_once_with_its_reason(guest):
    """A guest that panics is lost within two seconds, and the error quotes the panic."""
    deadline = Deadline.after(GONE_WITHIN_S)
    with pytest.raises(GuestLost) as lost:
        guest.root.write_file("/proc/sysrq-trigger", "c")
    assert not deadline.passed
    assert "Kernel panic" in str(lost.value)
    assert "sysrq triggered crash" in str(lost.value)


def test_a_triple_fault_ends_the_scenario_at_once(guest):
    """A guest that resets itself is as lost as one that panics."""
    deadline = Deadline.after(GONE_WITHIN_S)
    with pytest.raises(GuestLost):
        guest.root.write_file("/proc/sysrq-trigger", "b")
    assert not deadline.passed


def test_a_killed_qemu_ends_the_scenario_at_once(guest):
    """When QEMU is gone, the next call says so and how it went."""
    deadline = Deadline.after(GONE_WITHIN_S)
    guest.qemu.process.kill()
    with pytest.raises(GuestLost) as lost:
        guest.root.read_file("/proc/version")
    assert not deadline.passed
    assert f"killed by signal {int(signal.SIGKILL)}" in str(lost.value)


def test_two_clones_differ_where_they_must(guest, machine, tmp_path):
    """Random state is a clone's own, from its first moment on."""
    twin = Guest.start("twin", machine, tmp_path / "twin")
    with contextlib.closing(twin):
        assert len(draws(guest) | draws(twin)) == 4


def test_a_clone_is_reached_by_the_first_packet(guest):
    """A clone has its template's MAC, which QEMU's network knows; else packets wait for seconds."""
    where = (guest.login.host, guest.login.port)
    with socket.create_connection(where, timeout=FIRST_PACKET_S) as wire:
        assert wire.recv(4) == b"SSH-"


def test_a_clone_knows_what_time_it_is(guest):
    """A clone does not wake on the day its template was frozen."""
    assert abs(int(guest.root.run("date", "+%s").stdout) - time.time()) < CLOCKS_AGREE_S


def test_testinfra_sees_the_guest(guest_host):
    """`guest_host` is a testinfra host on the scenario's guest."""
    assert guest_host.system_info.distribution == "debian"
    assert guest_host.file(HOST_NAME).content_string.strip() == "vfio-lab"
    assert guest_host.file("/sys/kernel").is_directory


def test_the_agent_answers_over_ssh_as_it_does_over_its_port(guest):
    """One protocol, two carriers: users behind either make the same calls."""
    with contextlib.closing(guest.agent_over_ssh()) as channel:
        user = start_user(channel, "remote")
        assert user.read_file(HOST_NAME) == guest.root.read_file(HOST_NAME)
        with refused(ENOENT):
            user.open_path("/dev/vfio/nobody")


def test_a_user_without_a_capability_is_refused_what_it_guards(guest):
    """Dropped capabilities are gone for good, kept ones are there."""
    bare = guest.user("bare", drop=[CAP_SYS_ADMIN])
    with refused(EPERM):
        bare.syscall("sethostname", 0, 0)
    guest.user("able").syscall("sethostname", 0, 0)


def test_a_foreign_uid_opens_only_what_is_its_own(guest):
    """A user's uid is a real one."""
    unprivileged_user = guest.user("unprivileged_user", uid=1000, drop=EVERY_CAPABILITY)
    assert "Uid:\t1000\t1000\t1000\t1000" in unprivileged_user.read_file("/proc/self/status")
    with refused(EACCES):
        unprivileged_user.open_path("/proc/sysrq-trigger", O_WRONLY)


def test_a_user_that_dies_in_a_call_is_missed_at_once(guest):
    """Nobody waits for the answer of a dead user."""
    victim = guest.user("victim")
    with pytest.raises(UserGone) as gone:
        victim.peek(0x10, 4)
    assert gone.value.exit == -signal.SIGSEGV
    assert guest.root.read_file(HOST_NAME) == "vfio-lab"


def test_a_blocked_user_keeps_nobody_else_waiting(guest):
    """Users answer for themselves: one sleeps in a read while another works."""
    sleeper, worker = guest.user("sleeper"), guest.user("worker")
    asleep = sleeper.start("poll", 0, 0, 3_600_000)
    assert worker.read_file(HOST_NAME) == "vfio-lab"
    assert not asleep.returned
    sleeper.kill()


def test_nothing_of_a_guest_is_open_to_others(guest):
    """Evidence, sockets and keys are for the user who runs the lab alone."""
    guest.ssh.run("true", deadline=Deadline.after(30))
    kept = [
        guest.folder,
        *guest.folder.iterdir(),
        guest.machine.keys,
        *guest.machine.keys.iterdir(),
    ]
    assert [path for path in kept if path.stat().st_mode & 0o077] == []


def test_a_user_runs_another_program_under_its_pid(guest):
    """What the user had open is closed, and the end of the program is heard of."""
    user = guest.user("user")
    user.open_path("/dev/vfio/vfio")
    program = user.exec("/bin/sh", "-c", "exit $(ls -l /proc/$$/fd | grep -c vfio)")
    with pytest.raises(UserGone) as gone:
        program.wait()
    assert gone.value.exit == 0


def test_a_closed_loopback_lets_go_of_its_device(guest):
    """Its mapping of the registers keeps the device, and with it the group, open."""
    pf = guest.function("pf0").bind_with_sriov()
    device = guest.user("user").open(pf)
    with Loopback(device):
        device.close()
        with refused(EBUSY):
            guest.user("early").open_group(pf)
    assert guest.user("late").open_group(pf).fd > 0
