"""A guest that lies: its agent and its console say anything, and harm neither host nor report."""

import contextlib
import itertools
import json
import socket
import threading
import tracemalloc

import pytest

from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.client import channel as channels
from vfio_lab.client.channel import ROUTER, Channel
from vfio_lab.errors import AgentError, DeadlineExceeded, LabError, harmless
from vfio_lab.evidence.collect import FAILURE, part_that_matters
from vfio_lab.qemu import console
from vfio_lab.report.site import write as write_site
from vfio_lab.util.deadline import Deadline
from vfio_lab.util.files import write_whole

SOON_S = 0.2
LARGE_BYTES = 100 << 20
MOST_MEMORY = 96 << 20
READY = b'{"event": "ready"}\n'
ESCAPES = "\x1b[2J\x1b]0;title\x07red\x1b[31m \x9b2J \ud800<script>alert(1)</script>\x00"
HARMFUL = frozenset(map(chr, {*range(9), *range(11, 32), *range(127, 160), 0xD800}))


@contextlib.contextmanager
def lying(messages):
    """Give a channel to an agent that sends messages, as many as are taken, and then nothing."""
    ours, theirs = socket.socketpair()

    def lie():
        with contextlib.suppress(OSError):
            for message in messages:
                theirs.sendall(message)

    thread = threading.Thread(target=lie)
    with contextlib.closing(ours), contextlib.closing(theirs):
        thread.start()
        try:
            yield Channel(ours, "guest")
        finally:
            theirs.shutdown(socket.SHUT_RDWR)
            thread.join()


def ask(channel):
    return channel.call(ROUTER, "look", "look", deadline=Deadline.after(SOON_S))


def test_an_agent_that_never_answers_ends_in_one_error():
    with lying([READY]) as channel, pytest.raises(DeadlineExceeded, match="no answer to: look"):
        ask(channel)


def test_an_agent_that_talks_for_ever_does_not_stop_the_clock():
    with lying(itertools.repeat(READY * 100)) as channel, pytest.raises(DeadlineExceeded):
        ask(channel)


def test_what_has_arrived_when_the_time_is_up_is_an_answer():
    """The succeeding twin: a busy host reads late."""
    said = [READY * 1000, b'{"id": 1, "value": 7, "errno": 0}\n']
    with lying(said) as channel:
        pending = channel.start(ROUTER, "look", "look")
        assert pending.wait(Deadline.after(SOON_S))["value"] == 7


@pytest.mark.parametrize(
    "message",
    [
        '{{"id": {number}, "value": 0, "errno": 0}}\n',
        '{{"event": "exit", "pid": {number}, "exit": 0}}\n',
    ],
    ids=["answers", "ends"],
)
def test_what_nobody_asked_for_is_not_kept(monkeypatch, message):
    monkeypatch.setattr(channels, "MOST_ENDS", 100)
    said = (message.format(number=number).encode() for number in itertools.count(2))
    with lying(said) as channel:
        with pytest.raises(AgentError, match="no answer"):
            ask(channel)
        assert len(channel.answers) + len(channel.ended) <= 100


def test_an_answer_without_an_end_is_refused_in_bounded_time_and_memory():
    tracemalloc.start()
    with lying(itertools.repeat(b"x" * (1 << 20))) as channel:
        pending = channel.start(ROUTER, "look", "look")
        with pytest.raises(AgentError, match="no answer"):
            pending.wait(Deadline.after(60))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * channels.LONGEST_ANSWER_BYTES


def test_an_error_with_what_the_agent_said_is_harmless():
    said = json.dumps({"id": 1, "error": ESCAPES + "x" * 100_000}).encode() + b"\n"
    with lying([said]) as channel, pytest.raises(AgentError) as error:
        ask(channel)
    assert "red" in str(error.value)
    assert not HARMFUL & set(str(error.value))
    assert len(str(error.value)) < 10_000


def test_what_a_terminal_needs_stays():
    """The succeeding twin."""
    assert harmless("one\ttwo\nthree é 漢") == "one\ttwo\nthree é 漢"


@pytest.fixture
def evidence(tmp_path):
    """Evidence of a guest whose console has a line of 100 MB between escapes and broken UTF-8."""
    with (tmp_path / "console.log").open("wb") as file:
        file.write(b"\xff\xfe" + ESCAPES.encode(errors="surrogatepass"))
        for _ in range(LARGE_BYTES >> 20):
            file.write(b"x" * (1 << 20))
        file.write(b"\nKernel panic - not syncing: \x1b[31mred\xff\n")
    return tmp_path


def test_an_endless_console_is_read_in_bounded_memory(evidence):
    tracemalloc.start()
    text = console.read_console(evidence / "console.log")
    found = console.last_words(evidence / "console.log")
    shown = part_that_matters(evidence)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_MEMORY
    assert not HARMFUL & {*text, *shown}
    assert max(map(len, text.splitlines())) < 5000
    assert "bytes are left out" in text
    assert found == "Kernel panic - not syncing: red�"
    assert LabError("lost", tail=console.tail(evidence / "console.log")).tail


def test_a_page_of_the_report_is_harmless(evidence, tmp_path):
    run, site = tmp_path / "run", tmp_path / "site"
    folder = run / "guest"
    folder.mkdir(parents=True)
    (evidence / "console.log").rename(folder / FAILURE)
    with (folder / FAILURE).open("ab") as file:
        file.write(ESCAPES.encode(errors="surrogatepass"))
    lost = LabError("lost", seen=ESCAPES)
    record = Record("scenarios/x.py::test_it", (), "igb", Outcome.FAILED, str(lost), 1.0, "guest")
    host = {"qemu": "10.0.2", "accelerator": "tcg"}
    facts = {"name": "7.3", "release": "7.3.0-lab", "digest": "d"}
    Results(facts, host, 1.8e9, 61.0, 0, (record,)).write(run)
    write_site([run], site)
    pages = [page.read_text() for page in site.rglob("*.html")]
    assert any("red" in page for page in pages)
    assert not any("<script>alert" in page for page in pages)
    assert not any(HARMFUL & set(page) for page in pages)
    assert max(map(len, pages)) < 200_000


def test_evidence_with_half_a_character_is_written(tmp_path):
    assert write_whole(tmp_path / "log", "\ud800").read_text() == "\\ud800"
