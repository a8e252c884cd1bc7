"""What the report derives from calls: fields, and the machine at each of them."""

import json
from collections import defaultdict

import pytest
from support.reports import RECORDED, SEEN, call, moment, write_evidence

from vfio_lab.campaign.results import read_results
from vfio_lab.hw.catalogue import TOPOLOGIES, find_topology
from vfio_lab.machine.state import read_state
from vfio_lab.report.events import story
from vfio_lab.report.fields import field_rows
from vfio_lab.report.picture import picture
from vfio_lab.report.state import descriptor_changes

SCENARIOS = [
    pytest.param(run / one.evidence, one.topology, id=f"{run.name}-{one.evidence[:40]}")
    for run in RECORDED
    for one in read_results(run).scenarios
]
PF, VF = "0000:01:00.0", "0000:01:10.0"


def write_file(path, data, at, **more):
    """Return a call that writes to a file of sysfs."""
    return call("write_file", at, "root", 50, arguments={"path": path, "data": data}, **more)


def read_calls(evidence):
    return [json.loads(line) for line in (evidence / "calls.jsonl").read_text().splitlines()[1:]]


def at_the_end(told):
    """Return the machine after all events: drivers by address, files by user and descriptor."""
    drivers = [row.driver for row in told.picture.rows]
    there = [row.present for row in told.picture.rows]
    files = defaultdict(dict)
    for kind, key, *rest in [change for event in told.events for change in event.changes]:
        if kind == "driver":
            drivers[key] = rest[0]
        elif kind == "there":
            there[key] = rest[0]
        elif kind == "gone":
            files.pop(key, None)
        elif kind == "close":
            files[key].pop(rest[0], None)
        else:
            files[key][rest[0]] = rest[1]
    rows = zip(told.picture.rows, drivers, there, strict=True)
    bound = {row.bdf: driver for row, driver, present in rows if present}
    held = {
        (told.lanes[user], fd): what for user, open_ in files.items() for fd, what in open_.items()
    }
    return bound, held


@pytest.mark.parametrize(("evidence", "topology"), SCENARIOS)
def test_the_calls_lead_to_the_machine_that_the_snapshot_shows(evidence, topology):
    seen = read_state(evidence / "snapshot.json")
    bound, held = at_the_end(story(evidence, find_topology(topology)))
    last = {one.bdf: one.driver for one in seen.functions}
    assert bound == {bdf: last[bdf] for bdf in bound}
    named = {
        f"pid {one['value']}": f"{one['user']}'s child"
        for one in read_calls(evidence)
        if one["call"] == "fork"
    }
    known = {
        (named.get(one.user, one.user), one.fd): one.what
        for one in seen.held
        if not one.what.startswith("anon_inode:[event")
    }
    assert {place for place in held if held[place] != "eventfd"} == set(known)
    assert all(
        held[place] == what for place, what in known.items() if what.startswith(("/dev", "0"))
    )


def test_users_have_lanes_by_their_names_and_forked_children_their_own(tmp_path):
    calls = [call("fork", 0.1, value=77, result="77"), call("close", 0.2, "vf_user's child", 77)]
    moments = [moment("fork()", 0.1), moment("close(3)", 0.2, "vf_user's child")]
    write_evidence(tmp_path, [*moments, moment("resetting", 0.3, "kernel")], calls)
    told = story(tmp_path, None)
    assert told.lanes == ["vf_user", "vf_user's child", "kernel"]
    assert [(one.lane, one.number) for one in told.events] == [(0, 1), (1, 1), (2, 1)]


def test_two_processes_of_one_name_have_two_lanes(tmp_path):
    calls = [call("close", 0.1, pid=5), call("close", 0.2, pid=6), call("close", 0.3, pid=5)]
    write_evidence(tmp_path, [moment("close(3)", at) for at in (0.1, 0.2, 0.3)], calls)
    told = story(tmp_path, None)
    assert told.lanes == ["vf_user", "vf_user 2"]
    assert [one.lane for one in told.events] == [0, 1, 0]


def opened(path, fd, at, **more):
    return call("open", at, arguments={"pathname": path}, value=fd, **more)


GROUP = ("/dev/vfio/11", "")
CLOSE = {"arguments": {"fd": 3}}


@pytest.mark.parametrize(
    ("calls", "left"),
    [
        ([], {3: GROUP}),
        ([call("close", **CLOSE)], {}),
        ([call("close", **CLOSE, errno="EBADF", value=-1)], {3: GROUP}),
        ([call("dup", arguments={"oldfd": 3}, value=9)], {3: GROUP, 9: GROUP}),
        ([call("kill", arguments={"signal": "SIGKILL"}, value=None, result="sent")], {}),
        ([call("kill", arguments={"signal": "SIGSTOP"}, value=None, result="sent")], {3: GROUP}),
        (
            [
                call(
                    "VFIO_GROUP_SET_CONTAINER",
                    arguments={"fd": 3, "arg": {"struct": "container_fd", "fields": {"fd": 5}}},
                )
            ],
            {3: ("/dev/vfio/11", "in container 5")},
        ),
        ([{**call("close"), "arguments": "none"}], {3: GROUP}),
    ],
    ids=["open", "close", "refused", "dup", "killed", "stopped", "attached", "malformed"],
)  # fmt: skip
def test_descriptors_follow_the_calls_that_succeeded(calls, left):
    held = {}
    for _, changes in descriptor_changes([opened("/dev/vfio/11", 3, 0.1), *calls]):
        for kind, _pid, *rest in changes:
            if kind == "open":
                held[rest[0]] = tuple(rest[1:])
            else:
                held = (
                    {} if kind == "gone" else {fd: one for fd, one in held.items() if fd != rest[0]}
                )
    assert held == left


