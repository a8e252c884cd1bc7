"""Kernels: how to have one, bring one or change one."""
