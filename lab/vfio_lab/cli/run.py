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

    COMMAND uses this command's stdin, stdout and stderr, and its exit code is passed on (128+N
    after signal N). Its environment has the addresses of the functions under test: PF0, NIC0... If
    the lab itself fails, the exit code is 2 or 125; if the guest is lost while COMMAND runs, it is
    1. In both cases stderr has a line that begins with `vfio-lab:`.
    """
    from vfio_lab.interactive import session

    with session.pristine_guest(topology, kernel_name) as guest:
        code = session.run_command(guest, command)
    context.exit(code)
