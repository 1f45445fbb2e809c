"""A drawn head that speaks, as what nodes are given: frames, sound and a detector that knows where it is."""

from contextlib import contextmanager
from functools import lru_cache
from types import SimpleNamespace

import torch

FPS = 25.0


@lru_cache(maxsize=1)
def drawn(size=(160, 201), seconds: float = 0.48):
    """`latentsync.drawn.heads.clip.DrawnClip` of 12 frames, of an odd width."""
    from latentsync.drawn.heads.clip import make_clip

    return make_clip(900_001, seconds, size)


def head(pack, missing=()) -> SimpleNamespace:
    """`.images` IMAGE, `.audio` AUDIO, `.detector`, which sees no face in the frames `missing`, and `.clip`."""
    clip, landmarks = drawn(), pack.latentsync.face.landmarks

    def detector(frame, index):
        if index in missing:
            return []
        return [landmarks.Face(tuple(clip.boxes[index]), 0.9, clip.landmarks[index])]

    audio = {"waveform": clip.waveform[None, None].clone(), "sample_rate": clip.rate}
    return SimpleNamespace(images=clip.frames.float() / 255, audio=audio, detector=detector, clip=clip)


def track_face(pack, source, **widgets):
    """The `NodeOutput` of Track Face with its default widgets but for `widgets`, at 128 pixels."""
    usual = {"fps": FPS, "face": "largest", "index": 0, "x": 0.0, "y": 0.0, "smoothing": 0.08, "max_gap": 0.0}
    usual |= {"fade": 0.0, "detect_every": 1, "resolution": 128, "images": source.images, "detector": source.detector}
    return pack.run("LatentSyncTrackFace", **usual | widgets)


@contextmanager
def unchanged(*tensors: torch.Tensor):
    """Fails if one of the tensors is another after the block."""
    before = [tensor.clone() for tensor in tensors]
    yield
    assert all(torch.equal(a, b) for a, b in zip(before, tensors, strict=True))
