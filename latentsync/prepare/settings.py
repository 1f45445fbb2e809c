"""What can be chosen about preparing clips."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..audio.syncnet import VIDEO_FPS
from ..errors import InputError
from ..models.load import check_resolution
from ..nets.hyperiqa import SIZE as QUALITY_SIZE
from ..nets.syncnet_v2 import SHIFT

FPS = VIDEO_FPS  # of every clip

STAGES = ("read", "cuts", "segments", "align", "face_size", "sync", "quality", "clip")
SKIPPABLE = ("cuts", "sync", "quality")
OPTIONAL = ("face_size",)


@dataclass(frozen=True)
class PrepareSettings:
    """Everything about the clips but the sources. The defaults are those of the LatentSync paper and program."""

    resolution: int = 256  # side of the aligned crops in pixels
    min_seconds: float = 5.0  # length of a clip; a shot is cut evenly into as few clips as fit
    max_seconds: float = 10.0
    cut_threshold: float = 2.0  # by how many times the usual difference a frame must change to begin a new shot
    min_confidence: float = 3.0  # of SyncNet v2 (LSE-C)
    max_offset: int = 6  # frames by which the sound may be shifted
    min_quality: float = 40.0  # by hyperIQA, the mean of the first, the middle and the last frame
    skip: Collection[str] = frozenset()  # stages to leave out, of `SKIPPABLE`
    also: Collection[str] = frozenset()  # stages to add, of `OPTIONAL`; face_size drops faces below `resolution`

    def __post_init__(self):
        check_resolution(self.resolution)
        for name, known in (("skip", SKIPPABLE), ("also", OPTIONAL)):
            if unknown := sorted(set(getattr(self, name)) - set(known)):
                raise InputError(f"{name} names {', '.join(unknown)!r}: choose from {', '.join(known)}")
        if not (1 <= self.min_seconds and self.max_seconds < math.inf and self.longest >= 2 * self.shortest):
            raise InputError(
                f"clips last {self.min_seconds:g} to {self.max_seconds:g} s: give at least 1 s, and for the longest at "
                "least twice the shortest, so that any longer shot can be cut evenly"
            )
        if not self.cut_threshold > 0:
            raise InputError(f"cut_threshold is {self.cut_threshold}: give a number above 0")
        if not 0 <= self.max_offset <= SHIFT:
            raise InputError(f"max_offset is {self.max_offset}: give 0 to {SHIFT} frames, as far as SyncNet looks")
        if "quality" not in self.skip and self.resolution < QUALITY_SIZE:
            raise InputError(
                f"resolution is {self.resolution} and hyperIQA judges {QUALITY_SIZE} x {QUALITY_SIZE} pixels: leave it "
                "out with --skip quality, or choose a larger resolution"
            )

    @property
    def shortest(self) -> int:
        """Frames of the shortest clip."""
        return math.ceil(self.min_seconds * FPS)

    @property
    def longest(self) -> int:
        """Frames of the longest clip."""
        return math.floor(self.max_seconds * FPS)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that are run, in order."""
        return tuple(s for s in STAGES if s not in self.skip and (s not in OPTIONAL or s in self.also))


@dataclass(frozen=True)
class Tools:
    """Which detector and weights are used; `device` is where nets run, None for the best there is."""

    detector: str = "auto"
    detector_model: Path | None = None
    checkpoints: Path = Path("checkpoints")
    device: str | None = None
