import os
import signal
import threading
from pathlib import Path

import pytest

from vfio_lab.errors import BuildError, HostError
from vfio_lab.util.deadline import Deadline, wait_until
from vfio_lab.util.process import environment, how_it_ended, pipeline, yielding


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "tool.log"


def test_lines_arrive_one_by_one_and_all_are_logged(log: Path) -> None:
    lines: list[str] = []
    pipeline("count", ["sh", "-c", "echo one; echo two >&2"], log=log, on_line=lines.append)
    assert lines == ["one", "two"]
    assert log.read_text() == "one\ntwo\n"


def test_each_stage_feeds_the_next(log: Path) -> None:
    pipeline("sort", ["printf", "b\na\n"], ["sort"], ["tr", "a-z", "A-Z"], log=log)
    assert log.read_text() == "A\nB\n"


def test_a_failure_names_the_tool_its_code_and_its_last_words(log: Path) -> None:
    with pytest.raises(BuildError) as failure:
        pipeline("build it", ["sh", "-c", "echo no such package >&2; exit 25"], log=log)
    assert failure.value.what == "cannot build it"
    assert failure.value.seen == "sh exited with code 25"
    assert failure.value.tail == "no such package\n"
    assert failure.value.where.read_text() == "no such package\n"


def test_the_log_of_a_failure_outlives_the_next_attempt(log: Path) -> None:
    with pytest.raises(BuildError) as failure:
        pipeline("build it", ["sh", "-c", "echo no such package; exit 25"], log=log)
    pipeline("build it", ["echo", "done"], log=log)
    assert log.read_text() == "done\n"
    assert failure.value.where is not None
    assert failure.value.where.read_text() == "no such package\n"


@pytest.mark.parametrize("dying", ["exit 3", "kill -9 $$", "exec <&-; sleep 0.2; exit 3"])
def test_the_one_that_failed_first_is_named_first(log: Path, dying: str) -> None:
    # The writer notices only by its pipe; it even says so, as mmdebstrap does.
    noticing = "trap '' PIPE; while echo more; do :; done; echo Broken pipe >&2; exit 25"
    with pytest.raises(BuildError) as failure:
        pipeline("pack", ["sh", "-c", noticing], ["bash", "-c", dying], log=log)
    first, then = str(failure.value.seen).split(", then ")
    assert first.startswith("bash ")
    assert then == "sh exited with code 25"


def test_a_failing_reader_ends_its_writer(log: Path) -> None:
    with pytest.raises(BuildError) as failure:
        pipeline("pack", ["yes"], ["sh", "-c", "exit 3"], log=log)
    assert "sh exited with code 3" in str(failure.value.seen)
    assert "yes" in str(failure.value.seen)


def test_a_tool_that_is_not_there_starts_nothing(log: Path) -> None:
    with pytest.raises(HostError, match="no no-such-tool on the PATH"):
        pipeline("pack", ["touch", str(log.parent)], ["no-such-tool"], log=log)
    assert not log.parent.exists()


def test_an_interrupt_ends_the_whole_family(log: Path) -> None:
    def interrupt(line: str) -> None:
        family.append(int(line))
        if len(family) == 2:
            raise KeyboardInterrupt

    family: list[int] = []
    script = "sleep 60 & echo $!; echo $$; wait"
    with pytest.raises(KeyboardInterrupt):
        pipeline("wait", ["sh", "-c", script], log=log, on_line=interrupt)
    wait_until("their end", lambda: not any(map(_runs, family)), Deadline.after(1))


def test_other_threads_may_run_tools_too(tmp_path: Path) -> None:
    logs = [tmp_path / f"{number}.log" for number in range(4)]
    threads = [
        threading.Thread(target=pipeline, args=("say", ["echo", log.name]), kwargs={"log": log})
        for log in logs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [log.read_text() for log in logs] == [f"{log.name}\n" for log in logs]


def test_tools_speak_english_and_find_the_administrators_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("PATH", "/usr/bin")
    made = environment(SOURCE_DATE_EPOCH="1")
    assert made["LC_ALL"] == "C.UTF-8"
    assert "/usr/sbin" in made["PATH"].split(":")
    assert made["SOURCE_DATE_EPOCH"] == "1"


def test_exit_codes_in_words() -> None:
    assert how_it_ended(2) == "exited with code 2"
    assert how_it_ended(-signal.SIGKILL) == "was killed by signal 9"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"  # an orphan that nobody has reaped yet is gone all the same


def test_tools_that_yield_have_a_low_priority_among_processes_and_sessions(tmp_path):
    log = tmp_path / "log"
    show = ["sh", "-c", "nice; cat /proc/self/autogroup"]
    pipeline("show", show, log=log)
    own = int(log.read_text().split()[0])
    with yielding():
        pipeline("show", show, log=log)
    yields = log.read_text().split()
    assert int(yields[0]) == own + 10
    if Path("/proc/self/autogroup").exists():
        assert yields[-1] == "10"
    pipeline("show", show, log=log)
    assert int(log.read_text().split()[0]) == own
