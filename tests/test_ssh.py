"""SSH: what a person would type, and paramiko's own server at the other end."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import paramiko
import pytest

from vfio_lab.client.call import Refusal
from vfio_lab.client.channel import ROUTER, Channel
from vfio_lab.client.user import User
from vfio_lab.errors import DeadlineExceeded
from vfio_lab.image import agent, payload
from vfio_lab.interactive import terminal
from vfio_lab.machine.ssh import Login, Ssh, SshError
from vfio_lab.util.cache import Cache
from vfio_lab.util.deadline import Deadline

AT_ONCE_S = 2.0
CHUNK_BYTES = 1 << 15


def in_time():
    return Deadline.after(20)


class Server(paramiko.ServerInterface):
    """Lets one key in and runs its commands."""

    def __init__(self, user_key):
        self.user_key = user_key
        self.processes = []
        self.threads = []

    def get_allowed_auths(self, _username):
        return "publickey"

    def check_auth_publickey(self, _username, key):
        right = key.asbytes() == self.user_key.asbytes()
        return paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, _chanid):
        if kind == "session":
            return paramiko.OPEN_SUCCEEDED
        return paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel, command):
        if command == b"refuse":
            return False
        self.threads.append(threading.Thread(target=self.run, args=(channel, command)))
        self.threads[-1].start()
        return True

    def run(self, channel, command):
        pipe = subprocess.PIPE
        with subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            bufsize=0,
            start_new_session=True,
        ) as process:
            self.processes.append(process)
            pumps = [
                threading.Thread(target=pump, args=(process.stdout.read, channel.sendall)),
                threading.Thread(target=pump, args=(process.stderr.read, channel.sendall_stderr)),
            ]
            feed = threading.Thread(
                target=pump,
                args=(channel.recv, process.stdin.write, process.stdin.close),
                daemon=True,
            )
            feed.start()
            for each in pumps:
                each.start()
            for each in pumps:
                each.join()
            with contextlib.suppress(OSError, EOFError):
                channel.shutdown_write()
                channel.send_exit_status(process.wait() & 0xFF)
                channel.close()
            feed.join()


def pump(read, write, close=lambda: None):
    with contextlib.suppress(OSError, EOFError, ValueError):
        while data := read(CHUNK_BYTES):
            write(data)
    with contextlib.suppress(OSError):
        close()


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return payload.keys(Cache(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def server(keys):
    """A listening SSH server: its port, and the transports of who came."""
    user_key, host_key = (paramiko.Ed25519Key(filename=keys / name) for name in ("user", "host"))
    transports, servers = [], []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                while True:
                    sock, _ = listener.accept()
                    transports.append(paramiko.Transport(sock))
                    transports[-1].add_server_key(host_key)
                    servers.append(Server(user_key))
                    transports[-1].start_server(server=servers[-1], event=threading.Event())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], transports
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for transport in transports:
        transport.close()
        transport.join()
    for each in servers:
        for process in each.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=20)
        for thread in each.threads:
            thread.join(timeout=20)


@pytest.fixture
def login(server, keys):
    return Login("127.0.0.1", server[0], key=keys / "user", host_key=keys / "host.pub")


@pytest.fixture
def ssh(login):
    with contextlib.closing(Ssh(login, in_time())) as connection:
        yield connection


@pytest.mark.parametrize(
    ("login", "command"),
    [
        (Login("machine", 22, "me"), ["ssh", "-p22", "me@machine"]),
        (
            Login("127.0.0.1", 2222, key=Path("/keys/user")),
            ["ssh", "-p2222", "-i", "/keys/user", "-o", "IdentitiesOnly=yes", "root@127.0.0.1"],
        ),
        (
            Login("127.0.0.1", 2222, host_key=Path("/keys/host.pub")),
            [
                "ssh",
                "-p2222",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "root@127.0.0.1",
            ],
        ),
    ],
)
def test_a_login_is_a_command_that_a_person_could_type(login, command):
    assert login.command() == command


def test_ssh_itself_understands_the_command(login):
    if shutil.which("ssh") is None:
        pytest.skip("needs the ssh command: it is not on the PATH")
    ssh, *options = login.command()
    done = subprocess.run(
        [shutil.which(ssh), "-G", *options], capture_output=True, text=True, check=True
    )
    settings = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert (settings["port"], settings["hostname"]) == (str(login.port), "127.0.0.1")
    assert settings["identitiesonly"] == "yes"


def test_nobody_at_the_port_is_said_with_what_to_try(keys):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    login = Login("127.0.0.1", port, key=keys / "user", host_key=keys / "host.pub")
    with pytest.raises(SshError, match=f"no SSH connection to root@127.0.0.1 port {port}") as error:
        Ssh(login, in_time())
    assert "Unable to connect" in error.value.seen
    assert f"ssh -p{port}" in error.value.hint


def test_a_server_that_says_nothing_is_not_waited_for(keys):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        login = Login("127.0.0.1", port, key=keys / "user", host_key=keys / "host.pub")
        with pytest.raises(SshError):
            Ssh(login, Deadline.after(0.2))


def test_another_host_key_is_not_accepted(login, keys, tmp_path):
    (tmp_path / "host.pub").write_text((keys / "user.pub").read_text())
    wrong = Login(login.host, login.port, key=login.key, host_key=tmp_path / "host.pub")
    with pytest.raises(SshError) as error:
        Ssh(wrong, in_time())
    assert "BadHostKey" in error.value.seen


def test_another_users_key_is_not_let_in(login, keys):
    wrong = Login(login.host, login.port, key=keys / "host", host_key=login.host_key)
    with pytest.raises(SshError) as error:
        Ssh(wrong, in_time())
    assert "Authentication" in error.value.seen


def test_a_command_leaves_its_exit_code_and_both_streams(ssh):
    done = ssh.run("sh", "-c", "echo 'out  put'; echo err >&2; exit 3", deadline=in_time())
    assert (done.exit, done.stdout, done.stderr) == (3, "out  put\n", "err\n")
    assert ssh.run("true", deadline=in_time()).exit == 0


def test_much_output_on_both_streams_blocks_nobody(ssh):
    script = "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero"
    done = ssh.run("sh", "-c", script, deadline=in_time())
    assert (len(done.stdout), len(done.stderr)) == (3_000_000, 3_000_000)


def test_a_command_that_does_not_end_is_hung_up_on(ssh):
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="no end of: sh -c") as late:
        ssh.run("sh", "-c", "echo so far; sleep 600", deadline=Deadline.after(0.3))
    assert late.value.tail == "so far\n"
    assert time.monotonic() - began < AT_ONCE_S
    assert ssh.run("true", deadline=in_time()).exit == 0


def test_a_command_that_closed_its_streams_is_waited_for_without_haste(ssh):
    began = time.process_time()
    done = ssh.run("sh", "-c", "exec >&- 2>&-; sleep 0.5; exit 7", deadline=in_time())
    assert done.exit == 7
    assert time.process_time() - began < 0.4


def test_a_connection_that_breaks_is_noticed_at_once(ssh, server):
    threading.Timer(0.2, server[1][0].close).start()
    began = time.monotonic()
    with pytest.raises(SshError, match="broke: sleep"):
        ssh.run("sleep", "600", deadline=in_time())
    with pytest.raises(SshError, match="broke: true"):
        ssh.run("true", deadline=in_time())
    assert time.monotonic() - began < AT_ONCE_S


def test_a_command_that_the_server_refuses_is_an_ssh_error(ssh):
    with pytest.raises(SshError, match="broke: refuse"):
        ssh.run("refuse", deadline=in_time())


def test_a_closed_connection_says_so(login):
    connection = Ssh(login, in_time())
    connection.close()
    with pytest.raises(SshError, match="is closed"):
        connection.run("true", deadline=in_time())


def test_the_agent_speaks_over_ssh_as_over_a_port(ssh):
    program = os.fspath(agent.build_agent(Cache.default()))
    channel = Channel(ssh.carrier(program, "--stdio", deadline=in_time()), "machine")
    with contextlib.closing(channel):
        channel.await_ready(in_time())
        answer = channel.call(
            ROUTER, "spawn", "spawn", deadline=in_time(), name="user", uid=0, drop=[]
        )
        user = User(channel, answer["value"], "user")
        assert user.read(user.open_path("/dev/zero"), 100_000) == bytes(100_000)
        with pytest.raises(Refusal):
            user.open_path("/none")
        user.kill()


def attached(ssh, script, stdin=b""):
    """Run a script tied to our streams, with a file as its input."""
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.seek(0)
        remote = ssh.carrier("sh", "-c", script, deadline=in_time())
        return terminal.streams(remote, stdin=file.fileno())


def test_a_commands_streams_are_ours_and_so_is_its_exit_code(ssh, capfd):
    assert attached(ssh, "cat; echo err >&2; exit 7", b"in") == 7
    assert capfd.readouterr() == ("in", "err\n")


def test_much_input_comes_back_as_much_output_and_neither_waits_for_the_other(ssh, capfdbinary):
    data = os.urandom(1 << 20) * 5
    assert attached(ssh, "cat", data) == 0
    assert capfdbinary.readouterr().out == data


def test_input_that_nobody_reads_is_no_reason_to_wait(ssh):
    assert attached(ssh, "exit 3", bytes(5 << 20)) == 3


def test_a_command_waits_for_input_and_we_wait_with_it_without_haste(ssh, capfd):
    reader, writer = os.pipe()
    threading.Timer(0.5, os.close, [writer]).start()
    began = time.process_time()
    remote = ssh.carrier("sh", "-c", "echo ready; cat; echo done", deadline=in_time())
    assert terminal.streams(remote, stdin=reader) == 0
    os.close(reader)
    assert time.process_time() - began < 0.4
    assert capfd.readouterr().out == "ready\ndone\n"


def test_a_connection_that_breaks_under_a_command_leaves_no_exit_code(ssh, server):
    threading.Timer(0.2, server[1][0].close).start()
    assert attached(ssh, "sleep 600") is None
