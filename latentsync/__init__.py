"""Audio-conditioned latent diffusion lip sync (LatentSync, arXiv 2412.09262).

    from latentsync import lip_sync, load_detector, load_model

    model = load_model("checkpoints")
    lip_sync("video.mp4", "voice.wav", "out.mp4", model, load_detector("auto", checkpoints="checkpoints"))

The names below are imported when they are first used, so that importing the package costs nothing. Functions that
are called like their module are found there: `latentsync.sync.sync`, `latentsync.blend.blend`.
"""

import importlib

_HOMES = {
    "audio": ("AudioFeatures", "encode_audio"),
    "blend": ("BlendSettings",),
    "checkpoint": ("LipSyncModel", "load_model"),
    "crops": ("Aligned",),
    "detect": ("load_detector",),
    "embedded": ("load_embedded",),
    "faces": ("FaceTrack", "TrackSettings", "track_faces"),
    "frames": ("Extended", "Frames"),
    "landmarks": ("Detection", "Detector", "Face"),
    "media": ("VideoReader", "VideoWriter", "read_audio"),
    "run": ("RunSettings", "Summary", "lip_sync"),
    "scan": ("detect_faces",),
    "sync": ("Settings",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__version__ = "0.1.0"
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
