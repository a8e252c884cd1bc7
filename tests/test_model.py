"""Does the model say what the claims say, and does exploration choose, shorten and tell well?"""

from errno import EACCES, EBUSY, EINVAL

import pytest

from vfio_lab.hw.catalogue import find_topology
from vfio_lab.model import rules
from vfio_lab.model.exploration.pasted import LINES, scenario
from vfio_lab.model.exploration.performer import Performer
from vfio_lab.model.exploration.platforms import platform
from vfio_lab.model.exploration.shrink import possible, shortest
from vfio_lab.model.exploration.steps import ROOT, Step, take
from vfio_lab.model.exploration.trial import Disagreement
from vfio_lab.model.exploration.walk import USERS, Walk, generate
from vfio_lab.model.rules import Blocks
from vfio_lab.model.state import fresh
from vfio_lab.spec.claims import load_claims

NEW, OLD = (7, 3, 4), (6, 1, 176)


def start(topology="igb", version=NEW):
    options = {"VFIO_NOIOMMU": "y", "IOMMUFD": "y", "VFIO_DEVICE_CDEV": "y"}
    known = find_topology(topology)
    return fresh(platform(known, lambda one: one.in_version(version), options.get), USERS)


def root(call, **given):
    return Step(call, ROOT, given)


def alice(call, **given):
    return Step(call, "alice", given)


def get_device(group, function, name, number, new):
    words = {"group": group, "function": function, "name": name, "new": new}
    return Step("get_device", "alice", words | {"token": f"T{number}"})


def walked(state, *steps):
    """Return the result of the last step, and the state after it."""
    for step in steps:
        result, state = take(state, step)
    return result, state


READY = (
    root("set_parameter", name="enable_sriov", on=True),
    root("bind", function="pf0", driver="vfio-pci"),
    root("set_numvfs", function="pf0", count=1),
)
OPENING = (
    alice("open_group", function="pf0.vf0", new="g1"),
    alice("open_container", new="n1"),
    alice("set_container", group="g1", file="n1"),
    alice("set_iommu", container="n1", type=1),
)
SETTING = (
    alice("open_group", function="pf0", new="g0"),
    get_device("g0", "pf0", "token", 1, "d0"),
)


def opened(number, name="token"):
    return get_device("g1", "pf0.vf0", name, number, "d1")


@pytest.mark.parametrize(
    ("last", "errno"),
    [(opened(1), 0), (opened(2), EACCES), (opened(1, "plain"), EACCES)],
)
def test_a_vf_opens_with_the_token_that_its_pf_was_given(last, errno):
    result, _ = walked(start(), *READY, *SETTING, *OPENING, last)
    assert result.errno == errno


def test_a_step_leaves_the_state_before_it_alone():
    _, state = walked(start(), *READY)
    before = repr(state)
    walked(state, *SETTING, *OPENING, opened(1), Step("kill", "alice"))
    assert repr(state) == before


def test_closing_a_device_lets_go_of_its_group():
    _, state = walked(start(), *READY, *SETTING, *OPENING, opened(1), alice("close", file="g1"))
    again = alice("open_group", function="pf0.vf0", new="g2")
    assert take(state, again)[0].errno == EBUSY
    assert walked(state, alice("close", file="d1"), again)[0].errno == 0


def test_the_kernel_waits_for_users_before_a_driver_goes():
    _, state = walked(start(), *READY, *SETTING, *OPENING, opened(1))
    with pytest.raises(Blocks):
        take(state, root("unbind", function="pf0"))
    assert walked(state, Step("kill", "alice"), root("unbind", function="pf0"))[0].errno == 0


@pytest.mark.parametrize(("version", "affected"), [(NEW, {"pf0", "pf0.vf0"}), (OLD, {"pf0"})])
def test_what_a_slot_is_depends_on_the_kernel(version, affected):
    steps = (
        *READY,
        alice("open_group", function="pf0", new="g1"),
        *OPENING[1:],
        get_device("g1", "pf0", "plain", 1, "d1"),
        alice("hot_reset_info", device="d1", way=""),
    )
    result, state = walked(start(version=version), *steps)
    assert set(result.facts["devices"]) == affected
    reset = alice("hot_reset", device="d1", files=("g1",), way="")
    assert take(state, reset)[0].errno == (EINVAL if len(affected) > 1 else 0)


def test_rules_cite_claims_that_exist():
    cited = {claim for claims in rules.CITED.values() for claim in claims}
    assert cited <= set(load_claims())
    assert all(rules.CITED.values())


def test_every_rule_can_be_performed_and_told():
    assert set(rules.RULES) == set(LINES)
    assert all(callable(getattr(Performer, name)) for name in rules.RULES)


class Enough(BaseException):
    """The walks are over."""


def walks(key, count, other=None, topology="igb"):
    """Return the steps of some walks."""
    found = []

    def receive(steps):
        found.append(list(steps))
        if len(found) == count:
            raise Enough

    with pytest.raises(Enough):
        generate(start(topology), key, receive, other)
    return found


def test_the_same_seed_walks_the_same_way():
    assert walks("1", 6) == walks("1", 6)
    assert walks("1", 6) != walks("2", 6)


def test_walks_of_two_kernels_avoid_what_is_known_to_differ():
    old = start(version=OLD)
    for steps in walks("1", 6, old):
        new, other = start(), old
        for step in steps:
            (mine, new), (others, other) = take(new, step), take(other, step)
            assert mine == others


@pytest.mark.parametrize("topology", ["igb", "noiommu"])
def test_walks_do_all_kinds_of_things(topology):
    done = {step.call for steps in walks("1", 60, topology=topology) for step in steps}
    assert done == set(rules.RULES)


def test_a_disagreement_is_told_as_a_scenario_that_python_takes():
    for steps in walks("1", 10):
        text = scenario(start(), Disagreement(tuple(steps), "this", "that"), "igb")
        compile(text, "scenario", "exec")


def test_a_walk_is_shortened_to_what_is_needed():
    long = next(steps for steps in walks("1", 40) if sum(one.call == "open_group" for one in steps))
    steps = possible(start(), [*READY, *long, *OPENING, alice("get_status", group="g1")])
    attempts = []

    def attempt(kept):
        attempts.append(kept)
        ok = kept[-1].call == "get_status"
        return Disagreement(tuple(kept), "flags=1", "flags=0") if ok else None

    found = Disagreement(tuple(steps), "flags=1", "flags=0")
    least = shortest(start(), found, attempt)
    assert [one.call for one in least.steps if one.user == "alice"] == ["open_group", "get_status"]
    assert len(least.steps) <= len(READY) + 2


def test_the_machine_has_one_hypothesis_rule_that_weighs_what_to_do():
    assert len(Walk.setup_state().rules) == 1
