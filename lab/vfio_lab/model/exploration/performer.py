"""Takes the steps of a walk in a guest and tells what the kernel answers."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from errno import ENOSPC
from typing import Any, TypeVar

from vfio_lab.client.call import Refusal
from vfio_lab.client.sysfs import ENABLE_SRIOV, PciFunction
from vfio_lab.hw.pci import Bdf
from vfio_lab.machine.base import PCI_FUNCTIONS, TestMachine
from vfio_lab.model.administration import CAPTURED, FAKE_CDEV, FAKE_GROUP, FOREIGN, HAS_VFS
from vfio_lab.model.exploration.steps import ROOT, Result, Step
from vfio_lab.model.opening import OPENED
from vfio_lab.model.rules import Facts
from vfio_lab.model.state import VFIO
from vfio_lab.uapi import vfio as uapi
from vfio_lab.uapi.syscalls import CAP_SYS_RAWIO
from vfio_lab.vfio import Cdev, Container, Device, Group, Handle, Iommufd, VfioUser
from vfio_lab.vfio.hot_reset import HotResetInfo, hot_reset_info_bytes, left_in_buffer

CLOSED_FD = 1000
PAGE_BYTES = 4096
FIRST_IOVA = 0x100000
UNKNOWN_FLAG = 1 << 30
UNKNOWN_PT = 0xDEAD
FIRST_SPACE = 1  # what an iommufd numbers its first object
HEADER_BYTES = hot_reset_info_bytes(0)
TAINT_USER_BIT = 6
# How a device is named to VFIO_GROUP_GET_DEVICE_FD, after its address; a token replaces {0}.
NAMES = {
    "plain": "",
    "spaces": "   ",
    "token": " vf_token={0}",
    "upper": " vf_token={1}",
    "spaced": "   vf_token={0}  ",
    "twice": " vf_token={0} vf_token={0}",
    "glued": " vf_token={0}x",
    "short": " vf_token=1234",
    "tab": "\tvf_token={0}",
    "inner tab": " \tvf_token={0}",
    "unknown": " colour=red",
}
NOIOMMU = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
MARK_OFFSET = 0x2800  # a ring's address, in the registers of all Intel NICs
MARK = bytes.fromhex("80345678")
NOTED = (CAPTURED, HAS_VFS, FOREIGN, FAKE_GROUP, FAKE_CDEV, OPENED)
PARAMETERS = {"enable_sriov": ENABLE_SRIOV, "noiommu": NOIOMMU}
TOKENS = {
    "T0": uuid.UUID(int=0),
    "T1": uuid.UUID("11111111-2222-4333-8444-5555aaaabbbb"),
    "T2": uuid.UUID("11111111-2222-4333-8444-5555aaaabbbc"),
}
DEVIDS = {0: "owned", -1: "not owned"}
_GET, _SET, _PROBE = (
    uapi.VFIO_DEVICE_FEATURE_GET,
    uapi.VFIO_DEVICE_FEATURE_SET,
    uapi.VFIO_DEVICE_FEATURE_PROBE,
)
FEATURE_FLAGS = {
    "set": _SET,
    "short": _SET,
    "get": _GET,
    "probe": _PROBE,
    "probe set": _PROBE | _SET,
    "probe get": _PROBE | _GET,
    "neither": 0,
    "get and set": _GET | _SET,
    "unknown flag": _SET | UNKNOWN_FLAG,
}
# The arguments of malformed calls, by call and by the word for what is wrong.
MALFORMED: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "bind_iommufd": {"": {}, "short": {"argsz": 12}, "flags": {"flags": UNKNOWN_FLAG}},
    "get_info": {"": {}, "short": {"argsz": 8}},
    "attach_space": {
        "": {},
        "unknown": {},
        "short": {"argsz": 4},
        "flags": {"flags": UNKNOWN_FLAG},
    },
    "detach_space": {"": {}, "short": {"argsz": 4}, "flags": {"flags": UNKNOWN_FLAG}},
    "map_dma": {"": {}, "flags": {"flags": UNKNOWN_FLAG}, "unaligned": {"size": PAGE_BYTES - 1}},
    "hot_reset_info": {
        "": {},
        "header": {"argsz": HEADER_BYTES},
        "short": {"argsz": HEADER_BYTES - 1},
    },
    "hot_reset": {"": {}, "short": {"argsz": 4}, "flags": {"flags": 1}},
}
H = TypeVar("H", bound=Handle)


def name_for(function: PciFunction, name: str, token: str) -> str:
    """Return the string that names a device to VFIO_GROUP_GET_DEVICE_FD.

    Args:
        function: the device.
        name: how it is named, a key of `NAMES`.
        token: the token, by its name.
    """
    presented = str(TOKENS[token])
    return f"{function}{NAMES[name].format(presented, presented.upper())}"


class Performer:
    """The users of a walk in a guest, and what they have open.

    Args:
        guest: the guest.
        privileged: the users, and whether each has CAP_SYS_RAWIO.
    """

    def __init__(self, guest: TestMachine, privileged: Mapping[str, bool]) -> None:
        """Start the users."""
        self.guest = guest
        self.privileged = privileged
        self.users = {name: self._start(name) for name in privileged}
        self.handles: dict[str, Handle] = {}
        self.memory: dict[str, int] = {}
        self.loaded = {VFIO}
        self.read = 0
        self.numbers: dict[str, int] = {}
        self.devids: dict[str, int] = {}
        self.places = self._places()
        self.roles = {str(function): role for role, function in self.places.items()}

    def perform(self, step: Step) -> Result:
        """Take a step and return what the kernel answers."""
        try:
            facts = getattr(self, step.call)(step.user, **step.given)
        except Refusal as refusal:
            seen: Facts = self.seen() if step.user == ROOT else _left(step, refusal)
            return Result(refusal.errno or 0, seen)
        return Result(0, facts or {})

    def seen(self) -> Facts:
        """Return what the administrator sees: drivers, the nodes in /dev/vfio, the taint."""
        answer = self.guest.ask("snapshot", "look at devices", folder=PCI_FUNCTIONS)
        rows = {row["bdf"]: row for row in answer["functions"] if row["bdf"] in self.roles}
        self.numbers = {bdf: int(row["iommu_group"] or -1) for bdf, row in rows.items()}
        groups, cdevs = self._nodes("/dev/vfio"), self._nodes("/dev/vfio/devices")
        return {
            "drivers": {self.roles[bdf]: row["driver"] or None for bdf, row in rows.items()},
            "groups": sum(name.isdigit() for name in groups),
            "noiommu groups": sum(name.startswith("noiommu-") for name in groups),
            "cdevs": sum(name.startswith("vfio") for name in cdevs),
            "noiommu cdevs": sum(name.startswith("noiommu-") for name in cdevs),
            "tainted": TAINT_USER_BIT in self.guest.taints(),
            "log": self._log(),
        }

    def _log(self) -> tuple[str, ...]:
        """Return what the kernel logged since the last look, of what the model knows."""
        lines = self.guest.kernel_log()
        new, self.read = lines[self.read :], len(lines)
        return tuple(sorted(words for line in new for words in NOTED if words in line))

    def bind(self, _user: str, function: str, driver: str) -> Facts:
        """Bind a driver, loading its module first."""
        if driver not in self.loaded:
            self.guest.load(driver)
            self.loaded.add(driver)
        self.places[function].bind(driver)
        return self.seen()

    def unbind(self, _user: str, function: str) -> Facts:
        """Unbind a function from its driver."""
        self.places[function].unbind()
        return self.seen()

    def set_numvfs(self, _user: str, function: str, count: int) -> Facts:
        """Write sriov_numvfs."""
        self.places[function].write("sriov_numvfs", count)
        return self.seen()

    def set_parameter(self, _user: str, name: str, on: bool) -> Facts:
        """Write a module parameter."""
        self.guest.root.write_file(PARAMETERS[name], "Y" if on else "N")
        return self.seen()

    def open_container(self, user: str, new: str) -> None:
        """Open /dev/vfio/vfio."""
        self.handles[new] = Container(self.users[user])

    def open_iommufd(self, user: str, new: str) -> None:
        """Open /dev/iommu and allocate an address space."""
        self.handles[new] = iommufd = Iommufd(self.users[user])
        assert iommufd.ioas_alloc() == FIRST_SPACE

    def open_group(self, user: str, function: str, new: str) -> None:
        """Open the group of a function."""
        self.handles[new] = self.users[user].open_group(self.places[function])

    def open_cdev(self, user: str, function: str, new: str) -> None:
        """Open the character device of a function."""
        place = self.places[function]
        # Read by the administrator, as a missing folder is an answer of its own.
        self.handles[new] = Cdev(self.users[user], place.cdev, str(place))

    def set_container(self, _user: str, group: str, file: str) -> None:
        """VFIO_GROUP_SET_CONTAINER."""
        self._file(group, Group).set_container(self._fd(file))

    def unset_container(self, _user: str, group: str) -> None:
        """VFIO_GROUP_UNSET_CONTAINER."""
        self._file(group, Group).unset_container()

    def set_iommu(self, _user: str, container: str, type: int) -> None:  # noqa: A002 - the ioctl's word
        """VFIO_SET_IOMMU."""
        self._file(container, Container).set_iommu(type)

    def check_extension(self, _user: str, container: str, type: int) -> Facts:  # noqa: A002 - the ioctl's word
        """VFIO_CHECK_EXTENSION."""
        return {"offered": self._file(container, Container).check_extension(type)}

    def get_status(self, _user: str, group: str, argsz: int | None = None) -> Facts:
        """VFIO_GROUP_GET_STATUS."""
        return {"flags": self._file(group, Group).get_status(argsz=argsz).flags}

    def get_device(
        self, _user: str, group: str, function: str, name: str, token: str, new: str
    ) -> Facts:
        """VFIO_GROUP_GET_DEVICE_FD."""
        words = name_for(self.places[function], name, token)
        self.handles[new] = self._file(group, Group).get_device_fd(words)
        return {"log": self._log()}

    def bind_iommufd(
        self, _user: str, device: str, iommufd: str, token: str | None, way: str
    ) -> None:
        """VFIO_DEVICE_BIND_IOMMUFD."""
        file, wrong = self._file(device, Device), MALFORMED["bind_iommufd"][way]
        cdev = file if isinstance(file, Cdev) else _as_cdev(file)
        presented = TOKENS.get(token or "")
        self.devids[file.label] = cdev.bind_iommufd(self._fd(iommufd), presented, **wrong)

    def dup(self, _user: str, file: str, new: str) -> None:
        """Duplicate a descriptor."""
        self.handles[new] = self.handles[file].dup()

    def close(self, _user: str, file: str) -> None:
        """Close a descriptor."""
        self.handles.pop(file).close()

    def kill(self, user: str) -> None:
        """End a user's process and start another of that name."""
        gone, self.users[user] = self.users[user], self._start(user)
        gone.kill()
        self.memory.pop(user, None)
        self.handles = {name: one for name, one in self.handles.items() if one.user is not gone}

    def get_info(self, _user: str, device: str, way: str) -> Facts:
        """VFIO_DEVICE_GET_INFO."""
        info = self._file(device, Device).get_info(**MALFORMED["get_info"][way])
        return {"flags": info.flags, "regions": info.num_regions, "irqs": info.num_irqs}

    def reset(self, _user: str, device: str) -> None:
        """VFIO_DEVICE_RESET."""
        self._file(device, Device).reset()

    def write_mark(self, _user: str, device: str) -> None:
        """Write a register."""
        file = self._file(device, Device)
        file.write_region(uapi.VFIO_PCI_BAR0_REGION_INDEX, MARK_OFFSET, MARK)

    def read_mark(self, _user: str, device: str) -> Facts:
        """Read that register."""
        file = self._file(device, Device)
        seen = file.read_region(uapi.VFIO_PCI_BAR0_REGION_INDEX, MARK_OFFSET, len(MARK))
        return {"marked": seen == MARK}

    def token_feature(self, _user: str, device: str, way: str, token: str) -> None:
        """VFIO_DEVICE_FEATURE of the VF token."""
        raw = TOKENS[token].bytes[: 15 if way == "short" else 16]
        file, flags = self._file(device, Device), FEATURE_FLAGS[way]
        file.feature(uapi.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, flags, raw)

    def attach_space(self, _user: str, device: str, way: str) -> None:
        """VFIO_DEVICE_ATTACH_IOMMUFD_PT."""
        file = _as_cdev(self._file(device, Device))
        space = UNKNOWN_PT if way == "unknown" else FIRST_SPACE
        file.attach_iommufd_pt(space, **MALFORMED["attach_space"][way])

    def detach_space(self, _user: str, device: str, way: str) -> None:
        """VFIO_DEVICE_DETACH_IOMMUFD_PT."""
        _as_cdev(self._file(device, Device)).detach_iommufd_pt(**MALFORMED["detach_space"][way])

    def map_dma(self, user: str, container: str, page: int, way: str) -> None:
        """VFIO_IOMMU_MAP_DMA of a page."""
        if user not in self.memory:
            self.memory[user] = self.users[user].allocate(PAGE_BYTES)
        given = {"size": PAGE_BYTES, **MALFORMED["map_dma"][way]}
        iova = FIRST_IOVA + page * PAGE_BYTES
        self._file(container, Container).map_dma(self.memory[user], iova, **given)

    def unmap_dma(self, _user: str, container: str, page: int) -> Facts:
        """VFIO_IOMMU_UNMAP_DMA of a page."""
        iova = FIRST_IOVA + page * PAGE_BYTES
        size = self._file(container, Container).unmap_dma(iova, PAGE_BYTES)
        return {"pages": size // PAGE_BYTES}

    def hot_reset_info(self, _user: str, device: str, way: str) -> Facts:
        """VFIO_DEVICE_GET_PCI_HOT_RESET_INFO."""
        file = self._file(device, Device)
        info = file.hot_reset_info(**MALFORMED["hot_reset_info"][way])
        return {"flags": info.flags, "devices": self._owners(info, cdev=isinstance(file, Cdev))}

    def hot_reset(self, _user: str, device: str, files: Sequence[str], way: str) -> None:
        """VFIO_DEVICE_PCI_HOT_RESET."""
        fds = [self._fd(file) for file in files]
        self._file(device, Device).hot_reset(fds, **MALFORMED["hot_reset"][way])

    def _owners(self, info: HotResetInfo, *, cdev: bool) -> dict[str, str]:
        owners = {}
        for each in info.devices:
            if cdev:
                own = each.devid == self.devids.get(each.bdf)
                known = "its devid" if own else str(each.devid)
                owner = DEVIDS.get(each.devid, known)
            else:
                own = each.owner == self.numbers.get(each.bdf)
                owner = "its group" if own else f"group {each.owner}"
            owners[self.roles.get(each.bdf, each.bdf)] = owner
        return owners

    def _file(self, name: str, kind: type[H]) -> H:
        file = self.handles[name]
        assert isinstance(file, kind)
        return file

    def _fd(self, name: str) -> Handle | int:
        return self.handles.get(name, CLOSED_FD)

    def _nodes(self, folder: str) -> list[str]:
        try:
            return self.guest.root.listdir(folder)
        except Refusal:
            return []

    def _start(self, name: str) -> VfioUser:
        drop = () if self.privileged[name] else (CAP_SYS_RAWIO,)
        return self.guest.user(name, drop=drop)

    def _places(self) -> dict[str, PciFunction]:
        """Return all functions, VFs that may come included, by role."""
        found: dict[str, Bdf] = {}
        for function in self.guest.machine.topology.endpoints:
            if function.is_slot or "bridge" in function.model.qemu:
                continue
            found[function.role] = function.bdf
            count = function.model.sriov.total_vfs if function.model.sriov else 0
            found |= {f"{function.role}.vf{index}": function.vf(index) for index in range(count)}
        return {role: PciFunction(bdf, self.guest.root) for role, bdf in found.items()}


def _as_cdev(file: Device) -> Cdev:
    """Return a device as one with the ioctls of a character device."""
    if isinstance(file, Cdev):
        return file
    twin = Cdev.__new__(Cdev)
    Handle.__init__(twin, file.user, file.fd, file.label)
    return twin


def _left(step: Step, refusal: Refusal) -> Facts:
    """Return what a refused call says all the same: how much room INFO needs."""
    if step.call == "hot_reset_info" and refusal.errno == ENOSPC:
        return {"count": left_in_buffer(refusal.out[0]).count}
    return {}
