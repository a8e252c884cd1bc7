"""What a scenario is told when a call did not end as it said."""

import pytest

pytest_plugins = ["pytester"]
VERDICTS = """
from vfio_lab_pytest.verdicts import all_refused, none_refused, outcome

def accept(*arguments, **words):
    pass

REFUSED = {"first": lambda: refuse(errno.EINVAL), "second": lambda: refuse(errno.EINVAL)}
MIXED = {"first": lambda: refuse(errno.EINVAL), "other": lambda: refuse(errno.EPERM), "no": accept}
"""
OTHERWISE = "*Error: {} calls were not {}:"
EPERM = "vf_user: open(the VF): EPERM (Operation not permitted)"
EINVAL = "vf_user: open(the VF): EINVAL (Invalid argument)"


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (
            "all_refused(errno.EINVAL, MIXED)",
            [
                OTHERWISE.format("2 of 3", "refused with EINVAL (22)"),
                f"E*other: {EPERM}",
                "E*no: not refused",
            ],
        ),
        (
            "all_refused(errno.EPERM, refuse, [errno.EPERM, errno.EINVAL])",
            [OTHERWISE.format("1 of 2", "refused with EPERM (1)"), f"E*22: {EINVAL}"],
        ),
        (
            "all_refused(errno.EPERM, refuse, {'such': {'number': 22}})",
            [OTHERWISE.format("1 of 1", "refused with EPERM (1)"), f"E*such: {EINVAL}"],
        ),
        (
            "none_refused(MIXED)",
            [OTHERWISE.format("2 of 3", "not refused"), f"E*first: {EINVAL}", f"E*other: {EPERM}"],
        ),
        ("assert outcome(REFUSED['first']) == errno.EPERM", [f"E*assert {EINVAL} == 1"]),
        ("all_refused(errno.EPERM, refuse, [])", ["E*no call was made"]),
    ],
)
def test_a_verdict_says_which_call_ended_how(run, verdict, words):
    result = run(f"{VERDICTS}\ndef test_it():\n    {verdict}\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([word.replace("[", "[[]") for word in words])
    result.stdout.no_fnmatch_line("*verdicts.py*")


@pytest.mark.parametrize(
    "verdict",
    [
        "all_refused(errno.EINVAL, REFUSED)",
        "all_refused(errno.EINVAL, refuse, [errno.EINVAL] * 2)",
        "none_refused({'all': accept})",
        "assert outcome(accept) == 0",
    ],
)
def test_nothing_is_said_when_all_is_as_expected(run, verdict):
    run(f"{VERDICTS}\ndef test_it():\n    {verdict}\n").assert_outcomes(passed=1)
