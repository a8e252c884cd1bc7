"""QEMU: its capabilities, command line, process, monitor and console."""
