"""A virtual SR-IOV laboratory: real vfio-pci, emulated hardware, verdicts in seconds."""

__version__ = "0.2.0.dev0"
