"""Stand-in, see `comfy`."""
