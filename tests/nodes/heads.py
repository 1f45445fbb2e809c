"""What nodes are given: a drawn head that speaks with a detector that knows where it is; crops and tracks; videos."""

import io
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import torch

FPS = 25.0
STEPS = 2
SIDE = 128


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


def crops_of(count: int) -> torch.Tensor:
    """(count, SIDE, SIDE, 3): soft blobs in skin tones, each frame another one."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    smooth = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return smooth.movedim(1, -1).contiguous()


def track_of(pack, shown: list[int], cuts: tuple[int, ...] | list[int] = ()):
    """A `TrackedFace` over frames of SIDE x SIDE pixels, with the face where `shown` is 1."""
    count = len(shown)
    matrices = np.tile(np.array([[1, 0, 0], [0, 1, 0]], np.float32), (count, 1, 1))
    weight = np.array(shown, np.float32)
    starts = np.zeros(count, bool)
    starts[list(cuts)] = True
    track = pack.latentsync.face.track.FaceTrack(matrices * weight[:, None, None], weight, weight, starts, SIDE)
    return pack.nodes.sockets.TrackedFace(track, [None] * count, 25.0, (SIDE, SIDE))


def from_file(path):
    """A file, or one in memory, as a VIDEO."""
    from comfy_api.latest import InputImpl

    return InputImpl.VideoFromFile(path if isinstance(path, io.BytesIO) else str(path))


def from_images(images, rate=25):
    from comfy_api.latest import InputImpl, Types

    return InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=Fraction(rate), audio=None))
