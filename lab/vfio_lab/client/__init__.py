"""A user in a test machine, and what they can reach without vfio."""
