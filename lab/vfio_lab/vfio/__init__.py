"""A user's vfio and iommufd files as objects; a method call is a system call.

The constructor opens the file, so a refusal is raised where the user acts. `close()` or the end of
a `with` block closes it. Methods have the kernel's names. The arguments `argsz`, `flags` and
`pointer` pass deliberately wrong values, to see how the kernel responds.
"""

from vfio_lab.vfio.capabilities import Capability
from vfio_lab.vfio.cdev import Cdev
from vfio_lab.vfio.container import Container
from vfio_lab.vfio.device import Device
from vfio_lab.vfio.group import Group, GroupDevice
from vfio_lab.vfio.handle import Handle
from vfio_lab.vfio.hot_reset import Affected, HotResetInfo
from vfio_lab.vfio.iommufd import Iommufd
from vfio_lab.vfio.migration import Migration, MigrationFile
from vfio_lab.vfio.paths import (
    cdev_node,
    group_node,
    open_affected_groups,
    open_cdev_path,
    open_group_path,
    with_options,
)
from vfio_lab.vfio.user import Access, VfioUser

__all__ = [
    "Access",
    "Affected",
    "Capability",
    "Cdev",
    "Container",
    "Device",
    "Group",
    "GroupDevice",
    "Handle",
    "HotResetInfo",
    "Iommufd",
    "Migration",
    "MigrationFile",
    "VfioUser",
    "cdev_node",
    "group_node",
    "open_affected_groups",
    "open_cdev_path",
    "open_group_path",
    "with_options",
]
