"""`vfio-lab run`: a command in a pristine guest, for scripts."""

from __future__ import annotations

import click


@click.command()
@click.argument("topology")
@click.argument("command", metavar="-- COMMAND...", nargs=-1, required=True)
@click.option("--kernel", "kernel_name", metavar="KERNEL", help="As for `pytest --lab-kernel`.")
@click.pass_context
def run(
    context: click.Context, topology: str, command: tuple[str, ...], kernel_name: str | None
) -> None:
    """Run COMMAND as root in a pristine guest with hardware TOPOLOGY, and throw the guest away.

    Its streams are COMMAND's, and so is the exit code, 128+N after signal N. The addresses of what
    is under test are in its environment: PF0, NIC0... When the lab itself fails, the exit code is
    2 or 125, and 1 when the guest is lost under COMMAND; then stderr has a line that begins with
    `vfio-lab:`.
    """
    from vfio_lab.interactive import session

    with session.pristine_guest(topology, kernel_name) as guest:
        code = session.run_command(guest, command)
    context.exit(code)
