"""The outcome of a bisection as text for a mail: who broke what, and how to see it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from vfio_lab.campaign.bisection import GOOD, SHORT, WORDS, CommitVerdict, Culprit, Question
from vfio_lab.kernels import gittree, khistory
from vfio_lab.spec import claims
from vfio_lab.spec.scenarios import scenario_catalogue

COLUMNS = 72
INDENT = "  "


def bisect_text(found: Culprit, repository: Path, question: Question) -> str:
    """Return the report, wrapped at 72 columns; `Fixes:` lines and commands are not wrapped.

    Args:
        found: what the bisection found.
        repository: the repository that has the commits.
        question: what was asked of each.
    """
    parts = [
        *_culprit(found, repository),
        *_scenario(question),
        *_verdicts(found, repository, question),
        *_reproduce(found, question),
        *_tags(found, repository),
    ]
    return "\n\n".join(parts) + "\n"


def revert_line(found: Culprit, repository: Path) -> str:
    """Return what became of the bad end when the first bad commit was reverted there."""
    end = _described(repository, found.ends[1])
    if len(found.commits) > 1:
        return f"revert on {end}: not tried, as several commits may be the first bad one"
    if found.revert is None:
        return f"revert on {end}: does not revert"
    reason = f": {found.revert.reason}" if found.revert.code != GOOD else ""
    return f"revert on {end}: {WORDS[found.revert.code]}{reason}"


def _culprit(found: Culprit, repository: Path) -> Iterator[str]:
    good, bad = (_described(repository, end) for end in found.ends)
    yield _prose(f"A bisection between {good} (good) and {bad} (bad) ended at")
    form = '--format=%h ("%s")%n%an <%ae>, %as'
    shown = [
        gittree.git(repository, "show", "-s", f"--abbrev={SHORT}", form, one).strip()
        for one in found.commits
    ]
    yield "\n".join(_indented(one) for one in shown)
    if len(found.commits) > 1:
        yield _prose("Some commits could not be judged: it is one of these.")


def _scenario(question: Question) -> Iterator[str]:
    known = scenario_catalogue().get(question.scenario.partition("[")[0])
    yield f"The scenario is\n\n{INDENT}{question.scenario}"
    if question.change:
        yield "Its behaviour differs:\n\n" + _indented(question.change)
    elif known is not None:
        sentences = [f"{name}: {claims.load_claims()[name].sentence}" for name in known.claims]
        yield "\n".join(_prose(one) for one in (f"Expected: {known.sentence}", *sentences))


def _verdicts(found: Culprit, repository: Path, question: Question) -> Iterator[str]:
    good = "the behaviour is as before" if question.change else "the scenario passes"
    lines = [_prose(_verdict(one, good)) for one in found.both_sides(repository)]
    yield "\n".join([*lines, _prose(revert_line(found, repository))])


def _verdict(one: CommitVerdict, good: str) -> str:
    reason = good if one.code == GOOD else one.reason
    return f"{WORDS[one.code]}: {one.commit[:SHORT]}, {reason}"


def _reproduce(found: Culprit, question: Question) -> Iterator[str]:
    culprit, config = found.commits[-1][:SHORT], question.config
    lines = [
        f"git checkout {culprit}",
        f"vfio-lab bisect-run{f' --config {config}' * bool(config)}",
    ]
    if question.change:
        lines = [f"vfio-lab try {culprit}~..{culprit}"]
    parts = "\n".join(f"{INDENT}{line}" for line in lines)
    yield (
        f"To reproduce, in a checkout of the kernel:\n\n{parts} \\\n{INDENT}  '{question.scenario}'"
    )


def _tags(found: Culprit, repository: Path) -> Iterator[str]:
    """Yield the lines that a fix and regzbot want."""
    if len(found.commits) > 1:
        sides = [one.commit[:SHORT] for one in found.both_sides(repository)]
        ends = sides if len(sides) > 1 else [end[:SHORT] for end in found.ends]
        yield f"#regzbot introduced: {'..'.join(ends)}"
        return
    (commit,) = found.commits
    subject, _newline, body = gittree.git(
        repository, "show", "-s", "--format=%s%n%b", commit
    ).partition("\n")
    original = khistory.BACKPORT.search(body)
    fixes = original[1] if original else commit
    lines = [f'Fixes: {fixes[:SHORT]} ("{subject}")']
    lines += [f"Backported as: {commit[:SHORT]}"] if original else []
    yield "\n".join(lines)
    yield f"#regzbot introduced: {commit[:SHORT]}"


def _described(repository: Path, commit: str) -> str:
    """Return a tag where a commit has one, else its hash."""
    form = ("--format=%(refname:short)", f"--points-at={commit}", "refs/tags")
    tags = gittree.git(repository, "for-each-ref", *form).split()
    return tags[0] if tags else commit[:SHORT]


def _indented(text: str) -> str:
    lines = (textwrap.wrap(line, COLUMNS - len(INDENT)) for line in text.splitlines())
    return "\n".join(f"{INDENT}{part}" for line in lines for part in line)


def _prose(text: str) -> str:
    return textwrap.fill(text, COLUMNS, subsequent_indent=INDENT, break_long_words=False)
