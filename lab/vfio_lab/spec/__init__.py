"""What is claimed of the kernel, what changed it, and which scenario proves it."""
