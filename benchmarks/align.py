"""Cutting one aligned 512 crop out of a 1080 x 1920 frame: the published way beside ours, in the same run.

    python benchmarks/align.py

Prints the median milliseconds a frame for faces of several sizes, then the ratio for the middle one, as `31.2x`.
"""

from timing import RESOLUTION, compare

import published
import torch

from latentsync.face.align import published_crop, warp_crop
from latentsync.frames import as_uint8


def main() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    frame = torch.randint(0, 256, (1920, 1080, 3), dtype=torch.uint8)
    compare(
        lambda matrix: published.crop(frame.numpy(), matrix, RESOLUTION),
        lambda matrix: warp_crop(frame, matrix, RESOLUTION).numpy(),
        lambda matrix: as_uint8(published_crop(frame, matrix, RESOLUTION)).numpy(),
    )


if __name__ == "__main__":
    main()
