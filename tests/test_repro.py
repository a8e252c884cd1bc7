"""Reproducers: what is written for a record, and that a compiler takes it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.compilers import gcc, gcc_arm64, kernel_headers

from vfio_lab.cli import main
from vfio_lab.report.repro.layout import WIDTH, broken
from vfio_lab.report.repro.program import c_program
from vfio_lab.report.repro.recording import CannotWrite, read_recording

__all__ = ["gcc", "gcc_arm64", "kernel_headers"]
RECORDED = Path(__file__).parent / "data" / "repro"
FOLDERS = sorted(path.name for path in RECORDED.iterdir() if path.is_dir())
TOKEN = next(name for name in FOLDERS if "wrong-token" in name)
CHILD = next(name for name in FOLDERS if "killed_parent" in name)


def program(name, folder=RECORDED):
    return c_program(read_recording(folder / name))


def scenario(text):
    return text[text.index("static void scenario(void)\n{") :]


@pytest.fixture
def copy(tmp_path):
    """Return what copies recorded evidence, to be changed."""

    def make(name):
        shutil.copytree(RECORDED, tmp_path / "run")
        return tmp_path / "run" / name

    return make


def change(evidence, edit):
    """Replace the records of calls by what `edit` makes of them."""
    path = evidence / "calls.jsonl"
    head, *lines = path.read_text().splitlines()
    calls = edit([json.loads(line) for line in lines if line])
    path.write_text("\n".join([head, *map(json.dumps, calls)]) + "\n")


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("compiler", ["gcc", "gcc_arm64"])
def test_a_compiler_takes_it_without_a_warning(request, tmp_path, name, compiler):
    source = tmp_path / "repro.c"
    source.write_text(program(name))
    command = [*request.getfixturevalue(compiler), "-c", "-o", tmp_path / "repro.o", source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", FOLDERS)
def test_its_lines_fit_a_screen(name):
    lines = program(name).splitlines()
    assert [line for line in lines if len(line.expandtabs(8)) > WIDTH + 20] == []


def test_every_call_has_its_user_its_arguments_and_its_result():
    text = scenario(program(TOKEN))
    assert "ON(PF_USER, " in text
    assert 'group_2 = EXPECT(OK, open(fmt("/dev/vfio/%s", group_of(vf(pf, 0)))' in text
    wrong = 'fmt("%s vf_token=11e8b7c2-f6d0-425a-9a53-c50a2f6e3f1b", vf(pf, 0))'
    call = text[text.index("EXPECT(EACCES") :]
    assert "".join(call.split()).startswith(
        "".join(f"EXPECT(EACCES,ioctl(group_2,VFIO_GROUP_GET_DEVICE_FD,{wrong}));".split())
    )


def test_devices_are_found_by_their_role():
    text = program(TOKEN)
    assert 'static const char *pf = "0000:01:00.0";' in text
    assert "0000:" not in scenario(text)


def test_a_fork_and_a_kill_are_steps_too():
    text = program(CHILD)
    assert "fork_user(VF_USER_S_CHILD);" in scenario(text)
    assert "kill_user(VF_USER, SIGKILL);" in scenario(text)


def test_a_user_has_the_identity_that_was_recorded(copy):
    evidence = copy(TOKEN)
    become = {"uid": 1000, "drop": [17, 21]}

    def edit(calls):
        first = next(call for call in calls if call["user"] == "vf_user")
        return [{**first, "call": "become", "syscall": None, "arguments": become}, *calls]

    change(evidence, edit)
    assert '[VF_USER] = { "vf_user", 1000, 0x220000ULL },' in c_program(read_recording(evidence))


def test_what_was_refused_against_expectation_is_expected_to_succeed(copy):
    evidence = copy(TOKEN)
    path = evidence.parent / "results.json"
    results = json.loads(path.read_text())
    for record in results["scenarios"]:
        record |= {"outcome": "failed", "reason": "Refusal: vf_user: OPEN(3): EACCES (Permission)"}
    path.write_text(json.dumps(results))
    text = scenario(c_program(read_recording(evidence)))
    assert "EACCES" not in text
    assert "VFIO_GROUP_GET_DEVICE_FD" in text[text.rindex("ON(") :]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ({"call": "run", "syscall": None, "arguments": {"argv": ["testpmd"]}}, "it runs testpmd"),
        ({"call": "splice", "syscall": "splice", "arguments": {}}, "it uses splice"),
        (None, "it makes no call"),
    ],
)
def test_what_cannot_be_written_says_why(copy, call, why):
    evidence = copy(TOKEN)
    change(evidence, lambda calls: (call and [*calls, {**calls[-1], **call}]) or [])
    done = CliRunner().invoke(main, ["repro", str(evidence)])
    assert (done.exit_code, why in done.stderr) == (125, True)


def test_a_scenario_that_tells_the_monitor_something_cannot_be_written(copy):
    evidence = copy(TOKEN)
    (evidence / "qmp.jsonl").write_text(json.dumps({"at": 1.0, "execute": "device_del"}) + "\n")
    with pytest.raises(CannotWrite, match="device_del"):
        read_recording(evidence)


def test_the_command_writes_the_file(tmp_path):
    target = tmp_path / "repro.c"
    done = CliRunner().invoke(main, ["repro", str(RECORDED / TOKEN), "-o", str(target)])
    assert done.exit_code == 0
    assert target.read_text() == program(TOKEN)


def test_a_long_line_is_broken_between_arguments_and_never_in_a_string():
    line = '\t\tEXPECT(OK, set_file("/a, b/' + "c" * 47 + '", fmt("%s, and more", pf)));'
    assert list(broken(line)) == [
        '\t\tEXPECT(OK, set_file("/a, b/' + "c" * 47 + '",',
        '\t\t\t\tfmt("%s, and more", pf)));',
    ]


def test_an_allocation_fails_in_the_call_in_which_it_failed(copy):
    evidence = copy(TOKEN)

    def edit(calls):
        opened = next(call for call in calls if call["call"] == "open" and not call["errno"])
        failed = {"errno": "ENOMEM", "value": -1, "failed_allocation": 7}
        write = {"call": "write_file", "syscall": None, "arguments": {"path": "/a", "data": "1"}}
        return [{**opened, **failed}, {**opened, **failed, **write, "failed_allocation": 3}]

    change(evidence, edit)
    text = c_program(read_recording(evidence))
    calls = "".join(scenario(text).split())
    assert "EXPECT(ENOMEM,STARVED(7,open(" in calls
    assert 'EXPECT(ENOMEM,starved_write(3,"/a","1"));' in calls
    assert '"/proc/self/fail-nth", NULL };' in text
    assert "STARVED" not in program(TOKEN)


def of_root(call, **changed):
    return {"call": call, "syscall": None, "user": "root", "errno": None, "value": 0, **changed}


def with_calls(evidence, *calls):
    """Return the program of a record with other calls."""
    change(evidence, lambda before: [{**before[0], **call} for call in calls])
    return c_program(read_recording(evidence))


def test_of_files_that_are_read_in_turn_until_they_change_the_last_content_counts(copy):
    def read(name, text):
        path = f"/sys/bus/pci/devices/0000:01:00.0/{name}"
        return of_root("read_file", arguments={"path": path}, answer={"data": text})

    read_in_turn = [read("a", "1\n"), read("b", "1\n"), read("a", "2\n"), read("b", "2\n")]
    text = scenario(with_calls(copy(TOKEN), *read_in_turn, read("c", "3\n")))
    assert ("EVENTUALLY" in text, '"1"' in text) == (True, False)
    assert text.count('EVENTUALLY("2", ') == 2
    assert 'EXPECT_TEXT("3", ' in text


def test_memory_that_is_read_until_it_changes_is_read_so_again(copy):
    def peek(content):
        where = {"address": 0x1000, "size": 4, "width": 4}
        return of_root("peek", arguments=where, answer={"data": {"size": 4, "bytes": content}})

    text = scenario(with_calls(copy(TOKEN), peek("01"), peek("02")))
    assert "copy_until(seen, at(0x1000UL), 4, 4, expected, 4);" in text
    assert "0x02" in text
    assert "0x01" not in text


@pytest.mark.parametrize(("ended", "settle"), [(4.0, "ENTER_US"), (None, "SETTLE_US")])
def test_a_call_that_sleeps_is_looked_at_and_at_once_if_it_returns(copy, ended, settle):
    status = {"path": "/proc/7/status"}
    text = with_calls(
        copy(TOKEN),
        {
            **of_root("close", arguments={"fd": 4}, pid=7, began=1.0, ended=ended),
            "syscall": "close",
        },
        of_root("read_file", arguments=status, pid=8, began=2.0, answer={"data": "State:\tD (x)"}),
    )
    assert f"still_blocked(0, {settle});" in scenario(text)


def test_a_function_that_is_gone_at_the_end_and_its_slot_have_a_role_too(copy):
    gone = "/sys/bus/pci/devices/0000:07:00.0/driver_override"
    address = {"path": "/sys/bus/pci/slots/7/address"}
    text = with_calls(
        copy(TOKEN),
        of_root("write_file", arguments={"path": gone, "data": "vfio-pci"}),
        of_root("read_file", arguments=address, answer={"data": "0000:07:00\n"}),
        of_root("write_file", arguments={"path": "/sys/bus/pci/slots/7/power", "data": "0"}),
    )
    assert 'static const char *dev = "0000:07:00.0";' in text
    assert 'set_file(fmt("/sys/bus/pci/slots/%s/power", slot_of(dev)), "0")' in scenario(text)
    assert "0000:07" not in scenario(text)


def test_physical_addresses_are_neither_asked_for_nor_compared(copy):
    arguments = {"dirfd": -100, "pathname": "/proc/7/pagemap", "flags": 0, "mode": 0}
    opened = {**of_root("open", arguments=arguments), "syscall": "openat"}
    with pytest.raises(CannotWrite, match="another process's pagemap"):
        with_calls(copy(TOKEN), opened)


def test_a_program_without_a_device_can_be_built(copy, gcc, tmp_path):
    path = {"path": "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"}
    source = tmp_path / "repro.c"
    source.write_text(
        with_calls(copy(TOKEN), of_root("write_file", arguments={**path, "data": "Y"}))
    )
    assert "#define DEVICES 0" in source.read_text()
    subprocess.run([*gcc, "-c", "-o", tmp_path / "repro.o", source], check=True)


def test_an_initializer_is_broken_member_by_member_with_inner_ones():
    inner = ", ".join(f".member_{number} = {number}" for number in range(8))
    line = f"\tstruct thing arg = {{ .size = 1, .inner = {{ {inner} }} }};"
    lines = list(broken(line))
    assert lines[:3] == ["\tstruct thing arg = {", "\t\t.size = 1,", "\t\t.inner = {"]
    assert lines[-3:] == ["\t\t\t.member_7 = 7,", "\t\t},", "\t};"]
