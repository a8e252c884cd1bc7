"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vfio_lab.util import jail

if TYPE_CHECKING:
    from vfio_lab.campaign.behaviour import Comparison

SCENARIO_FILE = ".py"
F = TypeVar("F", bound=Callable[..., Any])


def no_jail(command: F) -> F:
    """Add `--no-jail`, which also applies to runs that the command starts."""
    option = click.option(
        "--no-jail",
        is_flag=True,
        expose_value=False,
        callback=_turn_off,
        help="Build and run untrusted kernels without a jail.",
    )
    return option(command)


def config_fragment(command: F) -> F:
    """Add `--config`, a fragment of the kernel's configuration."""
    option = click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Options for the kernel, besides the lab's own or instead of them.",
    )
    return option(command)


def hosts_option(command: F) -> F:
    """Add `--hosts`: where to run guests."""
    option = click.option(
        "--hosts",
        metavar="HOST[*N],...",
        help="Run guests on other hosts, as for pytest --lab-hosts, instead of here.",
    )
    return option(command)


def scenario_choice(command: F) -> F:
    """Add `-k`, `-n` and `--hosts`: which scenarios to run, how many at a time, and where."""
    return local_choice(hosts_option(command))


def local_choice(command: F) -> F:
    """Add `-k` and `-n`: which scenarios to run here, and how many at a time."""
    expression = click.option(
        "-k", "expression", metavar="EXPR", help="Some of the scenarios only, as for pytest -k."
    )
    jobs = click.option(
        "-n",
        "jobs",
        type=click.IntRange(min=1),
        help="Guests at a time, at most; by default what this host can run.",
    )
    return expression(jobs(command))


def strict(command: F) -> F:
    """Add `--strict`, which makes behaviour count that no scenario asserts."""
    option = click.option(
        "--strict",
        is_flag=True,
        help="Exit with 1 if behaviour differs that no scenario asserts.",
    )
    return option(command)


def split_scenarios(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return words that name no scenarios, and those that do: node IDs and files of scenarios."""
    named = tuple(one for one in words if "::" in one or one.endswith(SCENARIO_FILE))
    return tuple(one for one in words if one not in named), named


def print_behaviour(comparisons: Sequence[Comparison]) -> None:
    """Print the differences of behaviour that no scenario asserts, and how many there are."""
    from vfio_lab.campaign import behaviour

    for one in comparisons:
        for line in behaviour.comparison_text(one):
            click.echo(line)


def _turn_off(_context: click.Context, _option: click.Parameter, given: bool) -> None:
    if given:
        os.environ[jail.OFF] = "1"
        click.echo("vfio-lab: builds and QEMU run without a jail", err=True)
