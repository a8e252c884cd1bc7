"""Verdicts: the scenarios run, over kernels, patches and commits, and what they found."""
