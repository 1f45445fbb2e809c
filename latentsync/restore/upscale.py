"""Larger pictures: by Lanczos, or by a net that invents finer detail.

Convention: the picture's edges stay its edges, so pixel x of n goes to (x + 0.5) * m / n - 0.5 of m.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import torch

from ..errors import InputError
from ..frames import Frames, as_float, as_stored, as_uint8
from ..sampling.sample import out_of_memory
from .restorers import NetRestorer, load_restorer

log = logging.getLogger(__name__)

TILE, SMALLEST_TILE = 512, 64  # pixels of a frame that the net sees at once, width and height
MARGIN = 16  # pixels around a tile that the net sees too, so that tiles meet without a seam


class Upscaler:
    """An upscaling net over pictures of any size, tile by tile, so that its memory does not grow with them."""

    def __init__(self, net: NetRestorer):
        if net.portraits:
            raise InputError(
                f"{net.name} is a face restorer ({net.kind}): give an upscaler (ESRGAN, SwinIR, ...), or none"
            )
        self.net, self.name, self.path, self.tile = net, net.name, net.path, TILE

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        """(h, w, 3) float32 in [0, 1] on the CPU as many times larger as the net makes it."""
        while True:
            try:
                return self._tiled(picture)
            except RuntimeError as error:
                if self.tile <= SMALLEST_TILE or not out_of_memory(error):
                    raise
            # Outside the except block, which would keep the failed call's tensors alive.
            self.tile //= 2
            log.warning("out of memory in %s: going on with tiles of %d pixels", self.name, self.tile)

    @torch.no_grad()
    def _tiled(self, picture: torch.Tensor) -> torch.Tensor:
        weight = next(self.net.net.parameters())
        height, width = picture.shape[:2]
        scale = int(self.net.descriptor.scale)
        out = torch.empty(height * scale, width * scale, 3)
        for top in range(0, height, self.tile):
            for left in range(0, width, self.tile):
                bottom, right = min(top + self.tile, height), min(left + self.tile, width)
                y, x = max(0, top - MARGIN), max(0, left - MARGIN)
                tile = picture[y : bottom + MARGIN, x : right + MARGIN].permute(2, 0, 1)[None]
                large = self.net.descriptor(tile.to(weight.device, weight.dtype).contiguous())
                large = large[0].to("cpu", torch.float32).permute(1, 2, 0)
                inside = large[(top - y) * scale : (bottom - y) * scale, (left - x) * scale : (right - x) * scale]
                out[top * scale : bottom * scale, left * scale : right * scale] = inside
        return out


def load_upscaler(path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Upscaler:
    """The upscaler in a file of any architecture that spandrel knows."""
    return Upscaler(load_restorer(path, device, dtype))


class Enlarged:
    """`frames` at another size, as a `Frames`: [indices] -> (n, *size, 3) in their dtype.

    `size` is (height, width) in pixels; the upscaler's result is resized to it. No upscaler is Lanczos.
    """

    def __init__(self, frames: Frames, size: tuple[int, int], upscaler: Upscaler | None = None):
        self.frames, self.size, self.upscaler = frames, size, upscaler

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        frames = self.frames[indices]
        out = torch.empty((len(frames), *self.size, 3), dtype=frames.dtype)
        for large, frame in zip(out, frames, strict=True):
            picture = as_stored(frame[..., :3])
            if self.upscaler is not None:
                picture = self.upscaler(as_float(picture))
            picture = resized(picture, self.size)
            large.copy_(as_uint8(picture) if out.dtype == torch.uint8 else picture)
        return out


def resized(picture: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """`picture` (h, w, c), uint8 or float32 in [0, 1], at `size` (height, width); itself where that is its size."""
    if tuple(picture.shape[:2]) == size:
        return picture
    how = cv2.INTER_AREA if size[0] < picture.shape[0] else cv2.INTER_LANCZOS4
    new = torch.from_numpy(cv2.resize(picture.numpy(), size[::-1], interpolation=how))
    return new if new.dtype == torch.uint8 else new.clamp_(0, 1)  # Lanczos overshoots
