"""What a user may turn in a run."""

from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np

from ..errors import InputError
from ..face.blend import BlendSettings
from ..face.track import TrackSettings
from ..frames import EndMode
from ..restore.superres import SuperRes
from ..sampling.sample import Settings

MOST_FPS = 1000


@dataclass(frozen=True)
class RunSettings:
    """Everything about a run but its files and its model.

    Attributes:
        sync, track, blend: see the classes.
        fps: frame rate of the result; None keeps the source's. The model was trained at 25.
        detect_every: look for the face in every n-th frame and interpolate between.
        audio_longer: what the video does while a longer audio goes on: pingpong, loop, hold or stop.
        audio_shorter: "stop" ends the video with the audio, "silent" carries on with a silent mouth.
        repeat_turns: in pingpong the turning frames stand twice, as published.
        hard_cut: let Whisper hear each 30 s alone, as published.
        crf: quality of the result, lower is better and larger.
        superres: what restores the face and enlarges the frames, with its nets; None is neither.
        mask_image: what the net repaints, see `masks`: that which it was trained with. None is the published one.
    """

    sync: Settings = field(default_factory=Settings)
    track: TrackSettings = field(default_factory=TrackSettings)
    blend: BlendSettings = field(default_factory=BlendSettings)
    fps: float | None = None
    detect_every: int = 1
    audio_longer: EndMode = "pingpong"
    audio_shorter: str = "stop"
    repeat_turns: bool = False
    hard_cut: bool = False
    crf: int = 16
    superres: SuperRes | None = None
    mask_image: np.ndarray | None = field(default=None, compare=False)  # arrays have no one truth value

    def __post_init__(self):
        if self.fps is not None and not 0 < self.fps <= MOST_FPS:
            raise InputError(f"fps is {self.fps}: give a number of frames per second above 0, at most {MOST_FPS}")
        if self.detect_every < 1:
            raise InputError(f"detect_every is {self.detect_every}: give 1 (every frame) or more")
        if not 0 <= self.crf <= 51:
            raise InputError(f"crf is {self.crf}: give 0 (best) to 51")
        for name, choices in (("audio_longer", get_args(EndMode)), ("audio_shorter", ("stop", "silent"))):
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(choices)}")

    def as_published(self) -> "RunSettings":
        """These settings with what the published program does: see the README for the little that still differs."""
        return replace(
            self,
            # It has guidance only above 1.
            sync=replace(self.sync, overlap=0, guidance=max(1.0, self.sync.guidance), clamp=False),
            track=replace(self.track, published=True),
            blend=replace(self.blend, published=True),
            repeat_turns=True,
            hard_cut=True,
            fps=25.0,
        )
