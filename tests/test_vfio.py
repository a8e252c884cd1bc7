"""The client: what it packs into system calls, and what it closes when one is refused."""

import errno
import struct
import uuid

import pytest

from lab.errors import AgentError, UsageError
from lab.pci import Bdf
from lab.uapi import iommufd, vfio, vfio_type1
from lab.user import Buffer, Refusal, Reply
from lab.vfio import Cdev, Container, Group, Iommufd, open_cdev_path, open_group_path
from lab.vfio.capabilities import capabilities
from lab.vfio.device import Device
from lab.vfio.group import GroupDevice
from lab.vfio.hot_reset import hot_reset_info_bytes, left_in_buffer
from lab.vfio.paths import cdev_node, group_node, open_affected_groups, with_options

VF = "0000:01:10.0"
TOKEN = uuid.UUID("2ab74924-c335-45f4-9b16-8569e5b08258")


class ScriptedUser:
    """Stands where lab.user.User does: records calls, answers from a script."""

    name = "user"

    def __init__(self, answers=None, refuse=None):
        self.calls = []
        self.next_fd = 3
        self.open_fds = {}
        self.answers = answers or {}
        self.refuse = refuse or {}
        self.links = {}
        self.folders = {}
        self.paths = set()

    def _check(self, call):
        if call in self.refuse:
            raise Refusal(self.refuse[call], self.name, call, "")

    def _new_fd(self, what):
        fd, self.next_fd = self.next_fd, self.next_fd + 1
        self.open_fds[fd] = what
        return fd

    def open_path(self, path):
        self.calls.append(("open", path))
        self._check(path)
        return self._new_fd(path)

    def close(self, fd):
        self.calls.append(("close", self.open_fds.pop(fd)))

    def dup(self, fd):
        return self._new_fd(f"dup of {self.open_fds[fd]}")

    def ioctl(self, fd, request, arg=0, *, name, about=""):
        """Make an ioctl; whatever it is, its name, number and words belong together."""
        assert fd in self.open_fds
        assert ioctl_number(name) == request
        assert about.startswith(str(fd))
        self.calls.append((name, arg))
        self._check(name)
        if name == "VFIO_GROUP_GET_DEVICE_FD":
            return Reply(self._new_fd("device"))
        answer = self.answers.get(name, 0)
        if isinstance(answer, int):
            return Reply(answer, tuple(_out(arg)))
        return Reply(0, answer(arg))

    def start(self, call, *args, label, about):
        assert call == "ioctl"
        return self.ioctl(*args, name=label, about=about)

    def pread(self, fd, size, offset):
        assert fd in self.open_fds
        self.calls.append(("pread", offset, size))
        return bytes(size)

    def readlink(self, path):
        return self.links[path]

    def listdir(self, path):
        return self.folders[path]

    def exists(self, path):
        return path in self.paths

    def argument(self, name):
        """Return the argument of the last call by that name."""
        return [call[1] for call in self.calls if call[0] == name][-1]


def ioctl_number(name):
    modules = (vfio, vfio_type1, iommufd)
    return next(getattr(one, name) for one in modules if hasattr(one, name))


def _out(arg):
    if isinstance(arg, Buffer):
        if arg.out:
            yield arg.data
        for _, inner in arg.pointers:
            yield from _out(inner)


def done(user):
    return [what for call, what, *_ in user.calls if call == "close"]


@pytest.fixture
def user():
    return ScriptedUser()


@pytest.fixture
def device(user):
    fd = user._new_fd("device")
    return Device(user, fd, VF)


@pytest.fixture
def cdev(user):
    return Cdev(user, "vfio3", VF)


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
    assert done(user) == ["device", "/dev/vfio/7", "/dev/vfio/vfio"]
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
def test_a_refused_step_of_the_group_path_leaves_nothing_open(step, closed):
    user = ScriptedUser(refuse={step: errno.EACCES})
    with pytest.raises(Refusal) as refusal:
        open_group_path(user, VF, 7)
    assert refusal.value.errno == errno.EACCES
    assert done(user) == closed
    assert user.open_fds == {}


@pytest.mark.parametrize("step", ["/dev/iommu", "/dev/vfio/devices/vfio3", "BIND"])
def test_a_refused_step_of_the_cdev_path_leaves_nothing_open(step):
    user = ScriptedUser(refuse={step.replace("BIND", "VFIO_DEVICE_BIND_IOMMUFD"): errno.EACCES})
    with pytest.raises(Refusal):
        open_cdev_path(user, VF, "vfio3")
    assert user.open_fds == {}


