"""The kernel's user API as values: numbers, structs and names, spelled as in its headers."""
