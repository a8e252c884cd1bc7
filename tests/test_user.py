"""Users as the host sees them: words, refusals, transcripts, calls that take their time."""

import errno
import signal
import time
from pathlib import Path

import pytest

from vfio_lab.arch import X86_64
from vfio_lab.client.call import Buffer, Refusal, name_of
from vfio_lab.client.channel import UserGone
from vfio_lab.client.memory import PAGE_BYTES
from vfio_lab.client.user import User
from vfio_lab.errors import DeadlineExceeded, UsageError
from vfio_lab.evidence.calls import arguments, result
from vfio_lab.uapi.syscalls import EFD_NONBLOCK, MAP_ANONYMOUS, MAP_PRIVATE


def told(user):
    """Return the transcript without the times."""
    return [(one.user, one.call, arguments(one), result(one)) for one in user.transcript]


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (errno.EACCES, "EACCES"),
        (errno.EAGAIN, "EAGAIN"),
        (errno.EDEADLK, "EDEADLK"),
        (errno.EOPNOTSUPP, "EOPNOTSUPP"),
        (errno.ENOTTY, "ENOTTY"),
        (524, "errno 524"),
        (None, "errno None"),
    ],
)
def test_errnos_have_the_kernels_names(number, name):
    assert name_of(number) == name


def test_a_command_is_given_in_words(user):
    with pytest.raises(UsageError, match=r"as separate strings[\s\S]*\['true'\]"):
        user.run(["true"])
    with pytest.raises(UsageError, match="as separate strings"):
        user.run()
    assert user.run(*["true"]).exit == 0


def test_a_system_call_without_a_number_is_said_to_have_none(user):
    with pytest.raises(UsageError, match="no number for the system call 'umount2'"):
        user.syscall("umount2")


def test_memory_is_mapped_where_it_is_wanted(user):
    old = user.allocate(2 * PAGE_BYTES)
    user.poke(old, b"x" * 2 * PAGE_BYTES)
    flags = MAP_PRIVATE | MAP_ANONYMOUS
    assert user.mmap(-1, PAGE_BYTES, flags=flags, address=old + PAGE_BYTES) == old + PAGE_BYTES
    assert user.peek(old + PAGE_BYTES - 1, 2) == b"x\0"


def test_a_user_becomes_another_program(agent):
    user = agent.user()
    with pytest.raises(Refusal, match="ENOENT"):
        user.exec("/nowhere").wait()
    user.fork()  # the user itself goes on after a refusal
    with pytest.raises(UserGone) as gone:
        user.exec("/bin/sh", "-c", "exit $#", "sh", "one", "two").wait()
    assert gone.value.exit == 2


def test_a_refusal_says_who_called_what_and_why_not():
    refusal = Refusal(errno.EACCES, "vf_user", "VFIO_GROUP_GET_DEVICE_FD", "0000:01:10.0", (b"x",))
    assert isinstance(refusal, OSError)
    assert isinstance(refusal.errno, int)
    assert (refusal.errno, refusal.strerror) == (errno.EACCES, "Permission denied")
    assert str(refusal) == (
        "vf_user: VFIO_GROUP_GET_DEVICE_FD(0000:01:10.0): EACCES (Permission denied)"
    )
    assert refusal.out == (b"x",)


def test_a_buffer_travels_with_those_it_points_to():
    inner = Buffer(b"\x01")
    assert Buffer(bytes(8), True, ((0, inner),)).wire() == {
        "data": "00" * 8,
        "out": True,
        "pointers": [[0, {"data": "01", "out": False, "pointers": []}]],
    }


def test_system_call_numbers_are_the_kernels():
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip(f"needs the kernel's headers: no {header}")
    lines = header.read_text().splitlines()
    found = dict(line.removeprefix("#define __NR_").split() for line in lines if "__NR_" in line)
    assert {name: int(found[name]) for name in X86_64.syscalls} == dict(X86_64.syscalls)


def test_every_call_is_told_with_its_result(user):
    fd = user.open_path("/dev/zero")
    user.read(fd, 2)
    with pytest.raises(Refusal):
        user.ioctl(fd, 0x3B64, name="VFIO_GET_API_VERSION", about="nothing")
    user.kill()
    assert told(user) == [
        ("user", "open", "/dev/zero", str(fd)),
        ("user", "read", f"{fd}, 2", "2 0000"),
        ("user", "VFIO_GET_API_VERSION", "nothing", "ENOTTY"),
        ("user", "kill", "SIGKILL", "sent"),
    ]
    assert abs(user.transcript[0].began - time.time()) < 60


def test_arguments_are_told_in_words_of_their_own_where_none_are_given(user):
    fd = user.open_path("/dev/zero")
    user.syscall("read", fd, Buffer(b"\xab\xcd", out=True), 1)
    assert told(user)[-1] == ("user", "read", f"{fd:#x}, abcd, 0x1", "1 00")


