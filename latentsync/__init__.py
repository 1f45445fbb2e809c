"""Audio-conditioned latent diffusion lip sync (LatentSync, arXiv 2412.09262).

    from latentsync import lip_sync, load_detector, load_model

    model = load_model("checkpoints")
    lip_sync("video.mp4", "voice.wav", "out.mp4", model, load_detector("auto", checkpoints="checkpoints"))

The names below are imported when they are first used, so that importing the package costs nothing.
"""

import importlib

_HOMES = {
    "audio.whisper": ("AudioFeatures", "encode_audio"),
    "face.align": ("AlignedFaces",),
    "face.detect": ("load_detector",),
    "face.landmarks": ("Detection", "Detector", "Face"),
    "face.shots": ("detect_faces",),
    "face.track": ("FaceTrack", "track_faces"),
    "frames": ("FrameView", "Frames"),
    "media": ("VideoReader", "VideoWriter", "read_audio"),
    "models.embedded": ("load_embedded",),
    "models.load": ("LipSyncModel", "load_model"),
    "pipelines.lip_sync": ("Summary", "lip_sync"),
    "settings": ("BlendSettings", "RunSettings", "Settings", "TrackSettings"),
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
