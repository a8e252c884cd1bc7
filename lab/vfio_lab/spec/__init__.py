"""Claims about the kernel, the changes that altered them, and the scenarios that prove them."""
