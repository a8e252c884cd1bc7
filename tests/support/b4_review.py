"""What `b4 review` does with a series check, run by a Python that has b4: MAILBOX BASE CHANGE-ID.

Makes b4's review branch from FETCH_HEAD, asks b4's interface for the checks as its key does, and
prints the results that its screen shows. Nothing is fetched: the thread is in the repository.
"""

import asyncio
import json
import sys
from pathlib import Path

import b4
import liblore.utils
from b4 import review
from b4.review import _review
from b4.review_tui import _common
from textual.app import App

PATIENCE_S = 900


def make_branch(messages, base, change_id, blob):
    """Make the review branch as b4 does, with the thread in the repository."""
    topdir = b4.git_get_toplevel()
    series = _review._get_lore_series(messages)
    series.change_id = change_id
    branch = f"{review.REVIEW_BRANCH_PREFIX}{change_id}"
    review.create_review_branch(topdir, branch, base, series, "", "%s", status="reviewing")
    cover, tracking = review.load_tracking(topdir, branch)
    tracking["series"]["thread-blob"] = blob
    review.save_tracking_ref(topdir, branch, cover, tracking)


class Review(_common.CheckRunnerMixin, App):
    """The part of b4's interface that runs checks."""

    def __init__(self, context):
        super().__init__()
        self.context = context

    def _get_check_context(self):
        return self.context


async def results(context):
    """Press the key for checks; return what the screen with results shows."""
    app = Review(context)
    async with app.run_test(notifications=True) as pilot:
        app.action_check()
        for _ in range(PATIENCE_S * 10):
            await asyncio.sleep(0.1)
            if hasattr(app.screen, "_matrix"):
                await pilot.pause()
                return list(app.screen._matrix.values())
    raise SystemExit(f"no results: {[one.message for one in app._notifications]}")


def main():
    mailbox, base, change_id = sys.argv[1:]
    b4._setup_main_config()
    raw = Path(mailbox).read_bytes()
    messages = liblore.utils.split_mbox(raw)
    first = messages[0]["message-id"].strip("<> ")
    code, blob = b4.git_run_command(None, ["hash-object", "-w", "--stdin"], stdin=raw)
    assert code == 0, blob
    make_branch(messages, base, change_id, blob.strip())
    shown = asyncio.run(results((first, messages[0]["subject"], change_id)))
    sys.stdout.write(f"{json.dumps(shown)}\n")


main()
