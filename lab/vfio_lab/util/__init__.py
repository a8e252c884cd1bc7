"""Utilities that do not depend on guests: cache, deadlines, processes, progress, packages."""
