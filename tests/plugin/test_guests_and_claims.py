"""The project's pytest plugins: options, guests, claims and evidence."""

import os
import shutil

import pytest

pytest_plugins = ["pytester"]

BINARY = "qemu-system-x86_64"
WARNING = "WARNING: CPU: 0 PID: 97 at drivers/vfio/vfio_main.c:1021 vfio_df_close+0x6b/0x80"
PASSING = """
@claim("A02")
def test_it(guest):
    '''It is so.'''
"""
FAILING = """
@claim("A02")
def test_it(guest):
    '''It is so.'''
    assert guest.name == 4711
"""


def test_the_options_are_told(run):
    result = run(PASSING, "--help")
    result.stdout.fnmatch_lines(
        [
            "the virtual SR-IOV laboratory:",
            "*--lab-kernel=KERNEL*",
            "*--lab-cold*",
            "*--lab-require*",
            "*--lab-artifacts=DIR*",
        ]
    )


def test_a_scenario_leaves_evidence_and_says_nothing_of_it(run):
    result = run(PASSING)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("evidence: *")
    (folder,) = run.evidence()
    assert folder.name == "test_it.py-test_it"
    logs = {"calls.jsonl", "console.log", "kernel.log", "transcript.log"}
    assert {path.name for path in folder.iterdir()} == {
        *logs,
        "command.sh",
        "observed.json",
        "snapshot.json",
        "timeline.json",
    }


def test_a_failure_says_where_the_evidence_is_and_what_matters(run):
    result = run(FAILING)
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    (folder,) = run.evidence()
    result.stdout.fnmatch_lines(
        [
            "*vfio-lab evidence*",
            "transcript.log, its end:",
            "*vf_user*open(the VF) = EACCES",
            "kernel.log, its end:",
            "*the kernel's last line",
            f"evidence: {folder}",
        ]
    )


def test_a_set_up_that_fails_says_so_too_while_the_guest_is_there(run):
    result = run(
        """
@pytest.fixture
def vf(guest):
    refuse(errno.EBUSY)

@claim("A02")
def test_it(vf):
    '''It is so.'''
"""
    )
    result.assert_outcomes(errors=1)
    (folder,) = run.evidence()
    assert (folder / "kernel.log").read_text().endswith("the kernel's last line\n")
    result.stdout.fnmatch_lines(["*EBUSY*", f"evidence: {folder}"])


@pytest.mark.parametrize("scenario", [PASSING, FAILING], ids=["passing", "failing"])
def test_a_guest_is_closed_whatever_happens(run, scenario):
    run(scenario, "-s").stdout.fnmatch_lines(["*guest closed*"])


def test_evidence_goes_where_it_is_told_to(run, pytester):
    run(PASSING, "--lab-artifacts", "elsewhere").assert_outcomes(passed=1)
    assert len(list(pytester.path.glob("elsewhere/*/test_it.py-test_it"))) == 1
    assert run.evidence() == []


