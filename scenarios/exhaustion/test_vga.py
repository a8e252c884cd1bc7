"""What is left of a failed bind of a VGA device?

Report: CVE-2026-64475: the VGA arbiter kept a client whose memory was freed. Kernel:
drivers/vfio/pci/vfio_pci_core.c, vfio_pci_vga_init() and vfio_pci_core_register_device().
"""

from functools import partial

import pytest

from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.memory import take

pytestmark = pytest.mark.topology("misc-devices")
ARBITER = "/dev/vga_arbiter"


@pytest.fixture
def meant(guest):
    """The VGA device, meant for vfio-pci and on no driver."""
    function = guest.function("vga0")
    function.bind_with_sriov()
    function.unbind()
    return function


@claim("M19")
@pytest.mark.complains("WARN")  # a group without a node is dropped too early
def test_the_arbiter_has_no_client_of_a_failed_bind(fail_each_allocation, user, root, meant):
    """A VGA device that could not be bound is known to the arbiter as before, and can be bound."""
    fail_each_allocation(root, partial(take, meant), lambda _: meant.unbind())
    assert meant.driver is None
    arbiter = user.open_path(ARBITER)
    user.write(arbiter, f"target PCI:{meant}".encode())
    assert f"PCI:{meant},decodes=io+mem" in user.read(arbiter, 256).decode()
    take(meant)
    assert meant.driver == "vfio-pci"
