"""Behaviour: what is recorded of a scenario, and what differs between two records."""

import json
import re
from dataclasses import replace
from importlib import resources

import jsonschema
import pytest
from support.recorded_behaviour import FD, device, entry, info, opened, record, write_run

from vfio_lab.campaign import behaviour, confirm
from vfio_lab.campaign.results import Outcome, read_results
from vfio_lab.client.call import Buffer
from vfio_lab.errors import UsageError
from vfio_lab.evidence.deviations import Deviation, deviations
from vfio_lab.evidence.observed import Observed
from vfio_lab.evidence.rules import IN_SCENARIOS, left_out
from vfio_lab.spec.scenarios import scenario_catalogue
from vfio_lab.uapi import vfio
from vfio_lab.util.deadline import Deadline, current_attempt, wait_until

TOKENS = ("6dd2e290-3a44-4033-a8c8-faad9c2f804c", "96aaf5b5-91e2-4561-8dda-1ee1c2a9b663")
PASSED, FAILED, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED


def differences(before, after):
    """Return what differs, in words."""
    return [behaviour.deviation_text(one) for one in deviations(before, after)]


def test_a_value_in_a_struct_is_one_difference_by_its_field():
    assert differences(record(device(), info(5)), record(device(), info(6))) == [
        "VFIO_DEVICE_GET_INFO.num_irqs: 5 -> 6"
    ]


def test_padding_is_compared():
    assert differences(record(info(5)), record(info(5, pad=1))) == [
        "VFIO_DEVICE_GET_INFO.pad: 0 -> 1"
    ]


def test_an_errno_is_compared():
    before, after = (entry("VFIO_DEVICE_RESET", FD, 15215, errno=one) for one in (22, 95))
    assert differences(record(before), record(after)) == ["VFIO_DEVICE_RESET: EINVAL -> EOPNOTSUPP"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([device(5), info(5, fd=5)], [device(6), info(5, fd=6)]),
        ([opened("/dev/vfio/7", 4)], [opened("/dev/vfio/8", 4)]),
        ([opened("/dev/vfio/7", 4, pid=97)], [opened("/dev/vfio/7", 4, pid=98)]),
        (
            [entry("read_file", syscall="", path="/proc/97/status")],
            [entry("read_file", syscall="", path="/proc/98/status")],
        ),
    ],
    ids=["descriptors", "group", "pid", "path of a process"],
)
def test_what_a_run_numbers_makes_no_difference(one, other):
    assert record(*one) == record(*other)


def test_descriptors_of_two_files_are_not_the_same():
    before = record(opened("/dev/vfio/vfio", 3), device(5), info(5, fd=5))
    after = record(opened("/dev/vfio/vfio", 3), device(5), info(5, fd=3))
    assert before != after


def test_a_token_is_known_by_its_place():
    def token(*numbers):
        names = [Buffer.text(f"0000:01:10.0 vf_token={TOKENS[one]}") for one in numbers]
        return record(*(entry("VFIO_GROUP_GET_DEVICE_FD", 4, 15210, one) for one in names))

    assert token(0, 1) == token(1, 0)
    assert token(0, 1) != token(0, 0)


def test_addresses_are_offsets_into_mappings():
    def mapped(at, offset):
        mapping = entry("mmap", 0, 8192, 3, 34, -1, 0, value=at, syscall="mmap")
        return record(mapping, entry("peek", syscall="", address=at + offset, size=4, data="00"))

    assert mapped(0x7F1234560000, 16) == mapped(0x7F6543210000, 16)
    assert mapped(0x7F1234560000, 16) != mapped(0x7F1234560000, 32)


def test_of_a_wait_only_the_last_look_counts():
    def waited(*texts):
        looks = iter(texts)
        entries = []

        def look():
            text = next(looks)
            entries.append(entry("read_file", syscall="", path="/sys/a", data=text.encode().hex()))
            return text == "done"

        wait_until("it", look, Deadline.after(5))
        return record(*entries)

    assert waited("no", "no", "done") == waited("maybe", "done") == waited("done")
    assert current_attempt() is None


