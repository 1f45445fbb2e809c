"""One video beside its reference: what metrics see of the two, and the pass over their windows."""

from collections.abc import Sequence
from contextlib import ExitStack
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
from .image_metrics import SSIM_WINDOW, Flicker, Identity, Psnr, lpips_metric, ms_ssim_metric, seam, ssim
from .metrics import METRICS, FrameMean, Metric, View, windows
from .published import sync_of_video
from .report import ClipReport
from .sync_score import stable_syncnet, syncnet_v2
from .tools import Tools

CACHE = 20  # pictures: a window of StableSyncNet, and the next one begins 4 later
MOUTH_256 = (slice(96, 240), slice(56, 200))  # rows and columns about mouth and chin, of an aligned crop of 256
CANNOT = (FileNotFoundError, ImportError, ValueError)  # why one metric has no value while the others go on


@dataclass(frozen=True)
class Pair:
    """A video to evaluate and the one that it should look like, frame by frame; None: there is none."""

    video: Path
    reference: Path | None = None


class Clip:
    """A pair of videos, opened in a `with` block, and what is seen in them.

    The face is looked for in the video, and the reference is cropped in the same places. Where one of the two is
    longer, its end is not compared.
    """

    def __init__(self, pair: Pair, tools: Tools, progress: Progress):
        self.pair, self.tools, self.progress = pair, tools, progress
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
            self._open = stack.pop_all()
        self.fps = float(self.video.fps)
        self.count = len(self.video) if self.reference is None else min(len(self.video), len(self.reference))
        self._track_settings = TrackSettings(which=tools.settings.face)

    def __enter__(self) -> "Clip":
        return self

    def __exit__(self, *_) -> None:
        self._open.close()

    @cached_property
    def _chosen(self) -> Chosen:
        detector, settings = self.tools.detector(self.pair.video), self._track_settings
        return choose_faces(watch(self.video, self.fps, detector, settings, 1, self.progress), self.fps, settings)

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


def evaluate_clip(clip: Clip, names: Sequence[str], pooled: dict[str, Frechet]) -> ClipReport:
    """The metrics of one clip; `pooled` holds those that go on from clip to clip."""
    report = ClipReport(names, clip.pair.video, clip.pair.reference, clip.count, clip.fps)
    report.protocol = clip.tools.settings.protocol
    if clip.reference is not None and len(clip.video) != len(clip.reference):
        had = f"{len(clip.video)} frames, its reference {len(clip.reference)}"
        report.notes.append(f"{clip.pair.video.name} has {had}: the first {clip.count} are compared")
    wanted: dict[View, dict[str, None]] = {}  # measurements by what they see, in order and once each
    for name in names:
        if METRICS[name].reference and clip.reference is None:
            report.missing[name] = "needs the true pictures: give --reference, the source video"
        else:
            wanted.setdefault(METRICS[name].view, {})[METRICS[name].measured_by] = None
    for view, measurements in wanted.items():
        if view == "sound":
            _evaluate_sync(clip, list(measurements), report)
        else:
            _evaluate_pictures(clip, view, list(measurements), report, pooled)
    return report


def _evaluate_sync(clip: Clip, measurements: Sequence[str], report: ClipReport) -> None:
    tools = clip.tools
    for name in measurements:
        clip.progress(f"judging lips and sound of {clip.pair.video.name}", 0, len(clip.video))
        try:
            if name == "stable_syncnet":
                syncnet, vae = tools.stable_syncnet
                found = stable_syncnet(syncnet, vae, clip.crops(clip.video, syncnet.side), clip.wave, clip.fps)
            elif tools.settings.protocol == "published":
                detector = tools.detector(clip.pair.video)
                found = sync_of_video(tools.syncnet_v2, clip.video, clip.fps, detector, clip.wave, clip.progress)
            else:
                found = syncnet_v2(tools.syncnet_v2, clip.video, clip.boxes, clip.wave, clip.fps)
            report.add(found)
        except CANNOT as error:
            report.fail(name, error)


def _evaluate_pictures(
    clip: Clip, view: View, measurements: Sequence[str], report: ClipReport, pooled: dict[str, Frechet]
) -> None:
    """One pass over both videos, side by side, for all metrics of a view."""
    metrics: dict[str, Metric] = {}
    for name in measurements:
        try:
            metric = create_metric(name, clip, pooled)
            made, true, runs = clip.views(view)
            metrics[name] = metric
        except CANNOT as error:
            report.fail(name, error)
    if not metrics:
        return
    phase, done, total = f"measuring {clip.pair.video.name}", 0, sum(stop - start for start, stop in runs)
    for numbers in windows(made, runs):
        clip.progress(phase, done, total)
        pictures, truth = made[numbers], None if true is None else true[numbers]
        for name in list(metrics):
            try:
                metrics[name].update(numbers, pictures, truth)
            except ValueError as error:
                report.fail(name, error)
                del metrics[name]
        done += len(numbers)
    clip.progress(phase, done, total)
    for name in [name for name in metrics if name not in pooled]:
        try:
            report.add(metrics[name].compute())
        except ValueError as error:
            report.fail(name, error)


def create_metric(name: str, clip: Clip, pooled: dict[str, Frechet]) -> Metric:
    """What measures the metrics whose `measured_by` is `name`."""
    tools = clip.tools
    match name:
        case "psnr":
            return Psnr()
        case "ssim":
            return FrameMean("ssim", ssim, SSIM_WINDOW)
        case "ms_ssim":
            return ms_ssim_metric()
        case "lpips":
            return lpips_metric(tools.lpips)
        case "flicker":
            return Flicker()
        case "seam":
            return FrameMean("seam", seam)
        case "identity":
            return Identity(tools.describe_faces, clip.boxes)
        case "fid" if name not in pooled:
            pooled[name] = Frechet(name, tools.inception)
        case "fvd" if name not in pooled:
            pooled[name] = FrechetOfClips(name, tools.i3d)
    pooled[name].begin_clip()
    return pooled[name]