def test_all_that_a_device_owns_is_closed_even_when_one_close_is_refused(user):
    device = open_group_path(user, VF, 7)
    close = user.close

    def refused_once(fd):
        close(fd)
        if fd == device.group.fd or "7" in done(user)[-1]:
            raise Refusal(errno.EIO, "user", "close", "")

    user.close = refused_once
    with pytest.raises(Refusal):
        device.close()
    assert user.open_fds == {}


def test_a_duplicate_closes_alone(user):
    device = open_group_path(user, VF, 7)
    twin = device.dup()
    twin.close()
    assert done(user) == ["dup of device"]
    assert twin.fd == -1
    assert device.fd != -1


def test_a_childs_handle_has_the_same_number_and_its_own_user(user, device):
    child = ScriptedUser()
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


def test_binding_without_a_token_tells_the_size_every_kernel_knows(user, cdev):
    context = Iommufd(user)
    cdev.bind_iommufd(context)
    sent = user.argument("VFIO_DEVICE_BIND_IOMMUFD")
    assert sent.data == struct.pack("<IIiIQ", 16, 0, context.fd, 0, 0)
    assert sent.pointers == ()
    assert cdev.iommufd is context


def test_binding_with_a_token_points_at_its_bytes_in_text_order(user, cdev):
    cdev.bind_iommufd(5, TOKEN)
    sent = user.argument("VFIO_DEVICE_BIND_IOMMUFD")
    assert sent.data == struct.pack("<IIiIQ", 24, vfio.VFIO_DEVICE_BIND_FLAG_TOKEN, 5, 0, 0)
    assert sent.pointers == ((16, Buffer(bytes.fromhex(TOKEN.hex))),)


def test_bind_arguments_can_be_bent(user, cdev):
    cdev.bind_iommufd(-1, argsz=15, flags=2)
    assert user.argument("VFIO_DEVICE_BIND_IOMMUFD").data[:12] == struct.pack("<IIi", 15, 2, -1)
    cdev.bind_iommufd(5, token_pointer=64)
    assert user.argument("VFIO_DEVICE_BIND_IOMMUFD").data[16:] == struct.pack("<Q", 64)
    cdev.bind_iommufd(5, tail=b"\1")
    sent = user.argument("VFIO_DEVICE_BIND_IOMMUFD").data
    assert (len(sent), sent[0], sent[-1]) == (25, 25, 1)


def test_a_lying_size_gets_no_more_memory_than_a_page_or_so(user, device):
    device.get_info(argsz=0xFFFF_FFFF)
    sent = user.argument("VFIO_DEVICE_GET_INFO").data
    assert sent[:4] == b"\xff\xff\xff\xff"
    assert len(sent) == 1 << 16


def test_a_bad_pointer_is_passed_as_it_is(user, device):
    device.get_info(pointer=0)
    assert user.argument("VFIO_DEVICE_GET_INFO") == 0


def test_features_pack_header_and_data(user, device):
    device.set_vf_token(TOKEN)
    assert user.argument("VFIO_DEVICE_FEATURE").data == (
        struct.pack("<II", 24, vfio.VFIO_DEVICE_FEATURE_SET) + TOKEN.bytes
    )
    device.probe_feature(3, vfio.VFIO_DEVICE_FEATURE_SET)
    assert user.argument("VFIO_DEVICE_FEATURE").data == struct.pack("<II", 8, 0x60003)


def test_eventfds_are_set_as_signed_numbers(user, device):
    device.set_irq_eventfds(vfio.VFIO_PCI_MSIX_IRQ_INDEX, [9, -1], start=2)
    assert user.argument("VFIO_DEVICE_SET_IRQS").data == struct.pack(
        "<IIIIIii", 28, 0x24, 2, 2, 2, 9, -1
    )
    device.disable_irqs(vfio.VFIO_PCI_MSIX_IRQ_INDEX)
    assert user.argument("VFIO_DEVICE_SET_IRQS").data == struct.pack("<IIIII", 20, 0x21, 2, 0, 0)


def test_hot_reset_lists_groups_or_nothing(user, device):
    with Group(user, 7) as group:
        device.hot_reset([group, 99])
    packed = struct.pack("<IIIii", 20, 0, 2, group_fd(user), 99)
    assert user.argument("VFIO_DEVICE_PCI_HOT_RESET").data == packed
    device.hot_reset()
    assert user.argument("VFIO_DEVICE_PCI_HOT_RESET").data == struct.pack("<III", 12, 0, 0)
    device.hot_reset([1], count=5, flags=1, argsz=11)
    bent = struct.pack("<IIIi", 11, 1, 5, 1)
    assert user.argument("VFIO_DEVICE_PCI_HOT_RESET").data == bent


