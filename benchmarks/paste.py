"""Blending one 512 crop into a 1080 x 1920 frame: the published way beside ours, in the same run.

    python benchmarks/paste.py

Prints the median milliseconds a frame for faces of several sizes, then the ratio for the middle one, as `31.2x`.
"""

from timing import median_ms, face_matrix

import numpy as np
import published
import torch

from latentsync.blend import paste_crop, paste_published
from latentsync.masks import mouth_mask

RESOLUTION = 512
FACES = (200, 350, 600)  # pixels between the edges of the crop in the frame


def main() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    frame = torch.randint(0, 256, (1920, 1080, 3), dtype=torch.uint8)
    crop = torch.rand(RESOLUTION, RESOLUTION, 3)
    weights = mouth_mask(RESOLUTION)
    levels = (crop * 255).permute(2, 0, 1).contiguous()
    out = frame.clone()  # ours writes into the frame that the reader gave
    ratios = {}
    print("face px   published ms   ours ms   ours, published geometry ms   worst difference of the last two pictures")
    for size in FACES:
        matrix = face_matrix(size, RESOLUTION)
        theirs = median_ms(lambda m=matrix: published.paste(frame.numpy(), levels, m), repeats=3)

        def ours(paste, m=matrix):
            where, pixels = paste(frame, crop, weights, m)
            out[where] = pixels
            return out

        quick = median_ms(lambda o=ours: o(paste_crop), repeats=30)
        same = median_ms(lambda o=ours: o(paste_published), repeats=15)
        expected = published.paste(frame.numpy(), levels, matrix).astype(int)
        out.copy_(frame)
        worst = np.abs(ours(paste_published).numpy().astype(int) - expected).max()
        ratios[size] = theirs / quick
        print(f"{size:7}   {theirs:12.1f}   {quick:7.1f}   {same:27.1f}   {worst}")
    print(f"{ratios[FACES[1]]:.1f}x")


if __name__ == "__main__":
    main()
