"""What a scenario's evidence says of calls that did not return, and of memory the lab refused."""

import json

from vfio_lab.client import failslab
from vfio_lab.client.transcript import NEVER_RETURNED
from vfio_lab.evidence.collect import collect_evidence
from vfio_lab.util.deadline import Deadline, wait_until


def calls(guest):
    """Return the calls of the evidence, which is collected now."""
    collect_evidence(guest)
    _, *lines = (guest.folder / "calls.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_who_sleeps_in_the_kernel_is_in_the_evidence_with_stack_and_files(guest):
    """A user whose call has not returned is shown with stack and files; a dead one is not."""
    sleeper = guest.user("sleeper")
    held = sleeper.open_path("/proc/version", 0)
    sleeper.start("poll", 0, 0, 3_600_000)
    other = guest.user("other")
    other.start("poll", 0, 0, 3_600_000)
    other.start_kill().wait(Deadline.after(5))
    found = [one for one in calls(guest) if one["call"] == "poll"]
    assert [one["result"] for one in found] == [NEVER_RETURNED, "not answered, the user ended"]
    told = (guest.folder / "stacks.txt").read_text()
    assert told.startswith(f"sleeper (pid {sleeper.pid}): S (sleep)\n  called poll(0x0, 0x0, ")
    assert f"  holds {held}: /proc/version\n" in told
    assert "do_sys_poll+0x" in told
    assert "other" not in told


def test_a_call_that_was_refused_long_ago_is_in_the_evidence(guest):
    """Nobody needs to wait for a call for its answer to be recorded."""
    call = guest.root.start_write_file("/proc/version", "1")
    wait_until("the answer", lambda: call.returned, Deadline.after(5))
    assert calls(guest)[-1]["errno"] == "EIO"
    assert not (guest.folder / "stacks.txt").exists()


def test_memory_that_the_lab_refused_is_marked(guest):
    """The transcript tells an ENOMEM that the lab made from one of the kernel's own."""
    failslab.enable(guest.root)
    failslab.fail_each(guest.root, guest.root.eventfd, guest.root.close)
    *refused, allowed = [one for one in calls(guest) if one["call"] == "eventfd2"]
    assert [one["failed_allocation"] for one in refused] == [*range(1, len(refused) + 1)]
    assert allowed["failed_allocation"] is None
    assert (
        "(the lab failed allocation 1 of this call)"
        in (guest.folder / "transcript.log").read_text()
    )
