"""Whole videos: lip sync, restoration, tracking, and their options."""
