"""A run that was just made, for others: as programs in a guest without the agent, as formats."""

import json
from importlib import resources

import jsonschema
import pytest
from kcidb_io import schema
from support.compilers import gcc, kernel_headers
from support.kernel_source import kernel_source, kunit, parsed
from support.reproduced import failed_in_a_plain_guest, reproduced

from vfio_lab.campaign.results import RESULTS, read_results
from vfio_lab.report.kcidb import kcidb_report
from vfio_lab.report.ktap import ktap

__all__ = ["gcc", "kernel_headers", "kernel_source", "kunit", "parsed"]
RESETS = "scenarios/hot_reset/test_function_reset.py"
OTHERS = "scenarios/vf_token/test_other_devices.py"
# In the order in which the programs run: what one left behind would make a later one fail.
CHOSEN = (
    f"{RESETS}::test_a_reset_method_removed_after_the_open_is_enotty",
    f"{RESETS}::test_the_flr_bit_resets_the_function",
    "scenarios/vf_token/test_counting_users.py::test_a_killed_parent_leaves_the_vf_in_use_by_its_child",
    "scenarios/vf_token/test_match.py",
    f"{OTHERS}::test_a_vf_on_a_host_driver_does_not_count_as_in_use",
    f"{OTHERS}::test_vf_of_a_pf_on_a_host_driver_takes_no_token",
)
IGB = "igb"


@pytest.fixture(scope="module")
def made(gcc, tmp_path_factory):
    """A run on the default kernel, and the programs of its scenarios."""
    return reproduced("7.3", CHOSEN, IGB, gcc, tmp_path_factory.mktemp("made"))


def test_reproducers_end_as_their_scenarios_did(made, guest_factory, tmp_path):
    assert made.programs
    assert made.unwritten == {}
    assert failed_in_a_plain_guest(guest_factory, IGB, made.programs, tmp_path) == {}


def test_programs_of_others_read_the_run(made, parsed):
    """results.json follows its schema, kunit.py reads the KTAP, and kcidb-io takes the report."""
    rules = json.loads((resources.files("vfio_lab.campaign") / "results.schema.json").read_text())
    jsonschema.validate(json.loads((made.run / RESULTS).read_text()), rules)
    found = read_results(made.run)
    counts = parsed(ktap(found))["misc"]
    assert (counts["tests"], counts["failed"], counts["errors"]) == (len(found.scenarios), 0, 0)
    document = schema.V5_3.validate(kcidb_report(found, made.run, "my_ci"))
    assert [one["status"] for one in document["tests"]] == ["PASS"] * len(found.scenarios)
    assert document["builds"][0]["compiler"] == found.kernel["compiler"]
