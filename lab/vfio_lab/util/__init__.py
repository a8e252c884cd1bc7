"""Plumbing that knows nothing of guests: cache, deadlines, processes, progress, packages."""
