"""Users' calls, kernel log and monitor on one clock."""

import json
from dataclasses import dataclass

import pytest

from vfio_lab.client.transcript import Entry
from vfio_lab.evidence.timeline import timeline


@dataclass(frozen=True)
class ClockAnchor:
    """A guest that woke at host time 1000 s, its kernel log standing at 5 s."""

    at: float = 1000.0
    log_us: int = 5_000_000


CALL = Entry(1001.0, 1001.5, "vf_user", "VFIO_GROUP_GET_DEVICE_FD", "3", "EACCES")
THEN = {"seconds": 1003, "microseconds": 250000}
RECORD = "6,340,6250000,-;vfio-pci 0000:01:10.0: Incorrect VF token\n SUBSYSTEM=pci\n"


@pytest.fixture
def monitor(tmp_path):
    path = tmp_path / "qmp.jsonl"
    messages = [
        {"at": 999.0, "execute": "migrate-incoming", "arguments": {}},
        {"at": 999.9, "return": {}},
        {"at": 1002.0, "execute": "device_del", "arguments": {"id": "pf0"}},
        {"at": 1002.5, "error": "no such device"},
        {"at": 1009.0, "event": "DEVICE_DELETED", "data": {"device": "pf0"}, "timestamp": THEN},
        {"at": 1009.0, "event": "RESUME", "timestamp": {"seconds": 999, "microseconds": 0}},
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in messages))
    return path


def test_all_that_happened_is_in_order_on_the_guests_clock(monitor):
    seen = timeline(ClockAnchor(), [CALL], [RECORD], monitor)
    assert [(one.at, one.took, one.who, one.result) for one in seen] == [
        (-1.0, 0.0, "qemu", ""),
        (1.0, 0.5, "vf_user", "EACCES"),
        (1.25, 0.0, "kernel", "info"),
        (2.0, 0.5, "qemu", "no such device"),
        (3.25, 0.0, "qemu", ""),
    ]
    assert seen[0].what == "RESUME"
    assert seen[1].what == "VFIO_GROUP_GET_DEVICE_FD(3)"
    assert seen[2].what == "vfio-pci 0000:01:10.0: Incorrect VF token"
    assert seen[3].what == 'device_del {"id": "pf0"}'
    assert seen[4].what == 'DEVICE_DELETED {"device": "pf0"}'


def test_without_a_common_clock_there_is_no_order_to_tell(monitor):
    assert timeline(None, [CALL], [RECORD], monitor) == []


def test_a_guest_may_have_no_monitor_log(tmp_path):
    assert timeline(ClockAnchor(), [], [], tmp_path / "qmp.jsonl") == []


def test_a_call_that_never_returned_lasts_until_now(monitor):
    hung = Entry(1001.0, None, "remover", "write_file", "remove, 1", "never returned")
    (seen,) = [one for one in timeline(ClockAnchor(), [hung], [], monitor) if one.who == "remover"]
    assert (seen.at, seen.result) == (1.0, "never returned")
    assert seen.took > 0
