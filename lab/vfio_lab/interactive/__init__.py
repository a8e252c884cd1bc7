"""Interactive use of a guest: a shell, a command, a Python prompt, gdb."""
