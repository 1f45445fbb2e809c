"""Blending one 512 crop into a 1080 x 1920 frame: the published way beside ours, in the same run.

    python benchmarks/paste.py

Prints the median milliseconds a frame for faces of several sizes, then the ratio for the middle one, as `31.2x`.
"""

from timing import RESOLUTION, compare

import numpy as np
import published
import torch

from latentsync.face.blend import paste_crop, paste_published
from latentsync.face.masks import face_mask


def main() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    frame = torch.randint(0, 256, (1920, 1080, 3), dtype=torch.uint8)
    crop = torch.rand(RESOLUTION, RESOLUTION, 3)
    levels = (crop * 255).permute(2, 0, 1).contiguous()
    weights = face_mask(RESOLUTION)
    out = frame.clone()  # ours writes into the frame that the reader gave

    def paste(way, matrix: np.ndarray) -> np.ndarray:
        where, pixels = way(frame, crop, weights, matrix)
        out[where] = pixels
        return out.numpy()

    def paste_as_published(matrix: np.ndarray) -> np.ndarray:
        out.copy_(frame)
        return paste(paste_published, matrix)

    compare(
        lambda matrix: published.paste(frame.numpy(), levels, matrix),
        lambda matrix: paste(paste_crop, matrix),
        paste_as_published,
    )


if __name__ == "__main__":
    main()