def test_long_data_is_told_in_part(user):
    fd = user.open_path("/dev/zero")
    user.syscall("read", fd, Buffer(bytes(1000), out=True), 1000)
    assert all(len(word) <= 150 for word in told(user)[-1])


def test_a_refusal_keeps_what_the_call_left_in_its_buffers(user):
    with pytest.raises(Refusal) as refusal:
        user.syscall("read", 999, Buffer(b"before", out=True), 6)
    assert refusal.value.out == (b"before",)
    assert refusal.value.user == "user"
    assert refusal.value.call == "read"


def test_a_call_may_be_left_pending(user):
    fd = user.eventfd()
    pending = user.start("poll", Buffer(b"", out=True), 0, 50)
    assert not pending.returned
    assert pending.wait().value == 0
    user.close(fd)


def test_a_pending_call_is_refused_when_it_is_waited_for(user):
    pending = user.start("close", 999)
    with pytest.raises(Refusal) as refusal:
        pending.wait()
    assert refusal.value.errno == errno.EBADF


def test_a_call_that_does_not_return_is_named(user):
    pending = user.start("poll", 0, 0, 3_600_000, label="VFIO_BLOCKS", about="for ever")
    with pytest.raises(DeadlineExceeded, match=r"user: VFIO_BLOCKS\(for ever\)"):
        pending.wait(0.02)
    assert not pending.returned


def test_an_event_is_awaited_by_its_descriptor(user):
    fd = user.eventfd()
    assert user.await_event(fd, 0.01) == 0
    user.write(fd, (3).to_bytes(8, "little"))
    assert user.await_event(fd, 10) == 3
    assert user.await_event(fd, 0.01) == 0


def test_an_event_may_take_longer_than_any_other_call(user, monkeypatch):
    monkeypatch.setattr("vfio_lab.client.user.CALL_TIMEOUT_S", 0.1)
    assert user.await_event(user.eventfd(), 0.2) == 0


def test_an_eventfd_does_not_block_its_reader(user):
    fd = user.eventfd()
    assert user.syscall("fcntl", fd, 3, 0).value & EFD_NONBLOCK
    with pytest.raises(Refusal) as refusal:
        user.read(fd, 8)
    assert refusal.value.errno == errno.EAGAIN


def test_a_write_to_a_file_may_be_left_pending(user, tmp_path):
    (tmp_path / "file").touch()
    pending = user.start_write_file(str(tmp_path / "file"), "1")
    assert pending.wait().value == 2
    assert (tmp_path / "file").read_text() == "1\n"
    assert told(user)[-1] == ("user", "write_file", f"{tmp_path / 'file'}, 1", "2")


def test_newlines_at_the_end_of_a_file_are_no_content(user, tmp_path):
    (tmp_path / "file").write_text(" 1\n2 \n\n")
    assert user.read_file(str(tmp_path / "file")) == " 1\n2 "


def test_a_path_may_have_any_bytes(user, tmp_path):
    path = f"{tmp_path}/ü\udcff"
    Path(path).touch()
    assert user.exists(path)
    user.close(user.open_path(path))


def test_existence_is_refused_where_it_cannot_be_known(user):
    with pytest.raises(Refusal) as refusal:
        user.exists("x" * 5000)
    assert refusal.value.errno == errno.ENAMETOOLONG


def test_a_fork_is_a_user_of_the_same_kind(user):
    class Actor(User):
        """A user with a kind of its own."""

    actor = Actor(user.channel, user.pid, "actor", user.record)
    child = actor.fork()
    assert type(child) is Actor
    assert child.name == "actor's child"
    child.kill(signal.SIGTERM)
    assert told(user)[-1] == ("actor's child", "kill", "SIGTERM", "sent")


def test_a_call_nobody_waits_for_is_told_with_its_answer(user, tmp_path):
    pending = user.start_write_file(str(tmp_path / "none"), "1")
    while not pending.returned:
        pass
    user.transcript[-1].look()
    assert told(user)[-1] == ("user", "write_file", f"{tmp_path / 'none'}, 1", "ENOENT")
    with pytest.raises(Refusal):
        pending.wait()


def test_a_call_that_never_returns_is_told_where_it_began(user):
    user.start("poll", 0, 0, 3_600_000)
    user.transcript[-1].look()
    assert told(user)[-1][3] == "never returned"
    assert user.transcript[-1].ended is None
    user.kill()
    user.transcript[-2].look()
    assert [line[1:] for line in told(user)][-2:] == [
        ("poll", "0x0, 0x0, 0x36ee80", "not answered, the user ended"),
        ("kill", "SIGKILL", "sent"),
    ]
