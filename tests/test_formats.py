"""Runs in the formats of others: JSON Schema, KTAP, KCIDB; each read by its own reader."""

import json
import shutil
import subprocess
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner
from kcidb_io import schema
from support.kernel_source import kernel_source, kunit, parsed

from vfio_lab.campaign.results import SCHEMA, Outcome, read_results
from vfio_lab.cli import main
from vfio_lab.report.kcidb import LONGEST_EXCERPT_BYTES, kcidb_report, patchset_hash, scenario_path
from vfio_lab.report.ktap import ktap
from vfio_lab.util.host import which

__all__ = ["kernel_source", "kunit", "parsed"]
RUN = Path(__file__).parent / "data" / "run"
PATCHES = [{"subject": "vfio: one", "sha256": "a" * 64}, {"subject": "two", "sha256": "b" * 64}]
GIT = {"commit": "c" * 40, "describe": "v7.3-rc1-4-gcccc", "dirty": True}


def written(results, tmp_path):
    return json.loads(results.write(tmp_path / "run").read_text())


def test_results_are_as_the_schema_in_the_package_says(tmp_path):
    rules = json.loads((resources.files("vfio_lab.campaign") / "results.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(rules)
    assert rules["properties"]["schema"]["const"] == SCHEMA
    found = read_results(RUN)
    whole = replace(found, kernel={**found.kernel, "git": GIT, "base": "7.3", "patches": PATCHES})
    for each in (found, whole):
        jsonschema.validate(written(each, tmp_path), rules)
    broken = replace(found, kernel={**found.kernel, "config": "none"})
    with pytest.raises(jsonschema.ValidationError, match="'none' does not match"):
        jsonschema.validate(written(broken, tmp_path), rules)


def test_the_kernels_own_parser_reads_the_ktap_of_a_run(parsed):
    found = read_results(RUN)
    said = parsed(ktap(found))
    outcomes = [record.outcome for record in found.scenarios]
    assert said["misc"] == {
        "tests": len(outcomes),
        "passed": outcomes.count(Outcome.PASSED) + outcomes.count(Outcome.KNOWN),
        "failed": outcomes.count(Outcome.FAILED) + outcomes.count(Outcome.ERROR),
        "crashed": 0,
        "skipped": outcomes.count(Outcome.SKIPPED),
        "errors": 0,
    }
    areas = {area["name"]: area for area in said["sub_groups"]}
    assert list(areas) == ["vf_token", "noiommu"]
    (file,) = areas["vf_token"]["sub_groups"]
    assert file["name"] == "test_recorded"
    assert {case["name"]: case["status"] for case in file["test_cases"]} == {
        "test_passes[no token]": "PASS",
        "test_passes[wrong token]": "PASS",
        "test_fails": "FAIL",
        "test_skips": "SKIP",
        "test_errs": "FAIL",
    }


def test_the_ktap_of_a_run_says_why():
    lines = [line.strip() for line in ktap(read_results(RUN)).splitlines()]
    failure = lines.index("not ok 3 test_fails")
    claim, reason, evidence = lines[failure - 3 : failure]
    assert claim == "# claim A04: A VF opens with its PF's current token."
    assert "EACCES (Permission denied)" in reason
    assert evidence == "# evidence: vf_token-test_recorded.py-test_fails"
    assert "ok 4 test_skips # SKIP A04 needs CONFIG_NONE, which kernel 7.3 lacks" in lines
    (known,) = [line for line in lines if "# XFAIL" in line]
    assert known.startswith("ok 5 test_a_noiommu_device_has_no_cdev # XFAIL D11 no longer true: ")


def test_a_sign_that_begins_a_directive_does_not_come_from_a_reason(parsed):
    found = read_results(RUN)
    sneaky = replace(found.scenarios[0], outcome=Outcome.FAILED, reason="# SKIP\nKTAP version 1")
    said = parsed(ktap(replace(found, scenarios=(sneaky,))))
    assert (said["misc"]["failed"], said["misc"]["skipped"]) == (1, 0)


def test_kcidb_takes_the_report_of_a_run(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(RUN, run)
    (run / "vf_token-test_recorded.py-test_fails" / "kernel.log").write_text("é" * (1 << 20))
    found = read_results(run)
    patched = replace(found, kernel={**found.kernel, "git": GIT, "base": "7.3", "patches": PATCHES})
    for each in (found, patched):
        document = schema.V5_3.validate(kcidb_report(each, run, "my_ci"))
        assert schema.V5_3.is_compatible(document)
        assert len({test["id"] for test in document["tests"]}) == len(found.scenarios)
    assert document["checkouts"][0]["git_commit_hash"] == GIT["commit"]
    assert document["checkouts"][0]["patchset_hash"] == patchset_hash(["a" * 64, "b" * 64])
    tests = {test["misc"]["nodeid"].partition("::")[2]: test for test in document["tests"]}
    assert tests["test_fails"]["status"] == "FAIL"
    excerpt = tests["test_fails"]["log_excerpt"]
    assert "EACCES (Permission denied)" in excerpt
    assert LONGEST_EXCERPT_BYTES - 4 < len(excerpt.encode()) <= LONGEST_EXCERPT_BYTES
    assert tests["test_skips"]["status"] == "SKIP"
    assert tests["test_errs"]["status"] == "ERROR"
    assert tests["test_a_noiommu_device_has_no_cdev"]["status"] == "PASS"
    assert tests["test_a_noiommu_device_has_no_cdev"]["misc"]["outcome"] == "known"


def test_the_hash_of_a_series_is_what_kcidb_says_how_to_make(tmp_path):
    for number, text in enumerate(("one", "two"), 1):
        (tmp_path / f"{number}.patch").write_text(text)
    recipe = "sha256sum *.patch | cut -c-64"
    command = [which("sh"), "-c", f"{recipe}; {recipe} | sha256sum | cut -c-64"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    *patches, whole = said.split()
    assert patchset_hash(patches) == whole
    assert patchset_hash([]) == ""


def test_a_scenario_has_its_place_in_kcidbs_tree():
    nodeid = "scenarios/vf_token/test_match.py::test_it[no token-igb-bus]"
    assert scenario_path(nodeid) == "vfio_lab.vf_token.test_match.test_it.no_token-igb-bus"


@pytest.mark.parametrize(("command", "beginning"), [("ktap", "KTAP version 1"), ("kcidb", "{")])
def test_the_commands_print_them(command, beginning):
    done = CliRunner().invoke(main, [command, str(RUN)])
    assert (done.exit_code, done.stdout.startswith(beginning)) == (0, True)


def test_an_origin_that_kcidb_refuses_is_a_mistake():
    done = CliRunner().invoke(main, ["kcidb", str(RUN), "--origin", "My CI"])
    assert (done.exit_code, "lower case letters" in done.stderr) == (2, True)
