"""Behaviour as the lab records it, made from calls that a test writes down."""

import struct
from types import SimpleNamespace

from vfio_lab.campaign.results import Record, Results, read_results
from vfio_lab.client.answer import Answer
from vfio_lab.client.call import Buffer
from vfio_lab.client.transcript import Entry
from vfio_lab.evidence.observed import OBSERVED, observe

FD = 5


def entry(call, *given, value=0, errno=0, out=(), **options):
    """Return a call that has been answered; an ioctl, if the options do not say otherwise."""
    pid, syscall = options.pop("pid", 97), options.pop("syscall", "ioctl")
    one = Entry(1.0, None, "user", call, "", pid=pid, syscall=syscall, given=given)
    one.options = options
    answer = {"ended": 2.0, "value": value, "errno": errno, "out": [part.hex() for part in out]}
    one.settle(Answer(answer | {name: options[name] for name in ("data",) if name in options}))
    return one


def opened(path, value, **more):
    """Return an open of a file."""
    return entry("open", -100, Buffer.text(path), 0, 0, value=value, syscall="openat", **more)


def info(num_irqs, pad=0, fd=FD):
    """Return VFIO_DEVICE_GET_INFO with an answer."""
    asked = struct.pack("<6I", 24, 0, 0, 0, 0, 0)
    answer = struct.pack("<6I", 24, 2, 9, num_irqs, 0, pad)
    request = Buffer(asked, out=True)
    return entry("VFIO_DEVICE_GET_INFO", fd, 15211, request, out=[answer])


def device(value=FD, **more):
    """Return the call that opens a device."""
    name = Buffer.text("0000:01:00.0")
    return entry("VFIO_GROUP_GET_DEVICE_FD", 4, 15210, name, value=value, **more)


def record(*entries, log=(), complaints=(), state=None, writes=""):
    """Return the behaviour that calls, records of the log and files show."""
    path = SimpleNamespace(read_text=lambda **_: writes)
    return observe(entries, log, complaints, state or {}, path)


def write_run(folder, scenarios, **kernel):
    """Write a run of scenarios and read it again.

    Args:
        folder: where it goes.
        scenarios: by node ID: the behaviour, how it ended, and its claims.
        kernel: what is known of the kernel beside its name, the folder's.
    """
    records = []
    for nodeid, (seen, outcome, *more) in scenarios.items():
        claims = more[0] if more else ("A01",)
        (folder / nodeid).mkdir(parents=True)
        (folder / nodeid / OBSERVED).write_text(seen.to_json())
        records.append(Record(nodeid, claims, "igb", outcome, "", 1.0, nodeid))
    facts = {"name": folder.name, "digest": folder.name, "release": folder.name, **kernel}
    Results(facts, {}, 1.0, 1.0, 0, tuple(records)).write(folder)
    return read_results(folder)
