"""The platform of the model that a guest has, from its topology and its kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vfio_lab.hw.topology import Topology
from vfio_lab.hw.tree import Function
from vfio_lab.model.hardware import Place, Platform
from vfio_lab.spec.changes import Change, load_changes


def platform(
    topology: Topology, has: Callable[[Change], bool], options: Callable[[str], object]
) -> Platform:
    """Return the platform of a guest.

    Args:
        topology: its hardware.
        has: whether its kernel has a change.
        options: the value of an option of its kernel, None if it is not set.
    """
    leaders = {each.role: group[0].role for group in topology.groups for each in group}
    places: dict[str, Place] = {}
    for function in topology.endpoints:
        places |= {each.role: each for each in _places_of(function, leaders, places)}
    known = ("VFIO_NOIOMMU", "IOMMUFD", "VFIO_DEVICE_CDEV")
    changes = frozenset(name for name, change in load_changes().items() if has(change))
    return Platform(places, changes, frozenset(name for name in known if options(name)))


def _places_of(
    function: Function, leaders: Mapping[str, str], above: Mapping[str, Place]
) -> list[Place]:
    """Return a function and the VFs that it can have."""
    hotplug = {port.role for port in above.values() if port.bridge and port.slot}
    sriov = function.model.sriov
    bridge = function.is_slot or "bridge" in function.model.qemu
    own = Place(
        function.role,
        leaders.get(function.role),
        function.parent,
        function.hotplug if bridge else function.parent in hotplug,
        total_vfs=sriov.total_vfs if sriov else 0,
        bridge=bridge,
    )
    vfs = [
        Place(
            f"{own.role}.vf{index}",
            f"{own.role}.vf{index}" if own.group else None,
            own.port,
            own.slot,
            own.role,
        )
        for index in range(own.total_vfs)
    ]
    return [own, *vfs]
