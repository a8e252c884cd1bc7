"""Runs to write reports of: recorded ones, and ones whose evidence is as hostile as it can be."""

import json
from pathlib import Path

from vfio_lab.campaign.results import Outcome, Record, Results
from vfio_lab.machine.state import OpenFile, PciState, Snapshot
from vfio_lab.spec.scenarios import scenario_catalogue

DATA = Path(__file__).resolve().parents[1] / "data" / "report"
RECORDED = (DATA / "6.12", DATA / "7.3")
EVIL = (
    "</script><script>document.title = 'owned'</script> \u2028 & é \x1b[31m \u202e"
    " <img src=x onerror=owned()>"
)
SEEN = Snapshot(
    (
        PciState("0000:00:01.0", "1b36", "000c", "pcieport", "1", ""),
        PciState("0000:01:00.0", "8086", "10c9", "vfio-pci", "10", ""),
        PciState("0000:01:10.0", "8086", "10ca", "vfio-pci", "11", "0000:01:00.0", "vfio1"),
    ),
    (OpenFile("vf_user", 3, "/dev/vfio/11"), OpenFile("vf_user", 4, "/dev/vfio/vfio")),
)


def write_evidence(folder, moments=(), calls=()):
    """Write the evidence of a scenario: a snapshot, a timeline, and the calls."""
    folder.mkdir(parents=True, exist_ok=True)
    held = [vars(one) for one in SEEN.held]
    seen = {"functions": [vars(one) for one in SEEN.functions], "held": held}
    (folder / "snapshot.json").write_text(json.dumps(seen))
    (folder / "timeline.json").write_text(json.dumps(list(moments)))
    lines = [{"schema": 1, "awake": 1000.0}, *calls]
    (folder / "calls.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def moment(what, at=0.5, who="vf_user", result="EACCES {count=2}"):
    """Return a moment of a timeline."""
    return {"at": at, "took": 0.1, "who": who, "what": what, "result": result}


def call(name, at=0.5, user="vf_user", pid=55, **more):
    """Return a record of `calls.jsonl` of a call that succeeded."""
    plain = {"syscall": None, "arguments": {}, "result": "0", "value": 0, "errno": None}
    began = {"answer": {}, "began": 1000.0 + at, "ended": 1000.1 + at, "failed_allocation": None}
    return {"user": user, "pid": pid, "call": name, **plain, **began, **more}


def made_up_run(folder, kernel, outcomes):
    """Write a run whose first scenarios ended like that, with hostile words in their evidence."""
    records = []
    for nodeid, outcome in zip(scenario_catalogue(), outcomes, strict=False):
        scenario = scenario_catalogue()[nodeid]
        evidence = folder / f"evidence-{len(records)}"
        write_evidence(evidence, [moment(EVIL)])
        if outcome is Outcome.FAILED:
            (evidence / "stacks.txt").write_text("remover (pid 7): D\n    remove_store+0x50/0x60\n")
        reason = "" if outcome is Outcome.PASSED else f"because {EVIL}"
        record = Record(nodeid, scenario.claims, "igb", outcome, reason, 0.5, evidence.name)
        records.append(record)
    facts = {"name": kernel, "release": f"{kernel}.0-lab", "digest": "d"}
    host = {"qemu": "10.0.2", "accelerator": "tcg"}
    Results(facts, host, 1.8e9, 61.0, 0, tuple(records)).write(folder)
    return folder
