import io
import re
from collections.abc import Callable

import pytest

from vfio_lab.util import progress
from vfio_lab.util.deadline import Deadline, wait_until
from vfio_lab.util.progress import (
    Bars,
    Lines,
    Task,
    duration,
    task,
)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.01)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return all that was written to stderr so far."""
    parts: list[str] = []

    def read() -> str:
        parts.append(capsys.readouterr().err)
        return "".join(parts)

    return read


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (4.24, "4.2 s"),
        (59.9, "59.9 s"),
        (59.97, "1 min 00 s"),
        (67, "1 min 07 s"),
        (3599.4, "59 min 59 s"),
        (7380, "2 h 03 min"),
    ],
)
def test_durations_are_written_as_people_read_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_quick_step_says_nothing(told: Callable[[], str]) -> None:
    with task("quick"):
        pass
    assert told() == ""


@pytest.mark.usefixtures("eager")
def test_a_long_step_says_what_how_far_and_how_long(told: Callable[[], str]) -> None:
    with task("kernel 7.3", total=4) as step:
        step.update(1, note="CC vfio_main.o")
        wait_until("a line of progress", lambda: "25%" in told(), Deadline.after(5))
    first, *between, last = told().splitlines()
    assert first == "kernel 7.3 ..."
    assert re.fullmatch(
        r"kernel 7\.3: 25%, 0\.\d s so far, about \d\.\d s left, CC vfio_main\.o", between[-1]
    )
    assert re.fullmatch(r"kernel 7\.3: done in 0\.\d s", last)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("failure", "word"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")]
)
def test_the_last_line_tells_how_a_step_ended(
    told: Callable[[], str], failure: type[BaseException], word: str
) -> None:
    def fail() -> None:
        with task("image"):
            wait_until("the first line", lambda: told() != "", Deadline.after(5))
            raise failure

    with pytest.raises(failure):
        fail()
    assert re.search(rf"^image: {word} after 0\.\d s$", told(), re.MULTILINE)


def test_a_total_may_come_later_and_the_estimate_with_it() -> None:
    step = Task("fetch", None)
    step.update(5)
    assert step.fraction is None
    assert step.remaining_s is None
    step.update(5, total=10)
    assert step.fraction == 0.5
    assert step.remaining_s == pytest.approx(step.elapsed_s, abs=0.05)


def test_more_work_than_estimated_is_never_over_all_of_it() -> None:
    step = Task("compile", 10)
    step.update(12)
    assert step.fraction == 1.0
    assert step.remaining_s == 0.0


def test_a_log_that_is_gone_stops_no_build() -> None:
    stream = io.StringIO()
    stream.close()
    Lines(stream).begin(Task("image", None))


def test_long_notes_are_cut_in_logs() -> None:
    stream = io.StringIO()
    step = Task("image", None)
    step.update(1, note="word " * 100)
    Lines(stream).tick(step)
    assert len(stream.getvalue()) < 120


def test_steps_inside_steps_share_one_live_display() -> None:
    stream = io.StringIO()
    bars = Bars(stream)
    outer, inner = Task("outer", 2), Task("inner", None)
    outer.update(1, note="half")
    bars.begin(outer)
    bars.begin(inner)
    bars.end(inner, "done in")
    bars.end(outer, "done in")
    said = re.findall(r"^(inner|outer): done in \d+\.\d s", stream.getvalue(), re.MULTILINE)
    assert said == ["inner", "outer"]
