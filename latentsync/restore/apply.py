"""From synced crops to restored ones: portrait and back, only the fine part of the change, steady over time.

A crop becomes a portrait as the nets know it (FFHQ's alignment), the restorer's CHANGE is taken back to the crop and
added. So a restorer that changes nothing gives the crop bit for bit, whatever the two warps cost, and a crop finer than
the portrait loses nothing.

Convention: as in `geometry`. Points are (x, y); a matrix (2, 3) maps portrait pixels to crop pixels.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
import torch

from ..errors import InputError
from ..face.align import ANTIALIAS_BELOW, shrink
from ..face.geometry import crop_matrix, fit_similarity, invert
from ..face.landmarks import points_from_five
from ..face.masks import face_mask
from ..face.track import FaceTrack
from ..frames import as_float, batches
from ..sampling.sample import out_of_memory
from ..settings import RestoreSettings
from .restorers import FACE_SIDE, Restorer

log = logging.getLogger(__name__)


# Where FFHQ's portraits of 512 x 512 have the eye on the left of the picture, the one on the right, the nose tip and
# the mouth corners: the five points that facexlib, and with it the published restorers, align faces to.
FFHQ_FIVE = np.array(
    [[192.981, 239.947], [318.903, 240.194], [256.634, 314.019], [201.261, 371.410], [313.089, 371.151]]
)
SURROUNDINGS = 12.0  # portrait pixels, sigma of the blur outside the crop
COLOUR = 20.0  # portrait pixels, sigma: slower changes than this are colour and light, and stay the input's
SAME = 0.03  # mean change of a crop's pixels, of 0..1, that is still no movement
SAME_OVER = 0.06  # of the crop's side, over which that mean is taken
MOST_KEPT = 0.9  # of the last frame's change, at temporal = 1
FORGOTTEN = 1 / 512  # share of an older frame's change that no longer counts: half a level of 8 bits


def memory_frames(settings: RestoreSettings) -> int:
    """Frames after which a change is forgotten; 0 without the temporal blend."""
    kept = MOST_KEPT * settings.temporal
    return math.ceil(math.log(FORGOTTEN) / math.log(kept)) if kept else 0


def restore(
    crops: Iterable[torch.Tensor],
    restorer: Restorer,
    track: FaceTrack | None = None,
    settings: RestoreSettings | None = None,
    start: int = 0,
    mask_image: np.ndarray | None = None,
) -> Iterator[torch.Tensor]:
    """Crops with restored faces, one window (n, resolution, resolution, 3) for each window of `crops`.

    Args:
        crops: windows as `sync` yields them, in order.
        restorer: `Sharpen()`, or from `load_restorer`.
        track: the one that made the crops: frames without the face come out as they went in, and nothing is carried
            over from one stretch of frames with the face to the next. None: every frame has it.
        settings: see `RestoreSettings`.
        start: frame number of the first crop.
        mask_image: what the net has repainted, the region "mouth"; see `masks`.

    Yields:
        float32 in [0, 1] on the CPU; with strength 0 the windows as they came.

    Raises:
        ValueError: crops that are not square, or do not fit the track.
        FloatingPointError: the restorer gave values that are not finite.
    """
    settings = settings or RestoreSettings()
    stage: _Stage | None = None
    for window in crops:
        numbers = range(start, start + len(window))
        _check_window(window, numbers, track)
        if settings.strength == 0:
            yield window
        else:
            stage = stage or _Stage(restorer, window.shape[1], settings, mask_image)
            yield stage.restored(window, start, _with_face(numbers, track))
        start += len(window)


def _check_window(window: torch.Tensor, numbers: range, track: FaceTrack | None) -> None:
    height, width = window.shape[1:3]
    if height != width:
        raise InputError(f"the crops are {width} x {height} pixels: give the square crops of a face")
    if track is not None and (height != track.resolution or numbers.stop > len(track)):
        raise InputError(
            f"crops {numbers.start}..{numbers.stop - 1} of {width} x {height} do not fit a track of {len(track)} faces "
            f"of {track.resolution} x {track.resolution}: use the track that made the crops"
        )


def _with_face(numbers: range, track: FaceTrack | None) -> list[tuple[int, bool]]:
    """(frame number, whether a run begins there) of every frame with the face."""
    if track is None:
        return [(i, False) for i in numbers]
    begins = {first for first, _ in track.runs()}
    return [(i, i in begins) for i in numbers if track.found[i]]


class _Stage:
    """One run of `restore`: what is the same for all frames, what the last frame left, and how many fit at once."""

    def __init__(self, restorer: Restorer, resolution: int, settings: RestoreSettings, mask_image: np.ndarray | None):
        self.restorer, self.settings, self.batch = restorer, settings, settings.batch
        self.portrait = Portrait(resolution)
        self.weight = settings.strength * face_mask(resolution, settings.region, 0, 0.5, mask_image)[..., None]
        self.before: torch.Tensor | None = None
        self.kept: list[torch.Tensor] = []  # the last frame's change, as the memories have it

    def restored(self, window: torch.Tensor, start: int, numbers: Sequence[tuple[int, bool]]) -> torch.Tensor:
        """`window` (n, h, w, 3), the first of them frame `start`, with the faces of frames `numbers` restored."""
        out = as_float(window[..., :3]).cpu().clone()
        for group in batches(len(numbers), self.settings.batch):
            shown = [numbers[g] for g in group]
            faces = torch.stack([self.portrait.of(out[i - start]) for i, _ in shown])
            for (i, begins), face, better in zip(shown, faces, self._through(faces), strict=True):
                crop = out[i - start]
                change = self._steadied(crop, self.portrait.back(better - face), i, begins)
                crop.copy_(torch.where(self.weight > 0, (crop + self.weight * change).clamp(0, 1), crop))
        return out

    def _through(self, faces: torch.Tensor) -> torch.Tensor:
        """The restorer over `faces` (n, 512, 512, 3), as many at once as fit into memory."""
        done: list[torch.Tensor] = []
        while (first := sum(map(len, done))) < len(faces):
            part = faces[first : first + self.batch]
            try:
                done.append(self._checked(self.restorer(part), part))
                continue
            except RuntimeError as error:
                if len(part) == 1 or not out_of_memory(error):
                    raise
            # Outside the except block, which would keep the failed call's tensors alive.
            self.batch = len(part) // 2
            log.warning("out of memory in %s: going on with %d faces at once", self.restorer.name, self.batch)
        return torch.cat(done)

    def _checked(self, restored: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        if restored.shape != faces.shape:
            raise InputError(
                f"{self.restorer.name} made {tuple(restored.shape)} of faces {tuple(faces.shape)}: it is no restorer "
                "that keeps the size"
            )
        if not torch.isfinite(restored).all():
            raise FloatingPointError(f"{self.restorer.name} gave values that are not finite: load it in float32")
        return restored

    def _steadied(self, crop: torch.Tensor, change: torch.Tensor, number: int, begins: bool) -> torch.Tensor:
        """`change` (h, w, 3), mixed with that of the frame before where `crop` looks as it did there.

        Two memories: one that began at the last but one multiple of `memory`, or with the run, is used while the next
        one fills. So no frame hangs on those before that multiple, and a run that begins there gives the same frames.
        """
        memory = memory_frames(self.settings)
        if memory == 0:
            return change
        changes = [] if begins or not self.kept else self._mixed(crop, change)
        if not changes or number % memory == 0:
            changes = [*changes[-1:], change]
        self.before, self.kept = crop.clone(), changes
        return changes[0]

    def _mixed(self, crop: torch.Tensor, change: torch.Tensor) -> list[torch.Tensor]:
        """`change` (h, w, 3) with what each memory keeps."""
        moved = (crop - self.before).abs().mean(-1).numpy()
        side = int(SAME_OVER * len(moved)) | 1
        moved = torch.from_numpy(cv2.blur(moved, (side, side)))
        share = MOST_KEPT * self.settings.temporal * torch.exp(-((moved / SAME) ** 2))
        return [torch.lerp(change, kept, share[..., None].expand_as(change)) for kept in self.kept]


class Portrait:
    """The way from a crop of `resolution` x `resolution` to FFHQ's portrait and back.

    A portrait is taken for a frame whose face has FFHQ's five points: its alignment says where the crop lies in it.
    The crop covers the middle, about 263 x 351 pixels of it.
    """

    def __init__(self, resolution: int):
        self.resolution = resolution
        self.matrix = crop_matrix(fit_similarity(points_from_five(FFHQ_FIVE), resolution)[0], resolution)
        inside = _warp(np.ones((resolution, resolution), np.float32), invert(self.matrix), FACE_SIDE)
        # The blurred surroundings begin a little inside, so that no edge is to be seen.
        self.inside = np.clip(2 * cv2.GaussianBlur(inside, (0, 0), SURROUNDINGS / 2) - 1, 0, 1)[..., None]

    def of(self, crop: torch.Tensor) -> torch.Tensor:
        """(512, 512, 3) float32 of a crop (h, w, 3) in [0, 1].

        What the crop does not show is mirrored and blurred, as FFHQ's own pictures were made larger.
        """
        face = _warp(crop.numpy(), invert(self.matrix), FACE_SIDE, cv2.BORDER_REFLECT_101)
        around = _blurred(face, SURROUNDINGS)
        return torch.from_numpy(around + self.inside * (face - around))

    def back(self, change: torch.Tensor) -> torch.Tensor:
        """A portrait's change (512, 512, 3) in the crop, without its slow part: colours stay those of the input."""
        change = change.numpy()
        return torch.from_numpy(_warp(change - _blurred(change, COLOUR), self.matrix, self.resolution))


def _warp(picture: np.ndarray, matrix: np.ndarray, side: int, border: int = cv2.BORDER_CONSTANT) -> np.ndarray:
    """`picture` (h, w[, c]) float32 through `matrix`, which maps its pixels to those of a square of `side`."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < ANTIALIAS_BELOW:
        picture, matrix = shrink(picture, matrix, scale)
    flags = cv2.INTER_LINEAR if scale < 1 else cv2.INTER_CUBIC
    return cv2.warpAffine(picture, matrix, (side, side), flags=flags, borderMode=border)


def _blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur, worked out at a quarter of the size: it holds nothing that would be lost there."""
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / 4), (width, height), interpolation=cv2.INTER_LINEAR)
