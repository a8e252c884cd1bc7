"""The command `vfio-lab`: one module per subcommand, imported when it is called."""

from __future__ import annotations

import importlib
import importlib.util
import keyword
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import click

from vfio_lab.errors import HostError, LabError
from vfio_lab.util.files import full, no_space
from vfio_lab.util.messages import show_log

NAME = "vfio-lab"
INTERRUPTED = 130
PIPE_CLOSED = 141
TERMINATED = 143
FAILED = 1
# The help texts are repeated here, so that `--help` does not import the commands.
COMMANDS = {
    "init": "Make a project of your own: topology, claim, scenario, CI job.",
    "doctor": "Check what this host supports, and how to get what is missing.",
    "shell": "Start a shell in a pristine guest.",
    "run": "Run a command in a pristine guest, for scripts.",
    "kernel": "List, build and remove kernels.",
    "try": "Show how a patch series changes the kernel's behaviour.",
    "check": "Check a series from a mail, for b4 review.",
    "matrix": "Run the scenarios on several kernels: claims down, kernels across.",
    "changes": "Show what behaves differently from one kernel to the next.",
    "bisect": "Find the commit that broke a scenario.",
    "bisect-run": "Test the kernel tree in the current folder, for git bisect run.",
    "mutate": "Insert faults into vfio and see whether scenarios fail.",
    "coverage": "Measure which lines of vfio the scenarios execute.",
    "reach": "Record which scenarios run which lines of the kernel.",
    "debug": "Start a guest for gdb.",
    "image": "Build, show and remove the guests' root file systems.",
    "topology": "List the topologies, or draw one.",
    "claims": "List the claims about vfio and which of them are shown.",
    "report": "Write the results of runs as a web site.",
    "summary": "Summarize a run for a reply to the mailing list.",
    "ktap": "Print a run as KTAP.",
    "kcidb": "Print a run as a report for KCIDB.",
    "explore": "Walk where no scenario goes, and check every answer.",
    "finding": "Draft a mail on what a scenario found; nothing is sent.",
    "repro": "Write a scenario as one C program.",
    "bench": "Measure clones, boots and calls.",
    "cache": "Show the contents of the cache, clean it, hand it on.",
}


class Lab(click.Group):
    """A group whose commands are in separate modules; a `LabError` determines the exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands whose modules exist."""
        del ctx
        return [
            name for name in COMMANDS if importlib.util.find_spec(f"vfio_lab.cli.{_name(name)}")
        ]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, if there is one of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"vfio_lab.cli.{_name(cmd_name)}")
        command: click.Command = getattr(module, _name(cmd_name))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])

    def main(  # type: ignore[override]  # click overloads it by standalone_mode; we have one mode
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> None:
        """Run the command line and exit with the error's exit code."""
        show_log()
        extra["standalone_mode"] = False
        # Clean up scratch folders and worktrees, as after Ctrl-C.
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
        try:
            code = super().main(args, prog_name or NAME, **extra)
            sys.stdout.flush()
        except LabError as error:
            click.echo(f"{NAME}: {error}", err=True)
            code = error.exit_code
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            click.echo(f"{NAME}: interrupted", err=True)
            code = INTERRUPTED
        except BrokenPipeError:
            # The reader has closed the pipe. Without this the interpreter's last flush would fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = PIPE_CLOSED
        except OSError as error:
            if not full(error):
                raise
            click.echo(f"{NAME}: {no_space(error)}", err=True)
            code = HostError.exit_code
        finally:
            signal.signal(signal.SIGTERM, before)
        sys.exit(code if isinstance(code, int) else 0)


def _name(command: str) -> str:
    """Return the name of a command's module and function."""
    name = command.replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


@click.group(cls=Lab, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=NAME)
@click.option(
    "--mirror",
    metavar="URI",
    envvar="VFIO_LAB_MIRROR",
    help="Fetch Debian packages from there, not from the mirror of this host's apt.",
)
def main(mirror: str | None) -> None:
    """Test what Linux vfio-pci really does, on emulated SR-IOV hardware.

    The cache is in $XDG_CACHE_HOME/vfio-lab. Run the scenarios with `pytest scenarios/`.
    """
    if mirror is not None:
        os.environ["VFIO_LAB_MIRROR"] = mirror  # also for the runs that a command starts
