"""A project of people's own: how it is found, and what its extensions add."""

import pytest

from vfio_lab.campaign import mutants, runs
from vfio_lab.drivers import nic_drivers
from vfio_lab.errors import UsageError
from vfio_lab.hw.catalogue import find_topology, topologies
from vfio_lab.image.rootfs import recipe, recipes
from vfio_lab.kernels.packaged import kernel_catalogue
from vfio_lab.spec.changes import load_changes
from vfio_lab.spec.claims import load_claims, select
from vfio_lab.spec.scenarios import by_claim
from vfio_lab.util import resources
from vfio_lab.util.project import current_project, evidence_folder, standing_in
from vfio_lab.util.registry import Registry

TOPOLOGIES = """
from vfio_lab.hw.models import E1000E
from vfio_lab.hw.topology import Topology
from vfio_lab.hw.tree import Endpoint, RootPort

TOPOLOGIES = (Topology("{name}", "one NIC", (RootPort("port0", (Endpoint("nic0", E1000E),)),)),)
"""
DRIVERS = """
from vfio_lab.drivers.intel_nic import IntelNic

class Ours(IntelNic):
    pass

NICS = {{{device}: Ours}}
"""
CLAIMS = """
[[area]]
letter = "MY"
word = "mine"
title = "what is mine"

[[change]]
id = "my-change"
subject = "a change"
mainline = "6.1"
evidence = "the log"

[[claim]]
id = "{id}"
sentence = "It is so."
thread = "mainline"
source = "x.c:y"
since = ["my-change"]
"""
SCENARIO = """
@claim("MY01")
def test_it(pf):
    \"\"\"It is so.\"\"\"
"""
IMAGES = '[images.mine]\nfiles = { "motd" = "etc/motd" }\n[images.mine.packages]\nstrace = "why"\n'
KERNELS = """
[kernels."5.10"]
about = "old"
package = "linux-source-5.10"
suites = ["bullseye"]
steps = { plain = 10 }

[flavours.mine]
about = "with a watchdog"
fragment = "watchdog"
"""
FRAGMENT = "CONFIG_SOFT_WATCHDOG=m  # a scenario of ours opens it\n"
PATCH = "Breaks: it.\nCovers: test_mine.py\n\n--- a/drivers/vfio/x.c\n+++ b/drivers/vfio/x.c\n"


@pytest.fixture
def project(tmp_path, request):
    """A project with one of everything, and instead of a file what the test's parameter says."""
    package = f"ours_{abs(hash(request.node.nodeid))}"
    files = {
        "pyproject.toml": f'[tool.vfio-lab]\nextensions = ["{package}"]\n',
        "scenarios/test_mine.py": SCENARIO,
        f"{package}/__init__.py": "",
        f"{package}/topologies.py": TOPOLOGIES.format(name="one-nic"),
        f"{package}/drivers.py": DRIVERS.format(device="0x1234"),
        f"{package}/spec/claims.toml": CLAIMS.format(id="MY01"),
        f"{package}/images/rootfs.toml": IMAGES,
        f"{package}/images/motd": "hello",
        f"{package}/images/kernels.toml": KERNELS,
        f"{package}/images/config/watchdog.config": FRAGMENT,
        f"{package}/faults/7.3/mine.patch": PATCH,
    }
    name, text = getattr(request, "param", ("__init__.py", ""))
    files[f"{package}/{name}"] = text
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / package


def test_an_extension_stands_beside_what_is_the_labs(project):
    with standing_in(project.parent):
        assert {"igb", "one-nic"} <= set(topologies())
        assert find_topology("one-nic").function("nic0").model.qemu == "e1000e"
        assert {"0x10c9", "0x1234"} <= set(nic_drivers())
        assert {"A01", "MY01"} <= set(load_claims())
        assert load_claims()["MY01"].since == (load_changes()["my-change"],)
        assert [claim.id for claim in select(area="my")] == ["MY01"]
        assert {"7.3", "5.10", "5.10:debug"} <= set(kernel_catalogue().specs)


def test_an_image_of_a_project_is_the_base_with_its_own_on_top(project):
    with standing_in(project.parent):
        assert {"base", "clients", "mine"} <= set(recipes())
        assert {"strace", *recipe().packages} == set(recipe("mine").packages)
        assert recipe("mine").files["/etc/motd"].read_text() == "hello"


def test_a_flavour_of_a_project_puts_its_fragment_on_every_kernel(project):
    with standing_in(project.parent):
        specs = kernel_catalogue().specs
        plain, mine = ({one.name for one in specs[name].asked} for name in ("7.3", "7.3:mine"))
        assert mine - plain == {"SOFT_WATCHDOG"}
        assert {"5.10:mine", "6.12:debug"} <= set(specs)
        assert specs["7.3:mine"].about == "with a watchdog"
        (project / "images/config/watchdog.config").unlink()
        with pytest.raises(UsageError, match="no configuration fragment 'watchdog'"):
            kernel_catalogue()


