"""`vfio-lab check`: a series from a mail, checked for `b4 review`."""

from __future__ import annotations

import email
import email.policy
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vfio_lab.cli.options import no_jail, scenario_choice
from vfio_lab.errors import LabError, UsageError

if TYPE_CHECKING:
    from vfio_lab.campaign.report_log import OnEnd
    from vfio_lab.campaign.results import Results
    from vfio_lab.kernels.series import Series

TRACKING = "B4_TRACKING_FILE"  # set by b4 where the series has a review branch
NUMBERED = re.compile(r"\[[^]]*\b\d+/(\d+)\]")


@click.command()
@click.option("--on", "name", metavar="BASE", help="What to apply the series to, as for `try`.")
@scenario_choice
@no_jail
def check(name: str | None, expression: str | None, jobs: int | None, hosts: str | None) -> None:
    """Try the series of the mail on standard input, and print the verdict as b4 reads it.

    A mail with the only patch of its series is enough. Of a longer series b4 hands over the cover
    letter or the first patch; the patches are taken from b4's review branch, in the repository
    where b4 runs.

    The verdict is `pass` if scenarios judged the series and none got worse, `fail` if one got
    worse, `warn` if none could judge. The exit code is 0 whatever the verdict is.
    """
    from vfio_lab.campaign import runs
    from vfio_lab.campaign.series_trial import choose_scenarios, try_series
    from vfio_lab.cli.evidence import new_evidence
    from vfio_lab.kernels import base
    from vfio_lab.report.check import check_result, error_result

    try:
        found = series_of(sys.stdin.buffer.read())
        on = base.choose_base(name, found, Path.cwd())
        choice = runs.Choice.asked((), expression, jobs, hosts)
        if expression is None:
            choice, _why = choose_scenarios(on, found.patches, choice)
        tried = try_series(on, found.patches, choice, lambda: new_evidence("check"), unwatched)
        result = check_result(tried)
    except LabError as error:
        result = error_result(error)
    click.echo(json.dumps([result], indent=1))


def series_of(mail: bytes) -> Series:
    """Return the series that a mail belongs to.

    Args:
        mail: a patch, or a cover letter while b4 reviews its series.

    Raises:
        UsageError: the mail is not the whole series, and b4 does not say where that is.
        BuildError: git cannot read the mail, or the review branch.
    """
    from vfio_lab.kernels import series

    subject = email.message_from_bytes(mail, policy=email.policy.default)["subject"]
    numbered = NUMBERED.search(str(subject))
    alone = numbered is None or int(numbered[1]) == 1
    found = series.read_mail(mail.decode(errors="replace")) if alone else None
    if found is None and TRACKING in os.environ:
        return series.read_series([review_range(Path(os.environ[TRACKING]))], Path.cwd())
    if found is None:
        raise UsageError(
            "the mail is not a whole series",
            expected=f"the only patch of its series, or {TRACKING}, which b4 sets for a series"
            " with a review branch",
            hint="begin the review in b4 first, which makes the branch",
        )
    return found


def review_range(tracking: Path) -> str:
    """Return the range of a series on its review branch, whose tip is b4's own commit.

    Args:
        tracking: the file that b4 writes for checks.

    Raises:
        UsageError: the file is not what b4 writes.
    """
    try:
        known = json.loads(tracking.read_text())["series"]
        return f"{known['first-patch-commit']}~1..b4/review/{known['change-id']}~1"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{tracking} does not say where the series is", seen=repr(error)
        ) from error


def unwatched(_before: Results) -> OnEnd:
    """Return what tells nobody of a scenario that ends."""
    return lambda _nodeid, _outcome: None
