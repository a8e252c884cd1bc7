"""`vfio-lab repro`: a scenario as one C file, for those who have no lab."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("evidence", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option(
    "-o",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; standard output by default.",
)
def repro(evidence: Path, target: Path | None) -> None:
    """Write the scenario whose EVIDENCE folder is given as one C program.

    It needs a C compiler and the kernel's headers to be built, and root, vfio-pci and the hardware
    to be run. It makes the recorded calls in the recorded order, compares each result, and prints
    KTAP. A scenario that runs programs or tells QEMU something cannot be written so; the command
    says why and exits with 125.
    """
    from vfio_lab.report.repro.program import c_program
    from vfio_lab.report.repro.recording import read_recording

    text = c_program(read_recording(evidence.absolute()))
    if target is None:
        click.echo(text, nl=False)
    else:
        target.write_text(text)
