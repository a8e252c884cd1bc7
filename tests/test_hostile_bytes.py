"""Whatever foreign bytes say, a parser returns a value or raises one of the lab's own errors.

`make stress PART=fuzz` gives the same tests more examples: VFIO_LAB_FUZZ_EXAMPLES says how many.
"""

import contextlib
import json
import os
import socket
import tempfile
from pathlib import Path
from types import SimpleNamespace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from vfio_lab.campaign import results
from vfio_lab.client.channel import ROUTER, Channel
from vfio_lab.client.user import User
from vfio_lab.errors import LabError
from vfio_lab.evidence.timeline import timeline
from vfio_lab.kernels import bzimage, modfiles, packagefile, series
from vfio_lab.machine.state import read_state, snapshot
from vfio_lab.qemu import console
from vfio_lab.spec import tables
from vfio_lab.util.deadline import Deadline
from vfio_lab.workloads import tap

EXAMPLES = int(os.environ.get("VFIO_LAB_FUZZ_EXAMPLES", "60"))
SOON_S = 0.05
AWAKE = SimpleNamespace(at=1.0, log_us=5)
FIELDS = (
    *("id", "pid", "event", "exit", "value", "errno", "out", "data", "text", "names", "records"),
    *("stdout", "stderr", "late", "error", "pids", "functions", "descriptors", "bdf", "now_ns"),
)
fuzz = settings(max_examples=EXAMPLES)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
messages = st.dictionaries(st.sampled_from(FIELDS), values | st.sampled_from(["ready", "exit"]))
lines = st.one_of(
    st.binary(max_size=80),
    messages.map(lambda one: json.dumps({"id": 1, **one}).encode()),
    values.map(lambda one: json.dumps(one).encode()),
)
DEEP = b"[" * 100_000


@contextlib.contextmanager
def only_the_labs_own_errors():
    with contextlib.suppress(LabError, OSError):  # a Refusal is an OSError
        yield


@contextlib.contextmanager
def answering(data):
    """Give a channel whose other end says that, and hangs up."""
    ours, theirs = socket.socketpair()
    with contextlib.closing(ours):
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        yield Channel(ours, "guest")
        theirs.close()


@contextlib.contextmanager
def a_file(data, suffix=""):
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(data)
        file.flush()
        yield Path(file.name)


CALLS = {
    "syscall": lambda user: user.open_path("/dev/null"),
    "read": lambda user: user.read(3, 8),
    "peek": lambda user: user.peek(0, 4),
    "file": lambda user: user.read_file("/proc/version"),
    "names": lambda user: user.listdir("/"),
    "link": lambda user: user.readlink("/"),
    "run": lambda user: user.run("true"),
    "fork": lambda user: user.fork(),
    "touch": lambda user: user.touch(0),
}


@fuzz
@given(st.lists(lines, max_size=4), st.sampled_from(sorted(CALLS)))
@example([b'{"id": {}}'], "file")
@example([b'{"event": "exit", "pid": [], "exit": 0}'], "file")
@example([b'{"id": 1}'], "file")
@example([b'{"id": 1, "value": 0, "errno": 0, "data": "zz"}'], "file")
@example([b'{"id": 1, "value": 0, "errno": 0, "out": [5]}'], "syscall")
@example([b'{"id": 1, "value": 1e400, "errno": 0}'], "touch")
@example([DEEP[:60_000]], "file")
def test_an_agent_may_answer_anything(said, call):
    with answering(b"\n".join(said) + b"\n") as channel, only_the_labs_own_errors():
        CALLS[call](User(channel, 1, "user"))


@fuzz
@given(messages)
def test_a_router_may_answer_anything(message):
    said = json.dumps({"errno": 0, "value": 0, **message, "id": 1}).encode() + b"\n"
    with answering(said) as channel, only_the_labs_own_errors():
        answer = channel.call(ROUTER, "snapshot", "look", deadline=Deadline.after(SOON_S))
        snapshot(answer, {}, [])


def test_an_answer_without_an_end_takes_no_memory_without_an_end(monkeypatch):
    monkeypatch.setattr("vfio_lab.client.channel.LONGEST_ANSWER_BYTES", 1000)
    with answering(b"x" * 5000) as channel:
        try:
            channel.await_ready(Deadline.after(5))
        except LabError as error:
            assert "no answer" in error.what  # noqa: PT017 - any other error is a finding, too
        assert len(channel._partial) <= 5000


@fuzz
@given(st.text() | st.binary().map(lambda data: data.decode(errors="replace")))
@example("[    1.0] WARNING: CPU: 0 PID: 1 at x\n---[ end ")
def test_a_console_may_say_anything(text):
    for complaint in console.complaints(text):
        assert complaint.headline in text


