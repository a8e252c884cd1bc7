"""Walks: what several users do, chosen by Hypothesis among what the model says is possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from vfio_lab.model.administration import PF_STUB
from vfio_lab.model.exploration.performer import FEATURE_FLAGS, MALFORMED, NAMES, PARAMETERS
from vfio_lab.model.exploration.steps import ROOT, Step, take
from vfio_lab.model.opening import PRESENTING
from vfio_lab.model.rules import Blocks
from vfio_lab.model.state import VFIO, ContainerModel, DeviceModel, GroupModel, IommufdModel, State
from vfio_lab.uapi.vfio import VFIO_NOIOMMU_IOMMU, VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU

STEPS = 60
MANY_WALKS = 1_000_000
USERS = {"alice": True, "bob": False, "carol": True}
TOKENS = ("T1", "T2", "T0")
CLOSED = "closed"
FILES = (ContainerModel, IommufdModel, GroupModel, DeviceModel)
# What is done how often, and what for that a user must have open.
WEIGHTS = {
    "open_by_group": 4,
    "open_by_cdev": 4,
    "use_device": 10,
    "use_group": 4,
    "use_container": 2,
    "bind_iommufd": 2,
    "open_node": 2,
    "let_go": 6,
    "bind": 2,
    "set_numvfs": 1,
    "set_parameter": 1,
}
TYPES = (VFIO_TYPE1v2_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_TYPE1_IOMMU, VFIO_NOIOMMU_IOMMU)
DEVICE_CALLS = (
    "get_info",
    "hot_reset_info",
    "hot_reset_info",
    "hot_reset",
    "hot_reset",
    "token_feature",
    "token_feature",
    "reset",
    "write_mark",
    "read_mark",
    "read_mark",
    "attach_space",
    "detach_space",
)
DATA = st.data()
ON = st.booleans()
ONE_IN_THREE = st.sampled_from((False, False, True))
TYPE = st.sampled_from(TYPES)
USER = st.sampled_from(("alice", "bob", "carol"))
TOKEN = st.sampled_from((None, *TOKENS, TOKENS[0]))
NEEDS: Mapping[str, tuple[type, ...]] = {
    "use_group": (GroupModel,),
    "use_container": (ContainerModel,),
    "use_device": (DeviceModel,),
    "bind_iommufd": (DeviceModel,),
    "let_go": FILES,
}
CDEV_ONLY = {"open_by_cdev", "bind_iommufd"}
Receive = Callable[[Sequence[Step]], None]


class Walk(RuleBasedStateMachine):
    """One walk: each rule draws a step, and the model takes it.

    Args:
        start: the state to begin with.
        receive: gets the steps at the end.
        other: the state of another kernel, if two are compared.
    """

    def __init__(self, start: State, receive: Receive, other: State | None = None) -> None:
        super().__init__()
        self.state = start
        self.other = other
        self.receive = receive
        self.steps: list[Step] = []
        self.opened = 0

    def teardown(self) -> None:
        """Hand over the steps."""
        self.receive(self.steps)

    def go(self, call: str, user: str, **given: Any) -> None:
        """Take a step, unless the kernel would wait for other users in it.

        Nor is a step taken in which two kernels are known to differ.

        Args:
            call: the name of the step's rule.
            user: who takes it.
            given: the arguments of the rule.
        """
        step = Step(call, user, given)
        try:
            answer, state = take(self.state, step)
            if self.other is not None:
                others, other = take(self.other, step)
                if others != answer:
                    return
                self.other = other
        except Blocks:
            return
        self.state = state
        self.steps.append(step)

    def new(self, letter: str) -> str:
        """Return a name for a new descriptor."""
        self.opened += 1
        return f"{letter}{self.opened}"

    def any(self, user: str, *kinds: type) -> list[str]:
        """Return a user's descriptors of certain kinds."""
        known = self.state.descriptors.items()
        return [name for name, (own, file) in known if own == user and isinstance(file, kinds)]

    def who(self, *kinds: type) -> list[str]:
        """Return the users who have a file of certain kinds."""
        return [user for user in USERS if self.any(user, *kinds)]

    def functions(self, *drivers: str | None) -> list[str]:
        """Return the functions that are no bridges, those of certain drivers if any are given."""
        return [
            role
            for role, each in self.state.functions.items()
            if not each.place.bridge and (not drivers or each.driver in drivers)
        ]

    @initialize(count=st.integers(0, 2), driver=st.sampled_from((VFIO,) * 5 + (PF_STUB,)), known=ON)
    def prepare(self, count: int, driver: str, known: bool) -> None:
        """Give what there is to vfio-pci, as most users would find it, and agree on a token.

        Args:
            count: how many VFs each PF has.
            driver: the driver of PFs.
            known: whether a user sets the token of PFs.
        """
        self.go("set_parameter", ROOT, name="enable_sriov", on=True)
        if "VFIO_NOIOMMU" in self.state.platform.options:
            self.go("set_parameter", ROOT, name="noiommu", on=True)
        for function in self.functions():
            pf = self.state.functions[function].place.total_vfs
            self.go("bind", ROOT, function=function, driver=driver if pf else VFIO)
            if pf:
                self.go("set_numvfs", ROOT, function=function, count=count)
            if pf and known and driver == VFIO:  # a bare group stores it without a reset (A07)
                group = self.new("g")
                self.go("open_group", "alice", function=function, new=group)
                if group in self.state.descriptors:
                    self.get_device("alice", group, function, TOKENS[0])
                    self.go("close", "alice", file=group)

    @rule(data=DATA)
    def move(self, data: st.DataObject) -> None:
        """Do one of the things that can be done, the more telling ones more often."""
        able = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
        missing = {name for name, kinds in NEEDS.items() if not self.who(*kinds)}
        missing |= set() if self.state.platform.cdev else CDEV_ONLY
        chosen = data.draw(st.sampled_from([name for name in able if name not in missing]))
        getattr(self, chosen)(data)

    def bind(self, data: st.DataObject) -> None:
        """Bind a driver to a function without users."""
        functions = self.state.functions
        idle = [role for role in self.functions() if not self.state.devices(functions[role])]
        if idle:
            function = data.draw(st.sampled_from(idle))
            others = ("pci-stub", PF_STUB, None)
            bound = self.state.functions[function].driver == VFIO
            driver = data.draw(st.sampled_from(others if bound else (VFIO, VFIO, VFIO, *others)))
            if driver is None:
                self.go("unbind", ROOT, function=function)
            else:
                self.go("bind", ROOT, function=function, driver=driver)

    def set_numvfs(self, data: st.DataObject) -> None:
        """Change the number of VFs."""
        pfs = [role for role in self.functions() if self.state.functions[role].place.total_vfs]
        if pfs:
            count = data.draw(st.sampled_from((0, 1, 2, 3, 9)))
            self.go("set_numvfs", ROOT, function=data.draw(st.sampled_from(pfs)), count=count)

    def set_parameter(self, data: st.DataObject) -> None:
        """Turn a module parameter on or off."""
        name = data.draw(st.sampled_from(sorted(PARAMETERS)))
        if name != "noiommu" or "VFIO_NOIOMMU" in self.state.platform.options:
            self.go("set_parameter", ROOT, name=name, on=data.draw(ON))

    def open_node(self, data: st.DataObject) -> None:
        """Open a node."""
        user, kinds = data.draw(USER), ["group", "group", "container"]
        if "IOMMUFD" in self.state.platform.options:
            kinds += ["iommufd", "cdev", "cdev"]
        kind = data.draw(st.sampled_from(kinds))
        if kind in ("group", "cdev"):
            function = self.function(data)
            self.go(f"open_{kind}", user, function=function, new=self.new(kind[0]))
        else:
            self.go(f"open_{kind}", user, new=self.new("n" if kind == "container" else "i"))

    def open_by_group(self, data: st.DataObject) -> None:
        """Go the whole way to a device of a group, with a container or what stands in for one."""
        function, group, container = self.function(data), self.new("g"), self.new("n")
        user, kind, token = data.draw(USER), data.draw(TYPE), self.token(function, data)
        self.go("open_group", user, function=function, new=group)
        if group in self.state.descriptors:
            compat = "IOMMUFD" in self.state.platform.options and data.draw(ONE_IN_THREE)
            self.go("open_iommufd" if compat else "open_container", user, new=container)
            self.go("set_container", user, group=group, file=container)
            if not compat:
                self.go("set_iommu", user, container=container, type=kind)
            self.get_device(user, group, function, token)

    def open_by_cdev(self, data: st.DataObject) -> None:
        """Go the whole way to a device by its character device, with any iommufd."""
        function, cdev = self.function(data), self.new("c")
        user, token = data.draw(USER), self.token(function, data)
        known = self.any(user, IommufdModel)
        iommufd = data.draw(st.sampled_from([*known, self.new("i")]))
        self.go("open_cdev", user, function=function, new=cdev)
        if cdev in self.state.descriptors:
            if iommufd not in known:
                self.go("open_iommufd", user, new=iommufd)
            self.go("bind_iommufd", user, device=cdev, iommufd=iommufd, token=token, way="")

    def use_group(self, data: st.DataObject) -> None:
        """Use a group."""
        user = data.draw(st.sampled_from(self.who(GroupModel)))
        group = data.draw(st.sampled_from(self.any(user, GroupModel)))
        match data.draw(st.sampled_from(("status", "set", "unset", "device", "device"))):
            case "status":
                argsz = data.draw(st.sampled_from((None, None, 4)))
                self.go("get_status", user, group=group, argsz=argsz)
            case "set":
                files = [*self.any(user, *FILES), CLOSED]
                self.go("set_container", user, group=group, file=data.draw(st.sampled_from(files)))
            case "unset":
                self.go("unset_container", user, group=group)
            case _:
                function = self.function_of(group, data)
                name = data.draw(st.sampled_from((*PRESENTING, *NAMES)))
                token = data.draw(st.sampled_from(TOKENS))
                self.get_device(user, group, function, token, name)

    def use_container(self, data: st.DataObject) -> None:
        """Use a container."""
        user = data.draw(st.sampled_from(self.who(ContainerModel)))
        container = data.draw(st.sampled_from(self.any(user, ContainerModel)))
        page = data.draw(st.integers(0, 1))
        match data.draw(st.sampled_from(("set", "check", "map", "map", "unmap"))):
            case "set":
                self.go("set_iommu", user, container=container, type=data.draw(TYPE))
            case "check":
                self.go("check_extension", user, container=container, type=data.draw(TYPE))
            case "map":
                way = self.way("map_dma", data)
                self.go("map_dma", user, container=container, page=page, way=way)
            case _:
                self.go("unmap_dma", user, container=container, page=page)

    def use_device(self, data: st.DataObject) -> None:
        """Use a device, most often one that can be used."""
        user = data.draw(st.sampled_from(self.who(DeviceModel)))
        devices = self.any(user, DeviceModel)
        usable = [name for name in devices if getattr(self.state.file(name), "usable", False)]
        device = data.draw(st.sampled_from([*usable, *usable, *usable, *devices]))
        call = data.draw(st.sampled_from(DEVICE_CALLS))
        place = self.state.open(device, DeviceModel).function.place
        match call:
            case "token_feature":
                way = data.draw(st.sampled_from(("set", *FEATURE_FLAGS)))
                self.go(
                    call, user, device=device, way=way, token=data.draw(st.sampled_from(TOKENS))
                )
            case "hot_reset":
                files = [*self.any(user, GroupModel), *self.any(user, *FILES), CLOSED]
                chosen = data.draw(st.lists(st.sampled_from(files), max_size=3))
                self.go(call, user, device=device, files=tuple(chosen), way=self.way(call, data))
            case "write_mark" | "read_mark" if not place.total_vfs:
                # QEMU wipes the registers of a PF only.
                self.go("get_info", user, device=device, way="")
            case "reset" | "write_mark" | "read_mark":
                self.go(call, user, device=device)
            case _:
                self.go(call, user, device=device, way=self.way(call, data))

    def bind_iommufd(self, data: st.DataObject) -> None:
        """Bind a device to any descriptor."""
        user = data.draw(st.sampled_from(self.who(DeviceModel)))
        device = data.draw(st.sampled_from(self.any(user, DeviceModel)))
        preferred = self.any(user, IommufdModel)
        files = [*preferred, *self.any(user, *FILES), CLOSED]
        iommufd, token = data.draw(st.sampled_from(files)), data.draw(TOKEN)
        way = self.way("bind_iommufd", data)
        self.go("bind_iommufd", user, device=device, iommufd=iommufd, token=token, way=way)

    def let_go(self, data: st.DataObject) -> None:
        """Close or duplicate a descriptor, or end a user."""
        user = data.draw(st.sampled_from(self.who(*FILES)))
        file = data.draw(st.sampled_from(self.any(user, *FILES)))
        match data.draw(st.sampled_from(("close",) * 6 + ("dup", "kill"))):
            case "close":
                self.go("close", user, file=file)
            case "dup":
                self.go("dup", user, file=file, new=self.new(file[0]))
            case _:
                self.go("kill", user)

    def get_device(
        self, user: str, group: str, function: str, token: str | None, name: str = ""
    ) -> None:
        """Open a device of a group.

        Args:
            user: the user.
            group: the open group.
            function: the device.
            token: the token to present, if any.
            name: how the device is named; as a token asks, by default.
        """
        words = {"name": name or ("token" if token else "plain"), "token": token or TOKENS[0]}
        self.go("get_device", user, group=group, function=function, new=self.new("d"), **words)

    def way(self, call: str, data: st.DataObject) -> str:
        """Draw what is wrong with a call, most often nothing."""
        return data.draw(st.sampled_from(["", "", *MALFORMED[call]]))

    def function(self, data: st.DataObject) -> str:
        """Draw a function, most often one on vfio-pci that nobody uses."""
        idle = [role for role in self.functions(VFIO) if not self.is_used(role)]
        return data.draw(st.sampled_from([*idle, *idle, *idle, *self.functions()]))

    def is_used(self, role: str) -> bool:
        """Return whether somebody has a function or its group open."""
        it = self.state.functions[role]
        return bool(self.state.devices(it) or self.state.group(it.group))

    def token(self, role: str, data: st.DataObject) -> str | None:
        """Draw a token to present, most often the right one."""
        it = self.state.functions[role]
        right = (it.token_pf or it).token
        known = [right] if right in TOKENS else [None]
        drawn: str | None = data.draw(st.sampled_from([*known * 4, None, *TOKENS]))
        return drawn

    def function_of(self, group: str, data: st.DataObject) -> str:
        """Draw a function, most often one of a group."""
        file = self.state.file(group)
        assert isinstance(file, GroupModel)
        own = [each.role for each in self.state.members(file.name) if not each.place.bridge]
        return data.draw(st.sampled_from([*own, *own, *own, *self.functions()]))


def generate(start: State, key: str, receive: Receive, other: State | None = None) -> None:
    """Walk again and again, until `receive` raises.

    Args:
        start: the state that each walk begins with.
        key: what the walks depend on beside it.
        receive: gets the steps of each walk.
        other: the state in which another kernel begins, if two are compared.
    """
    chosen = settings(
        max_examples=MANY_WALKS,
        stateful_step_count=STEPS,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
    )

    @seed(key)
    class Seeded(Walk):
        def __init__(self) -> None:
            super().__init__(start, receive, other)

    run_state_machine_as_test(Seeded, settings=chosen)
