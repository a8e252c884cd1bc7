"""Progress of long steps on stderr: the title, the fraction done and the time.

On a terminal a step is a bar; in a log it is a line every `LINE_EVERY_S`. A step that ends within
`QUIET_S` prints nothing, so a run from a warm cache is silent.
"""

from __future__ import annotations

import contextlib
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

QUIET_S = 2.0
LINE_EVERY_S = 15.0
LEAST_FRACTION = 0.02
MINUTE_S = 60
HOUR_S = 3600
BAR_COLUMNS = 24
NOTE_COLUMNS = 60
REDRAWS_A_SECOND = 5


def duration(seconds: float) -> str:
    """Return seconds in words: `4.2 s`, `1 min 07 s`, `2 h 03 min`."""
    if seconds < MINUTE_S - 0.05:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S:02d} s"
    return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S:02d} min"


class Task:
    """A step with its progress and start time."""

    def __init__(self, title: str, total: float | None) -> None:
        """Start the clock."""
        self.title = title
        self.total = total
        self.done = 0.0
        self.note = ""
        self.shown = False
        self._started_at = time.monotonic()

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        """Record the progress; cheap enough to call for every line of a compiler's output.

        Args:
            done: work done so far, in the caller's own unit.
            total: a better estimate of the total work, if there is one.
            note: the current activity.
        """
        self.done = done
        self.note = note
        if total is not None:
            self.total = total

    @property
    def elapsed_s(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self._started_at

    @property
    def fraction(self) -> float | None:
        """The fraction done, 0 to 1; None if the total is unknown."""
        return min(1.0, self.done / self.total) if self.total else None

    @property
    def remaining_s(self) -> float | None:
        """Estimated seconds left; None while there is too little progress for an estimate."""
        fraction = self.fraction
        if fraction is None or fraction < LEAST_FRACTION:
            return None
        return self.elapsed_s * (1 - fraction) / fraction


class Display(Protocol):
    """An output for steps that have lasted `QUIET_S`."""

    def begin(self, task: Task) -> None:
        """Show that a step is running."""

    def tick(self, task: Task) -> None:
        """Show its progress; called every `LINE_EVERY_S`."""

    def end(self, task: Task, outcome: str) -> None:
        """Show the outcome and the duration."""

    def say(self, line: Text) -> None:
        """Show a permanent line."""


class Lines:
    """Plain lines, for logs."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream

    def begin(self, task: Task) -> None:
        """Print the title."""
        self._print(f"{task.title} ...")

    def tick(self, task: Task) -> None:
        """Print the progress and the elapsed time."""
        parts = [] if task.fraction is None else [f"{task.fraction:.0%}"]
        parts.append(f"{duration(task.elapsed_s)} so far")
        if task.remaining_s is not None:
            parts.append(f"about {duration(task.remaining_s)} left")
        if task.note:
            parts.append(textwrap.shorten(task.note, NOTE_COLUMNS, placeholder="..."))
        self._print(f"{task.title}: {', '.join(parts)}")

    def end(self, task: Task, outcome: str) -> None:
        """Print the outcome."""
        self._print(f"{task.title}: {outcome} {duration(task.elapsed_s)}")

    def say(self, line: Text) -> None:
        """Print the line without styles."""
        self._print(line.plain)

    def _print(self, line: str) -> None:
        # A closed or failing log must not abort the build.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()


class Nowhere:
    """No display, for worker processes that do not own the terminal."""

    def begin(self, task: Task) -> None:
        """Do nothing."""

    def tick(self, task: Task) -> None:
        """Do nothing."""

    def end(self, task: Task, outcome: str) -> None:
        """Do nothing."""

    def say(self, line: Text) -> None:
        """Do nothing."""


class Bars:
    """Live bars on a terminal; nested steps share one display."""

    def __init__(self, stream: TextIO) -> None:
        """Draw on `stream`, a terminal."""
        self._console = Console(file=stream)
        self._lock = threading.Lock()
        self._tasks: list[Task] = []
        self._foot: RenderableType | None = None
        self._live: Live | None = None

    def begin(self, task: Task) -> None:
        """Add a bar."""
        with self._lock:
            self._tasks = [*self._tasks, task]
            self._draw()

    def show(self, foot: RenderableType) -> None:
        """Draw `foot` below the bars, and redraw it until `hide` is called."""
        with self._lock:
            self._foot = foot
            self._draw()

    def hide(self) -> None:
        """Stop drawing what `show` was given."""
        with self._lock:
            self._foot = None
            self._draw()

    def say(self, line: Text) -> None:
        """Print a permanent line above the bars."""
        with self._lock:
            self._console.print(line, soft_wrap=True)

    def tick(self, task: Task) -> None:
        """Do nothing: the live display reads the tasks at each redraw."""

    def end(self, task: Task, outcome: str) -> None:
        """Replace the bar with a permanent line."""
        with self._lock:
            self._tasks = [other for other in self._tasks if other is not task]
            line = Text(f"{task.title}: {outcome} {duration(task.elapsed_s)}")
            self._draw()
            self._console.print(line)

    def _draw(self) -> None:
        wanted = bool(self._tasks) or self._foot is not None
        if wanted and self._live is None:
            self._live = Live(
                get_renderable=self._picture,
                console=self._console,
                refresh_per_second=REDRAWS_A_SECOND,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        elif not wanted and self._live is not None:
            self._live.stop()
            self._live = None

    def _picture(self) -> Group:
        return Group(self._table(), *([] if self._foot is None else [self._foot]))

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for task in self._tasks:
            fraction = task.fraction
            left = task.remaining_s
            table.add_row(
                Text(task.title),
                ProgressBar(
                    total=1.0, completed=fraction or 0.0, pulse=fraction is None, width=BAR_COLUMNS
                ),
                Text("" if fraction is None else f"{fraction:4.0%}"),
                Text(duration(task.elapsed_s)),
                Text("" if left is None else f"about {duration(left)} left"),
                Text(task.note, style="dim", no_wrap=True, overflow="ellipsis"),
            )
        return table


_displays: dict[TextIO, Display] = {}
_ended: list[tuple[str, float]] = []
_displays_lock = threading.Lock()
_adopted: Display | None = None


def adopt(display: Display | None) -> None:
    """Show every step on `display` instead of on stderr; None restores stderr."""
    global _adopted  # noqa: PLW0603 - a process has one terminal, with one display
    _adopted = display


def display() -> Display:
    """Return the display of the current stderr; each stream has one live display."""
    stream = sys.stderr
    with _displays_lock:
        if _adopted is not None:
            return _adopted
        if stream not in _displays:
            _displays.clear()
            _displays[stream] = Bars(stream) if stream.isatty() else Lines(stream)
        return _displays[stream]


def ended_tasks() -> tuple[tuple[str, float], ...]:
    """Return title and seconds of each step of this process that was shown, in the order of ends.

    A step that contains others comes after them, and its time includes theirs.
    """
    return tuple(_ended)


@contextlib.contextmanager
def task(title: str, total: float | None = None) -> Iterator[Task]:
    """Show a step while the body runs, if the body takes longer than `QUIET_S`.

    Args:
        title: what the step does, as a sentence without a full stop.
        total: the total work in the caller's own unit, if known.
    """
    step = Task(title, total)
    shown = display()
    over = threading.Event()
    reporter = threading.Thread(target=_report, args=(step, shown, over), daemon=True)
    reporter.start()
    outcome = "failed after"
    try:
        yield step
        outcome = "done in"
    except KeyboardInterrupt:
        outcome = "interrupted after"
        raise
    finally:
        over.set()
        reporter.join()
        if step.shown:
            shown.end(step, outcome)
            _ended.append((step.title, step.elapsed_s))


def _report(step: Task, shown: Display, over: threading.Event) -> None:
    if over.wait(QUIET_S):
        return
    step.shown = True
    shown.begin(step)
    while not over.wait(LINE_EVERY_S):
        shown.tick(step)
