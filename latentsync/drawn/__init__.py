"""Heads and voices by formula, the small model that is trained on them, and the demo."""
