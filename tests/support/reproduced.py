"""Scenarios that were run, written as programs, built, and run where there is no agent."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from support.plain_guest import run_in_plain_guest
from vfio_lab.campaign.results import Outcome
from vfio_lab.campaign.runs import Choice, run_scenarios
from vfio_lab.report.repro.program import c_program
from vfio_lab.report.repro.recording import CannotWrite, read_recording
from vfio_lab.util import resources

BUILDERS = 2
REPORTS = resources.root() / "docs" / "reports"


@dataclass(frozen=True)
class Reproduced:
    """Programs of scenarios.

    Args:
        programs: each scenario's program, by its evidence folder's name.
        unwritten: why a scenario has none, by the same name.
        outcomes: how each scenario ended, by the same name.
        run: the folder of the run.
    """

    programs: dict[str, Path]
    unwritten: dict[str, str]
    outcomes: dict[str, Outcome]
    run: Path


def reproduced(kernel, chosen, topology, gcc, folder):
    """Run scenarios on a kernel, and write and build those that had one topology.

    Args:
        kernel: a name or a path.
        chosen: files and folders of scenarios.
        topology: its name.
        gcc: the compiler's command.
        folder: for evidence and programs.
    """
    results = run_scenarios(str(kernel), Choice(chosen), folder / "run", "Running scenarios")
    (run,) = (path.parent for path in (folder / "run").glob("*/results.json"))
    records = [one for one in results.scenarios if one.topology == topology and one.evidence]
    sources, unwritten = {}, {}
    for record in records:
        try:
            text = c_program(read_recording(run / record.evidence))
        except CannotWrite as error:
            unwritten[record.evidence] = error.seen
        else:
            sources[record.evidence] = folder / f"{record.evidence}.c"
            sources[record.evidence].write_text(text)

    def build(source):
        command = [*gcc, "-static", "-s", "-o", source.with_suffix(""), source]
        subprocess.run(command, check=True)
        return source.with_suffix("")

    with ThreadPoolExecutor(BUILDERS) as pool:
        programs = dict(zip(sources, pool.map(build, sources.values()), strict=True))
    return Reproduced(programs, unwritten, {one.evidence: one.outcome for one in records}, run)


def reported(names, gcc, folder):
    """Build the reproducers of reports; return the programs by the reports' names."""
    programs = {name: folder / name for name in names}
    for name, program in programs.items():
        source = REPORTS / name / "repro.c"
        subprocess.run([*gcc, "-static", "-s", "-o", program, source], check=True)
    return programs


def failed_in_a_plain_guest(guest_factory, topology, programs, folder):
    """Run programs in the order of their names; return what those said that did not end with 0.

    Args:
        guest_factory: whose kernel and image the guest has.
        topology: name of its hardware.
        programs: by name.
        folder: for the guest's disk.
    """
    ordered = dict(sorted(programs.items()))
    ended = run_in_plain_guest(guest_factory, topology, ordered, folder)
    assert set(ended) == set(programs)
    return {name: said for name, (code, said) in ended.items() if code}
