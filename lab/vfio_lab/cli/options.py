"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from vfio_lab.util import jail

F = TypeVar("F", bound=Callable[..., Any])


def no_jail(command: F) -> F:
    """Add `--no-jail`, which also applies to runs that the command starts."""
    option = click.option(
        "--no-jail",
        is_flag=True,
        expose_value=False,
        callback=_turn_off,
        help="Build untrusted code without a jail.",
    )
    return option(command)


def _turn_off(_context: click.Context, _option: click.Parameter, given: bool) -> None:
    if given:
        os.environ[jail.OFF] = "1"
        click.echo("vfio-lab: builds run without a jail", err=True)
