"""Before and after, to look at in the browser: small videos in the temp folder, and where the face is in them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from comfy_api.latest import io

from ..latentsync.face.geometry import corners
from ..latentsync.frames import as_stored, as_uint8, batches
from ..latentsync.media import VideoWriter
from ..latentsync.media.browser import QUALITY, fitted_size, playable
from ..latentsync.media.source import open_source
from ..latentsync.progress import Progress
from . import folders, inputs, runtime, sockets
from .base import node
from .video_input import Source, opened

FRAMES_AT_ONCE = 8


@node
class Preview(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        picture = [io.Image, io.Video]
        return io.Schema(
            node_id="LatentSyncPreview",
            display_name="Preview Lip Sync",
            category="LatentSync/video",
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
            inputs=[
                io.MultiType.Input("after", types=picture),
                io.MultiType.Input("before", types=picture, optional=True),
                io.Audio.Input("audio", optional=True),
                sockets.Track.Input("track", optional=True),
                inputs.fps(),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, after, fps, before=None, audio=None, track=None) -> io.NodeOutput:
        progress = runtime.progress(cls)
        address, payload = show(after, fps, audio, progress)
        payload["after"] = address
        payload["before"] = None if before is None else show(before, fps, None, progress)[0]
        payload["track"] = None if track is None else drawn(track, payload)
        return io.NodeOutput(ui={"images": [address], "animated": (True,), "latentsync_preview": [payload]})


def show(media: Any, fps: float, audio: Mapping | None, progress: Progress) -> tuple[dict, dict]:
    """An IMAGE (at `fps`) or VIDEO as something to play, with the sound `audio`, else its own: its address in ComfyUI's
    `/view`, and its fps, frames, width and height.

    A file that the browser can play and that ComfyUI serves is taken as it is; all else is encoded.
    """
    if isinstance(media, torch.Tensor):
        frames = inputs.pictures(media)
        rate = Fraction(fps).limit_denominator(1001)
        return encode(Source(frames, rate, tuple(frames.shape[1:3]), sound=audio), progress)
    with opened(media) as source:
        address = folders.served(source.file) if source.file and audio is None and playable(source.file) else None
        if address is not None:
            return address, _facts(source, *source.size)
        return encode(source if audio is None else replace(source, sound=audio), progress)


def encode(source: Source, progress: Progress) -> tuple[dict, dict]:
    """The pictures of a source as a new file in the temp folder, of `browser.fitted_size`, with its sound."""
    height, width = fitted_size(*source.size)
    out, count = runtime.temp_file(".mp4"), len(source.frames)
    with sound_file(source) as sound:
        options = {"audio": sound, "duration": count / float(source.fps) if sound else None}
        with VideoWriter(out, source.fps, height, width, **QUALITY, **source.tags, **options) as writer:
            for numbers in batches(count, FRAMES_AT_ONCE):
                progress("writing the preview", numbers[0], count)
                writer.write(resized(source.frames[numbers], height, width))
    return folders.served(out), _facts(source, height, width)


def _facts(source: Source, height: int, width: int) -> dict[str, Any]:
    return {"fps": round(float(source.fps), 3), "frames": len(source.frames), "width": width, "height": height}


@contextmanager
def sound_file(source: Source) -> Iterator[Path | None]:
    """A file with the source's sound for the `with` block, or None where it is silent."""
    if source.sound is None:
        yield source.file if source.file and has_sound(source.file) else None
        return
    path = runtime.audio_file(source.sound)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def has_sound(path: Path) -> bool:
    with open_source(path, "video") as container:
        return any(stream.codec_context is not None for stream in container.streams.audio)


def resized(frames: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pictures (n, h, w, 3) as uint8 of another size."""
    pictures = as_uint8(as_stored(frames)).numpy()
    if pictures.shape[1:3] == (height, width):
        return torch.from_numpy(pictures)
    small = [cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in pictures]
    return torch.from_numpy(np.stack(small))


def drawn(tracked: sockets.TrackedFace, shown: Mapping[str, Any]) -> dict[str, list]:
    """Outline of the crop, points and box of the face in pixels of the video; None in frames without."""
    height, width = tracked.size
    scale = np.array([shown["width"] / width, shown["height"] / height])

    def flat(points: Any) -> list[float]:
        # Pixel centres are at integers.
        moved = (np.reshape(points, (-1, 2)) + 0.5) * scale - 0.5
        return [round(value, 1) for value in moved.ravel().tolist()]

    track, faces = tracked.track, tracked.faces
    missing = [None] * max(0, shown["frames"] - len(faces))
    count = min(shown["frames"], len(faces))
    outline = [flat(corners(track.matrices[i], track.resolution)) if track.found[i] else None for i in range(count)]
    points = [face and flat(face.points) for face in faces[:count]]
    boxes = [face and flat(face.box) for face in faces[:count]]
    return {"corners": outline + missing, "points": points + missing, "box": boxes + missing}
