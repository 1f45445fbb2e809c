"""Finer pictures out of a run: what restoration adds to the face is laid over finished frames, which may be larger.

Only the change is laid over them. So the frame's own detail never goes through a warp, and where a restorer changes
nothing, or the face is not found, a frame stays as it is, bit for bit.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import count, tee
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..face.align import AlignedFaces
from ..face.blend import blend, paste_crop
from ..face.geometry import stretch
from ..face.masks import face_mask
from ..face.track import FaceTrack
from ..frames import Frames, as_float, as_uint8, batches, skip_frames
from ..settings import BlendSettings, RestoreSettings
from .apply import memory_frames, restore
from .restorers import Restorer
from .upscale import Enlarged, Upscaler, resized

MOST_RATIO = 4
LARGEST_CROP = 1024  # pixels; a crop shows 263 x 351 pixels of the portrait that a restorer makes


@dataclass(frozen=True)
class SuperRes:
    """What makes the pictures of a run finer.

    Attributes:
        restorer: what restores the face; None leaves it.
        settings: how much of what it does is wanted, and where.
        ratio: pixels of the result for one of the source, along each side: 1 to 4.
        upscaler: what enlarges the frames; None is Lanczos.

    Raises:
        ValueError: `ratio` out of range, or an upscaler with nothing to enlarge.
    """

    restorer: Restorer | None = None
    settings: RestoreSettings = field(default_factory=RestoreSettings)
    ratio: float = 1.0
    upscaler: Upscaler | None = None

    def __post_init__(self):
        if not 1 <= self.ratio <= MOST_RATIO:
            raise InputError(f"sr_ratio is {self.ratio}: give a number from 1 (the source's size) to {MOST_RATIO}")
        if self.upscaler is not None and self.ratio == 1:
            raise InputError(f"the upscaler {self.upscaler.name} has nothing to do at sr_ratio 1: give a larger one")

    @property
    def restores(self) -> bool:
        """Whether faces change at all."""
        return self.restorer is not None and self.settings.strength > 0

    @property
    def files(self) -> list[Path]:
        """Where the nets came from."""
        return [net.path for net in (self.restorer, self.upscaler) if getattr(net, "path", None) is not None]

    def plan(self) -> dict[str, object]:
        """What the pixels depend on beside the files, as JSON types."""
        nets = [net and [net.name, getattr(net, "fidelity", None)] for net in (self.restorer, self.upscaler)]
        return {"nets": nets, "settings": asdict(self.settings), "ratio": self.ratio}

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the result for frames of this size."""
        return round(height * self.ratio), round(width * self.ratio)

    def first(self, track: FaceTrack, start: int) -> int:
        """Where to begin so that the frames from `start` on come out as in a run from the beginning.

        The temporal blend looks back, within a stretch of frames with the face: to the last but one frame whose number
        is a multiple of `memory`.
        """
        memory = memory_frames(self.settings)
        if not self.restores or memory == 0:
            return start
        begin = next((a for a, b in track.runs() if a < start < b), start)
        return max(begin, (start // memory - 1) * memory)


def blend_restored(
    frames: Frames,
    track: FaceTrack,
    crops: Iterable[torch.Tensor],
    superres: SuperRes,
    blending: BlendSettings,
    start: int = 0,
    mask_image: np.ndarray | None = None,
) -> Iterator[torch.Tensor]:
    """`blend` with restored crops at the ratio: finished frames (n, h * ratio, w * ratio, 3), in windows.

    Arguments and errors are those of `blend` and `restore`; windows are split, so that memory stays within bounds.
    """
    frames, track = scaled(frames, track, superres)
    crops = _sized(crops, track.resolution, superres.settings.batch)
    crops, again = tee(crops)
    pairs = zip(blend(frames, track, crops, blending, start=start, mask_image=mask_image), again, strict=True)
    return overlaid(pairs, track, superres, blending.mask_smooth, start, mask_image)


def restore_frames(
    frames: Frames, track: FaceTrack, superres: SuperRes, mask_smooth: float = 0.5, start: int = 0
) -> Iterator[torch.Tensor]:
    """Frames as they are, at the ratio, with their faces restored, from frame `start` on.

    Windows hold the same frames wherever it starts, for a net's last bits may depend on the faces beside one.
    """
    frames, track = scaled(frames, track, superres)
    windows = batches(len(frames), superres.settings.batch)[superres.first(track, start) // superres.settings.batch :]
    first = windows[0][0] if windows else start

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for numbers in windows:
            window = frames[numbers]
            crops = AlignedFaces(window, track.matrices[numbers], track.found[numbers], track.resolution)
            yield window, crops[range(len(window))]

    return skip_frames(overlaid(pairs(), track, superres, mask_smooth, first), start - first)


def overlaid(
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor]],
    track: FaceTrack,
    superres: SuperRes,
    mask_smooth: float,
    start: int = 0,
    mask_image: np.ndarray | None = None,
) -> Iterator[torch.Tensor]:
    """Windows of frames, changed in place by what restoration changes in their crops.

    Args:
        pairs: windows of frames (n, h, w, 3), uint8 or float in [0, 1], each with its crops (n, r, r, 3) float.
        track: where the crops lie in these frames; frames without the face stay as they are.
        mask_smooth: width of the region's soft edge, as in `face_mask`.
        start: frame number of the first.
        mask_image: what the net has repainted, the region "mouth"; see `masks`.
    """
    if not superres.restores:
        yield from (window for window, _ in pairs)
        return
    clamped = ((window, as_float(crops).cpu().clamp(0, 1)) for window, crops in pairs)  # the net overshoots
    shown, again = tee(clamped)
    better = restore((crops for _, crops in again), superres.restorer, track, superres.settings, start, mask_image)
    mask = face_mask(track.resolution, superres.settings.region, feather=mask_smooth, mask_image=mask_image)
    numbers = count(start)
    for (window, crops), finer_crops in zip(shown, better, strict=True):
        for frame, change, i in zip(window, finer_crops - crops, numbers):  # noqa: B905 - numbers have no end
            if track.weight[i] > 0:
                _add(frame, change, mask, track.matrices[i], float(track.weight[i]))
        yield window


def _add(frame: torch.Tensor, change: torch.Tensor, mask: torch.Tensor, matrix: np.ndarray, strength: float) -> None:
    """Add a crop's `change` (r, r, 3) in [-1, 1] to `frame`, in place, where `mask` (r, r) lets it."""
    grey = torch.tensor(0.5).expand(*frame.shape[:2], 3)  # a change of 0; takes no memory
    found = paste_crop(grey, 0.5 + change / 2, mask, matrix, strength)
    if found is not None:
        where, pixels = found
        patch = (as_float(frame[where]) + (2 * pixels - 1).to(frame.device)).clamp_(0, 1)
        frame[where] = as_uint8(patch) if frame.dtype == torch.uint8 else patch.to(frame.dtype)


def scaled(frames: Frames, track: FaceTrack, superres: SuperRes) -> tuple[Frames, FaceTrack]:
    """Frames and track at the ratio; at 1 themselves."""
    if superres.ratio == 1:
        return frames, track
    before = tuple(frames[[0]].shape[1:3])
    size = superres.size(*before)
    side = max(track.resolution, min(LARGEST_CROP, round(track.resolution * superres.ratio)))
    return Enlarged(frames, size, superres.upscaler), rescale_track(track, before, size, side)


def rescale_track(track: FaceTrack, before: tuple[int, int], size: tuple[int, int], resolution: int) -> FaceTrack:
    """The track in frames enlarged from `before` to `size` (height, width), with crops of another `resolution`."""
    to_crop = _enlarging((track.resolution,) * 2, (resolution,) * 2) @ stretch(track.resolution)
    canvas, frame = np.linalg.inv(stretch(resolution)) @ to_crop, np.linalg.inv(_enlarging(before, size))
    matrices = np.zeros_like(track.matrices)
    for i in np.flatnonzero(track.found):
        matrices[i] = (canvas @ np.vstack([track.matrices[i], [0, 0, 1]]) @ frame)[:2]
    return replace(track, matrices=matrices, resolution=resolution)


def _enlarging(before: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """(3, 3) map of pixels (x, y) from a picture of (height, width) `before` to one of `size`, edges to edges."""
    y, x = size[0] / before[0], size[1] / before[1]
    return np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]])


def _sized(crops: Iterable[torch.Tensor], resolution: int, batch: int) -> Iterator[torch.Tensor]:
    """Windows of crops in parts of `batch`, at another resolution."""
    for window in crops:
        for part in window.split(batch):
            if part.shape[1] == resolution:
                yield part
            else:
                yield torch.stack([resized(as_float(crop).cpu(), (resolution, resolution)) for crop in part])
