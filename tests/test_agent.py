"""The real agent, asked for system calls, files and commands as a guest's would be."""

import errno
import os
import signal
import struct
import time
from pathlib import Path

import pytest

from vfio_lab.client.call import Buffer, Refusal
from vfio_lab.errors import AgentError, DeadlineExceeded
from vfio_lab.util.deadline import Deadline, wait_until

NOWHERE = 0x10  # an address no process maps
READV, WRITEV = 19, 20  # vfio_lab.uapi.syscalls has no name for them


def raw(user, number, *args):
    """Make a system call by its number."""
    wire = [arg.wire() if isinstance(arg, Buffer) else arg for arg in args]
    about = f"system call {number}"
    pending = user.channel.start(user.pid, "syscall", about, number=number, args=wire)
    return pending.wait(Deadline.after(10))


def iovec(*buffers):
    """Return a buffer that points to others, as readv() and writev() take it."""
    sizes = [len(one.data) for one in buffers]
    data = b"".join(struct.pack("QQ", 0xDEAD, size) for size in sizes)
    return Buffer(data, pointers=tuple((16 * place, one) for place, one in enumerate(buffers)))


def test_a_call_returns_its_value(user):
    fd = user.open_path("/dev/zero")
    assert user.read(fd, 5) == bytes(5)
    assert user.dup(fd) == fd + 1
    user.close(fd)


def test_a_refusal_has_the_kernels_errno(user):
    for number, path in ((errno.ENOENT, "/none/here"), (errno.EISDIR, "/")):
        with pytest.raises(Refusal) as refusal:
            user.open_path(path)
        assert refusal.value.errno == number
    with pytest.raises(Refusal) as refusal:
        user.close(999)
    assert refusal.value.errno == errno.EBADF


def test_an_errno_does_not_outlive_its_call(user):
    with pytest.raises(Refusal):
        user.close(999)
    assert user.syscall("poll", 0, 0, 0).value == 0


def test_numbers_are_as_wide_as_the_kernels(user, tmp_path):
    (tmp_path / "file").touch()
    fd = user.open_path(str(tmp_path / "file"))
    assert user.pwrite(fd, b"x", 1 << 33) == 1
    assert (tmp_path / "file").stat().st_size == (1 << 33) + 1
    with pytest.raises(Refusal) as refusal:
        user.pread(fd, 1, -1)
    assert refusal.value.errno == errno.EINVAL


def test_a_buffer_comes_back_only_where_it_is_wanted(user):
    fd = user.open_path("/dev/zero")
    assert user.syscall("read", fd, Buffer(b"12345678"), 4).out == ()
    reply = user.syscall("read", fd, Buffer(b"12345678", out=True), 4)
    assert (reply.value, reply.out) == (4, (b"\0\0\0\x005678",))


def test_an_empty_buffer_is_a_valid_address(user):
    fd = user.open_path("/dev/zero")
    assert user.syscall("read", fd, Buffer(b"", out=True), 0).out == (b"",)


def test_buffers_may_point_to_buffers(user, tmp_path):
    path = tmp_path / "file"
    path.touch()
    fd = user.open_path(str(path))
    vector = iovec(Buffer(b"kernel "), Buffer(b"words"))
    assert raw(user, WRITEV, fd, vector, 2)["value"] == 12
    assert path.read_text() == "kernel words"


def test_pointed_to_buffers_come_back_after_the_one_that_points(user, tmp_path):
    (tmp_path / "file").write_text("kernel words")
    fd = user.open_path(str(tmp_path / "file"))
    inner = [Buffer(bytes(size), out=True) for size in (7, 8)]
    outer = iovec(*inner)
    vector = Buffer(outer.data, True, outer.pointers)
    answer = raw(user, READV, fd, vector, 2)
    whole, first, second = map(bytes.fromhex, answer["out"])
    assert (first, second) == (b"kernel ", b"words\0\0\0")
    assert struct.unpack("4Q", whole)[1::2] == (7, 8)


def test_a_pointer_must_lie_in_its_buffer(user):
    for offset in (-8, 1, 8):
        with pytest.raises(AgentError, match="does not fit into 8 bytes"):
            user.syscall("poll", Buffer(bytes(8), pointers=((offset, Buffer(b"x")),)), 0, 0)


def test_a_bad_pointer_faults_in_the_kernel_not_in_the_user(user):
    fd = user.open_path("/dev/zero")
    with pytest.raises(Refusal) as refusal:
        user.syscall("read", fd, NOWHERE, 8)
    assert refusal.value.errno == errno.EFAULT
    with pytest.raises(Refusal) as refusal:
        user.syscall("openat", 0, NOWHERE, 0, 0)
    assert refusal.value.errno == errno.EFAULT
    assert user.read(fd, 1) == b"\0"


@pytest.mark.parametrize("width", [0, 1, 2, 4, 8])
def test_mapped_memory_is_read_and_written_in_the_width_asked_for(user, width):
    address = user.allocate(4096)
    assert address % 4096 == 0
    user.poke(address + 8, bytes(range(16)), width)
    assert user.peek(address, 32, width) == bytes(8) + bytes(range(16)) + bytes(8)
    user.munmap(address, 4096)


def test_a_mapping_of_a_file_is_shared_with_it(user, tmp_path):
    (tmp_path / "file").write_bytes(bytes(4096))
    address = user.mmap(user.open_path(str(tmp_path / "file")), 4096)
    user.poke(address, b"mapped")
    assert (tmp_path / "file").read_bytes()[:6] == b"mapped"


