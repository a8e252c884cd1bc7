"""The scenarios that a patch can reach, by a small map."""

from dataclasses import replace
from pathlib import Path, PurePath

import pytest

from vfio_lab.campaign.reach import (
    KnownFunction,
    ReachMap,
    covering,
    joined,
    load_reach,
    write_reach,
)
from vfio_lab.campaign.selection import ReachSelection, select_scenarios
from vfio_lab.errors import UsageError
from vfio_lab.kernels import csource
from vfio_lab.kernels.csource import FileChange

CHECK = """\
static int check(struct device *dev, bool token)
{
	int ret = -EINVAL;

	if (!token) {
		pr_info("no token\\n");
		return -EACCES;
	}
	dev->count++;
	switch (ret) {
	case 1:
		return 0;
	}
	return ret;
}
"""
OTHER = """\
static int other(void)
{
	return 7;
}
"""
UNUSED = """\
static int unused(void)
{
	return 8;
}
"""
SOURCE = f"""\
#include <linux/vfio.h>
#define LIMIT 8

{CHECK}
{OTHER}
{UNUSED}
static const struct ops ops = {{ .check = check }};
EXPORT_SYMBOL_GPL(check);
"""
PATH = PurePath("drivers/vfio/group.c")
DENIED, OPENED, ELSEWHERE, BOOTED, STRANGE = "denied", "opened", "elsewhere", "booted", "strange"
ALL = (DENIED, OPENED, ELSEWHERE, BOOTED)
KNOWN = (*ALL, STRANGE)
TEMPLATE = 1 << len(ALL)  # that of `booted`


def bits(*names: str) -> int:
    return sum(1 << ALL.index(name) for name in names)


@pytest.fixture
def reach() -> ReachMap:
    """A map of two files, four scenarios and a template that runs other()."""
    digests = {one.name: one.digest for one in csource.functions(SOURCE)}
    both, denied, opened = bits(DENIED, OPENED), bits(DENIED), bits(OPENED)
    check = {2: both, 4: both, 5: denied, 6: denied, 8: opened, 9: opened, 11: 0, 13: opened}
    return ReachMap(
        kernel="7.3.4",
        made="2026-11-29",
        names=ALL,
        templates=(bits(BOOTED),),
        effort=(20, 30, 10, 5),
        files={
            str(PATH): {
                "check": KnownFunction(digests["check"], check),
                "other": KnownFunction(digests["other"], {2: TEMPLATE | bits(ELSEWHERE)}),
                "unused": KnownFunction(digests["unused"], {2: 0}),
            },
            "drivers/pci/pci.c": {"pci": KnownFunction("", {1: bits(ELSEWHERE)})},
        },
        headers={"include/linux/vfio.h": (str(PATH),)},
    )


def selected(reach: ReachMap, before: str, after: str, source: str = SOURCE) -> ReachSelection:
    assert before in source
    change = FileChange(PATH, source, source.replace(before, after, 1))
    return select_scenarios(reach, [change], KNOWN)


def test_a_few_scenarios_run_all_lines(reach: ReachMap) -> None:
    assert covering(reach, [PurePath("drivers/vfio")]) == [OPENED, DENIED, ELSEWHERE]
    assert covering(reach, [PurePath("drivers/pci")]) == [ELSEWHERE]
    assert covering(reach, [PurePath("mm")]) == []


