"""QEMU: what it can do, its command line, its process, its monitor and console."""
