"""Devices as their driver sees them: registers and DMA, one file a device."""
