"""People in a guest: a shell, a command, a Python prompt, gdb."""
