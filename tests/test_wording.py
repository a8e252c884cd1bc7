"""Scenarios whose names and claims speak of a change come before others that run it as well."""

from pathlib import PurePath

from vfio_lab.campaign.wording import shared_words
from vfio_lab.kernels.csource import FileChange

BARS = "scenarios/device/test_bars.py::test_a_write_of_the_command_register_restores_a_lost_bar"
MATCH = "scenarios/vf_token/test_match.py::test_the_token_is_checked_before_the_container"
CODE = """static void vfio_bar_restore(struct vfio_pci_core_device *vdev)
{
	int i;
	%s
}
"""


def words_of(statement: str, *nodeids: str) -> list[float]:
    change = FileChange(PurePath("a.c"), CODE % "return;", CODE % statement)
    found = shared_words([change], nodeids)
    return [found[one.partition("[")[0]] for one in nodeids]


def test_a_change_is_closest_to_what_speaks_of_its_function() -> None:
    bars, token = words_of("i = 1;", BARS, MATCH)
    assert bars > token


def test_a_change_is_closest_to_what_speaks_of_its_lines() -> None:
    without, _ = words_of("i = 1;", MATCH, BARS)
    with_token, _ = words_of("vdev->vf_token->users++;", MATCH, BARS)
    assert with_token > without


def test_parameters_and_unknown_scenarios_are_taken_by_their_names() -> None:
    (known,) = words_of("i = 1;", f"{BARS}[memory]")
    assert known == 0  # every scenario asked about shares these words
    strange, token = words_of("i = 1;", "mine/test_x.py::test_bar_restore", MATCH)
    assert strange > token
