"""What runs in the guest: a static program in C, compiled here, and the remote machine's lease."""
