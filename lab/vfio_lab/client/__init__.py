"""A user in a test machine, and what users can do without vfio."""
