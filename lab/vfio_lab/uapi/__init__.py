"""The kernel's user API as values: numbers, structs and names, spelt as in its headers."""
