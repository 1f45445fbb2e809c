"""Super-resolution: what restoration changes in the face is laid over finished frames, which may be enlarged.

Only the change is laid over them. So a frame's own detail never goes through a warp, and where a restorer changes
nothing, or the face is not found, a frame stays as it is, bit for bit.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..face.align import AlignedFaces
from ..face.blend import Blender, paste_crop
from ..face.geometry import homogeneous, resizing, stretch
from ..face.masks import face_mask, fitted
from ..face.track import FaceTrack
from ..frames import Frames, as_float, as_uint8
from ..settings import BlendSettings, RestoreSettings
from ..threads import ahead
from .apply import Restoration, memory_frames
from .restorers import Restorer
from .upscale import Enlarged, Upscaler, resized

MOST_RATIO = 4
LARGEST_CROP = 1024  # pixels; a crop shows 297 x 396 pixels of the portrait that a restorer makes


@dataclass(frozen=True)
class SuperRes:
    """Restoration and enlargement of a run's frames."""

    restorer: Restorer | None = None  # None leaves the face
    settings: RestoreSettings = field(default_factory=RestoreSettings)
    ratio: float = 1.0  # side of the result over that of the source, 1 to `MOST_RATIO`
    upscaler: Upscaler | None = None  # None enlarges by Lanczos

    def __post_init__(self):
        if not 1 <= self.ratio <= MOST_RATIO:
            raise InputError(f"sr_ratio is {self.ratio}: give a number from 1 (the source's size) to {MOST_RATIO}")
        if self.upscaler is not None and self.ratio == 1:
            raise InputError(f"the upscaler {self.upscaler.name} has nothing to do at sr_ratio 1: give a larger one")

    @property
    def restores(self) -> bool:
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

        Within a stretch of frames with the face the temporal blend looks back: see `Restoration._steadied`.
        """
        memory = memory_frames(self.settings)
        if not self.restores or memory == 0:
            return start
        begin = next((a for a, b in track.runs() if a < start < b), start)
        return max(begin, (start // memory - 1) * memory)


def blend_restored(
    frames: Frames,
    tracks: Sequence[FaceTrack],
    windows: Iterable[Sequence[torch.Tensor]],
    superres: SuperRes,
    blending: BlendSettings,
    start: int = 0,
    mask_image: np.ndarray | None = None,
    occlusions: Sequence[Frames | None] = (None,),
) -> Generator[torch.Tensor, None, None]:
    """`blend` with restored crops at the ratio: finished frames (n, h * ratio, w * ratio, 3), in windows.

    Of each track there are crops in a window and there is an occlusion; a later one's are laid over those before.
    Windows are split into parts of the restorer's batch, so that memory stays within bounds.
    """
    faces = []
    for track, occlusion in zip(tracks, occlusions, strict=True):
        large, track = scaled(frames, track, superres)
        overlay = FaceOverlay(track, superres, blending.mask_smooth, mask_image)
        faces.append((Blender(large, track, blending, mask_image=mask_image), overlay, occlusion))
    for window in windows:
        for parts in zip(*(crops.split(superres.settings.batch) for crops in window), strict=True):
            out, numbers = None, list(range(start, start + len(parts[0])))
            for (blender, overlay, occlusion), part in zip(faces, parts, strict=True):
                side = blender.track.resolution
                if part.shape[1] != side:
                    part = torch.stack([resized(as_float(crop).cpu(), (side, side)) for crop in part])
                free = None if occlusion is None else fitted(occlusion[numbers], side)
                out = overlay(blender(part, start, free, out), part, start, free)
            yield out
            start += len(out)


def restore_frames(
    frames: Frames, track: FaceTrack, superres: SuperRes, mask_smooth: float = 0.5, start: int = 0
) -> Generator[torch.Tensor, None, None]:
    """Frames as they are, at the ratio, with their faces restored, from frame `start` on.

    Windows hold the same frames wherever it starts, for a net's last bits may depend on the faces beside one.
    """
    large, track = scaled(frames, track, superres)
    overlay = FaceOverlay(track, superres, mask_smooth)
    batch = superres.settings.batch
    firsts = range(superres.first(track, start) // batch * batch, len(frames), batch)
    spans = (list(range(first, min(first + batch, len(frames)))) for first in firsts)
    windows = ((numbers, frames[numbers]) for numbers in spans)
    # Nets stay in the caller's thread.
    cropped = _cropped(ahead(windows), large, track) if superres.upscaler else ahead(_cropped(windows, large, track))
    with closing(cropped):
        for first, window, crops in cropped:
            window = overlay(window, crops, first)
            if first + len(window) > start:
                yield window[max(0, start - first) :]


def _cropped(windows: Generator, large: Frames, track: FaceTrack) -> Generator[tuple, None, None]:
    """First number, frames at the ratio and crops of windows (numbers, frames)."""
    with closing(windows):
        for numbers, window in windows:
            if isinstance(large, Enlarged):
                window = Enlarged(window, large.size, large.upscaler)[range(len(window))]
            crops = AlignedFaces(window, track.matrices[numbers], track.found[numbers], track.resolution)
            yield numbers[0], window, crops[range(len(window))]


class FaceOverlay:
    """Lays what restoration changes in a window's crops over its frames; call it with the windows in order.

    Args:
        track: where the crops lie in these frames; frames without the face stay as they are.
        mask_smooth: width of the region's soft edge, as in `face_mask`.
        mask_image: what the net has repainted, the region "mouth"; see `masks`.
    """

    def __init__(self, track: FaceTrack, superres: SuperRes, mask_smooth: float, mask_image: np.ndarray | None = None):
        self.track, self.restoration = track, None
        if superres.restores:
            region = superres.settings.region
            self.mask = face_mask(track.resolution, region, feather=mask_smooth, mask_image=mask_image)
            self.restoration = Restoration(superres.restorer, track.resolution, superres.settings, track, mask_image)

    def __call__(
        self, window: torch.Tensor, crops: torch.Tensor, start: int, free: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`window` (n, h, w, 3), uint8 or float in [0, 1], from frame `start` on, changed in place; see `Blender`."""
        if self.restoration is None:
            return window
        crops = as_float(crops).cpu().clamp(0, 1)  # the net overshoots
        changes = self.restoration(crops, start) - crops
        grey = torch.tensor(0.5).expand(*window.shape[1:3], 3)  # a change of 0; takes no memory
        for i, (frame, change) in enumerate(zip(window, changes, strict=True), start):
            if self.track.weight[i] <= 0:
                continue
            mask = self.mask if free is None else self.mask * free[i - start]
            pasted = paste_crop(grey, 0.5 + change / 2, mask, self.track.matrices[i], float(self.track.weight[i]))
            if pasted is not None:
                where, pixels = pasted
                patch = (as_float(frame[where]) + (2 * pixels - 1).to(frame.device)).clamp_(0, 1)
                frame[where] = as_uint8(patch) if frame.dtype == torch.uint8 else patch.to(frame.dtype)
        return window


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
    to_crop = resizing((track.resolution,) * 2, (resolution,) * 2) @ stretch(track.resolution)
    canvas, frame = np.linalg.inv(stretch(resolution)) @ to_crop, np.linalg.inv(resizing(before, size))
    return replace(track, matrices=Rescaled(track.matrices, canvas, frame), resolution=resolution)


@dataclass(frozen=True, eq=False)
class Rescaled:
    """Matrices of a track, each between two others; made when they are asked for, as a track may still grow."""

    matrices: np.ndarray
    canvas: np.ndarray
    frame: np.ndarray

    def __len__(self) -> int:
        return len(self.matrices)

    def __getitem__(self, index: int | Sequence[int]) -> np.ndarray:
        if np.ndim(index):
            return np.stack([self[i] for i in index])
        return (self.canvas @ homogeneous(self.matrices[index]) @ self.frame)[:2].astype(np.float32)
