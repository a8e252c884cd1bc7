from pathlib import Path

import pytest

from vfio_lab.errors import BuildError
from vfio_lab.kernels.kconfig import (
    Option,
    check_config,
    config_symbols,
    merge_options,
    parse,
    read_config,
    seed,
    series,
)

VFIO = Option("VFIO", "m", "the core", "vfio.config:1")


def one(line: str) -> Option:
    (option,) = parse(line, "x.config")
    return option


def test_a_line_is_an_option_a_value_and_a_reason() -> None:
    assert one("CONFIG_VFIO=m  # the core") == Option("VFIO", "m", "the core", "x.config:1")
    assert one('CONFIG_LOCALVERSION="-lab # 1"  # a name').value == '"-lab # 1"'
    assert one("CONFIG_NR_CPUS=8 # few").value == "8"


def test_comments_and_empty_lines_count_only_as_lines() -> None:
    assert one("# about\n\nCONFIG_VFIO=m # the core").where == "x.config:3"


def test_marks_say_which_series_have_the_option() -> None:
    new = one("CONFIG_IOMMUFD=m # since 6.2: /dev/iommu")
    assert new.reason == "/dev/iommu"
    assert [new.applies(series(text)) for text in ("6.1", "6.2", "6.12.107", "7.3")] == [
        False,
        True,
        True,
        True,
    ]
    old = one("CONFIG_BASE_FULL=y # until 6.9: full-sized tables")
    assert [old.applies(series(text)) for text in ("6.1.176", "6.9.12", "6.10")] == [
        True,
        True,
        False,
    ]
    both = one("CONFIG_X=y # since 6.2, until 6.12: gone again")
    assert (both.since, both.until) == ((6, 2), (6, 12))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("CONFIG_VFIO=m", "without a reason"),
        ("CONFIG_VFIO=m #", "without a reason"),
        ("CONFIG_VFIO=m # since 6.6: ", "without a reason"),
        ("CONFIG_VFIO=m # since six: a reason", "mark that cannot be read"),
        ("CONFIG_VFIO=m # until: a reason", "mark that cannot be read"),
        ("VFIO=m # a reason", "no configuration line"),
        ("CONFIG_VFIO = m # a reason", "no configuration line"),
        ("# CONFIG_VFIO is not set\nCONFIG_VFIO", "no configuration line"),
        ('CONFIG_X="half # a reason', "no configuration line"),
    ],
)
def test_a_malformed_line_is_refused_with_its_place(line: str, complaint: str) -> None:
    with pytest.raises(BuildError, match=complaint) as refusal:
        parse(line, "x.config")
    assert "x.config:" in refusal.value.what


def test_a_flavour_overrules_the_base() -> None:
    base = parse("CONFIG_B=y # two\nCONFIG_A=y # one", "base")
    flavour = parse("CONFIG_B=n # not here\nCONFIG_C=y # three", "debug")
    assert [(o.name, o.value) for o in merge_options(base, flavour, (7, 3))] == [
        ("A", "y"),
        ("B", "n"),
        ("C", "y"),
    ]


def test_one_layer_may_ask_only_once_in_a_series() -> None:
    twice = parse("CONFIG_A=y # until 6.12: was\nCONFIG_A=m # since 6.13: is", "base")
    assert merge_options(twice, (), (6, 1))[0].value == "y"
    assert merge_options(twice, (), (7, 3))[0].value == "m"
    with pytest.raises(BuildError, match="asked for twice") as refusal:
        merge_options((VFIO, VFIO), (), (7, 3))
    assert refusal.value.seen == "vfio.config:1 and vfio.config:1"


def test_the_seed_reads_back_as_it_was_asked() -> None:
    options = parse('CONFIG_A=y # 1\nCONFIG_B=n # 2\nCONFIG_C="-lab" # 3\nCONFIG_D=60 # 4', "x")
    text = seed(options)
    assert text == 'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="-lab"\nCONFIG_D=60\n'
    assert read_config(text) == {"A": "y", "B": "n", "C": '"-lab"', "D": "60"}


def test_a_granted_configuration_passes() -> None:
    asked = parse("CONFIG_A=y # 1\nCONFIG_B=n # 2", "x")
    check_config(asked, (), {"A": "y"}, frozenset("AB"))


def test_every_option_that_was_not_granted_is_named() -> None:
    asked = parse(
        "CONFIG_GONE=y # 1\nCONFIG_DEAF=y # 2\nCONFIG_FORCED=n # 3\nCONFIG_MODULE=m # 4", "x"
    )
    with pytest.raises(BuildError) as refusal:
        check_config(
            asked, (), {"FORCED": "y", "MODULE": "y"}, frozenset({"DEAF", "FORCED", "MODULE"})
        )
    assert refusal.value.seen is not None
    assert refusal.value.seen.split("; ") == [
        "x:1: CONFIG_GONE does not exist here",
        "x:2: CONFIG_DEAF=y became n (what it depends on is missing, or another option forces it)",
        "x:3: CONFIG_FORCED=n became y"
        " (what it depends on is missing, or another option forces it)",
        "x:4: CONFIG_MODULE=m became y"
        " (what it depends on is missing, or another option forces it)",
    ]


@pytest.mark.parametrize("value", ["n", "y"])
def test_a_mark_that_hides_an_option_the_series_has_is_refused(value: str) -> None:
    late = one("CONFIG_VFIO_GROUP=y # since 6.9: too late a mark")
    with pytest.raises(BuildError, match="not the one that was asked for") as refusal:
        check_config((), (late,), {"VFIO_GROUP": value}, frozenset({"VFIO_GROUP"}))
    assert refusal.value.seen == (
        "x.config:1: CONFIG_VFIO_GROUP could be had here, against its mark"
    )


def test_an_option_may_outlive_its_use_or_exist_before_it_can_be_had() -> None:
    marked = parse("CONFIG_OLD=y # until 6.12: was\nCONFIG_NEW=y # since 7.0: will be", "x")
    check_config((), marked, {}, frozenset({"OLD", "NEW"}))


def test_symbols_are_those_of_the_generic_tree_and_of_x86(tmp_path: Path) -> None:
    for name, text in {
        "Kconfig": "config ROOT\n",
        "arch/Kconfig": "config ANY_ARCH\n",
        "arch/x86/Kconfig.debug": "menuconfig X86_ONE\n\tbool\n",
        "arch/arm/Kconfig": "config ARM_ONE\n",
        "drivers/vfio/Kconfig": "if VFIO\n  config VFIO_PCI\nendif\n# config NOT_ME\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert config_symbols(tmp_path) == {"ROOT", "ANY_ARCH", "X86_ONE", "VFIO_PCI"}