def test_dma_mappings_are_counted_on_their_container():
    fields = {"iova": 0, "size": 0x2000}
    mapped = {"fd": 3, "arg": {"struct": "vfio_iommu_type1_dma_map", "fields": fields}}
    calls = [
        opened("/dev/vfio/vfio", 3, 0.1),
        call("VFIO_IOMMU_MAP_DMA", arguments=mapped),
        call("VFIO_IOMMU_UNMAP_DMA", arguments=mapped),
    ]
    notes = [changes[0][-1] for _, changes in descriptor_changes(calls)]
    assert notes == ["", "1 mapped, 0x2000 bytes", ""]


def test_a_driver_is_shown_from_the_call_that_bound_it():
    calls = [
        call("readlink", 0.1, arguments={"path": f"/sys/bus/pci/devices/{PF}/driver"},
             answer={"text": "../../bus/pci/drivers/igb"}),
        write_file("/sys/bus/pci/drivers/igb/unbind", f"{PF}\n", 0.2),
        write_file("/sys/bus/pci/drivers/vfio-pci/bind", f"{PF}\n", 0.3, errno="EBUSY", value=-1),
        write_file("/sys/bus/pci/drivers/vfio-pci/bind", f"{PF}\n", 0.4),
    ]  # fmt: skip
    drawn = picture(find_topology("igb"), SEEN, calls)
    (pf,) = [index for index, row in enumerate(drawn.rows) if row.bdf == PF]
    assert drawn.rows[pf].driver == "igb"
    changes = {at: [one for one in found if one[1] == pf] for at, found in drawn.changes.items()}
    assert changes == {1: [("driver", pf, "")], 3: [("driver", pf, "vfio-pci")]}


def test_vfs_come_with_the_write_that_makes_them():
    calls = [write_file(f"/sys/bus/pci/devices/{PF}/sriov_numvfs", "1\n", 0.1)]
    drawn = picture(find_topology("igb"), SEEN, calls)
    (vf,) = [index for index, row in enumerate(drawn.rows) if row.bdf == VF]
    assert not drawn.rows[vf].present
    assert ("there", vf, True) in drawn.changes[0]


def test_a_file_belongs_to_its_device_or_to_all_of_its_group():
    drawn = picture(find_topology("igb"), SEEN)
    roles = {
        what: [drawn.rows[index].role for index in drawn.rows_of(what)]
        for what in ("/dev/vfio/11", "/dev/vfio/devices/vfio1", PF, "/dev/vfio/vfio")
    }
    assert list(roles.values()) == [["pf0 vf0"], ["pf0 vf0"], ["pf0"], []]


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_topology_can_be_drawn(name):
    drawn = picture(find_topology(name))
    assert len(drawn.rows) == len(find_topology(name).endpoints)
    assert all(row.present for row in drawn.rows)


def test_neighbours_in_a_group_have_its_letter():
    rows = picture(find_topology("multifunction")).rows
    assert [row.group for row in rows] == ["A", "C", "C", "B"]


def test_a_struct_is_shown_by_field_with_the_names_of_its_flags():
    before = {"argsz": 32, "flags": 0, "index": 0, "cap_offset": 0, "size": 0, "offset": 0}
    after = {**before, "flags": 3, "size": 0x20000}
    struct = "vfio_region_info"
    rows = field_rows(
        call(
            "VFIO_DEVICE_GET_REGION_INFO",
            arguments={"fd": 6, "request": 1, "arg": {"struct": struct, "fields": before}},
            answer={"arg": {"struct": struct, "fields": after}},
        )
    )
    assert rows == [
        ("fd", "6"),
        (".argsz", "32"),
        (".flags", "0", "0x3 VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE"),
        (".index", "0 VFIO_PCI_BAR0_REGION_INDEX"),
        (".cap_offset", "0"),
        (".size", "0", "0x20000"),
        (".offset", "0"),
    ]


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ({"struct": "s", "fields": {"big": (1 << 64) - 1}}, [(".big", "0xffffffffffffffff")]),
        ({"struct": "s", "fields": {"p": {"to": [{"a": 1}]}}}, [("*.p[0].a", "1")]),
        ({"size": 4, "bytes": ""}, [("arg", "4 bytes of zeros")]),
        ({"size": 4, "bytes": "0102"}, [("arg", "01 02 ... (4 bytes)")]),
        ("\x1b[31m", [("arg", "\\x1b[31m")]),
        ("x" * 500, [("arg", f"{'x' * 160}... (500 characters)")]),
        ([], [("arg", "")]),
    ],
)
def test_a_value_is_shown_in_few_words(value, rows):
    assert field_rows(call("IOMMU_DESTROY", arguments={"arg": value})) == rows


@pytest.mark.parametrize(
    ("name", "arguments", "rows"),
    [
        ("open", {"flags": 0x80002}, [("flags", "0x80002 O_RDWR | O_CLOEXEC")]),
        ("open", {"flags": 0}, [("flags", "0")]),
        ("mmap", {"prot": 3, "flags": 1},
         [("prot", "3 PROT_READ | PROT_WRITE"), ("flags", "0x1 MAP_SHARED")]),
    ],
)  # fmt: skip
def test_flags_of_system_calls_have_names(name, arguments, rows):
    assert field_rows(call(name, arguments=arguments)) == rows


def test_the_vf_token_is_no_bus_mastering():
    fields = {"argsz": 24, "flags": 1 << 17}
    arguments = {"arg": {"struct": "vfio_device_feature", "fields": fields}}
    rows = dict(field_rows(call("VFIO_DEVICE_FEATURE", arguments=arguments)))
    assert rows[".flags"] == ("0x20000 VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_PCI_VF_TOKEN")
