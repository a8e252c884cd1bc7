"""`python -m stress PART [--seconds N] [--seed N]`: run a part, and add a row to the table."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import click

from stress.chaos import chaos
from stress.clones import clones
from stress.fuzz import fuzz
from stress.load import load
from stress.table import PROJECT, Finding, add_row

PARTS = ("clones", "load", "chaos", "remote", "fuzz")
SECONDS = 2400.0


def remote(_seconds: float) -> Finding:
    """Run the tests of the remote mode; they take as long as they take."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "tests/stress/remote.py"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    wrong = tuple(line for line in lines if line.startswith(("FAILED", "ERROR")))
    passed = sum(line.startswith("PASSED") for line in lines)
    unrun = () if passed or wrong else ("it could not be run",)
    did = f"{passed} of {passed + len(wrong)}: sshd killed, network cut, disk full, machine gone"
    return Finding("remote", time.monotonic() - began, did, wrong + unrun)


@click.command()
@click.argument("part", type=click.Choice(PARTS))
@click.option("--seconds", type=float, default=SECONDS, show_default=True, help="About how long.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of chaos.")
@click.pass_context
def main(context: click.Context, part: str, seconds: float, seed: int) -> None:
    """Run a part of the stress lane; exit 1 if something did not hold."""
    before = os.getloadavg()[0]
    works = {"clones": clones, "load": load, "remote": remote, "fuzz": fuzz}
    found = chaos(seconds, seed) if part == "chaos" else works[part](seconds)
    add_row(found, before)
    click.echo(f"{found.part}: {found.did}")
    for line in found.wrong:
        click.echo(f"  {line}")
    context.exit(1 if found.wrong else 0)


main()
