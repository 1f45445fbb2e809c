"""Faces: found, followed, aligned, and laid back."""
