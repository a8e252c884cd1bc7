"""Walks through the model, taken in guests, and what becomes of a disagreement."""
