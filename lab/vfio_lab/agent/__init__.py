"""What runs in the guest: the standard library only, at home as the package `agent`."""
