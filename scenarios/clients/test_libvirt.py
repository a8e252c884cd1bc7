"""How does libvirt handle a group of several devices?"""

import pytest

from vfio_lab_pytest.claims import claim

pytestmark = [pytest.mark.image("clients"), pytest.mark.topology("multifunction")]


@claim("G12")
def test_detach_moves_one_device_and_reattach_moves_it_back(libvirt, hosted_pair):
    """virsh nodedev-detach and nodedev-reattach change the driver of one function only."""
    first, second = hosted_pair
    assert libvirt.detach(first).exit == 0
    assert (first.driver, second.driver) == ("vfio-pci", "e1000e")
    assert libvirt.reattach(first).exit == 0
    assert (first.driver, second.driver) == ("e1000e", "e1000e")


@claim("G13", "G14")
def test_a_domain_starts_when_the_whole_group_is_detached(libvirt, hosted_pair):
    """libvirt starts a domain only after all devices of the group are detached."""
    first, second = hosted_pair
    libvirt.detach(first)
    assert "group 11 is not viable" in libvirt.create(first).stderr
    libvirt.detach(second)
    assert libvirt.create(first).exit == 0