def test_an_execute_entered_is_the_execute_made(user, device):
    device.start_hot_reset([1, 2])
    sent = user.argument("VFIO_DEVICE_PCI_HOT_RESET").data
    device.hot_reset([1, 2])
    assert user.argument("VFIO_DEVICE_PCI_HOT_RESET").data == sent
    device.start_reset()
    assert user.argument("VFIO_DEVICE_RESET") == 0


def test_affected_groups_are_the_devices_own_and_each_other_once(user):
    groups = {"0000:01:00.0": 7, "0000:01:00.1": 8, "0000:01:00.2": 8}
    user.links = {f"/sys/bus/pci/devices/{bdf}/iommu_group": f"../{n}" for bdf, n in groups.items()}
    entries = (struct.pack("<IHBB", n, 0, 1, i) for i, n in enumerate(groups.values()))
    listed = struct.pack("<III", 36, 0, 3) + b"".join(entries)
    user.answers["VFIO_DEVICE_GET_PCI_HOT_RESET_INFO"] = lambda _: (listed,)
    own = Group(user, 7)
    device = GroupDevice(user, user._new_fd("device"), "0000:01:00.0", own)
    first, second = open_affected_groups(device)
    assert first is own
    assert second.label == "/dev/vfio/8"


def group_fd(user):
    """Return the only group's descriptor, which by now is closed."""
    return user.next_fd - 1


def test_hot_reset_info_names_functions_and_owners(device, user):
    def answer(_arg):
        entries = struct.pack("<IHBB", 5, 0, 1, 0) + struct.pack("<iHBB", -1, 0, 1, 0x82)
        return (struct.pack("<III", 28, 1, 2) + entries,)

    user.answers["VFIO_DEVICE_GET_PCI_HOT_RESET_INFO"] = answer
    info = device.hot_reset_info()
    assert (info.flags, info.count) == (vfio.VFIO_PCI_HOT_RESET_FLAG_DEV_ID, 2)
    assert info.bdfs == {"0000:01:00.0", "0000:01:10.2"}
    assert [one.devid for one in info.devices] == [5, vfio.VFIO_PCI_DEVID_NOT_OWNED]
    assert info.devids == {"0000:01:00.0": 5, "0000:01:10.2": vfio.VFIO_PCI_DEVID_NOT_OWNED}
    assert left_in_buffer(*answer(None)) == info
    sent = user.argument("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO").data
    assert len(sent) == struct.unpack_from("<I", sent)[0] == hot_reset_info_bytes() == 12 + 32 * 8


def test_what_stood_in_the_fields_of_info_is_sent(device, user):
    device.hot_reset_info(argsz=12, flags=1, count=2)
    sent = user.argument("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO").data
    assert sent == struct.pack("<III", 12, 1, 2)


def test_regions_are_reached_where_the_kernel_says_they_are(user, device):
    user.answers["VFIO_DEVICE_GET_REGION_INFO"] = lambda _: (
        struct.pack("<IIIIQQ", 32, 3, 7, 0, 4096, 7 << 40),
    )
    assert device.read_config(0x10, 4) == bytes(4)
    assert user.calls[-1] == ("pread", (7 << 40) + 0x10, 4)


def test_a_device_is_sent_to_sleep_with_an_eventfd_or_without(user, cdev):
    cdev.enter_low_power()
    assert user.argument("VFIO_DEVICE_FEATURE").data == struct.pack("<II", 8, 1 << 17 | 3)
    cdev.enter_low_power(wakeup=9)
    assert user.argument("VFIO_DEVICE_FEATURE").data == struct.pack("<IIiI", 16, 1 << 17 | 4, 9, 0)
    cdev.exit_low_power()
    assert user.argument("VFIO_DEVICE_FEATURE").data == struct.pack("<II", 8, 1 << 17 | 5)


def test_a_bar_is_exported_in_ranges_and_mapped_by_its_descriptor(user, cdev):
    user.answers["VFIO_DEVICE_FEATURE"] = 9
    assert cdev.export_dma_buf(1, [(0x1000, 0x2000), (0x4000, 0x1000)]) == 9
    sent = user.argument("VFIO_DEVICE_FEATURE").data
    head = struct.pack("<6I", 56, 1 << 16 | 11, 1, 0o2000002, 0, 2)
    assert sent == head + struct.pack("<4Q", 0x1000, 0x2000, 0x4000, 0x1000)
    with Iommufd(user) as context:
        assert context.ioas_map_file(3, 9, 0, 0x1000, 0x5000) == 0x5000
    sent = user.argument("IOMMU_IOAS_MAP_FILE").data
    assert sent == struct.pack("<IIIiQQQ", 40, 7, 3, 9, 0, 0x1000, 0x5000)


