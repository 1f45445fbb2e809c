"""The source as the player shows it beside the result: in a format that browsers play, and as long as the result."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from ..frames import batches
from ..media import VideoReader, VideoWriter
from ..media.browser import QUALITY, fitted_size, playable
from ..progress import Progress

FRAMES_AT_ONCE = 8


def before_video(reader: VideoReader, numbers: Sequence[int], resampled: bool, out: Path, progress: Progress) -> Path:
    """A video whose frame i is frame `numbers[i]` of the source: the source itself where that will do, else `out`.

    Args:
        reader: the source.
        resampled: whether the reader's frame rate is another than the file's.
        out: an .mp4 to write, of at most 1280 pixels, without sound.
        progress: called as (phase, done, total).

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    if not resampled and list(numbers) == list(range(len(numbers))) and playable(reader.path):
        return Path(reader.path)
    height, width = fitted_size(reader.height, reader.width)
    tags = {"colour": reader.colour, "sample_aspect_ratio": reader.sample_aspect_ratio}
    with VideoWriter(out, reader.fps, height, width, **QUALITY, **tags) as writer:
        for places in batches(len(numbers), FRAMES_AT_ONCE):
            progress("writing the video to compare with", places[0], len(numbers))
            frames = reader[[numbers[i] for i in places]].numpy()
            small = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames]
            writer.write(torch.from_numpy(np.stack(small)))
    return out
