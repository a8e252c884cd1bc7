"""Programs that use vfio: nested guests, DPDK, libvirt, the kernel's selftests."""