CHANGES = {
    "a statement": ("return -EACCES", "return -EPERM", [DENIED]),
    "a removed block": (
        'if (!token) {\n\t\tpr_info("no token\\n");\n\t\treturn -EACCES;\n\t}\n\t',
        "",
        [DENIED, OPENED],
    ),
    "the end of a block": (
        "return -EACCES;\n\t}\n",
        "return -EPERM;\n\t} // no token\n",
        [DENIED],
    ),
    "a line added between two": ("\treturn ret", "\tret++;\n\treturn ret", [OPENED]),
    "a line added before a block's end": ("-EACCES;\n", "-EACCES;\n\t\tret++;\n", [OPENED, DENIED]),
    "a case": ("case 1:", "case 2:", [OPENED, DENIED]),
    "a declaration": ("int ret = -EINVAL;", "long ret;\n", [OPENED, DENIED]),
    "a changed block structure": ("if (!token) {", "if (!token) {\n\tif (ret) {", [OPENED, DENIED]),
    "the template's code": ("return 7", "return 9", [ELSEWHERE, BOOTED]),
    "outside of functions": ("LIMIT 8", "LIMIT 9", [OPENED, DENIED, ELSEWHERE, BOOTED]),
    "a table": (".check = check", ".check = other", [OPENED, DENIED, ELSEWHERE, BOOTED]),
    "a helper and its call": (
        CHECK,
        f"static int helper(void)\n{{\n\treturn 1;\n}}\n\n{CHECK.replace('-EACCES', 'helper()')}",
        [DENIED],
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_those_that_run_the_changed_lines_are_chosen(reach: ReachMap, name: str) -> None:
    before, after, expected = CHANGES[name]
    found = selected(reach, before, after)
    assert found.scenarios == (*expected, STRANGE)
    assert found.total == len(KNOWN)


def test_comments_alone_reach_nobody_that_is_known(reach: ReachMap) -> None:
    assert selected(reach, "#define", "/* Why. */\n#define").scenarios == (STRANGE,)
    assert selected(reach, "EXPORT_SYMBOL_GPL(check);\n", "").scenarios == (STRANGE,)


def test_code_that_nobody_runs_widens_to_what_is_around_it(reach: ReachMap) -> None:
    found = selected(reach, "return 8", "return 9")
    assert set(found.scenarios) == {*ALL, STRANGE}
    assert "unused(): 3 run what is around it, since none run the changed lines" in str(found)


def test_code_that_nobody_runs_widens_nothing_beside_code_that_somebody_runs(
    reach: ReachMap,
) -> None:
    source = SOURCE.replace("return 8", "return 9")
    change = FileChange(PATH, SOURCE, source.replace("-EACCES", "-EPERM"))
    assert select_scenarios(reach, [change], KNOWN).scenarios == (DENIED, STRANGE)


def test_a_function_that_reads_otherwise_counts_as_a_whole(reach: ReachMap) -> None:
    source = SOURCE.replace("no token", "a token is missing")
    found = selected(reach, "return -EACCES", "return -EPERM", source)
    assert found.scenarios == (OPENED, DENIED, STRANGE)
    assert "check(): 2 run it; it reads otherwise in 7.3.4" in str(found)


@pytest.mark.parametrize(
    ("path", "expected", "why"),
    [
        ("include/linux/vfio.h", {DENIED, OPENED, ELSEWHERE, BOOTED}, "1 files that include it"),
        ("drivers/vfio/new.c", {DENIED, OPENED, ELSEWHERE, BOOTED}, "run drivers/vfio"),
        ("drivers/pci/Kconfig", {ELSEWHERE}, "1 run drivers/pci: the map lacks the file"),
        ("kernel/fork.c", set(ALL), "kernel/fork.c: 4 are all: the map lacks the file"),
        ("Documentation/x.rst", set(), "0 of 4"),
        ("tools/testing/selftests/vfio/x.c", set(), "0 of 4"),
    ],
)
def test_files_that_the_map_lacks_widen_to_what_is_nearest(
    reach: ReachMap, path: str, expected: set[str], why: str
) -> None:
    found = select_scenarios(reach, [FileChange(PurePath(path), None, "int x;\n")], ALL)
    assert set(found.scenarios) == expected
    assert why in str(found)


def test_scenarios_that_the_map_lacks_keep_parameters_only_beside_known_ones(
    reach: ReachMap,
) -> None:
    known = (*ALL, "denied[more]", "own[vfio]", "own[iommufd]")
    assert select_scenarios(reach, [], known).scenarios == ("denied[more]", "own")


def test_a_map_is_read_as_it_was_written(reach: ReachMap, tmp_path: Path) -> None:
    path = tmp_path / "map"
    write_reach(reach, path)
    assert load_reach(path) == reach
    first = path.read_bytes()
    write_reach(reach, path)
    assert path.read_bytes() == first


def test_a_map_with_scenarios_that_came_since_selects_as_both_do(reach: ReachMap) -> None:
    late, booted = 1, 1 << 1
    lines = reach.files[str(PATH)]["check"].lines
    check = replace(reach.files[str(PATH)]["check"], lines={**dict.fromkeys(lines, 0), 6: late})
    other = KnownFunction(reach.files[str(PATH)]["other"].digest, {2: booted})
    unused = reach.files[str(PATH)]["unused"]
    added = replace(
        reach,
        names=(STRANGE,),
        templates=(late,),
        effort=(1,),
        files={
            str(PATH): {"check": check, "other": other, "unused": unused},
            "drivers/pci/pci.c": {"pci": KnownFunction("", {1: 0})},
        },
    )
    both = joined(reach, added)
    assert both.names == KNOWN
    assert selected(both, "return -EACCES", "return -EPERM").scenarios == (DENIED, STRANGE)
    assert selected(both, "return 7", "return 9").scenarios == (ELSEWHERE, STRANGE, BOOTED)


def test_scenarios_of_another_kernel_are_not_added(reach: ReachMap) -> None:
    pci = {"pci": KnownFunction("another", {1: 0})}
    other = replace(reach, kernel="6.12.1", files={**reach.files, "drivers/pci/pci.c": pci})
    with pytest.raises(UsageError, match=r"kernel 6\.12\.1, whose code reads otherwise"):
        joined(reach, other)
