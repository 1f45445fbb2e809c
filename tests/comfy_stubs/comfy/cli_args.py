"""Stand-in for the parsed command line: what the nodes may ask, at its default."""

from types import SimpleNamespace

args = SimpleNamespace(cpu=True, disable_metadata=False, preview_size=512, base_directory=None)
