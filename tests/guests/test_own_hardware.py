"""Does a scenario get the hardware that it asked for, whatever was asked for before and after?"""

from dataclasses import replace

import pytest

from vfio_lab.errors import BuildError
from vfio_lab.hw.catalogue import find_topology, topologies
from vfio_lab.hw.models import E1000E, EDU, IGB
from vfio_lab.hw.topology import MEMORY_MIB
from vfio_lab.hw.tree import Bar, Endpoint, RootPort
from vfio_lab.machine.hardware import verify_hardware, verify_migratable

PLAIN = find_topology("igb")
TWO_CPUS = replace(PLAIN, cpus=2)  # of the same name
MORE_MEMORY = replace(PLAIN, memory_mib=2 * MEMORY_MIB)
BOOT_WORDS = replace(PLAIN, boot_words=("vfio_lab_test=1",))
SUBSYSTEM = replace(E1000E, options=(*E1000E.options, "subsys=0x4711"))
OWN_DEVICE = replace(
    PLAIN, name="own", children=(RootPort("port0", (Endpoint("nic0", SUBSYSTEM),), hotplug=False),)
)
FREEZABLE = [each for each in topologies().values() if each.freezable]


def cpus(root):
    return int(root.run("nproc").stdout)


def memory_mib(root):
    """Return what the kernel was given, rounded up to a quarter of a GiB."""
    words = root.read_file("/proc/meminfo").split()
    return -(-int(words[1]) // (256 * 1024)) * 256


def test_the_plain_one(root):
    """What a mark or its absence says, before anything else."""
    assert (cpus(root), memory_mib(root)) == (1, MEMORY_MIB)


class TestFixtureOfItsOwn:
    """Scenarios that override the fixture `topology`."""

    @pytest.fixture
    def topology(self):
        """Two CPUs."""
        return TWO_CPUS

    def test_after_another(self, root):
        """The one before has the plain topology, and no mark says that this one has not."""
        assert cpus(root) == 2

    def test_after_one_alike(self, root):
        """Its clone may have been made in advance."""
        assert cpus(root) == 2


def test_the_plain_one_after_another_of_its_name(root):
    """A topology of the same name has left nothing behind."""
    assert cpus(root) == 1


@pytest.mark.topology(TWO_CPUS)
def test_a_mark_takes_a_value(root):
    """CPUs."""
    assert cpus(root) == 2


@pytest.mark.parametrize("topology", [MORE_MEMORY, "igb"], indirect=True)
def test_a_parameter_takes_a_value(root, topology):
    """Memory."""
    assert memory_mib(root) == topology.memory_mib


@pytest.mark.parametrize("topology", ["nvme-sriov", "cxl"], indirect=True)
def test_a_guest_without_a_template_has_what_its_topology_says(guest):
    """Others are compared when their template is frozen."""
    verify_hardware(guest)


def test_a_bar_of_another_size_is_told(guest):
    """So is any other difference from the topology."""
    wrong = replace(IGB, bars=(Bar(0, 4096),))
    port = RootPort("port0", (Endpoint("pf0", wrong),))
    guest.machine = replace(guest.machine, topology=replace(PLAIN, children=(port,)))
    with pytest.raises(BuildError, match="BAR 0 of pf0 has 0x20000 bytes, not 0x1000"):
        verify_hardware(guest)


@pytest.mark.topology(BOOT_WORDS)
def test_boot_words_of_its_own(root):
    """A word on the kernel's command line."""
    assert "vfio_lab_test=1" in root.read_file("/proc/cmdline").split()


@pytest.mark.topology(OWN_DEVICE)
def test_a_device_with_an_option_of_its_own(guest):
    """Below a port of its own, too."""
    assert guest.function("nic0").read("subsystem_device") == "0x4711"


def test_a_device_that_is_not_saved_is_told_before_a_template_is_made(guest_factory):
    """A clone of it would read zeros, and nothing would say why."""
    forgotten = replace(EDU, unmigratable="")
    wrong = replace(OWN_DEVICE, children=(RootPort("port0", (Endpoint("edu0", forgotten),)),))
    with pytest.raises(BuildError, match=r"(?s)topology own.*edu0.*unmigratable"):
        guest_factory.boot_spec(wrong)


@pytest.mark.parametrize("hardware", FREEZABLE, ids=str)
def test_all_devices_of_a_topology_with_a_template_are_saved(guest_factory, hardware):
    """QEMU saves whatever the catalogue does not mark."""
    verify_migratable(hardware, guest_factory.caps)
