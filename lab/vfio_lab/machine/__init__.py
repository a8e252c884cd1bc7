"""Test machines: guests, the templates they are cloned from, and remote machines."""
