"""A virtual SR-IOV laboratory: real vfio-pci, emulated hardware, verdicts in seconds."""