def test_scenarios_of_a_project_are_what_commands_run(project):
    with standing_in(project.parent):
        assert by_claim()["MY01"] == ("scenarios/test_mine.py::test_it",)
        assert by_claim()["A02"]
        assert runs.Choice().words == ["scenarios"]
        before = runs.sources()
        (project.parent / "scenarios/test_mine.py").write_text("")
        assert runs.sources() != before


def test_faults_are_covered_by_the_projects_scenarios(project):
    with standing_in(project.parent):
        covers = {fault.name: fault.covers for fault in mutants.read_mutants("7.3")}
        assert covers["mine"] == ("scenarios/test_mine.py",)
        assert covers["token-wrong-errno"] == ()


@pytest.mark.parametrize(
    ("project", "read"),
    [
        (("topologies.py", TOPOLOGIES.format(name="igb")), topologies),
        (("drivers.py", DRIVERS.format(device="0x10c9")), nic_drivers),
        (("spec/claims.toml", CLAIMS.format(id="A02")), load_claims),
        (("images/rootfs.toml", "[images.clients]"), recipes),
        (("images/kernels.toml", KERNELS.replace("5.10", "6.12")), kernel_catalogue),
        (("images/kernels.toml", KERNELS.replace("mine", "gcov")), kernel_catalogue),
    ],
    ids=["topology", "driver", "claim", "image", "kernel", "flavour"],
    indirect=["project"],
)
def test_a_name_that_the_lab_has_is_refused_with_both_places(project, read):
    with standing_in(project.parent):
        with pytest.raises(UsageError, match=r"is defined twice") as error:
            read()
        assert str(project) in error.value.seen
        assert " and " in error.value.seen


@pytest.mark.parametrize(
    ("project", "words"),
    [
        (("spec/claims.toml", CLAIMS.format(id="NO01")), "no area NO"),
        (("spec/claims.toml", CLAIMS.format(id="MY-1")), "MY-1 is not a claim's ID"),
        (("spec/claims.toml", CLAIMS.replace("sentence", "sentense")), "claims.toml is invalid"),
    ],
    ids=["area", "ID", "field"],
    indirect=["project"],
)
def test_a_claim_that_is_not_understood_is_refused(project, words):
    with standing_in(project.parent), pytest.raises(UsageError, match=words):
        load_claims()


@pytest.mark.parametrize("project", [("topologies.py", "TOPOLOGIES = 1 / 0")], indirect=True)
def test_a_module_that_cannot_be_imported_is_named(project):
    with standing_in(project), pytest.raises(UsageError, match=f"{project}/topologies.py cannot"):
        topologies()


def test_a_project_is_found_from_below_and_named_by_a_variable(project, monkeypatch):
    below, elsewhere = project / "spec", project.parent.parent
    with standing_in(below):
        assert current_project().root == project.parent
    with standing_in(elsewhere):
        assert current_project() is None
    with monkeypatch.context() as patch:
        patch.setattr("vfio_lab.util.project._entered", [])
        patch.setenv("VFIO_LAB_PROJECT", str(below))
        assert current_project().root == project.parent


def test_evidence_is_below_the_project_and_elsewhere_in_the_state_folder(project, monkeypatch):
    with standing_in(project):
        assert evidence_folder() == project.parent / ".artifacts"
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    with standing_in(project.parent.parent):
        assert str(evidence_folder()) == "/state/vfio-lab/evidence"


def test_the_labs_checkout_is_a_project_of_its_own():
    with standing_in(resources.root() / "docs"):
        assert current_project().is_the_lab


@pytest.mark.parametrize("line", ['extension = ["x"]', "extensions = 1", "scenarios = []"])
def test_a_table_that_is_not_understood_is_refused(tmp_path, line):
    (tmp_path / "pyproject.toml").write_text(f"[tool.vfio-lab]\n{line}\n")
    with standing_in(tmp_path), pytest.raises(UsageError, match="is invalid"):
        current_project()


def test_a_package_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.vfio-lab]\nextensions = ["not_there"]\n')
    with standing_in(tmp_path), pytest.raises(UsageError, match=r"cannot import .* not_there"):
        topologies()


def test_what_is_not_registered_can_be_asked_for():
    known = Registry("thing", {"one": 1})
    assert (known.get("one"), known.get("two"), known.get("two", 2)) == (1, None, 2)
    with pytest.raises(UsageError, match="there is no thing two"):
        _ = known["two"]
