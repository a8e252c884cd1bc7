"""`--lab-long`: who gets which guest in which order, and what is said of what is left."""

import pytest

from vfio_lab.campaign.results import Outcome

pytest_plugins = ["pytester"]

# A life whose guests are fake: it notes turns, and leaves what scenarios ask it to leave.
LONG = """
import vfio_lab_pytest.lives
from vfio_lab.errors import LeftBehind


class FakeLife:
    def __init__(self, name, machine):
        self.had, self.over = [], False
        self.guest = SimpleNamespace(machine=machine)
        print("begins", name.rsplit("-", 2)[0])

    @classmethod
    def begin(cls, name, machine, folder, keepable):
        return cls(name, machine)

    def begin_turn(self, scenario, name, folder):
        guest = FakeGuest(name, self.guest.machine, folder)
        guest.left = guest.left_at_last = ""
        guest.close = lambda: self.end_turn(guest)
        self.had.append(scenario)
        self.last = guest
        return guest

    def end_turn(self, guest):
        if guest.left:
            self.over = True
            raise LeftBehind("it left something", seen=guest.left)

    def end(self):
        print("ends after", len(self.had))
        if self.last.left_at_last:
            raise LeftBehind("they left something", seen=self.last.left_at_last)

    def close(self):
        self.over = True
        print("thrown away")


@pytest.fixture
def machine(guest_factory, topology):
    return SimpleNamespace(topology=topology, kernel=guest_factory.kernel, frozen=True)


@pytest.fixture(autouse=True)
def fake_lives(monkeypatch):
    monkeypatch.setattr(vfio_lab_pytest.lives, "LongLife", FakeLife)
"""
TWO_KINDS = """
@claim("A02")
@pytest.mark.parametrize("number", range(6))
def test_it(guest, number):
    '''It is so.'''
    assert guest.machine.topology.cpus == 2

@claim("A02")
@pytest.mark.topology("igb-pair")
@pytest.mark.parametrize("number", range(3))
def test_of_another_kind(guest, number):
    '''It is so.'''
"""


def order(result):
    """Return the scenarios in the order in which they ran."""
    lines = (line.split("::")[1].split()[0] for line in result.outlines if "test_it.py::" in line)
    return list(dict.fromkeys(lines))


@pytest.fixture
def long(run):
    return lambda text, *words: run(text, "-s", "-v", *words, conftest=run.conftest + LONG)


def test_each_kind_of_guest_is_started_once_and_looked_at_in_the_end(long):
    result = long(TWO_KINDS, "--lab-long=1")
    result.assert_outcomes(passed=9)
    said = [line.split("begins")[1] for line in result.outlines if "begins" in line]
    assert sorted(said) == [" long-igb-pair-smp", " long-igb-smp"]
    assert str(result.stdout).count("ends after 6") == 1
    assert str(result.stdout).count("ends after 3") == 1


def test_the_seed_and_nothing_else_decides_the_order(long):
    first, again, other = (order(long(TWO_KINDS, f"--lab-long={seed}")) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(first) == sorted(other)
    few = order(long(TWO_KINDS, "--lab-long=1", "-k", "test_it and (2 or 4 or 5)"))
    assert few == [name for name in first if name in few]


UNFIT = """
@claim("A02")
def test_fit(guest):
    '''It is so.'''

@claim("A02")
@pytest.mark.pristine("it unplugs the device")
def test_marked(guest):
    '''It is so.'''

@claim("A02")
@pytest.mark.complains("WARN")
def test_that_makes_the_kernel_complain(guest):
    '''It is so.'''

@claim("A02")
@pytest.mark.topology("noiommu")
def test_that_taints(guest):
    '''It is so.'''

def test_without_a_guest():
    '''It is so.'''
"""


def test_who_needs_a_pristine_guest_is_left_out_and_the_reasons_are_told(long):
    result = long(UNFIT, "--lab-long=1")
    result.assert_outcomes(passed=1, deselected=4)
    result.stdout.fnmatch_lines(["*left out of the long life: 1: it unplugs the device"])


def test_without_the_option_all_run_in_guests_of_their_own(run):
    run(UNFIT, "-k", "not complain").assert_outcomes(passed=4, deselected=1)


LEAVE = """
@claim("A02")
@pytest.mark.parametrize("number", range(4))
def test_it(guest, number):
    '''It is so.'''
    {}
"""


def test_what_a_scenario_leaves_is_its_error_and_the_next_gets_a_new_guest(long, run):
    result = long(LEAVE.format("guest.left = 'a group' if number == 2 else ''"), "--lab-long=1")
    result.assert_outcomes(passed=4, errors=1)
    assert str(result.stdout).count("begins long-igb-smp") == 2
    bad = [one for one in run.results().scenarios if one.outcome is Outcome.ERROR]
    assert [one.nodeid.partition("::")[2] for one in bad] == ["test_it[2]"]
    assert "a group" in bad[0].reason


def test_what_is_found_at_the_end_names_who_ran_before(long):
    result = long(LEAVE.format("guest.left_at_last = 'memory'"), "--lab-long=1")
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines(
        ["*they left something*", "in its guest 3 ran before:", "*--lab-long=1 @*"]
    )


def test_what_fails_names_who_ran_before(long, run):
    result = long(LEAVE.format("assert number != 2"), "--lab-long=1")
    result.assert_outcomes(passed=3, failed=1)
    names = order(result)
    (failed,) = (path for path in run.evidence() if path.name.endswith("test_it-2"))
    before = (failed / "before.txt").read_text().splitlines()
    assert [one.partition("::")[2] for one in before] == names[: names.index("test_it[2]") + 1]


LOCKDEP = "WARNING: possible circular locking dependency detected"


def test_a_complaint_fails_the_scenario_under_which_it_came_and_names_who_ran_before(long):
    result = long(LEAVE.format(f"guest.says({LOCKDEP!r}) if number == 2 else None"), "--lab-long=1")
    result.assert_outcomes(passed=3, failed=1)
    at = order(result).index("test_it[2]")
    said = f"in its guest {at} ran before:" if at else "it was the first scenario in its guest"
    result.stdout.fnmatch_lines(["*the kernel complained: *", said])
