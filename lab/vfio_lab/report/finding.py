"""A finding as one would send it: what was done, what came of it, since when, how to repeat it."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vfio_lab.campaign import results
from vfio_lab.campaign.results import BAD, Outcome, Record, Results
from vfio_lab.errors import UsageError
from vfio_lab.hw.catalogue import topologies
from vfio_lab.qemu.console import complaints
from vfio_lab.report.repro.program import c_program, role_options
from vfio_lab.report.repro.recording import CannotWrite, read_recording
from vfio_lab.report.repro.roles import find_roles
from vfio_lab.spec.claims import Claim, load_claims

WIDTH = 72
OTHERS = 2
MOST_CALLS = 24
MOST_LOG = 16
TRANSCRIPT, KERNEL_LOG = "transcript.log", "kernel.log"
PROGRAM = "repro.c"
ASSERTION = "AssertionError: "
# Of a call: when, who, what with its arguments, and its result.
CALL = re.compile(r"^\S+ (?P<user>.{12}) (?P<what>(?P<name>\w+)\(.*) = (?P<result>.*)$")
LOOKS = frozenset({"access", "listdir", "read_file", "readlink"})
FAILED_ALLOCATION = re.compile(r" \(the lab failed allocation (\d+) of this call\)$")
LEVEL = re.compile(r"\] \w+: ")
REGISTERS = re.compile(
    r"\] (?:Code|R[A-Z0-9]{2}|FS|CS|CR2|DR\d|PKRU|Hardware name|Modules linked in): ?"
)
FIRST_BAD = re.compile(r"^# first bad commit: \[([0-9a-f]+)\] (.*)$", re.MULTILINE)
# How subjects begin, by the file that decides the claim; the first that fits.
SUBSYSTEMS = {
    "drivers/vfio/pci/": "vfio/pci",
    "drivers/vfio/vfio_iommu_type1.c": "vfio/type1",
    "drivers/vfio/": "vfio",
    "drivers/iommu/iommufd/": "iommufd",
    "drivers/iommu/": "iommu",
    "drivers/pci/": "PCI",
}


@dataclass(frozen=True)
class History:
    """On which kernels a scenario was run before.

    Args:
        outcomes: how it ended on each kernel, by the kernel's name.
        culprits: commits that a bisection found, with their subjects.
    """

    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    culprits: tuple[str, ...] = ()


def read_history(nodeid: str, folders: Iterable[Path]) -> History:
    """Return what is known of a scenario from earlier runs.

    Args:
        nodeid: the scenario.
        folders: of runs, of what `matrix` and `bisect` left, or of all runs.
    """
    outcomes: dict[str, Outcome] = {}
    culprits: dict[str, None] = {}
    for folder in folders:
        for kernel, verdicts in results.last_verdicts(folder).items():
            outcomes |= {kernel: verdicts[nodeid]} if nodeid in verdicts else {}
        for path in sorted(folder.glob(f"**/{results.RESULTS}")):
            run = results.read_results(path.parent)
            outcomes |= {
                str(run.kernel["name"]): one.outcome
                for one in run.scenarios
                if one.nodeid == nodeid
            }
        for path in sorted(folder.glob("**/bisect.log")):
            for commit, subject in FIRST_BAD.findall(path.read_text(errors="replace")):
                culprits[f'{commit[:12]} ("{subject}")'] = None
    return History(outcomes, tuple(culprits))


@dataclass(frozen=True)
class Finding:
    """What a scenario found.

    Args:
        record: how it ended.
        run: the run that it was part of.
        evidence: its folder.
        wrong: the claims that it contradicts, or that describe a fault.
        history: how it ended on other kernels.
        program: the reproducer, empty if there is none.
        options: the options of the reproducer.
        unwritten: why there is no reproducer.
    """

    record: Record
    run: Results
    evidence: Path
    wrong: tuple[Claim, ...]
    history: History
    program: str = ""
    options: str = ""
    unwritten: str = ""

    @property
    def failed(self) -> bool:
        """Whether the scenario failed; otherwise it shows what its claim calls a fault."""
        return self.record.outcome in BAD


def read_finding(evidence: Path, folders: Iterable[Path]) -> Finding:
    """Read what a scenario found.

    Args:
        evidence: its folder, in the folder of its run.
        folders: as for `read_history`.

    Raises:
        UsageError: there is no such evidence, or nothing is wrong.
    """
    run = results.read_results(evidence.parent)
    record = next((one for one in run.scenarios if one.evidence == evidence.name), None)
    if record is None:
        raise UsageError(
            f"{evidence} is not the evidence of a scenario",
            expected=f"a folder that {evidence.parent / results.RESULTS} names",
            seen=f"{len(run.scenarios)} scenarios, none with this evidence",
        )
    claims = [claim for name, claim in load_claims().items() if name in record.claims]
    faults = tuple(claim for claim in claims if record.outcome in BAD or claim.should)
    if not faults:
        raise UsageError(
            f"nothing is wrong in {evidence.name}",
            expected="a scenario that failed, or one whose claim describes a fault",
            seen=f"{record.outcome.value}, and no claim of it says what should be instead",
        )
    found = Finding(record, run, evidence, faults, read_history(record.nodeid, folders))
    try:
        recording = read_recording(evidence)
        program = c_program(recording)
    except CannotWrite as error:
        return replace(found, unwritten=error.seen or "")
    return replace(found, program=program, options=role_options(find_roles(recording)))


def finding_text(finding: Finding) -> str:
    """Return the draft of a mail on a finding."""
    parts = [
        _head(finding),
        _where(finding),
        _done(finding.evidence / TRANSCRIPT),
        *_verdict(finding),
        _log(finding.evidence / KERNEL_LOG),
        _since(finding),
        _how_to_reproduce(finding),
    ]
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part))) + "\n"


def _head(finding: Finding) -> Iterator[str]:
    source = finding.wrong[0].source
    system = next((word for path, word in SUBSYSTEMS.items() if source.startswith(path)), "vfio")
    start = f"Subject: [BUG] {system}: "
    room = WIDTH - len(start)
    yield start + textwrap.shorten(finding.wrong[0].sentence.rstrip("."), room, placeholder="...")
    yield f"To: (scripts/get_maintainer.pl -f {source.partition(':')[0]})"
    yield ""
    ends = "this does not hold" if finding.failed else "the kernel does this"
    yield from _folded(f"On Linux {finding.run.kernel['release']} {ends}:")
    for claim in finding.wrong:
        yield from _folded(f"  {claim.sentence}", 2)
        yield from _folded(f"  ({claim.id}, decided in {claim.source})", 3)


def _where(finding: Finding) -> Iterator[str]:
    yield "Where:"
    kernel, topology = finding.run.kernel, finding.record.topology
    git: Mapping[str, Any] = kernel.get("git") or {}
    package: Mapping[str, Any] = kernel.get("package") or {}
    source = git.get("describe") or " ".join(package.get(key, "") for key in ("name", "version"))
    patches = "; ".join(one["subject"] for one in kernel.get("patches", ()))
    machine = topologies().get(topology)
    facts = {
        "kernel": f"{kernel['release']} {f'from {source}' if source.strip() else ''}".strip(),
        "patches": patches,
        "machine": f"{kernel.get('architecture', '')} guest of QEMU {finding.run.host['qemu']}",
        "devices": machine.summary if machine else topology,
    }
    for name, value in facts.items():
        if value:
            yield from _folded(f"  {name:9}{value}", 11)


def _done(transcript: Path) -> Iterator[str]:
    """Yield the calls that did something; of many the first and the last."""
    text = transcript.read_text(errors="replace") if transcript.exists() else ""
    calls = list(_calls(text))
    if len(calls) > MOST_CALLS:
        left = len(calls) - MOST_CALLS
        half = MOST_CALLS // 2
        calls = [*calls[:half], f"... {left} more", *calls[-half:]]
    yield "What was done (who: call = result):"
    for call in calls:
        yield from _folded(f"  {call}", 6)


def _calls(transcript: str) -> Iterator[str]:
    """Yield calls; one that is repeated with other allocations failing stands once."""
    found = [match for line in transcript.splitlines() if (match := CALL.match(line))]
    made = [match for match in found if match["name"] not in LOOKS]
    keys = ((one, FAILED_ALLOCATION.search(one["result"])) for one in made)
    for (user, what, _), group in itertools.groupby(keys, key=lambda pair: _alike(*pair)):
        pairs = list(group)
        numbers = [int(failed[1]) for _, failed in pairs if failed]
        result = FAILED_ALLOCATION.sub("", pairs[-1][0]["result"])
        which = f", allocation {numbers[0]} failing" if numbers else ""
        which = f", allocations {numbers[0]} to {numbers[-1]} failing" if numbers[1:] else which
        yield f"{user}: {what} = {result}{which}"


def _alike(call: re.Match[str], failed: re.Match[str] | None) -> tuple[str, str, str]:
    """Return what calls have in common that stand in one line."""
    result = FAILED_ALLOCATION.sub("", call["result"])
    return call["user"].strip(), call["what"], result if failed else f"{call.start()}{result}"


def _verdict(finding: Finding) -> Iterator[Iterator[str]]:
    sentences = [claim.sentence for claim in finding.wrong]
    if finding.failed:
        yield _list("Expected:", sentences)
        yield _list("Seen:", [finding.record.reason.removeprefix(ASSERTION).partition("\n")[0]])
    else:
        yield _list("Expected:", [claim.should for claim in finding.wrong])
        yield _list("Seen:", sentences)


def _list(title: str, sentences: Iterable[str]) -> Iterator[str]:
    yield title
    for sentence in sentences:
        yield from _folded(f"  {sentence}", 2)


def _log(path: Path) -> Iterator[str]:
    found = complaints(path.read_text(errors="replace")) if path.exists() else []
    if found:
        yield "From the kernel's log:"
        lines = [LEVEL.sub("] ", line) for line in found[0].report.splitlines()]
        yield from [f"  {line}" for line in lines if not REGISTERS.search(line)][:MOST_LOG]


def _since(finding: Finding) -> Iterator[str]:
    yield "Since when:"
    history = finding.history
    for kernel, outcome in history.outcomes.items():
        bad = outcome in BAD if finding.failed else outcome is Outcome.PASSED
        good = outcome is Outcome.PASSED if finding.failed else outcome is not Outcome.SKIPPED
        yield f"  {kernel:12} {'bad' if bad else 'good' if good else 'cannot tell'}"
    for culprit in history.culprits:
        yield from _folded(f"  bisected to {culprit}", 4)
    if len(history.outcomes) < OTHERS and not history.culprits:
        yield "  No other kernel was tested."


def _how_to_reproduce(finding: Finding) -> Iterator[str]:
    yield "To reproduce it:"
    if finding.program:
        yield f"  gcc -Wall -o repro {PROGRAM}"
        yield " \\\n".join(_folded(f"  ./repro{finding.options}", 6))
        code = 1 if finding.failed else 0
        yield f"  {PROGRAM} is attached. It needs root and vfio-pci, and exits with"
        yield f"  {code} where the kernel does what is described here."
    else:
        yield f"  pytest '{finding.record.nodeid}'"
        yield from _folded(f"  No program can be attached: {finding.unwritten}.", 2)


def _folded(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