FEWER_TOKENS = "log line fewer times -> more times: warn: VF token required"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (["a"], [], "log line present -> absent: warn: a"),
        ([], ["a"], "log line absent -> present: warn: a"),
        (["a"], ["a", "a"], "log line fewer times -> more times: warn: a"),
        (["a", "b"], ["b", "a"], None),
        (["vfio-pci 0000:01:00.0: x"], ["vfio-pci 0000:01:10.0: x"], None),
        (["opened by user (a:1)"], ["opened by user (a:2)"], None),
        (["at ffff888003a41234"], ["at ffff888003a45678"], None),
        (["x: 3 callbacks suppressed"], [], None),
        (["VF token required"] * 10, ["VF token required"] * 13, None),
        (["VF token required"] * 9, ["VF token required"] * 13, FEWER_TOKENS),
        (["quirk_f0_vpd_link+0x0/0x60 took 27240 usecs"], [], None),
        (["nonvoluntary_ctxt_switches:\t4"], ["nonvoluntary_ctxt_switches:\t2"], None),
        (["WARNING: at f, CPU#0: pf_user/57"], ["WARNING: at f, CPU#1: pf_user/8"], None),
        (["PGD 2280067 P4D 2281067 PUD 0"], [], None),
    ],
)
def test_log_lines_are_compared_without_what_varies(before, after, told):
    sides = [record(log=[f"4,1,1000,-;{one}" for one in lines]) for lines in (before, after)]
    assert differences(*sides) == ([told] if told else [])


def test_a_level_is_part_of_a_line():
    before, after = (record(log=[f"{level},1,1000,-;a"]) for level in (4, 6))
    assert len(differences(before, after)) == 2


@pytest.mark.parametrize(
    ("path", "before", "after", "told"),
    [
        ("/sys/bus/pci/devices/0000:01:00.0/power_state", "D0\n", "D3hot\n", "D0 -> D3hot"),
        ("/proc/interrupts", " 24:  3 x vfio-msi\n", " 25:  9 x vfio-msi\n 26: 1 x ahci\n", None),
        ("/proc/meminfo", "MemFree: 465828 kB\n", "MemFree: 465704 kB\n", None),
        ("/proc/user/status", "VmPin: 0 kB\nVmRSS: 5 kB\n", "VmPin: 0 kB\nVmRSS: 6 kB\n", None),
        ("/proc/user/status", "VmPin: 0 kB\n", "VmPin: 4 kB\n", "VmPin: 0 kB -> VmPin: 4 kB"),
    ],
)
def test_state_is_compared_by_file(path, before, after, told):
    subject = path.replace("0000:01:00.0", "BDF").replace("/user/", "/*/")
    found = differences(record(state={path: before}), record(state={path: after}))
    assert found == ([f"state {subject}: {told}"] if told else [])


@pytest.mark.parametrize("rule", IN_SCENARIOS, ids=lambda rule: rule.scenarios.pattern)
def test_a_rule_for_scenarios_has_some(rule):
    names = list(scenario_catalogue())
    functions = rule.scenarios.pattern.partition("\\[")[0]
    assert any(re.search(functions, name) for name in names)


@pytest.mark.parametrize(
    ("scenario", "kind", "subject", "is_left_out"),
    [
        ("noiommu/test_reach.py::test_it", "call", "VFIO_IOMMU_MAP_DMA.iova", True),
        ("noiommu/test_reach.py::test_it", "call", "VFIO_DEVICE_GET_INFO.flags", False),
        ("noiommu/test_reach.py::test_it", "write", "BDF PCI_COMMAND <- 0x0", False),
        ("device/test_info.py::test_it", "call", "VFIO_IOMMU_MAP_DMA.iova", False),
    ],
)
def test_a_rule_for_scenarios_leaves_out_what_it_says(scenario, kind, subject, is_left_out):
    assert left_out(f"scenarios/{scenario}", kind, subject) is is_left_out


def test_writes_to_configuration_space_are_counted():
    flr = "pci_cfg_write igb 01:00.0 @0xa8 <- 0x8910\n"
    port = "pci_cfg_write pcie-root-port 00:01.0 @0x3e <- 0x40\n"
    assert differences(record(writes=flr), record(writes=flr + port + flr)) == [
        "write BDF 0xa8 <- 0x8910: fewer times -> more times"
    ]


def test_bytes_differ_where_they_differ():
    def config(data):
        read = Buffer(bytes(4), out=True)
        offset = (vfio.VFIO_PCI_CONFIG_REGION_INDEX << 40) + 4
        return record(
            device(),
            entry("pread64", FD, read, 4, offset, value=4, out=[data], syscall="pread64"),
        )

    found = differences(config(b"\6\0\x10\0"), config(b"\6\4\x10\0"))
    assert found == ["pread64 config+0x5: 00 -> 04"]


