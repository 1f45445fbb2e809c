"""One video beside its reference, and what metrics see of the two."""

import copy
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import FileError, InputError
from ..face.align import AlignedFaces
from ..face.track import Chosen, FaceTrack, choose_faces, place_faces
from ..frames import Frames, FrameView, batches
from ..media import VideoReader, VideoWriter
from ..media.audio import load_mono_16k
from ..media.source import VIDEO_SUFFIXES, open_source
from ..pipelines.lip_sync import watch
from ..progress import Progress
from ..settings import EVERY_FACE
from .curves import kind_of_sound
from .faces import SeenFaces
from .metrics import View
from .tools import Tools

# The one codec of `sync_codec`, as most files are: x264's usual quality. Sound becomes AAC of 96 kbit/s a channel.
FIXED = {"encoder": "x264", "crf": 18, "preset": "medium"}
CACHE = 20  # pictures: a window of StableSyncNet, and the next one begins 4 later
MOUTH_256 = (slice(96, 240), slice(56, 200))  # rows and columns around mouth and chin, of an aligned crop of 256


@dataclass(frozen=True)
class Pair:
    """A video to evaluate and the one that it should look like, frame by frame; None: there is none."""

    video: Path
    reference: Path | None = None
    language: str = ""  # that is spoken, as the user calls it


def find_pairs(video: str | Path, reference: str | Path | None = None, language: str = "") -> list[Pair]:
    """One video and its reference, or all videos of a folder and those of the same names in another."""
    video, reference = Path(video), None if reference is None else Path(reference)
    for path in (video, reference):
        if path is not None and not path.exists():
            raise FileError(f"there is no video or folder {path}: check the path")
    if reference is not None and video.is_dir() != reference.is_dir():
        raise InputError(f"{video} and {reference} are a folder and a file: give two videos or two folders")
    if not video.is_dir():
        return [Pair(video, reference, language)]
    made = videos_in(video)
    if reference is None:
        return [Pair(path, None, language) for path in made.values()]
    true = videos_in(reference)
    if alone := [path.name for name, path in made.items() if name not in true]:
        raise InputError(f"{reference} has no video named like {', '.join(alone[:3])}: give each its reference")
    return [Pair(path, true[name], language) for name, path in made.items()]


def videos_in(folder: Path) -> dict[str, Path]:
    """The videos of a folder by name without suffix, in order."""
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()):
        if path.stem in found:
            raise InputError(f"{folder} has {found[path.stem].name} and {path.name}: keep one video of each name")
        found[path.stem] = path
    if not found:
        raise InputError(f"the folder {folder} has no videos ({', '.join(sorted(VIDEO_SUFFIXES))}): give another one")
    return found


