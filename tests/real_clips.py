"""The real talking-head clips of the media folder; tests that ask for one are skipped where it is missing."""

import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

FOLDER = Path(os.environ.get("LATENTSYNC_MEDIA", Path(__file__).parents[2] / "shared" / "media"))


def media_file(name: str) -> Path:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


def clip_frames(name: str, every: int = 1, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """(number, uint8 RGB (h, w, 3)) of frames 0, `every`, 2 `every` and so on, before `stop`."""
    with av.open(str(media_file(name))) as container:
        container.streams.video[0].thread_type = "AUTO"
        for number, frame in enumerate(container.decode(video=0)):
            if stop is not None and number >= stop:
                return
            if number % every == 0:
                yield number, frame.to_ndarray(format="rgb24")
