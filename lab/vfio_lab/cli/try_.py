"""`vfio-lab try`: how a patch series changes the kernel's behaviour."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from vfio_lab.campaign.behaviour import Comparison
from vfio_lab.campaign.compare import Difference
from vfio_lab.campaign.report_log import OnEnd
from vfio_lab.campaign.results import Outcome, Results
from vfio_lab.cli.options import (
    config_fragment,
    no_jail,
    print_behaviour,
    scenario_choice,
    split_scenarios,
    strict,
)


@click.command("try")
@click.argument("words", metavar="SERIES... [SCENARIO]...", nargs=-1, required=True)
@click.option("--on", "name", metavar="BASE", help="What to apply the patches to.")
@scenario_choice
@click.option("--all", "every", is_flag=True, help="Run all scenarios.")
@click.option(
    "-C",
    "repository",
    type=click.Path(path_type=Path),
    default=".",
    help="Repository of ranges and of base-commit; by default the one that the folder is in.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@strict
@config_fragment
@no_jail
@click.pass_context
def try_(  # noqa: PLR0913, PLR0917 - the options of the command
    context: click.Context,
    words: tuple[str, ...],
    name: str | None,
    expression: str | None,
    jobs: int | None,
    hosts: str | None,
    every: bool,
    repository: Path,
    as_json: bool,
    strict: bool,
    config: Path | None,
) -> None:
    """Apply patches to a kernel's sources, and show which scenarios then end differently.

    SERIES is a mailbox, a patch file, a folder of them, `-` (standard input), a git range, a
    Message-ID or a link to a mailing list archive. BASE is a packaged kernel, a source tree, or
    TREE@COMMIT; by default the start of the range, else the series' base-commit, else the newest
    packaged kernel. No repository is written to.

    Below them stands behaviour that changed and that no scenario asserts, a line a difference;
    behaviour.json in the evidence folder has it for programs.

    A series that changes drivers/vfio only rebuilds the modules it touches; any other series needs
    an incremental build. A SCENARIO is a node ID or a file of scenarios. Without one, -k or --all,
    those run that can reach the series, see `vfio-lab reach`.

    Exits with 0 if scenarios judged the patches and none got worse, 1 if one got worse, 125 if none
    could judge them: they do not apply or compile, or what ran failed before too.
    """
    from vfio_lab.campaign import behaviour, compare, runs
    from vfio_lab.campaign.series_trial import choose_scenarios, try_series
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.kernels import base, kconfig, series

    options = () if config is None else kconfig.read_fragment(config)
    patches, scenarios = split_scenarios(words)
    found = series.read_series(patches, repository)
    on = base.choose_base(name, found, repository, options)
    click.echo(f"base: {on.name}, {on.why}", err=as_json)
    choice = runs.Choice.asked(scenarios, expression, jobs, hosts)
    if not (every or scenarios or expression):
        choice, selection = choose_scenarios(on, found.patches, choice)
        click.echo(str(selection), err=as_json)
    tried = try_series(on, found.patches, choice, lambda: new_evidence("try"), at_once)
    rows, where, compared = tried.rows, tried.where, tried.compared
    shown = [row for row in rows if row.differs or row.failed_before_too]
    if as_json:
        click.echo(json.dumps([difference_record(row) for row in shown], indent=1))
    else:
        subjects = "; ".join(patch.name for patch in found.patches)
        print_differences(f"{on.name} with {subjects}", shown, compared)
        click.echo(f"{compare.difference_tally(rows)}; evidence: {where}")
    context.exit(behaviour.strict_exit_code(compare.exit_code(rows), [compared], strict=strict))


def print_differences(what: str, shown: Sequence[Difference], compared: Comparison) -> None:
    """Print scenarios that end differently, and below them behaviour that differs.

    Args:
        what: the kernel and the patches.
        shown: the scenarios.
        compared: the behaviour.
    """
    click.echo(f"{what}:")
    for row in shown:
        print_difference(row)
    print_behaviour([compared])


def at_once(before: Results) -> OnEnd:
    """Return a callback that reports each scenario whose outcome differs, as soon as it ends."""
    from rich.text import Text

    from vfio_lab.util import progress

    expected = {record.nodeid: record.outcome for record in before.scenarios}

    def on_end(nodeid: str, outcome: Outcome) -> None:
        was = expected.get(nodeid, outcome)
        if outcome is not was:
            line = f"{nodeid}: {was.value} before, {outcome.value} now"
            progress.display().say(Text(line))

    return on_end


def print_difference(row: Difference) -> None:
    """Print a scenario whose outcome differs."""
    from vfio_lab.campaign import compare
    from vfio_lab.spec import claims

    click.echo(f"\n{row.nodeid}{'' if row.judged else ' (not judged)'}")
    for claim in row.claims:
        click.echo(f"  {claim}     {claims.load_claims()[claim].sentence}")
    for when, record in zip(("before", "after"), row.records, strict=True):
        click.echo(f"  {when:7} {compare.told(record)}")


def difference_record(row: Difference) -> dict[str, object]:
    """Return a difference as a JSON object."""
    from vfio_lab.campaign import compare

    before, after = (compare.told(record) for record in row.records)
    return {
        "scenario": row.nodeid,
        "claims": row.claims,
        "judged": row.judged,
        "before": before,
        "after": after,
    }