def test_calls_that_follow_from_an_answer_are_no_difference_of_their_own():
    before = record(entry("VFIO_DEVICE_RESET", FD, 15215))
    after = record(entry("VFIO_DEVICE_RESET", FD, 15215, errno=22), info(5))
    assert differences(before, after) == ["VFIO_DEVICE_RESET: 0 -> EINVAL"]
    assert differences(before, record(entry("VFIO_DEVICE_RESET", FD, 15215), info(5))) == [
        "a call of user: VFIO_DEVICE_GET_INFO: absent -> present"
    ]


def test_a_record_survives_being_written():
    one = record(device(), info(5), log=["4,1,1000,-;a"], state={"/sys/a": "1"}, writes="")
    assert Observed.from_json(one.to_json()) == one
    assert Observed.from_json(json.dumps({"schema": 999})) is None


@pytest.fixture
def run(tmp_path):
    return lambda name, **scenarios: write_run(tmp_path / name, scenarios)


def test_a_difference_is_one_row_whatever_the_number_of_scenarios(run):
    before = run("1", a=(record(info(5)), PASSED), b=(record(info(5)), PASSED))
    after = run("2", a=(record(info(6)), PASSED), b=(record(info(6)), PASSED))
    compared = behaviour.compare_behaviour(before, after)
    (row,) = compared.unasserted
    assert str(row) == "VFIO_DEVICE_GET_INFO.num_irqs: 5 -> 6: 2 scenarios, first a"
    assert compared.compared == 2
    assert row.evidence == (str(before.scenarios[0].run / "a"), str(after.scenarios[0].run / "a"))


def test_a_difference_where_a_scenario_ends_differently_may_be_asserted(run):
    before = run("1", a=(record(info(5)), PASSED), b=(record(info(5)), PASSED))
    after = run("2", a=(record(info(6)), FAILED), b=(record(info(6)), PASSED))
    compared = behaviour.compare_behaviour(before, after)
    assert compared.unasserted == ()
    assert compared.rows[0].asserted_by == ("a",)
    assert compared.rows[0].scenarios == ("b", "a")


def test_what_was_skipped_is_not_compared(run):
    before = run("1", a=(record(info(5)), PASSED))
    after = run("2", a=(record(info(6)), SKIPPED))
    assert behaviour.compare_behaviour(before, after).compared == 0


def test_behaviour_outlives_the_evidence(run, tmp_path):
    before = run("1", a=(record(info(5)), PASSED))
    after = run("2", a=(record(info(6)), PASSED))
    kept = tmp_path / "kept"
    before.write(kept)
    behaviour.keep_observed(before, kept)
    compared = behaviour.compare_behaviour(read_results(kept), after)
    assert [row.deviation.after for row in compared.rows] == ["6"]
    assert compared.rows[0].evidence[0] == ""


def test_comparisons_are_read_as_they_were_written(run, tmp_path):
    compared = behaviour.compare_behaviour(
        run("1", a=(record(info(5)), PASSED)), run("2", a=(record(info(6)), PASSED))
    )
    path = behaviour.write_comparisons([compared], tmp_path)
    assert behaviour.read_comparisons(path) == (compared,)
    path.write_text(json.dumps({"schema": 999}))
    with pytest.raises(UsageError):
        behaviour.read_comparisons(path)


def test_files_are_as_the_schemas_in_the_package_say(run, tmp_path):
    def check(text, room, name):
        rules = json.loads((resources.files(room) / name).read_text())
        jsonschema.Draft202012Validator.check_schema(rules)
        jsonschema.validate(json.loads(text), rules)

    seen = record(device(), info(5), log=["4,1,1,-;a"], state={"/sys/a": "1"}, writes="")
    check(seen.to_json(), "vfio_lab.evidence", "observed.schema.json")
    before, after = (run(str(one), a=(record(info(one)), PASSED)) for one in (5, 6))
    path = behaviour.write_comparisons([behaviour.compare_behaviour(before, after)], tmp_path)
    check(path.read_text(), "vfio_lab.campaign", "behaviour.schema.json")


def test_a_row_is_called_the_same_in_every_run():
    one = Deviation("call", "a", "1", "2")
    assert one.id == replace(one).id
    assert one.id != replace(one, after="3").id


def test_what_few_scenarios_show_must_show_again(run):
    def sides(name, irqs):
        seen = (record(info(irqs)), PASSED)
        return run(f"{name}1", a=(record(info(5)), PASSED)), run(f"{name}2", a=seen)

    compared = behaviour.compare_behaviour(*sides("x", 6))
    assert confirm.doubtful_scenarios(compared) == ("a",)
    again = behaviour.compare_behaviour(*sides("y", 6))
    assert confirm.confirmed(compared, again) == compared
    alike = behaviour.compare_behaviour(*sides("z", 5))
    assert confirm.confirmed(compared, alike).rows == ()