@pytest.mark.parametrize("chosen", [(), ("--lab-artifacts", ".artifacts")], ids=["", "chosen"])
def test_old_evidence_is_deleted_and_named_but_not_where_people_chose_the_folder(
    run, pytester, chosen
):
    old = pytester.path / f".artifacts/20260101-120000-{2**22 + 1}"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    result = run(PASSING, *chosen)
    result.stdout.fnmatch_lines(["vfio-lab evidence: */.artifacts/*"])
    assert old.exists() is bool(chosen)
    assert (old.name in result.stdout.str()) is not bool(chosen)


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        (PASSING.replace("A02", "A99"), "there is no claim A99"),
        (
            "@pytest.mark.topology('igbb')\ndef test_it(guest):\n    pass",
            "there is no topology 'igbb'",
        ),
        (
            "@pytest.mark.parametrize('topology', ['ibg'], indirect=True)\n"
            "def test_it(guest):\n    pass",
            "there is no topology 'ibg'",
        ),
    ],
    ids=["claim", "marked topology", "topology as parameter"],
)
def test_an_unknown_name_ends_the_run_before_anything_runs(run, scenario, words):
    result = run(scenario + "\n\ndef test_other(guest):\n    pass\n")
    assert result.ret == 2
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([words, "  hint: did you mean *", f"ERROR *test_it.py - {words}"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert run.evidence() == []


def test_an_unknown_name_is_told_by_workers_too(run):
    result = run(PASSING.replace("A02", "A99"), "-n", "1")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["there is no claim A99", "  hint: did you mean *"])


def test_an_unknown_kernel_ends_the_run_with_one_clear_line(run):
    if shutil.which(BINARY) is None:
        pytest.skip(f"needs QEMU: no {BINARY} on the PATH")
    result = run(PASSING, "--lab-kernel", "9.9", conftest="")
    assert result.ret == 2
    result.stderr.fnmatch_lines(["ERROR: there is no kernel '9.9'"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert run.evidence() == []


def test_a_parameter_that_only_looks_like_a_topology_is_none_of_ours(run):
    scenario = "@pytest.mark.parametrize('topology', ['igbb'])\ndef test_it(topology):\n    pass"
    run(scenario).assert_outcomes(passed=1)


NEEDS_CDEV = PASSING.replace("A02", "A39")


def test_what_a_kernel_cannot_show_is_skipped_by_name(run):
    result = run(NEEDS_CDEV)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*A39 needs CONFIG_IOMMUFD, which kernel 7.3 lacks"])


def test_a_skip_is_a_failure_where_it_must_not_be(run):
    result = run(NEEDS_CDEV, "--lab-require")
    result.assert_outcomes(errors=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["A39 needs CONFIG_IOMMUFD, which kernel 7.3 lacks"])


def test_a_kernel_too_old_for_an_ability_is_not_blamed(run):
    run(NEEDS_CDEV, "--lab-require", "--lab-kernel", "6.1.176").assert_outcomes(skipped=1)


ENDED, HOLDS = "C03", "A02"  # on 7.3
CHANGE = "70693f470848"  # 7.3 has it


@pytest.mark.parametrize(
    ("claim", "kernel", "body", "outcome"),
    [
        pytest.param(HOLDS, "7.3", "pass", "passed", id="holds"),
        pytest.param(HOLDS, "7.3", "refuse(errno.EACCES)", "failed", id="holds and is broken"),
        pytest.param(ENDED, "6.12.107", "pass", "passed", id="held before it ended"),
        pytest.param(ENDED, "7.3", "refuse(errno.EACCES)", "xfailed", id="ended"),
        pytest.param(ENDED, "7.3", "assert guest is None", "xfailed", id="ended, by an assert"),
        pytest.param(ENDED, "7.3", "with refused(1): pass", "xfailed", id="ended, not refused"),
        pytest.param(ENDED, "7.3", "pass", "failed", id="ended and yet true"),
        pytest.param(ENDED, "7.3", "1 // 0", "failed", id="ended, but fails for another reason"),
        pytest.param(ENDED, "7.3", f"guest.says({WARNING!r})", "failed", id="ended, with a WARN"),
        pytest.param(
            ENDED, "7.3", f"guest.says({WARNING!r}); refuse(1)", "failed", id="both at once"
        ),
    ],
)
def test_a_claim_is_judged_by_its_range(run, claim, kernel, body, outcome):
    scenario = f"""
@claim("{claim}")
def test_it(guest):
    {body}
"""
    result = run(scenario, "--lab-kernel", kernel)
    result.assert_outcomes(**{outcome: 1})
    assert result.ret == (1 if outcome == "failed" else 0)


def test_an_expected_failure_names_the_change(run):
    result = run(f"@claim('{ENDED}')\ndef test_it(guest):\n    refuse(errno.EINVAL)\n")
    result.stdout.fnmatch_lines([f"XFAIL*test_it - {ENDED} no longer true: since 102c8b26b54e*"])
    result.stdout.no_fnmatch_line("evidence: *")


def test_has_asks_the_kernels_history_before_the_version_table(run):
    without = run.conftest.replace('"digest")', f'"digest", history=(({CHANGE!r}, False),))')
    result = run(f"def test_it(has):\n    assert not has({CHANGE!r})\n", conftest=without)
    result.assert_outcomes(passed=1)


def test_a_set_up_that_fails_is_no_expected_failure(run):
    result = run(
        f"""
@pytest.fixture
def vf(guest):
    refuse(errno.EBUSY)

@claim("{ENDED}")
def test_it(vf):
    pass
"""
    )
    result.assert_outcomes(errors=1)
    assert result.ret == 1


def test_a_complaining_kernel_fails_a_scenario_that_passes(run):
    result = run(f"@claim('A02')\ndef test_it(guest):\n    guest.says({WARNING!r})\n")
    result.assert_outcomes(failed=1)
    (folder,) = run.evidence()
    result.stdout.fnmatch_lines(
        [
            f"the kernel complained: {WARNING}",
            "kernel complaint (WARN):",
            f"evidence: {folder}",
        ]
    )


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        ("def test_it(guest):\n    guest.says(WARNING)\n    1 // 0\n", "ZeroDivisionError: "),
        (
            "@pytest.fixture\ndef vf(guest):\n    guest.says(WARNING)\n    1 // 0\n"
            "def test_it(vf):\n    pass\n",
            "ZeroDivisionError: ",
        ),
        (
            "@pytest.fixture\ndef vf(guest):\n    yield\n    1 // 0\n"
            "def test_it(guest, vf):\n    guest.says(WARNING)\n",
            "ZeroDivisionError: ",
        ),
    ],
    ids=["call", "setup", "teardown"],
)
def test_a_complaint_comes_first_and_does_not_hide_why_a_scenario_failed(run, scenario, why):
    result = run(f"WARNING = {WARNING!r}\n{scenario}")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*ZeroDivisionError*"])
    (one,) = run.results().scenarios
    assert one.reason.startswith(f"the kernel complained: {WARNING}; {why}")
    result.stdout.fnmatch_lines(["* - the kernel complained: WARNING*"])


def test_a_complaint_comes_first_in_the_evidence_of_a_failure(run):
    run(f"def test_it(guest):\n    guest.says({WARNING!r})\n    1 // 0\n")
    (folder,) = run.evidence()
    assert (folder / "failure.txt").read_text().startswith(f"[    1.0] {WARNING}\n")


def test_an_announced_complaint_is_no_reason(run):
    scenario = f"""
@pytest.mark.complains("WARN")
def test_it(guest):
    guest.says({WARNING!r})
    1 // 0
"""
    run(scenario)
    (one,) = run.results().scenarios
    assert one.reason.startswith("ZeroDivisionError")


@pytest.mark.parametrize(
    ("says", "outcome"),
    [
        ("Kernel panic - not syncing: sysrq triggered crash", "passed"),
        (WARNING, "failed"),
        ("nothing of the kind", "failed"),
    ],
)
def test_a_scenario_may_be_about_a_complaint(run, says, outcome):
    scenario = f"""
@pytest.mark.complains("panic")
def test_it(guest):
    guest.says({says!r})
"""
    run(scenario).assert_outcomes(**{outcome: 1})


def test_a_complaint_is_found_in_what_a_set_up_did(run):
    scenario = f"""
@pytest.fixture
def vf(guest):
    guest.says({WARNING!r})

@claim("A02")
def test_it(vf):
    pass
"""
    run(scenario).assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("block", "outcome", "words"),
    [
        ("refuse(errno.EACCES)", "passed", ""),
        ("refuse(errno.EINVAL)", "failed", "*expected EACCES, but vf_user: open(the VF): EINVAL*"),
        ("pass", "failed", "*but nothing was refused*"),
        ("raise PermissionError(errno.EACCES, 'of the lab')", "failed", "*PermissionError*"),
    ],
)
def test_a_refusal_is_expected_with_its_errno_and_no_other(run, block, outcome, words):
    scenario = f"""
def test_it():
    with refused(errno.EACCES):
        {block}
"""
    result = run(scenario)
    result.assert_outcomes(**{outcome: 1})
    result.stdout.fnmatch_lines([words] if words else [])
