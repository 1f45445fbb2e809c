"""ComfyUI nodes: thin adapters over `latentsync`."""
