"""Kernels for guests: build packaged ones, use foreign ones, apply changes."""
