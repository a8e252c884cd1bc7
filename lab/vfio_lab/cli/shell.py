"""`vfio-lab shell`: a shell in a pristine guest."""

from __future__ import annotations

import click

BASH = """\
Their addresses are in $PF0, $NIC0 and so on. `vfs N [PF]` makes VFs and sets $VF0, $VF1...;
`driver BDF [NAME]` binds a function, `group BDF` says its IOMMU group.
The guest is pristine, has no way out, and is thrown away when you leave."""


@click.command()
@click.argument("topology", default="igb")
@click.option("--kernel", "kernel_name", metavar="KERNEL", help="As for `pytest --lab-kernel`.")
@click.option("--python", is_flag=True, help="Start a Python prompt with the objects of scenarios.")
@click.pass_context
def shell(context: click.Context, topology: str, kernel_name: str | None, python: bool) -> None:
    """Start a shell in a pristine guest with hardware TOPOLOGY (default: igb).

    The history is kept between guests. If the guest panics, the history of its session is lost.
    """
    from vfio_lab.interactive import repl, session
    from vfio_lab.util.cache import Cache

    if not python:
        session.need_terminal()
    with session.pristine_guest(topology, kernel_name) as guest:
        click.echo(session.greeting(guest), err=True)
        if python:
            repl.interact(guest, Cache.default())
            return
        click.echo(BASH, err=True)
        code = session.open_shell(guest, Cache.default())
    context.exit(code)
