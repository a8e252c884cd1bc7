"""The next scenario's guest, cloned while this one runs."""

pytest_plugins = ["pytester"]

# What `machine` notes of templates, and guests that QEMU would be launched for.
CLONING = """
import vfio_lab.machine.prefetch
from vfio_lab_pytest.guests import TEMPLATES
from vfio_lab.image.rootfs import BASE


class Launched(FakeGuest):
    @classmethod
    def launch(cls, *args, keepable):
        print("launched", args[0])
        return cls(*args)

    def wake(self):
        self.qemu = SimpleNamespace(kill=lambda: print("killed"))


@pytest.fixture(autouse=True)
def template(monkeypatch, pytestconfig, machine):
    monkeypatch.setattr(vfio_lab.machine.prefetch, "Guest", Launched)
    machine.frozen = True
    pytestconfig.stash.setdefault(TEMPLATES, {})[machine.topology, BASE] = machine
"""
IN_A_ROW = """
@claim("A02")
@pytest.mark.parametrize("number", [1, 2])
def test_it(guest, number):
    '''It is so.'''

@claim("A02")
@pytest.mark.topology("igb-pair")
def test_of_another_topology(guest):
    '''It is so.'''

@claim("A02")
def test_that_asks_for_a_guest_at_last(request):
    '''It is so.'''
"""


def test_the_next_scenarios_guest_is_cloned_meanwhile(run):
    result = run(IN_A_ROW, "-s", conftest=run.conftest + CLONING)
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*launched test_it.py-test_it-2", *[".guest closed"] * 3])
    assert str(result.stdout).count("launched") == 1
    assert len(run.evidence()) == 3


def test_a_guest_that_nobody_came_for_is_thrown_away(run):
    result = run(IN_A_ROW, "-s", conftest=run.conftest + CLONING + STOPS)
    assert len(run.evidence()) == 1
    result.stdout.fnmatch_lines(["*launched test_it.py-test_it-2*", "*killed*"])


STOPS = """
def pytest_runtest_teardown(item):
    item.session.shouldstop = "enough"
"""


def test_a_fixture_of_the_files_own_is_cloned_for_too_and_no_other_gets_it(run):
    result = run(ANOTHER_SINCE_A_FIXTURE_SAYS_SO, "-s", conftest=run.conftest + CLONING)
    result.assert_outcomes(passed=4)
    launched = [
        "*launched test_it.py-TestOwn-test_it-1*",
        "*killed*",
        "*launched*TestOwn-test_it-2*",
    ]
    result.stdout.fnmatch_lines(launched)
    assert str(result.stdout).count("launched") == 3
    assert str(result.stdout).count("killed") == 1


ANOTHER_SINCE_A_FIXTURE_SAYS_SO = """
from vfio_lab.hw.catalogue import find_topology

@claim("A02")
def test_it(guest):
    '''It is so.'''

class TestOwn:
    @pytest.fixture
    def topology(self):
        return find_topology("igb-pair")

    @claim("A02")
    @pytest.mark.parametrize("number", [1, 2])
    def test_it(self, guest, number):
        '''It is so.'''
        assert guest.machine.topology.name == "igb-pair"

@claim("A02")
def test_another(guest):
    '''It is so.'''
    assert guest.machine.topology.name == "igb"
"""
