"""A run as KTAP, version 1: areas, their files, their scenarios.

Source: Documentation/dev-tools/ktap.rst of the kernel, and tools/testing/kunit/kunit_parser.py,
which reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.spec.claims import load_claims

VERSION = "KTAP version 1"
INDENT = "  "
BAD = frozenset({Outcome.FAILED, Outcome.ERROR})
DIRECTIVES = {
    Outcome.SKIPPED: "SKIP",
    Outcome.KNOWN: "XFAIL",
    Outcome.ERROR: "ERROR",
}
Tree = Mapping[str, Mapping[str, Sequence[Record]]]


def ktap(results: Results) -> str:
    """Return the results of a run as KTAP."""
    tree = by_area(results.scenarios)
    lines = [VERSION, *_facts(results), f"1..{len(tree)}"]
    for number, (area, files) in enumerate(tree.items(), 1):
        lines += _nested(_area(area, files))
        records = [record for group in files.values() for record in group]
        lines.append(_result(number, area, records))
    return "".join(f"{line}\n" for line in lines)


def by_area(records: Sequence[Record]) -> Tree:
    """Return the scenarios by area and file; an area is the folder of the file."""
    tree: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        path = PurePosixPath(record.nodeid.partition("::")[0].removeprefix("scenarios/"))
        area = path.parent.as_posix() if path.parent.name else path.stem
        tree.setdefault(area, {}).setdefault(path.stem, []).append(record)
    return tree


def _facts(results: Results) -> Iterator[str]:
    for key in ("name", "release", "architecture", "base"):
        if value := results.kernel.get(key):
            yield _comment(f"kernel {key}: {value}")
    for key, value in results.host.items():
        yield _comment(f"{key}: {value}")
    if results.command:
        yield _comment(f"command: {results.command}")


def _area(name: str, files: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    yield from (VERSION, f"# Subtest: {name}", f"1..{len(files)}")
    for number, (file, records) in enumerate(files.items(), 1):
        yield from _nested(_file(file, records))
        yield _result(number, file, records)


def _file(name: str, records: Sequence[Record]) -> Iterator[str]:
    yield from (VERSION, f"# Subtest: {name}", f"1..{len(records)}")
    for number, record in enumerate(records, 1):
        yield from _diagnostics(record)
        yield _scenario(number, record)


def _scenario(number: int, record: Record) -> str:
    ok = "not ok" if record.outcome in BAD else "ok"
    line = f"{ok} {number} {_plain(record.nodeid.partition('::')[2])}"
    directive = DIRECTIVES.get(record.outcome)
    return f"{line} # {directive} {_plain(record.reason)}".rstrip() if directive else line


def _diagnostics(record: Record) -> Iterator[str]:
    """Yield the diagnostics of a scenario that did not pass: claims, reason, evidence."""
    if record.outcome is Outcome.PASSED:
        return
    claims = load_claims()
    for name in record.claims:
        yield _comment(f"claim {name}: {claims[name].sentence if name in claims else 'gone'}")
    for line in record.reason.splitlines():
        yield _comment(line)
    if record.evidence:
        yield _comment(f"evidence: {record.evidence}")


def _result(number: int, name: str, records: Sequence[Record]) -> str:
    outcomes = {record.outcome for record in records}
    ok = "not ok" if outcomes & BAD else "ok"
    return f"{ok} {number} {_plain(name)}" + (" # SKIP" if outcomes == {Outcome.SKIPPED} else "")


def _nested(lines: Iterator[str]) -> Iterator[str]:
    return (f"{INDENT}{line}" for line in lines)


def _comment(text: str) -> str:
    return f"# {_plain(text)}".rstrip()


def _plain(text: str) -> str:
    """Return a text as one line, without `#`, which would begin a directive."""
    return " ".join(text.replace("#", "no.").split())
