"""What the lab's own tests share, imported by their conftest files."""
