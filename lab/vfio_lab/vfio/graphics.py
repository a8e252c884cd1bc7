"""The display planes of a device that a user can show."""

from __future__ import annotations

import ctypes

from vfio_lab.client.call import Buffer
from vfio_lab.uapi import vfio, vfio_migration
from vfio_lab.vfio.device import Device

DRM_PLANE_TYPE_PRIMARY = 1


def query_plane(
    device: Device,
    flags: int,
    plane_type: int = DRM_PLANE_TYPE_PRIMARY,
    *,
    argsz: int | None = None,
) -> vfio_migration.vfio_device_gfx_plane_info:
    """VFIO_DEVICE_QUERY_GFX_PLANE.

    Args:
        device: the device.
        flags: VFIO_GFX_PLANE_TYPE_*.
        plane_type: DRM_PLANE_TYPE_*.
        argsz: the size passed to the kernel instead of the struct's, in bytes.
    """
    plane = vfio_migration.vfio_device_gfx_plane_info
    fixed = plane(flags=flags, drm_plane_type=plane_type)
    fixed.argsz = ctypes.sizeof(plane) if argsz is None else argsz
    return device.exchange(vfio.VFIO_DEVICE_QUERY_GFX_PLANE, fixed)[0]


def plane_dma_buf(device: Device, number: int) -> int:
    """VFIO_DEVICE_GET_GFX_DMABUF; return the descriptor of the plane's dma-buf.

    Args:
        device: the device.
        number: the dma-buf's ID, as the plane has it.
    """
    argument = Buffer(number.to_bytes(4, "little"))
    return device.ioctl(vfio.VFIO_DEVICE_GET_GFX_DMABUF, argument, about=f"[{number}]").value
