"""What a scenario leaves behind."""
