"""The faults themselves: enough of them, said what they break, and apart from the real thing."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from vfio_lab.campaign import mutants, silent
from vfio_lab.errors import UsageError
from vfio_lab.kernels import series, trial
from vfio_lab.spec.scenarios import PROJECT, scenario_catalogue

KERNELS = ("7.3", "6.12")
ENOUGH = 60
ENOUGH_SILENT = 40


@pytest.mark.parametrize("kernel", KERNELS)
def test_there_are_enough_and_each_touches_vfio_alone(kernel: str) -> None:
    known = mutants.read_mutants(kernel)
    assert sum(not fault.equivalent for fault in known) >= ENOUGH
    for fault in known:
        assert trial.modules_suffice(series.touched(fault.patches)), fault.name
        assert fault.breaks.endswith("."), fault.name


@pytest.mark.parametrize("kernel", mutants.kernels_with_faults(mutants.FOLDER))
def test_what_should_notice_a_fault_is_there(kernel: str) -> None:
    faults = mutants.read_mutants(kernel, mutants.FOLDER)
    for place in {place for fault in faults for place in fault.covers}:
        path, _, name = place.partition("::")
        assert f"def {name}" in (PROJECT / path).read_text(), place


def test_a_scenario_is_recorded_that_notices_each_mutant() -> None:
    for fault in mutants.read_mutants("7.3"):
        assert bool(fault.noticed_by) != bool(fault.equivalent), fault.name
        known = scenario_catalogue()
        assert fault.equivalent or fault.noticed_by.partition("[")[0] in known, fault.noticed_by


def test_killers_are_recorded_and_those_of_mutants_that_were_not_judged_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("killed", "lost", "survived", "unknown")
    (tmp_path / "7.3").mkdir()
    for name in names:
        (tmp_path / f"7.3/{name}.patch").write_text("Breaks: Something.\n")
    monkeypatch.setattr(mutants, "FOLDER", tmp_path)
    first = mutants.read_mutants("7.3", tmp_path)
    mutants.record_killers(mutants.MutationResult(one, f"old::{one.name}", "") for one in first)
    killed, lost, survived, _ = mutants.read_mutants("7.3", tmp_path)
    assert [one.noticed_by for one in (killed, lost)] == ["old::killed", "old::lost"]
    mutants.record_killers(
        [
            mutants.MutationResult(killed, "new::killed", ""),
            mutants.MutationResult(lost, "", "QEMU is gone", judged=False),
            mutants.MutationResult(survived, "", ""),
        ]
    )
    assert mutants.read_killers(tmp_path / "7.3") == {
        "killed": "new::killed",
        "lost": "old::lost",
        "unknown": "old::unknown",
    }


@pytest.mark.parametrize(
    ("noticed", "runs"),
    [
        ("b[x]", [("b[x]",), ("a", "c")]),
        ("s[own]", [("s[own]",), ("a", "b[x]", "c", "s")]),
        ("not reached", [("a", "b[x]", "c")]),
        ("", [("a", "b[x]", "c")]),
    ],
)
def test_the_scenario_that_noticed_a_mutant_before_runs_first_if_it_is_reached(
    noticed: str, runs: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = runs[-1] if noticed.startswith("s") else ("a", "b[x]", "c")
    monkeypatch.setattr(mutants.runs, "chosen_scenarios", lambda _choice: found)
    selected = SimpleNamespace(scenarios=found)
    monkeypatch.setattr(mutants, "select_scenarios", lambda *_: selected)
    fault = mutants.Mutant("name", "7.3", "breaks", (), (), noticed_by=noticed)
    choices = mutants.Plan((), None, 2).choices(fault, ())
    assert [one.paths for one in choices] == runs


def test_a_few_are_spread_over_all() -> None:
    known = mutants.read_mutants("7.3")
    few = mutants.choose_mutants(known, 4)
    assert [known.index(one) for one in few] == [0, *(len(known) * k // 4 for k in (1, 2, 3))]
    assert mutants.choose_mutants(known, None) == mutants.choose_mutants(known, 1000) == known


def test_exploration_is_asked_about_faults_in_what_the_model_covers():
    chosen = {fault.name for fault in mutants.within_the_model(mutants.read_mutants("7.3"))}
    assert {"token-wrong-errno", "hot-reset-flags-ignored", "status-always-viable"} <= chosen
    assert not {"type1-limit", "mmap-private", "bar-2-not-restored"} & chosen


def test_the_control_must_survive_and_the_others_must_not() -> None:
    (fault, *_) = mutants.read_mutants("7.3")
    baseline = mutants.run_baseline("7.3")
    assert mutants.MutationResult(baseline, "", "").as_expected
    assert not mutants.MutationResult(baseline, "a scenario", "").as_expected
    assert mutants.MutationResult(fault, "a scenario", "").as_expected
    assert not mutants.MutationResult(fault, "", "").as_expected
    assert not mutants.MutationResult(fault, "a scenario", "", judged=False).as_expected
    assert str(mutants.MutationResult(fault, "", "")).endswith(fault.breaks)


def test_what_nobody_can_notice_must_survive_like_the_baseline() -> None:
    alike = next(fault for fault in mutants.read_mutants("7.3") if fault.equivalent)
    assert mutants.MutationResult(alike, "", "").as_expected
    assert not mutants.MutationResult(alike, "a scenario", "").as_expected
    assert str(mutants.MutationResult(alike, "", "")).endswith(alike.equivalent)


def test_a_fault_that_says_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no faults for kernel 7\.3"):
        mutants.read_mutants("7.3", tmp_path)
    (tmp_path / "7.3").mkdir()
    (tmp_path / "7.3/x.patch").write_text("--- a/x\n+++ b/x\n")
    with pytest.raises(UsageError, match="does not say what it breaks"):
        mutants.read_mutants("7.3", tmp_path)


def test_silent_faults_are_enough_and_switched_on_by_their_names() -> None:
    switch, faults = silent.read_silent("7.3")
    assert len(faults) >= ENOUGH_SILENT
    patches = [patch for one in (switch, *faults) for patch in one.patches]
    assert trial.modules_suffice(series.touched(patches))
    for fault in faults:
        assert f'vfio_fault("{fault.name}")' in fault.patches[0].text, fault.name


def test_what_reaches_a_silent_fault_is_there() -> None:
    _, faults = silent.read_silent("7.3")
    for place in {place for fault in faults for place in fault.covers}:
        path, _, name = place.partition("::")
        assert f"def {name}" in (PROJECT / path).read_text(), place
