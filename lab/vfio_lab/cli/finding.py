"""`vfio-lab finding`: the draft of a mail on what a scenario found."""

from __future__ import annotations

from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command()
@click.argument("evidence", type=FOLDER)
@click.option(
    "--since",
    "folders",
    type=FOLDER,
    multiple=True,
    help="Folder of a run on another kernel, or of what matrix or bisect left; may be repeated.",
)
@click.option(
    "-o",
    "target",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for report.txt and the reproducer; the text goes to standard output by default.",
)
def finding(evidence: Path, folders: tuple[Path, ...], target: Path | None) -> None:
    """Draft a mail on what the scenario with this EVIDENCE folder found. Nothing is sent.

    The scenario failed, or its claim describes a fault of the kernel. The draft says what was
    done, expected and seen, since when, and how to repeat it, in 72 columns. Without --since it
    knows of the kernels in verdicts.json beside the runs.
    """
    from vfio_lab.evidence.retention import mark_as_named
    from vfio_lab.report.finding import PROGRAM, finding_text, read_finding

    place = evidence.absolute()
    mark_as_named(place.parent)
    found = read_finding(place, folders or (place.parent.parent,))
    if target is None:
        click.echo(finding_text(found), nl=False)
        return
    target.mkdir(parents=True, exist_ok=True)
    (target / "report.txt").write_text(finding_text(found))
    if found.program:
        (target / PROGRAM).write_text(found.program)
