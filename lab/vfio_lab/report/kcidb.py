"""A run as a report for KCIDB, the KernelCI database: one checkout, one build, many tests.

Source: kcidb-io, schema 5.3. Nothing is sent; `kcidb-submit` does that.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.evidence.collect import FAILURE
from vfio_lab.spec.scenarios import scenario_sentence
from vfio_lab.util.cache import digest

SCHEMA = {"major": 5, "minor": 3}
SUITE = "vfio_lab"
LONGEST_EXCERPT_BYTES = 16 << 10
STATUS = {
    Outcome.PASSED: "PASS",
    Outcome.KNOWN: "PASS",  # the kernel breaks the claim as expected; `misc` records that
    Outcome.FAILED: "FAIL",
    Outcome.ERROR: "ERROR",
    Outcome.SKIPPED: "SKIP",
}
# A path consists of words separated by dots. Parameters in brackets become one word.
UNFIT = re.compile(r"[^A-Za-z0-9_-]+")
ID_DIGITS = 24


def kcidb_report(results: Results, run: Path, origin: str) -> dict[str, Any]:
    """Return the results of a run as a document of the KCIDB schema.

    Args:
        results: the results of the run.
        run: the run's folder, with the evidence.
        origin: the name of the CI system, in lower case letters, digits and `_`.
    """
    kernel = results.kernel
    sources = {key: kernel.get(key) for key in ("git", "package", "base", "patches", "release")}
    checkout = f"{origin}:{digest(sources)[:ID_DIGITS]}"
    build = f"{origin}:{kernel['digest'][:ID_DIGITS]}"
    tests = [
        {"id": f"{origin}:{_test_id(results, record)}", "origin": origin, "build_id": build}
        | _test(record, results, run)
        for record in results.scenarios
    ]
    return {
        "version": SCHEMA,
        "checkouts": [{"id": checkout, "origin": origin} | _checkout(results)],
        "builds": [{"id": build, "origin": origin, "checkout_id": checkout} | _build(kernel)],
        "tests": tests,
    }


def _checkout(results: Results) -> dict[str, Any]:
    kernel = results.kernel
    patches = [patch["sha256"] for patch in kernel.get("patches", ())]
    found: dict[str, Any] = {
        "valid": True,
        "start_time": _moment(results.started),
        "patchset_hash": patchset_hash(patches),
        "comment": ", ".join(patch["subject"] for patch in kernel.get("patches", ())),
        "misc": {key: kernel[key] for key in ("package", "base", "patches") if key in kernel},
    }
    if git := kernel.get("git"):
        found["git_commit_hash"] = git["commit"]
        found["git_commit_name"] = git["describe"]
        found["misc"]["dirty"] = git["dirty"]
    return found


def patchset_hash(patches: Sequence[str]) -> str:
    """Return KCIDB's hash of a series: the SHA-256 of its patches' hashes, one per line.

    Args:
        patches: the SHA-256 of each patch, in order.
    """
    if not patches:
        return ""
    return hashlib.sha256("".join(f"{patch}\n" for patch in patches).encode()).hexdigest()


def _build(kernel: Mapping[str, Any]) -> dict[str, Any]:
    known = {key: kernel[key] for key in ("architecture", "compiler") if key in kernel}
    misc = {key: kernel[key] for key in ("release", "digest")} | {"config_sha256": kernel["config"]}
    return {"status": "PASS", "config_name": kernel["name"], **known, "misc": misc}


def _test(record: Record, results: Results, run: Path) -> dict[str, Any]:
    hardware = ", ".join(
        [f"topology {record.topology or 'none'}", *(f"{k} {v}" for k, v in results.host.items())]
    )
    sentence = scenario_sentence(record.nodeid)
    found: dict[str, Any] = {
        "path": scenario_path(record.nodeid),
        "status": STATUS[record.outcome],
        "comment": sentence or record.nodeid,
        "duration": record.seconds,
        "environment": {"comment": hardware, "misc": dict(results.host)},
        "misc": {
            "nodeid": record.nodeid,
            "claims": list(record.claims),
            "outcome": record.outcome.value,
            "reason": record.reason,
        },
    }
    if record.started:
        found["start_time"] = _moment(record.started)
    if excerpt := log_excerpt(record, run):
        found["log_excerpt"] = excerpt
    return found


def scenario_path(nodeid: str) -> str:
    """Return a scenario's path in KCIDB's tree of tests: `vfio_lab.AREA.FILE.TEST.PARAMETERS`."""
    path, _, test = nodeid.removeprefix("scenarios/").partition("::")
    name, _, parameters = test.removesuffix("]").partition("[")
    words = [SUITE, *path.removesuffix(".py").split("/"), name, parameters]
    return ".".join(filter(None, (UNFIT.sub("_", word).strip("_") for word in words)))


def log_excerpt(record: Record, run: Path) -> str:
    """Return the most important evidence of a scenario that did not pass, at most 16 KiB."""
    if record.outcome is Outcome.PASSED:
        return ""
    text = "\n\n".join(filter(None, [record.reason, *_logs(record, run)])).replace("\0", "")
    return text.encode()[:LONGEST_EXCERPT_BYTES].decode(errors="ignore")


def _logs(record: Record, run: Path) -> Iterator[str]:
    for name in (FAILURE, "kernel.log") if record.evidence else ():
        path = run / record.evidence / name
        if path.exists():
            yield path.read_text(errors="replace")[-LONGEST_EXCERPT_BYTES // 2 :]


def _test_id(results: Results, record: Record) -> str:
    return digest([results.kernel["digest"], results.started, record.nodeid])[:ID_DIGITS]


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(at))
