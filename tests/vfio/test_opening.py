"""The client: how devices are opened, by group and by cdev, and what a refused step closes."""

import errno
import struct
import uuid

import pytest

from vfio_lab.client.call import Refusal
from vfio_lab.errors import UsageError
from vfio_lab.hw.pci import Bdf
from vfio_lab.uapi import vfio
from vfio_lab.vfio import Group, open_cdev_path, open_group_path
from vfio_lab.vfio.paths import cdev_node, group_node, with_options

VF = "0000:01:10.0"
TOKEN = uuid.UUID("2ab74924-c335-45f4-9b16-8569e5b08258")


def test_the_group_path_takes_its_steps_in_the_kernels_order(user):
    open_group_path(user, VF, 7, token=TOKEN)
    assert [call[0] for call in user.calls] == [
        "open",
        "open",
        "VFIO_GROUP_SET_CONTAINER",
        "VFIO_SET_IOMMU",
        "VFIO_GROUP_GET_DEVICE_FD",
    ]
    assert user.argument("VFIO_GROUP_SET_CONTAINER").data == struct.pack("<i", 4)
    assert user.argument("VFIO_SET_IOMMU") == vfio.VFIO_TYPE1v2_IOMMU
    name = user.argument("VFIO_GROUP_GET_DEVICE_FD").data
    assert name == b"0000:01:10.0 vf_token=2ab74924-c335-45f4-9b16-8569e5b08258\0"


def test_a_noiommu_group_gets_the_noiommu_type(user):
    open_group_path(user, VF, "noiommu-2")
    assert user.calls[0] == ("open", "/dev/vfio/noiommu-2")
    assert user.argument("VFIO_SET_IOMMU") == vfio.VFIO_NOIOMMU_IOMMU


def test_closing_the_device_closes_group_and_container_once(user):
    device = open_group_path(user, Bdf(0, 1, 0x10), 7)
    with device:
        assert device.container is device.group.container
    device.close()
    assert user.closed() == ["device", "/dev/vfio/7", "/dev/vfio/vfio"]
    assert user.open_fds == {}


@pytest.mark.parametrize(
    ("step", "closed"),
    [
        ("/dev/vfio/7", []),
        ("/dev/vfio/vfio", ["/dev/vfio/7"]),
        ("VFIO_GROUP_SET_CONTAINER", ["/dev/vfio/vfio", "/dev/vfio/7"]),
        ("VFIO_SET_IOMMU", ["/dev/vfio/vfio", "/dev/vfio/7"]),
        ("VFIO_GROUP_GET_DEVICE_FD", ["/dev/vfio/vfio", "/dev/vfio/7"]),
    ],
)
def test_a_refused_step_of_the_group_path_leaves_nothing_open(user, step, closed):
    user.refuse = {step: errno.EACCES}
    with pytest.raises(Refusal) as refusal:
        open_group_path(user, VF, 7)
    assert refusal.value.errno == errno.EACCES
    assert user.closed() == closed
    assert user.open_fds == {}


@pytest.mark.parametrize("step", ["/dev/iommu", "/dev/vfio/devices/vfio3", "BIND"])
def test_a_refused_step_of_the_cdev_path_leaves_nothing_open(user, step):
    user.refuse = {step.replace("BIND", "VFIO_DEVICE_BIND_IOMMUFD"): errno.EACCES}
    with pytest.raises(Refusal):
        open_cdev_path(user, VF, "vfio3")
    assert user.open_fds == {}


def test_all_that_a_device_owns_is_closed_even_when_one_close_is_refused(user):
    device = open_group_path(user, VF, 7)
    close = user.close

    def refused_once(fd):
        close(fd)
        if fd == device.group.fd or "7" in user.closed()[-1]:
            raise Refusal(errno.EIO, "user", "close", "")

    user.close = refused_once
    with pytest.raises(Refusal):
        device.close()
    assert user.open_fds == {}


def test_a_duplicate_closes_alone(user):
    device = open_group_path(user, VF, 7)
    twin = device.dup()
    twin.close()
    assert user.closed() == ["dup of device"]
    assert twin.fd == -1
    assert device.fd != -1


def test_a_childs_handle_has_the_same_number_and_its_own_user(user, device):
    child = type(user)()
    child.open_fds = dict(user.open_fds)
    inherited = device.inherited_by(child)
    inherited.reset()
    assert inherited.fd == device.fd
    assert child.calls == [("VFIO_DEVICE_RESET", 0)]
    assert user.calls == []


def test_sysfs_tells_which_group_and_which_node(user):
    user.links[f"/sys/bus/pci/devices/{VF}/iommu_group"] = "../../../kernel/iommu_groups/12"
    user.folders[f"/sys/bus/pci/devices/{VF}/vfio-dev"] = ["vfio4"]
    assert group_node(user, VF) == "12"
    assert cdev_node(user, VF) == "vfio4"
    user.paths.add("/dev/vfio/noiommu-12")
    assert group_node(user, VF) == "noiommu-12"


def test_a_device_without_a_character_device_is_named(user):
    user.folders[f"/sys/bus/pci/devices/{VF}/vfio-dev"] = []
    with pytest.raises(UsageError, match=VF):
        cdev_node(user, VF)


@pytest.mark.parametrize("token", [str(TOKEN), "not a uuid", b"x" * 16, 7])
def test_a_token_that_is_no_uuid_never_reaches_the_kernel(user, token):
    with pytest.raises(UsageError, match="UUID"):
        open_group_path(user, VF, 7, token=token)
    with pytest.raises(UsageError, match="UUID"):
        open_cdev_path(user, VF, "vfio3", token=token)
    assert user.calls == []


def test_raw_options_go_as_they_are():
    assert with_options(VF, None, "vf_token=junk  ") == f"{VF} vf_token=junk  "
    assert with_options(VF, TOKEN, "x=1") == f"{VF} vf_token={TOKEN} x=1"
    assert with_options(VF) == VF


def test_get_device_fd_takes_any_bytes_and_any_address(user):
    with Group(user, 7) as group:
        group.get_device_fd(b"\xff\t ")
        assert user.argument("VFIO_GROUP_GET_DEVICE_FD").data == b"\xff\t \0"
        group.get_device_fd("", pointer=8)
        assert user.argument("VFIO_GROUP_GET_DEVICE_FD") == 8


def test_a_container_must_be_one_to_be_asked_for(user):
    with Group(user, 7) as group:
        group.set_container(4711)
        device = group.get_device_fd(VF)
        with pytest.raises(UsageError, match="container"):
            _ = device.container
