"""`vfio-lab matrix`: the same claims on several kernels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import click

from vfio_lab.campaign.claim_table import Line
from vfio_lab.campaign.results import Results
from vfio_lab.cli.options import (
    no_jail,
    print_behaviour,
    scenario_choice,
    split_scenarios,
    strict,
)

NARROWEST_COLUMNS = 60


@click.command()
@click.argument("words", metavar="KERNEL... [SCENARIO]...", nargs=-1, required=True)
@scenario_choice
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write a web page too.")
@click.option(
    "--markdown", "document", type=click.Path(path_type=Path), help="Write a page of Markdown too."
)
@strict
@no_jail
@click.pass_context
def matrix(  # noqa: PLR0913, PLR0917 - the options of the command
    context: click.Context,
    words: tuple[str, ...],
    expression: str | None,
    jobs: int | None,
    hosts: str | None,
    as_json: bool,
    page: Path | None,
    document: Path | None,
    strict: bool,
) -> None:
    """Run the scenarios on several kernels: claims down, kernels across, differences first.

    A KERNEL is a name or a path, as for `pytest --lab-kernel`, or the evidence folder of a run,
    whose results are taken; several runs on one kernel count as one. A SCENARIO is a node ID or a
    file of scenarios; all run if none is named. Below the claims stands behaviour that differs from
    one kernel to the next and that no scenario asserts.

    Exits with 0 if scenarios ran and none failed, 1 if one failed on any of the kernels, 125 if
    none could run.
    """
    from vfio_lab.campaign import behaviour, compare, recorded, runs
    from vfio_lab.campaign import claim_table as tables
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.util.cache import Cache

    cache = Cache.default().open()
    kernels, scenarios = split_scenarios(words)
    choice = runs.Choice.asked(scenarios, expression, jobs, hosts)
    where = new_evidence("matrix")
    found = recorded.results_on(kernels, choice, where, cache)
    for number, one in enumerate(found):  # also those of earlier runs, for `finding --since`
        one.write(where / str(number))
    names, table = [one.kernel["name"] for one in found], tables.lines(found)
    steps = behaviour.compare_in_turn(found, where)
    if as_json:
        click.echo(json.dumps([tables.line_record(names, line) for line in table], indent=1))
    else:
        width = max(NARROWEST_COLUMNS, shutil.get_terminal_size().columns)
        for line in tables.table_text(names, table, width):
            click.echo(line)
        print_behaviour(steps)
        click.echo(f"{tables.claim_tally(table)}; evidence: {where}")
    write_pages(found, table, page, document)
    code = compare.exit_code_of_all(compare.rows(found))
    context.exit(behaviour.strict_exit_code(code, steps, strict=strict))


def write_pages(
    found: Sequence[Results], table: Sequence[Line], page: Path | None, document: Path | None
) -> None:
    """Write the table as a web page and as Markdown, where somebody asks for it.

    Args:
        found: the runs, one a kernel.
        table: their claims.
        page: where the web page goes.
        document: where the Markdown goes.
    """
    from vfio_lab.campaign import claim_markdown
    from vfio_lab.campaign import claim_table as tables
    from vfio_lab.util.files import write_whole

    names = [one.kernel["name"] for one in found]
    if page is not None:
        write_whole(page.absolute(), tables.table_page(names, table), 0o644)
    if document is not None:
        command = f"vfio-lab matrix {' '.join(names)} --markdown {document.name}"
        text = claim_markdown.table_markdown(found, table, command)
        write_whole(document.absolute(), text, 0o644)
