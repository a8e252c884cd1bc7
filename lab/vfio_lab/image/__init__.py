"""What a guest runs from: root file system, initramfs, and what the lab adds."""
