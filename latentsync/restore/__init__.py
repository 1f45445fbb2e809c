"""Face restoration: more detail in the synced crops, by a published net or a filter that needs none.

The names below are imported when they are first used: the command line asks this package for its options.
"""

import importlib

_HOMES = {
    "apply": ("REGIONS", "RestoreSettings", "restore"),
    "restorers": ("FACE_SIDE", "NetRestorer", "Restorer", "Sharpen", "load_restorer"),
    "superres": ("SuperRes",),
    "upscale": ("Upscaler", "load_upscaler"),
    "video": ("restore_video",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