@fuzz
@given(st.binary())
def test_a_console_may_hold_any_bytes(data):
    with a_file(data) as path:
        console.last_words(path)
        console.tail(path)


@fuzz
@given(st.lists(st.text() | st.from_regex(r"\A-?\d*,\d*,-?\d*,?.*;.*\n?\Z"), max_size=4))
@example(["x,1,2,-;text", "4,1,,-;text", "", "4,1,99999999999999999999,-;"])
@example(["²,1,1;text"])
def test_a_kernel_log_may_hold_anything(records):
    for record in records:
        console.readable(record)
    with a_file(b"") as path:
        timeline(AWAKE, [], records, path)


@fuzz
@given(st.lists(lines, max_size=4))
@example([b'{"at": 1.0, "execute": "stop", "arguments": {}}', b'{"at": 2.0, "ret'])
@example([b'{"at": null}', b'{"at": 3, "event": "STOP"}', b"[]", b"5"])
@example([b'{"at": NaN, "event": "STOP", "timestamp": {"seconds": [], "microseconds": 1}}'])
def test_a_log_of_the_monitor_may_end_anywhere(said):
    with a_file(b"\n".join(said)) as path:
        timeline(AWAKE, [], [], path)


@fuzz
@given(st.binary() | values.map(lambda one: json.dumps(one).encode()))
@example(b'{"functions": [{"bdf": 1}], "held": []}')
@example(DEEP)
def test_a_snapshot_may_hold_anything(data):
    with a_file(data) as path:
        read_state(path)


@fuzz
@given(
    st.dictionaries(st.sampled_from(["kernel", "host", "scenarios", "lost", "seconds"]), values),
    st.dictionaries(st.sampled_from(["nodeid", "claims", "outcome", "reason", "x"]), values),
)
@example({"scenarios": [{}]}, {})
@example({"kernels": {"7.3": {"a": "new outcome"}}}, {})
def test_results_and_verdicts_may_hold_anything(data, record):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = {"schema": results.SCHEMA, "scenarios": [record], **data}
        (folder / results.RESULTS).write_text(json.dumps(data))
        verdicts = {"schema": results.VERDICTS_SCHEMA, "kernels": data.get("scenarios"), **data}
        (folder / results.VERDICTS).write_text(json.dumps(verdicts))
        with only_the_labs_own_errors():
            results.read_results(folder)
        with only_the_labs_own_errors():
            results.last_verdicts(folder)
        results.durations(folder.parent)


@settings(max_examples=max(10, EXAMPLES // 6))
@given(st.binary() | st.text().map(str.encode), st.sampled_from([b"", b"From x\n", b"From: x\n\n"]))
def test_a_mailbox_may_hold_anything(data, start):
    with a_file(start + data, ".mbox") as path, only_the_labs_own_errors():
        series.read_series([str(path)], path.parent)


@fuzz
@given(st.binary(), st.sampled_from([".ko", ".xz", ".zst", ".gz", ".bz2"]))
@example(b"", ".ko")
@example(b"\x28\xb5\x2f\xfd", ".zst")
@example(b"\xfd7zXZ\x00", ".xz")
def test_a_module_may_hold_anything(data, suffix):
    with a_file(data, suffix) as path, only_the_labs_own_errors():
        modfiles.signed(path)
        modfiles.info(modfiles.decompressed(path), "vermagic")


@fuzz
@given(st.binary(), st.booleans())
@example(b"", True)
def test_a_kernel_image_may_hold_anything(data, headed):
    head = bytes(bzimage.HEADER_AT) + b"HdrS" + data if headed else data
    with a_file(head) as path, only_the_labs_own_errors():
        image = bzimage.BzImage.read(path)
        image.vmlinux()
        assert image.version


@settings(max_examples=max(10, EXAMPLES // 6))
@given(st.binary(max_size=400), st.sampled_from([b"", b"!<arch>\n"]))
def test_a_package_may_hold_anything(data, start):
    with a_file(start + data, ".deb") as path, only_the_labs_own_errors():
        packagefile.architecture(path)


@fuzz
@given(st.text())
def test_a_program_may_print_anything(text):
    tap.results(text)


@fuzz
@given(st.binary() | st.text().map(str.encode) | st.just(b"[[claim]]\nid = 5\n"))
@example(b"claim = 5")
@example(b"[claim]\nid = 'A01'")
def test_a_file_of_claims_may_hold_anything(data):
    with a_file(data, ".toml") as path, only_the_labs_own_errors():
        tables._read.__wrapped__(path)