class OpenPair:
    """A pair of videos, opened in a `with` block, and what is seen in them.

    The face is looked for in the video, and the reference is cropped in the same places. Where one of the two is
    longer, its end is not compared.
    """

    def __init__(self, pair: Pair, tools: Tools, progress: Progress):
        self.paths, self.tools, self.progress = pair, tools, progress
        self._track_settings = replace(tools.settings.track, **EVERY_FACE)
        self._result: OpenPair | None = None  # whose source this is
        with ExitStack() as stack:
            self.video, self.reference = stack.enter_context(VideoReader(pair.video, cache=CACHE)), None
            if pair.reference is not None:
                # At the video's own rate, so that frames are paired by time.
                self.reference = stack.enter_context(VideoReader(pair.reference, fps=self.video.fps, cache=CACHE))
                made, true = self.video, self.reference
                if (made.height, made.width) != (true.height, true.width):
                    raise InputError(
                        f"{pair.video} has pictures of {made.width} x {made.height} and {pair.reference} of "
                        f"{true.width} x {true.height}: give videos of one size"
                    )
            self._later = stack.enter_context(ExitStack())  # for what is opened on the way
            self._open = stack.pop_all()
        self.size, self.rate, self.fps = (self.video.height, self.video.width), self.video.fps, float(self.video.fps)
        self.count = len(self.video) if self.reference is None else min(len(self.video), len(self.reference))

    def __enter__(self) -> "OpenPair":
        return self

    def __exit__(self, *_) -> None:
        self._open.close()

    def source(self) -> "OpenPair":
        """The reference as a video of its own, with the face where it is in this one."""
        other = copy.copy(self)
        other.paths, other.reference, other._result = Pair(self.paths.reference), None, self
        other.video = FrameView(self.reference, range(self.count))
        for cached in ("boxes", "wave", "source_wave", "judged", "seen_faces"):
            other.__dict__.pop(cached, None)
        return other

    @cached_property
    def _chosen(self) -> Chosen:
        if self._result is not None:
            return self._result._chosen
        detector, settings = self.tools.detector(self.paths.video), self._track_settings
        return choose_faces(watch(self.video, self.fps, detector, settings, 1, self.progress), self.fps, settings)

    def track(self, resolution: int | None = None) -> FaceTrack:
        """Of the whole video, for crops of this side; None: the one of the settings."""
        return place_faces(self._chosen, resolution or self.tools.settings.resolution, self.fps, self._track_settings)

    @cached_property
    def boxes(self) -> np.ndarray:
        """(frames, 4) of the face, on straight lines where it was not found."""
        known = {i: face.box for i, face in enumerate(self._chosen.faces) if face is not None}
        if not known:
            raise InputError(f"{self.paths.video} shows no face ({self._track_settings.which}): try another detector")
        sides = zip(*known.values(), strict=True)
        return np.stack([np.interp(np.arange(len(self.video)), list(known), side) for side in sides], axis=1)

    @cached_property
    def wave(self) -> Tensor:
        """The video's sound, (samples,) at 16 kHz."""
        return load_mono_16k(self.paths.video)

    @cached_property
    def source_wave(self) -> Tensor | None:
        """The reference's sound, if it has one."""
        try:
            return None if self.reference is None else load_mono_16k(self.paths.reference)
        except InputError:
            return None

    @property
    def sound(self) -> str:
        """See `curves.kind_of_sound`."""
        try:
            wave = None if self.source_wave is None else self.wave
        except InputError:
            wave = None
        return "" if wave is None else kind_of_sound(wave, self.source_wave, self.count, self.fps)

    @property
    def codecs(self) -> str:
        """Of pictures and sound, such as "h264/aac"."""
        with open_source(self.paths.video, "video") as container:
            streams = container.streams.video[:1] + container.streams.audio[:1]
            return "/".join(stream.codec_context.name for stream in streams if stream.codec_context is not None)

    @cached_property
    def judged(self) -> tuple[Frames, Tensor]:
        """Pictures and sound that SyncNets judge: those of the file, or what `FIXED` makes of them."""
        if self.tools.settings.sync_codec == "raw":
            return self.video, self.wave
        folder = self._later.enter_context(tempfile.TemporaryDirectory(prefix="latentsync_"))
        path, frames = Path(folder, "judged.mp4"), self.video
        sound = {"audio": self.paths.video, "pad_audio": True}  # with which it is encoded anew
        with VideoWriter(path, self.rate, *self.size, **sound, **FIXED) as writer:
            for numbers in batches(len(frames), CACHE):
                self.progress(f"encoding {self.paths.video.name} for SyncNet", numbers[0], len(frames))
                writer.write(frames[numbers])
        return self._later.enter_context(VideoReader(path, fps=self.rate, cache=CACHE)), load_mono_16k(path)

    @cached_property
    def seen_faces(self) -> SeenFaces:
        boxes = self.boxes
        try:
            return SeenFaces(boxes, self.tools.describe_faces)
        except InputError as error:
            return SeenFaces(boxes, None, str(error))

    def crops(self, frames: Frames, resolution: int | None = None) -> AlignedFaces:
        """The face in the first frames of the video or of the reference, as far as `frames` go; see `track`."""
        track = self.track(resolution).take(range(len(frames)))
        return AlignedFaces(frames, track.matrices, track.found, track.resolution)

    def views(self, view: View) -> tuple[Frames, Frames | None, list[tuple[int, int]]]:
        """What metrics of this view see: pictures, the true ones, and runs (start, stop) of frames that count."""
        made, true = (None if v is None else FrameView(v, range(self.count)) for v in (self.video, self.reference))
        region = self.tools.settings.region
        if view == "frames" or (view == "region" and region == "frame"):
            return made, true, [(0, self.count)]
        seen = [None if frames is None else self.crops(frames) for frames in (made, true)]
        if view == "region" and region == "mouth":
            seen = [None if crops is None else Mouth(crops) for crops in seen]
        return *seen, self.track().take(range(self.count)).runs()


class Mouth:
    """The square around mouth and chin in aligned crops, as `Frames`: 9/16 of their side."""

    def __init__(self, crops: AlignedFaces):
        self.crops = crops
        side = crops.resolution
        self.part = tuple(slice(s.start * side // 256, s.stop * side // 256) for s in MOUTH_256)

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, indices: Sequence[int]) -> Tensor:
        rows, columns = self.part
        return self.crops[indices][:, rows, columns].contiguous()
