"""`vfio-lab debug`: a guest for gdb."""

from __future__ import annotations

import shlex
import sys

import click


@click.command()
@click.argument("topology")
@click.option("--kernel", "name", help="Kernel to boot, as for `pytest --lab-kernel`.")
@click.option("--core", is_flag=True, help="Wait for a panic and write a core.")
def debug(topology: str, name: str | None, core: bool) -> None:
    """Start a guest with hardware TOPOLOGY, and print the gdb and ssh commands to connect to it.

    The guest runs until Ctrl-C or the end of input; with --core, until it panics.
    """
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.hw.catalogue import find_topology as named
    from vfio_lab.interactive import gdb as debugging
    from vfio_lab.machine.template import GuestFactory
    from vfio_lab.util.cache import Cache

    chosen = named(topology)
    cache = Cache.default().open()
    guest_factory = GuestFactory.open(cache, name)
    out = debugging.symbols_folder(guest_factory.kernel, cache)
    where = new_evidence("debug")
    with debugging.stubbed(guest_factory, chosen, where) as (guest, socket):
        click.echo(debugging.gdb(guest, socket, out))
        click.echo(shlex.join(guest.login.command()))
        click.echo(f"console: {guest.console}")
        if core:
            debugging.pause_on_panic(guest)
            click.echo(f"core: {debugging.await_core(guest)}")
        else:
            click.echo("running; Ctrl-C or Ctrl-D ends it")
            sys.stdin.read()
