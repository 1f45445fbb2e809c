"""One video beside its reference: what the metrics look at, and their figures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..face.align import AlignedFaces
from ..face.track import Chosen, FaceTrack, choose_faces, place_faces
from ..frames import Frames, FrameView
from ..media import VideoReader
from ..pipelines.lip_sync import load_mono_16k, watch
from ..progress import Progress
from ..settings import TrackSettings
from .frechet import Frechet, FrechetOfClips
from .metrics import METRICS, Meter, View, windows
from .pictures import Flicker, Identity, Lpips, MsSsim, Psnr, Seam, Ssim
from .published import sync_of_video
from .report import ClipReport
from .sync_score import stable_syncnet, syncnet_v2
from .tools import Tools

CACHE = 20  # pictures: a window of StableSyncNet, and the next one begins 4 later
MOUTH_256 = (slice(96, 240), slice(56, 200))  # rows and columns about mouth and chin, of an aligned crop of 256
CANNOT = (FileNotFoundError, ImportError, ValueError)  # why one metric has no figure while the others go on
Views = tuple[Frames, Frames | None, list[tuple[int, int]]]  # pictures, the true ones, runs (start, stop)


@dataclass(frozen=True)
class Pair:
    """A video to evaluate and the one that it should look like, frame by frame; None: there is none."""

    video: Path
    reference: Path | None = None


class Clip:
    """A pair of videos, opened in a `with` block, and what is seen in them.

    The face is looked for in the video, and the reference is cropped in the same places. Where one of the two is
    longer, its end is not compared.

    Raises:
        FileNotFoundError, OSError: a video that is missing or may not be read.
        ValueError: not a video, or pictures of another size in the reference.
    """

    def __init__(self, pair: Pair, tools: Tools, progress: Progress):
        self.pair, self.tools, self.progress = pair, tools, progress
        self.video, self.reference = VideoReader(pair.video, cache=CACHE), None
        try:
            if pair.reference is not None:
                # At the video's own rate, so that frames are paired by time.
                self.reference = VideoReader(pair.reference, fps=self.video.fps, cache=CACHE)
                self._check_size(self.video, self.reference)
        except BaseException:
            self.close()
            raise
        self.fps = float(self.video.fps)
        self.count = len(self.video) if self.reference is None else min(len(self.video), len(self.reference))

    def _check_size(self, made: VideoReader, true: VideoReader) -> None:
        if (made.height, made.width) != (true.height, true.width):
            raise InputError(
                f"{self.pair.video} has pictures of {made.width} x {made.height} and {self.pair.reference} of "
                f"{true.width} x {true.height}: give videos of one size"
            )

    def close(self) -> None:
        self.video.close()
        if self.reference is not None:
            self.reference.close()

    def __enter__(self) -> "Clip":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @cached_property
    def _chosen(self) -> Chosen:
        detector, settings = self.tools.detector(self.pair.video), self._track_settings
        return choose_faces(watch(self.video, self.fps, detector, settings, 1, self.progress), self.fps, settings)

    @cached_property
    def _track_settings(self) -> TrackSettings:
        return TrackSettings(which=self.tools.settings.face)

    def track(self, resolution: int | None = None) -> FaceTrack:
        """Of the whole video, for crops of this side; None: the one of the settings."""
        return place_faces(self._chosen, resolution or self.tools.settings.resolution, self.fps, self._track_settings)

    @cached_property
    def boxes(self) -> np.ndarray:
        """(frames, 4) of the face, on straight lines where it was not found."""
        places = [i for i, face in enumerate(self._chosen.faces) if face is not None]
        if not places:
            raise InputError(f"{self.pair.video} shows no face ({self._track_settings.which}): try another detector")
        known = np.array([self._chosen.faces[i].box for i in places])
        return np.stack([np.interp(np.arange(len(self.video)), places, column) for column in known.T], axis=1)

    @cached_property
    def wave(self) -> Tensor:
        """The video's sound, (samples,) at 16 kHz."""
        return load_mono_16k(self.pair.video)

    def crops(self, frames: Frames, resolution: int | None = None) -> AlignedFaces:
        """The face in the first frames of the video or of the reference, as far as `frames` go; see `track`."""
        track = self.track(resolution).take(range(len(frames)))
        return AlignedFaces(frames, track.matrices, track.found, track.resolution)

    def views(self, view: View) -> Views:
        """What metrics of this view are given."""
        made, true = (None if v is None else FrameView(v, range(self.count)) for v in (self.video, self.reference))
        region = self.tools.settings.region
        if view == "frames" or (view == "region" and region == "frame"):
            return made, true, [(0, self.count)]
        seen = [None if frames is None else self.crops(frames) for frames in (made, true)]
        if view == "region" and region == "mouth":
            seen = [None if crops is None else Mouth(crops) for crops in seen]
        return *seen, self.track().take(range(self.count)).runs()


