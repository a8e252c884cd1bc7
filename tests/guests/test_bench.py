"""Does the benchmark measure on real guests what it says?"""

from vfio_lab.campaign import benchmark


def test_starts_are_timed_in_turn(guest_factory):
    found = benchmark.time_starts(guest_factory, 2, 1)
    assert (len(found.clones), len(found.cold)) == (2, 1)


def test_clones_are_weighed_alone_and_in_company(guest_factory):
    found = {one.key: one.value for one in benchmark.weigh_clones(guest_factory, 1)}
    assert found.keys() == {"private_mb_per_guest", "private_mb_alone"}
    assert min(found.values()) > 1


def test_what_a_scenario_runs_is_counted(guest_factory):
    found = benchmark.count_translated(guest_factory)
    assert all(one.value > 1000 for one in found)
    assert bool(found) == (guest_factory.accelerator.name == "tcg")
