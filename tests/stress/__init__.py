"""The stress lane: `make stress PART=...` shows that nothing is lost and nothing wrong is said."""
