"""The kernel's sample `mbochs`: a display with the registers of QEMU's standard VGA.

Source: samples/vfio-mdev/mbochs.c, handle_mmio_write() and mbochs_check_framebuffer().
"""

from __future__ import annotations

from vfio_lab.uapi.vfio import VFIO_PCI_BAR2_REGION_INDEX
from vfio_lab.vfio.device import Device

DISPI = 0x500  # the first register, of 16 bits like those after it
XRES, YRES, BITS_A_PIXEL, ENABLE = 1, 2, 3, 4
COLOURS, ENABLED = 32, 1


def set_mode(device: Device, width: int, height: int) -> None:
    """Show the first bytes of the display's memory as a picture of 32 bits a pixel.

    Args:
        device: the open display.
        width: pixels, 64 or more.
        height: as above.
    """
    values = {XRES: width, YRES: height, BITS_A_PIXEL: COLOURS, ENABLE: ENABLED}
    for register, value in values.items():
        raw = value.to_bytes(2, "little")
        device.write_region(VFIO_PCI_BAR2_REGION_INDEX, DISPI + 2 * register, raw)