class Mouth:
    """The square about mouth and chin in aligned crops, as `Frames`: 9/16 of their side."""

    def __init__(self, crops: AlignedFaces):
        self.crops = crops
        side = crops.resolution
        self.part = tuple(slice(s.start * side // 256, s.stop * side // 256) for s in MOUTH_256)

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, indices: Sequence[int]) -> Tensor:
        rows, columns = self.part
        return self.crops[indices][:, rows, columns].contiguous()


def evaluate_clip(clip: Clip, metrics: Sequence[str], pooled: dict[str, Frechet]) -> ClipReport:
    """The figures of one clip; `pooled` holds the meters that go on from clip to clip."""
    report = ClipReport(metrics, clip.pair.video, clip.pair.reference, clip.count, clip.fps)
    report.protocol = clip.tools.settings.protocol
    if clip.reference is not None and len(clip.video) != len(clip.reference):
        had = f"{len(clip.video)} frames, its reference {len(clip.reference)}"
        report.notes.append(f"{clip.pair.video.name} has {had}: the first {clip.count} are compared")
    wanted: dict[View, dict[str, None]] = {}  # meters by what they look at, in order and once each
    for name in metrics:
        metric = METRICS[name]
        if metric.reference and clip.reference is None:
            report.missing[name] = "needs the true pictures: give --reference, the source video"
        else:
            wanted.setdefault(metric.view, {})[metric.meter] = None
    for view, meters in wanted.items():
        if view == "sound":
            _listen(clip, meters, report)
        else:
            _look(clip, view, meters, report, pooled)
    return report


def _listen(clip: Clip, meters: Iterable[str], report: ClipReport) -> None:
    for name in meters:
        clip.progress(f"judging lips and sound of {clip.pair.video.name}", 0, len(clip.video))
        try:
            if name == "syncnet_v2" and clip.tools.settings.protocol == "published":
                detector = clip.tools.detector(clip.pair.video)
                found = sync_of_video(clip.tools.syncnet_v2, clip.video, clip.fps, detector, clip.wave, clip.progress)
            elif name == "syncnet_v2":
                found = syncnet_v2(clip.tools.syncnet_v2, clip.video, clip.boxes, clip.wave, clip.fps)
            else:
                judge, vae = clip.tools.judge
                found = stable_syncnet(judge, vae, clip.crops(clip.video, judge.side), clip.wave, clip.fps)
            report.add(found)
        except CANNOT as error:
            report.refuse(name, error)


def _look(clip: Clip, view: View, names: Iterable[str], report: ClipReport, pooled: dict[str, Frechet]) -> None:
    """One pass over both videos, side by side, for all meters of a view."""
    meters: dict[str, Meter] = {}
    for name in names:
        try:
            meters[name] = _meter(name, clip, pooled)
            views = clip.views(view)
        except CANNOT as error:
            report.refuse(name, error)
            meters.pop(name, None)
    if meters:
        _feed(clip, meters, views, report)
    for name, meter in meters.items():
        if name not in pooled:
            try:
                report.add(meter.figures())
            except ValueError as error:
                report.refuse(name, error)


def _feed(clip: Clip, meters: dict[str, Meter], views: Views, report: ClipReport) -> None:
    """Give the windows of both videos to all meters; one that refuses them is taken out."""
    made, true, runs = views
    phase, done, total = f"measuring {clip.pair.video.name}", 0, sum(stop - start for start, stop in runs)
    for numbers in windows(made, runs):
        clip.progress(phase, done, total)
        pictures, truth = made[numbers], None if true is None else true[numbers]
        for name in list(meters):
            try:
                meters[name].add(numbers, pictures, truth)
            except ValueError as error:
                report.refuse(name, error)
                del meters[name]
        done += len(numbers)
    clip.progress(phase, done, total)


def _meter(name: str, clip: Clip, pooled: dict[str, Frechet]) -> Meter:
    """What measures the metrics of this name in a clip."""
    simple = {"psnr": Psnr, "ssim": Ssim, "ms_ssim": MsSsim, "flicker": Flicker, "seam": Seam}
    if name in simple:
        return simple[name]()
    if name == "lpips":
        return Lpips(clip.tools.lpips)
    if name == "likeness":
        return Identity(clip.tools.look, clip.boxes)
    if name not in pooled:
        tools = clip.tools
        pooled[name] = Frechet(name, tools.inception) if name == "fid" else FrechetOfClips(name, tools.i3d)
    pooled[name].begin()
    return pooled[name]
