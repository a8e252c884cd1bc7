"""Campaigns: many runs of scenarios, over kernels, patches and commits, and their results."""