def test_files_folders_and_links(user, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    user.write_file(str(tmp_path / "file"), "1 2")
    assert (tmp_path / "file").read_text() == "1 2\n"
    assert user.read_file(str(tmp_path / "link")) == "1 2"
    assert user.readlink(str(tmp_path / "link")) == "file"
    assert user.listdir(str(tmp_path)) == ["file", "link"]
    assert user.exists(str(tmp_path / "link"))
    assert not user.exists(str(tmp_path / "none"))
    assert not user.exists(str(tmp_path / "file" / "none"))


def test_a_file_that_is_not_there_is_refused_by_the_kernel(user, tmp_path):
    missing = str(tmp_path / "none")
    for attempt in (user.read_file, user.readlink, user.listdir):
        with pytest.raises(Refusal) as refusal:
            attempt(missing)
        assert refusal.value.errno == errno.ENOENT
    with pytest.raises(Refusal) as refusal:
        user.write_file(missing, "x")
    assert refusal.value.errno == errno.ENOENT
    assert not (tmp_path / "none").exists()


def test_an_answer_may_be_huge(user, tmp_path):
    data = os.urandom(1 << 20).hex()
    (tmp_path / "huge").write_text(data)
    assert user.read_file(str(tmp_path / "huge")) == data
    assert len(user.read_file(str(tmp_path / "huge"), size=70_000)) == 70_000


def test_a_command_leaves_its_exit_code_and_both_streams(user):
    done = user.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.exit, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert user.run("sh", "-c", "kill -9 $$").exit == -9


def test_a_command_that_is_not_there_is_refused(user):
    with pytest.raises(Refusal) as refusal:
        user.run("/no/such/command")
    assert refusal.value.errno == errno.ENOENT


def test_a_command_that_does_not_end_is_ended_and_its_words_are_kept(user):
    with pytest.raises(DeadlineExceeded) as error:
        user.run("sh", "-c", "echo so far; echo so bad >&2; exec sleep 60", timeout_s=1.0)
    assert (error.value.tail, error.value.expected) == ("so far\nso bad\n", "its end within 1 s")
    assert user.run("true").exit == 0


def test_a_command_that_is_late_and_has_children_is_not_waited_for(user):
    with pytest.raises(DeadlineExceeded) as error:
        user.run("sh", "-c", "sleep 60 & echo $!; wait", timeout_s=1.0)
    os.kill(int(error.value.tail), signal.SIGKILL)


@pytest.mark.parametrize("stream", [1, 2])
def test_a_command_is_ended_when_it_says_its_last_words(user, stream):
    script = f"echo before; echo 'internal error, 3' >&{stream}; exec sleep 60"
    began = time.monotonic()
    done = user.run("sh", "-c", script, last_words=["no such words", "internal error"])
    assert done.exit == -signal.SIGKILL
    assert "internal error, 3\n" in (done.stdout, done.stderr)[stream - 1]
    assert done.stdout.startswith("before\n")
    assert time.monotonic() - began < 20


def test_last_words_of_a_command_that_does_end_change_nothing(user):
    done = user.run("sh", "-c", "echo internal error; sleep 0.1; exit 3", last_words=["internal"])
    assert (done.exit, done.stdout) == (3, "internal error\n")


def test_what_a_command_leaves_behind_is_reaped_when_it_ends(user):
    orphan = user.run("sh", "-c", "sleep 0.2 >/dev/null 2>&1 & echo $!").stdout.strip()
    wait_until("its end", lambda: not Path(f"/proc/{orphan}").exists(), Deadline.after(10))


def test_a_command_inherits_no_descriptor(user):
    fd = user.open_path("/dev/zero")
    assert str(fd) not in user.run("ls", "/proc/self/fd").stdout.split()[:-1]


@pytest.mark.parametrize(
    ("op", "args", "reason"),
    [
        ("nonsense", {}, "there is no operation nonsense"),
        ("syscall", {}, "the request has no number"),
        ("syscall", {"number": "1", "args": []}, "number is no number of 64 bits"),
        ("syscall", {"number": 39, "args": {}}, "args is no array"),
        ("syscall", {"number": 39, "args": [1 << 64]}, "neither a number of 64 bits nor a buffer"),
        ("syscall", {"number": 39, "args": [0] * 7}, "at most 6 arguments"),
        ("syscall", {"number": 39, "args": [{"data": "0"}]}, "data is not in hex"),
        ("peek", {"address": 0, "size": 4, "width": 3}, "nothing loads or stores 3 bytes"),
        ("peek", {"address": 0, "size": 1 << 40, "width": 0}, "size is beyond"),
        ("readlink", {"path": "x" * 4096}, "path is no string below 4096 bytes"),
        ("readlink", {"path": "nul\0"}, "path is no string"),
        ("run", {"argv": [], "last_words": [], "timeout_ms": 1}, "a command has a name"),
    ],
)
def test_a_users_failure_reaches_the_host_with_its_reason(user, op, args, reason):
    with pytest.raises(AgentError) as error:
        user.channel.call(user.pid, op, "about", deadline=Deadline.after(5), **args)
    assert reason in error.value.tail
    assert user.exists("/")


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        ("nonsense", "there is no operation nonsense"),
        ("reserve", "the request has no count"),
        ("spawn", "the request has no name"),
    ],
)
def test_the_routers_failure_too(shared_agent, op, reason):
    with pytest.raises(AgentError) as error:
        shared_agent.ask(op)
    assert error.value.tail == reason


def test_there_is_no_user_of_that_pid(shared_agent):
    with pytest.raises(AgentError) as error:
        shared_agent.channel.call(1, "syscall", "about", deadline=Deadline.after(5))
    assert error.value.tail == "there is no user with pid 1"
