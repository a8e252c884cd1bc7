"""The files that a guest boots from: root file system, initramfs and payload."""