def test_dma_is_mapped_and_unmapped_in_bytes(user):
    with Container(user) as container:
        container.map_dma(0x1000, 0x2000, 0x3000)
        sent = user.argument("VFIO_IOMMU_MAP_DMA").data
        assert sent == struct.pack("<IIQQQ", 32, 3, 0x1000, 0x2000, 0x3000)
        user.answers["VFIO_IOMMU_UNMAP_DMA"] = lambda _: (struct.pack("<IIQQ", 24, 0, 0, 0x1000),)
        assert container.unmap_dma(0x2000, 0x3000) == 0x1000


def test_a_containers_limits_are_read_from_its_capabilities(user):
    ranges = struct.pack("<HHIIIQQQQ", 1, 1, 0, 2, 0, 0, 0xFFF, 0x2000, 0x2FFF) + bytes(64)
    info = struct.pack("<IIQII", 1024, 3, 4096, 24, 0) + struct.pack("<HHIII", 3, 1, 40, 7, 0)
    user.answers["VFIO_IOMMU_GET_INFO"] = lambda _: (info + ranges,)
    with Container(user) as container:
        assert container.dma_avail() == 7
        assert container.iova_ranges() == [(0, 0xFFF), (0x2000, 0x2FFF)]


def filled(arg):
    return arg.data, b"\1" * len(arg.pointers[0][1].data)


def test_an_unmap_brings_a_bitmap_along(user):
    user.answers["VFIO_IOMMU_UNMAP_DMA"] = filled
    with Container(user) as container:
        assert container.unmap_dma_dirty(0x10000, 65 * 4096, 4096) == (65 * 4096, b"\1" * 16)
    sent = user.argument("VFIO_IOMMU_UNMAP_DMA")
    assert sent.data == struct.pack("<IIQQQQQ", 48, 1, 0x10000, 65 * 4096, 4096, 16, 0)
    assert sent.pointers[0][0] == 40


def test_a_dirty_bitmap_is_pointed_at(user):
    user.answers["VFIO_IOMMU_DIRTY_PAGES"] = filled
    with Container(user) as container:
        assert container.dirty_bitmap(0x10000, 65 * 4096, 4096) == b"\1" * 16
    sent = user.argument("VFIO_IOMMU_DIRTY_PAGES")
    get = vfio_type1.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP
    assert sent.data == struct.pack("<IIQQQQQ", 48, get, 0x10000, 65 * 4096, 4096, 16, 0)
    assert sent.pointers[0][0] == 40


def test_iova_ranges_come_back_as_pairs(user):
    def answer(_arg):
        head = struct.pack("<IIIIQQ", 32, 1, 1, 0, 0, 1)
        return head, struct.pack("<QQ", 0, 0xFFF)

    user.answers["IOMMU_IOAS_IOVA_RANGES"] = answer
    with Iommufd(user) as context:
        assert context.ioas_iova_ranges(1) == [(0, 0xFFF)]
    assert user.argument("IOMMU_IOAS_IOVA_RANGES").pointers[0][0] == 16


def test_an_address_asked_for_is_a_fixed_one(user):
    with Iommufd(user) as context:
        context.ioas_map(1, 0x5000, 0x1000, iova=0)
        fixed = struct.unpack_from("<II", user.argument("IOMMU_IOAS_MAP").data)[1]
        assert fixed & iommufd.IOMMU_IOAS_MAP_FIXED_IOVA
        context.ioas_map(1, 0x5000, 0x1000)
        free = struct.unpack_from("<II", user.argument("IOMMU_IOAS_MAP").data)[1]
        assert not free & iommufd.IOMMU_IOAS_MAP_FIXED_IOVA


def test_attach_announces_a_pasid_only_when_there_is_one(user, cdev):
    cdev.attach_iommufd_pt(4)
    assert user.argument("VFIO_DEVICE_ATTACH_IOMMUFD_PT").data[0] == 12
    cdev.attach_iommufd_pt(4, flags=vfio.VFIO_DEVICE_ATTACH_PASID, pasid=1)
    assert user.argument("VFIO_DEVICE_ATTACH_IOMMUFD_PT").data[0] == 16


def test_capability_chains_are_walked_and_broken_ones_told():
    chain = bytes(8) + struct.pack("<HHI", 3, 1, 20) + b"abcd" + struct.pack("<HHI", 1, 2, 0)
    found = capabilities(chain, 8)
    assert [(one.id, one.version) for one in found] == [(3, 1), (1, 2)]
    assert found[0].data.endswith(b"abcd")
    assert capabilities(chain, 0) == ()
    with pytest.raises(AgentError, match="chain"):
        capabilities(bytes(8) + struct.pack("<HHI", 3, 1, 8), 8)
    with pytest.raises(AgentError, match="chain"):
        capabilities(chain, 4096)
