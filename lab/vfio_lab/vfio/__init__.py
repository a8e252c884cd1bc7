"""The client: what a user holds of vfio and iommufd, as objects that act at call and close.

Every object opens in its constructor, so a refusal is raised where the user acts, and closes
with `close()` or at the end of a `with` block. Methods carry the kernel's names; `argsz`,
`flags` and `pointer` bend an argument for those who ask what the kernel makes of it.
"""

from vfio_lab.vfio.capabilities import Capability
from vfio_lab.vfio.cdev import Cdev
from vfio_lab.vfio.container import Container
from vfio_lab.vfio.device import Device
from vfio_lab.vfio.group import Group, GroupDevice
from vfio_lab.vfio.handle import Handle
from vfio_lab.vfio.hot_reset import Affected, HotResetInfo
from vfio_lab.vfio.iommufd import Iommufd
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
    "VfioUser",
    "cdev_node",
    "group_node",
    "open_affected_groups",
    "open_cdev_path",
    "open_group_path",
    "with_options",
]
