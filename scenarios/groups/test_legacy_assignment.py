"""Can a device be assigned without its group?

Thread: 2013-groups (KVM's own device assignment assigned single functions of a group).
Kernel: virt/kvm/kvm_main.c, kvm_vm_ioctl().
"""

from errno import ENOTTY

import pytest

from vfio_lab.client.call import Buffer
from vfio_lab_pytest.claims import claim
from vfio_lab_pytest.verdicts import refused

KVM_CREATE_VM = 0xAE01
KVM_CHECK_EXTENSION = 0xAE03
KVM_CAP_IRQCHIP = 0
KVM_CAP_DEVICE_ASSIGNMENT = 17
KVM_ASSIGN_PCI_DEVICE = 0x8040AE69
ASSIGNED_DEVICE_BYTES = 64


@pytest.fixture
def kvm(guest, user):
    """The user's /dev/kvm."""
    svm = " svm " in guest.root.read_file("/proc/cpuinfo")
    guest.load("kvm_amd" if svm else "kvm_intel")
    return user.open_path("/dev/kvm")


@claim("E39")
def test_kvm_assigns_no_devices_itself(user, kvm):
    """KVM has neither the capability nor the ioctl for device assignment."""
    ask = {"request": KVM_CHECK_EXTENSION, "name": "KVM_CHECK_EXTENSION"}
    assert user.ioctl(kvm, arg=KVM_CAP_IRQCHIP, **ask).value == 1
    assert user.ioctl(kvm, arg=KVM_CAP_DEVICE_ASSIGNMENT, **ask).value == 0
    machine = user.ioctl(kvm, KVM_CREATE_VM, name="KVM_CREATE_VM").value
    device = Buffer(bytes(ASSIGNED_DEVICE_BYTES))
    with refused(ENOTTY):
        user.ioctl(machine, KVM_ASSIGN_PCI_DEVICE, device, name="KVM_ASSIGN_PCI_DEVICE")
