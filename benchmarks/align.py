"""Cutting one aligned 512 crop out of a 1080 x 1920 frame: the published way beside ours, in the same run.

    python benchmarks/align.py

Prints the median milliseconds a frame for faces of several sizes, then the ratio for the middle one, as `31.2x`.
"""

from timing import median_ms, face_matrix

import numpy as np
import published
import torch

from latentsync.crops import published_crop, warp_crop
from latentsync.frames import as_uint8

RESOLUTION = 512
FACES = (200, 350, 600)  # pixels between the edges of the crop in the frame


def main() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    frame = torch.randint(0, 256, (1920, 1080, 3), dtype=torch.uint8)
    ratios = {}
    print("face px   published ms   ours ms   ours, published geometry ms   worst difference of the last two pictures")
    for size in FACES:
        matrix = face_matrix(size, RESOLUTION)
        theirs = median_ms(lambda m=matrix: published.crop(frame.numpy(), m, RESOLUTION), repeats=15)
        quick = median_ms(lambda m=matrix: warp_crop(frame, m, RESOLUTION), repeats=30)
        same = median_ms(lambda m=matrix: published_crop(frame, m, RESOLUTION), repeats=15)
        expected = published.crop(frame.numpy(), matrix, RESOLUTION).astype(int)
        worst = np.abs(as_uint8(published_crop(frame, matrix, RESOLUTION)).numpy().astype(int) - expected).max()
        ratios[size] = theirs / quick
        print(f"{size:7}   {theirs:12.1f}   {quick:7.1f}   {same:27.1f}   {worst}")
    print(f"{ratios[FACES[1]]:.1f}x")


if __name__ == "__main__":
    main()
