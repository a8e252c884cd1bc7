"""The real agent's users: how they start and end, who they are, what they leave behind."""

import contextlib
import errno
import os
import select
import signal
from pathlib import Path

import pytest

from vfio_lab.arch import X86_64
from vfio_lab.client.call import Buffer, Refusal
from vfio_lab.client.channel import UserGone
from vfio_lab.errors import AgentError
from vfio_lab.uapi.syscalls import CAP_SYS_ADMIN, CAP_SYS_RAWIO
from vfio_lab.util.deadline import Deadline, wait_until

TIMEOUT_S = 20
NOWHERE = 0x10  # an address no process maps
EXIT_GROUP = 231  # vfio_lab.uapi.syscalls has no name for it
SETS = ("CapEff", "CapPrm", "CapInh", "CapBnd")
CAP_CHECKPOINT_RESTORE = 40  # in the second word of the sets
NO_CAPABILITY = 4711
STRANGER = 12345


def gone(pidfd):
    """Whether a process has ended, waiting for it."""
    return bool(select.select([pidfd], [], [], TIMEOUT_S)[0])


def block(user):
    """Have a user enter a system call that does not return, and wait until it has."""
    pending = user.start("poll", 0, 0, 3_600_000)
    inside = Path(f"/proc/{user.pid}/syscall")
    poll = f"{X86_64.syscalls['poll']} "
    wait_until("poll()", lambda: inside.read_text().startswith(poll), Deadline.after(TIMEOUT_S))
    return pending


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def status(user):
    lines = user.read_file("/proc/self/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_a_fork_shares_open_files(user, tmp_path):
    (tmp_path / "file").write_text("kernel words")
    fd = user.open_path(str(tmp_path / "file"))
    child = user.fork()
    assert child.pid != user.pid
    assert child.read(fd, 7) == b"kernel "
    assert user.read(fd, 9) == b"words"
    child.close(fd)
    assert user.dup(fd) > fd
    child.kill()


def test_a_fork_of_a_fork_is_a_user_like_any_other(user, witness):
    witness.give_to(user)
    child = user.fork()
    grandchild = child.fork()
    user.kill()
    child.kill()
    assert witness.held()
    assert grandchild.read_file("/proc/self/comm") == "user"
    grandchild.kill()
    assert not witness.held()


def test_a_kill_is_answered_when_all_that_the_user_held_is_released(agent, witness):
    for _ in range(20):
        user = agent.user()
        witness.give_to(user)
        assert witness.held()
        user.kill()
        assert not witness.held()


def test_a_forked_user_holds_on_to_what_its_parent_held(agent, witness):
    user = agent.user()
    witness.give_to(user)
    child = user.fork()
    user.kill()
    assert witness.held()
    child.kill()
    assert not witness.held()


def test_a_kill_ends_a_user_inside_a_call(agent):
    user = agent.user()
    pending = block(user)
    user.kill()
    with pytest.raises(UserGone, match="poll") as gone:
        pending.wait()
    assert gone.value.exit == -signal.SIGKILL


def test_a_signal_may_be_another(agent):
    user = agent.user()
    user.kill(signal.SIGTERM)
    assert agent.channel.ended == {user.pid: -signal.SIGTERM}


def test_a_user_that_is_gone_cannot_be_killed_again(agent):
    user = agent.user()
    user.kill()
    with pytest.raises(AgentError) as error:
        user.kill()
    assert error.value.tail == f"there is no user with pid {user.pid}"


def test_a_user_that_crashes_is_missed_at_once_and_by_all(agent):
    user, other = agent.user(), agent.user()
    with pytest.raises(UserGone, match="peek") as gone:
        user.peek(NOWHERE, 4)
    assert gone.value.exit == -signal.SIGSEGV
    with pytest.raises(AgentError):
        user.exists("/")
    assert other.exists("/")


def test_a_touch_kills_a_child_in_the_users_place(user):
    assert user.touch(user.allocate(4096)) is None
    assert user.touch(NOWHERE) is signal.SIGSEGV
    assert user.exists("/")


def test_the_last_answer_comes_before_the_news_of_the_end(agent):
    for _ in range(20):
        user = agent.user()
        last = user.start("poll", 0, 0, 0)
        end = agent.channel.start(user.pid, "syscall", "", number=EXIT_GROUP, args=[5])
        assert last.wait().value == 0
        with pytest.raises(UserGone) as gone:
            end.wait(Deadline.after(TIMEOUT_S))
        assert gone.value.exit == 5


def test_requests_to_a_dying_user_do_not_harm_the_agent(agent):
    for _ in range(20):
        user = agent.user()
        busy = block(user)
        killed = user.start_kill()
        late = [user.start("poll", 0, 0, 0) for _ in range(20)]
        assert killed.wait(Deadline.after(TIMEOUT_S))["exit"] == -signal.SIGKILL
        for pending in (busy, *late):
            with pytest.raises(AgentError):
                pending.wait()
    assert agent.user().exists("/")


def test_one_user_blocks_alone(shared_agent, user, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    fd = user.open_path(str(tmp_path / "fifo"))
    blocked = user.start("read", fd, Buffer(bytes(1), out=True), 1)
    other = shared_agent.user()
    assert other.exists("/")
    assert not blocked.returned
    other.write_file(str(tmp_path / "fifo"), "")
    assert blocked.wait().out == (b"\n",)
    other.kill()


def test_users_in_reserve_are_taken_before_new_ones_are_forked(agent):
    pids = agent.ask("reserve", count=2)["pids"]
    assert sorted(agent.user().pid for _ in range(2)) == sorted(pids)
    assert agent.user().pid not in pids


def test_users_die_with_an_agent_that_is_killed(agent, witness):
    users = [agent.user(), agent.user().fork()]
    pidfds = [os.pidfd_open(user.pid) for user in users]
    witness.give_to(users[0])
    block(users[0])
    agent.process.kill()
    assert all(gone(pidfd) for pidfd in pidfds)
    assert not witness.held()
    for pidfd in pidfds:
        os.close(pidfd)


@pytest.mark.usefixtures("as_root")
def test_users_of_another_uid_die_with_the_agent_too(agent):
    user = agent.user(uid=STRANGER)
    block(user)
    pidfd = os.pidfd_open(user.pid)
    agent.process.kill()
    assert gone(pidfd)
    os.close(pidfd)


def test_an_agent_whose_carrier_closes_ends_and_takes_its_users_along(agent, witness):
    user = agent.user()
    witness.give_to(user)
    child = user.fork()
    block(user)
    block(child)
    pidfds = [os.pidfd_open(pid) for pid in (user.pid, child.pid)]
    agent.channel.close()
    assert agent.process.wait(TIMEOUT_S) == 0
    assert all(gone(pidfd) for pidfd in pidfds)
    assert not witness.held()
    for pidfd in pidfds:
        os.close(pidfd)


def test_a_carrier_that_closes_amid_an_answer_is_no_other_end(agent, tmp_path):
    (tmp_path / "huge").write_bytes(bytes(1 << 21))
    users = [agent.user(), agent.user().fork()]
    pidfds = [os.pidfd_open(user.pid) for user in users]
    agent.channel.start(
        users[1].pid, "syscall", "", number=X86_64.syscalls["poll"], args=[0, 0, -1]
    )
    args = {"path": str(tmp_path / "huge"), "size": 1 << 21}
    agent.channel.start(users[0].pid, "read_file", "", **args)
    agent.channel.carrier.recv(1 << 10)
    agent.channel.close()
    assert agent.process.wait(TIMEOUT_S) == 0
    assert all(gone(pidfd) for pidfd in pidfds)
    for pidfd in pidfds:
        os.close(pidfd)


def test_a_user_holds_its_control_socket_and_nothing_else(agent):
    agent.ask("reserve", count=3)
    for user in (agent.user(), agent.user().fork()):
        fds = [int(fd) for fd in user.listdir("/proc/self/fd")]
        kinds = {fd: user.readlink(f"/proc/self/fd/{fd}") for fd in fds[:-1] if fd > 2}
        assert [kind.partition(":")[0] for kind in kinds.values()] == ["socket"]


def test_users_come_and_go_without_a_trace(agent):
    def descriptors():
        return len(list(Path(f"/proc/{agent.process.pid}/fd").iterdir()))

    def cycle():
        user = agent.user()
        child = user.fork()
        user.kill()
        child.kill()

    cycle()
    before = descriptors()
    for _ in range(5):
        cycle()
    assert descriptors() == before
    assert children(agent.process.pid) == []


def test_a_child_that_ended_is_reaped_by_its_parent(agent):
    user = agent.user()
    child = user.fork()
    assert children(user.pid) == [str(child.pid)]
    child.kill()
    assert user.exists("/")
    assert children(user.pid) == []


def test_orphans_are_reaped_by_the_agent(agent):
    user = agent.user()
    dead, orphan = user.fork(), user.fork()
    dead.kill()
    user.kill()
    orphan.kill()
    wait_until("no children", lambda: not children(agent.process.pid), Deadline.after(5))
    assert agent.channel.ended[dead.pid] is None  # its parent had the status
    assert agent.channel.ended[orphan.pid] == -signal.SIGKILL


def test_a_name_is_the_process_name(agent):
    assert agent.user("pf_user").read_file("/proc/self/comm") == "pf_user"


@pytest.mark.usefixtures("as_root")
def test_a_uid_is_the_real_the_effective_the_saved_and_the_group_too(agent):
    seen = status(agent.user(uid=STRANGER))
    assert seen["Uid"].split() == seen["Gid"].split() == [str(STRANGER)] * 4
    assert seen["Groups"] == ""


@pytest.mark.usefixtures("as_root")
def test_a_foreign_uid_keeps_its_capabilities(agent):
    kept, own = status(agent.user(uid=STRANGER)), status(agent.user())
    assert kept["CapEff"] == kept["CapPrm"] == own["CapEff"]


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("uid", [0, STRANGER])
def test_a_dropped_capability_is_gone_for_good(agent, uid):
    dropped = (CAP_SYS_RAWIO, CAP_SYS_ADMIN)
    seen = status(agent.user(uid=uid, drop=dropped))
    mask = sum(1 << number for number in dropped)
    full = int(status(agent.user())["CapEff"], 16)
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert int(seen[name], 16) & mask == 0
    assert int(seen["CapEff"], 16) == full & ~mask


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("capability", [CAP_SYS_RAWIO, CAP_CHECKPOINT_RESTORE])
def test_a_user_does_without_a_capability_for_a_while(agent, capability):
    user = agent.user()
    before = status(user)
    with contextlib.suppress(ZeroDivisionError), user.without(capability):
        during = status(user)
        raise ZeroDivisionError
    after = status(user)
    assert int(during["CapEff"], 16) == int(before["CapEff"], 16) & ~(1 << capability)
    assert during["CapPrm"] == before["CapPrm"]
    assert [after[name] for name in SETS] == [before[name] for name in SETS]


@pytest.mark.usefixtures("as_root")
def test_a_program_that_a_user_runs_has_no_more_than_the_user(agent):
    user = agent.user(drop=[CAP_SYS_ADMIN])
    text = user.run("cat", "/proc/self/status").stdout
    (effective,) = [line.split()[1] for line in text.splitlines() if line.startswith("CapEff")]
    assert int(effective, 16) & 1 << CAP_SYS_ADMIN == 0


@pytest.mark.usefixtures("as_root")
def test_the_kernel_judges_by_the_uid(agent, tmp_path):
    (tmp_path / "file").touch(mode=0o600)
    bare = agent.user(uid=STRANGER, drop=range(40))
    with pytest.raises(Refusal) as refusal:
        bare.open_path(str(tmp_path / "file"))
    assert refusal.value.errno == errno.EACCES


def test_an_agent_starts_without_reading_the_kernel_log(agent):
    links = [entry.readlink() for entry in Path(f"/proc/{agent.process.pid}/fd").iterdir()]
    assert Path("/dev/kmsg") not in links


def test_agents_do_not_meet(start_agent, user):
    with start_agent() as other:
        assert other.user().fork().exists("/")
        assert user.fork().exists("/")


def test_an_identity_that_cannot_be_taken_is_no_verdict(agent):
    with pytest.raises(AgentError) as error:
        agent.user(drop=[NO_CAPABILITY])
    assert f"no user with uid 0 without [{NO_CAPABILITY}]" in error.value.tail
