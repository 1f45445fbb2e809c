"""One video from start to end: track the face, sync the mouth, blend, write; in memory that does not grow with it."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..audio.whisper import SAMPLE_RATE, AudioFeatures, encode_audio
from ..face.align import AlignedFaces
from ..face.blend import blend
from ..face.detect.insightface import InsightFace
from ..face.landmarks import LOOSE_LIMITS, PUBLISHED_LIMITS, Detection, Detector
from ..face.shots import detect_faces
from ..face.track import FaceTrack, track_faces
from ..face.track_file import FaceFile
from ..files import refuse_inputs
from ..frames import Frames, FrameView, end_map, skip_frames
from ..media import VideoReader, VideoWriter, join, output_format
from ..media.audio import load_mono_16k
from ..models.load import LipSyncModel
from ..progress import Progress, StepProgress, no_progress
from ..restore.superres import blend_restored
from ..sampling.sample import StepCallback, sync
from ..settings import RunSettings, TrackSettings
from .resume import Workspace, identity


@dataclass(frozen=True)
class Summary:
    """What a run made: frames written, frames with the face, frames per second, the crop's jitter in pixels."""

    path: Path
    frames: int
    frames_with_face: int
    fps: float
    jitter: float


def lip_sync(
    video: str | os.PathLike,
    audio: str | os.PathLike,
    out: str | os.PathLike,
    model: LipSyncModel,
    detector: Detector,
    settings: RunSettings | None = None,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Make `video` speak `audio` and write the result, with that audio, to `out`.

    Args:
        video, audio: files; anything PyAV reads. `audio` may be a video, whose sound is taken.
        out: .mp4, .mov, .mkv or .webm; it appears only when it is complete.
        model: from `load_model`.
        detector: from `load_detector`.
        settings: see `RunSettings`.
        resume: keep finished stretches beside `out` while running, and go on from those of an interrupted run
            with the same files and settings.
        progress: called as (phase, frames done, frames in all); denoising steps are parts of a window's frames. What
            it raises ends the run.

    Raises:
        ValueError, OSError: bad input, in one sentence.
        FloatingPointError: the net gave NaN.
    """
    settings = settings or RunSettings()
    progress = progress or no_progress
    check_paths(video, audio, out)
    with VideoReader(video, settings.fps, 2 * settings.sync.window, progress) as reader:
        fps = float(reader.fps)
        wave = load_mono_16k(audio)
        work = _workspace(video, audio, out, model, detector, settings) if resume else None
        made = lip_sync_frames(LipSyncInput(reader, fps, wave), model, detector, settings, progress, work=work)
        del wave
        write(made.windows, Path(out), reader, settings, made.sound(audio, fps), work)
    return Summary(Path(out), made.length, int(made.track.found.sum()), fps, made.track.jitter())


class LipSyncInput(NamedTuple):
    """Pictures, and what they are to say.

    Attributes:
        frames: the source's, uncut.
        fps: their rate.
        wave: (samples,) float32, mono, 16 kHz.
    """

    frames: Frames
    fps: float
    wave: torch.Tensor


class LipSyncResult(NamedTuple):
    """The result of a take, made while it is read.

    Attributes:
        windows: its frames (n, h, w, 3) in order, in the dtype of the source.
        length: how many they are.
        track: where the face is in each.
        outlasts: they go on after the sound for a frame or more; less is no reason to encode the sound again.
    """

    windows: Iterator[torch.Tensor]
    length: int
    track: FaceTrack
    outlasts: bool

    def sound(self, audio: str | os.PathLike | None, fps: float) -> dict[str, object]:
        """What `write` takes of the sound that these frames, `fps` per second, say."""
        return {"audio": audio, "duration": self.length / fps, "pad_audio": self.outlasts}


def lip_sync_frames(
    take: LipSyncInput,
    model: LipSyncModel,
    detector: Detector,
    settings: RunSettings,
    progress: Progress,
    *,
    work: Workspace | None = None,
) -> LipSyncResult:
    """Follow the face through a take and hear its sound at once; render while `windows` is read.

    Args:
        progress: called as in `lip_sync`, after each denoising step too; what it raises ends the run.
        work: where an earlier run was interrupted; frames that are done there are not among `windows`.

    Raises:
        ValueError: no frame shows the face that was asked for.
    """
    frames, fps, wave = take
    index_map = frame_map(len(frames), len(wave) / SAMPLE_RATE * fps, settings)
    length = len(index_map)
    used = FrameView(frames, range(max(index_map) + 1))
    track = track_or_resume(used, fps, detector, model.resolution, settings, progress, work).take(index_map)
    progress("listening", 0, length)
    features = listen(model.audio_encoder, wave, fps, length, settings.hard_cut)
    start = work.frames_done() if work else 0
    steps = StepProgress(progress)
    windows = render(model, FrameView(frames, index_map), track, features, settings, start, steps.on_step)
    windows = with_progress(windows, length, "syncing", steps, start)
    return LipSyncResult(windows, length, track, _missing(wave, fps, length) * fps >= SAMPLE_RATE)


def listen(encoder: nn.Module, wave: torch.Tensor, fps: float, length: int, hard_cut: bool = False) -> AudioFeatures:
    """Features of a mono 16 kHz `wave` (samples,) for `length` frames at `fps`; silence follows where it is shorter."""
    missing = _missing(wave, fps, length)
    wave = F.pad(wave, (0, missing)) if missing else wave
    return encode_audio(encoder, wave, SAMPLE_RATE, fps, hard_cut)


def _missing(wave: torch.Tensor, fps: float, length: int) -> int:
    """Samples by which `length` frames are longer than the 16 kHz `wave`."""
    return max(0, round(length / fps * SAMPLE_RATE) - len(wave))


def write(
    windows: Iterable[torch.Tensor],
    out: Path,
    source: VideoReader,
    settings: RunSettings,
    sound: dict,
    work: Workspace | None = None,
) -> None:
    """Encode windows of frames as `out`, in the source's rate and colours; in stretches if there is a workspace.

    `sound` is what `VideoWriter` and `join` take: audio, duration and pad_audio.
    """
    source.warn_of_losses()
    size = (source.height, source.width)
    size = size if settings.superres is None else settings.superres.size(*size)

    def open_writer(path: Path, **sound) -> VideoWriter:
        tags = {"colour": source.colour, "sample_aspect_ratio": source.sample_aspect_ratio}
        return VideoWriter(path, source.fps, *size, crf=settings.crf, **tags, **sound)

    if work is None:
        with open_writer(out, **sound) as writer:
            for window in windows:
                writer.write(window)
    else:
        work.write(windows, open_writer)
        join(work.parts(), out, **sound)
        work.remove()


def check_paths(video: str | os.PathLike, audio: str | os.PathLike, out: str | os.PathLike) -> None:
    """Refuse, before any work, an output that cannot be written and one that would replace an input."""
    output_format(out)
    refuse_inputs(out, (video, audio))


def frame_map(count: int, audio_frames: float, settings: RunSettings) -> list[int]:
    """Source frame of each output frame, for a clip of `count` frames and audio of so many frames' length."""
    length = max(1, round(audio_frames))
    if length < count and settings.audio_shorter == "silent":
        length = count
    return end_map(count, length, settings.audio_longer, settings.repeat_turns)


def track_or_resume(
    frames: Frames,
    fps: float,
    detector: Detector,
    resolution: int,
    settings: RunSettings,
    progress: Progress,
    work: Workspace | None = None,
) -> FaceTrack:
    """The face's track through `frames`, in one pass over them; with `work`, an interrupted run's, or kept for it."""
    track = work.track() if work else None
    if track is None:
        detections = watch(frames, fps, detector, settings.track, settings.detect_every, progress)
        track = track_faces(detections, resolution, fps, settings.track)
        if work:
            work.keep_track(track)
    return track


def watch(
    frames: Frames, fps: float, detector: Detector, settings: TrackSettings, every: int, progress: Progress
) -> Iterator[Detection]:
    """What the detector sees in each frame, with what following the face needs; a track file speaks for its time.

    In published mode InsightFace is used as the published program uses it.
    """
    cuts, limits = None, PUBLISHED_LIMITS if settings.published else LOOSE_LIMITS
    if isinstance(detector, FaceFile):
        detector = detector.at(fps)
        cuts, limits = detector.starts, None
    elif settings.published:
        cuts = ()  # the published program knows of none: its windows run across them
        detector = detector.published if isinstance(detector, InsightFace) else detector
    similar = settings.which == "similar"
    detections = detect_faces(frames, detector, every, cuts=cuts, describe=similar, limits=limits)
    return with_progress(detections, len(frames), "looking for the face", progress)


def render(
    model: LipSyncModel,
    frames: Frames,
    track: FaceTrack,
    features: AudioFeatures,
    settings: RunSettings,
    start: int = 0,
    on_step: StepCallback | None = None,
) -> Iterator[torch.Tensor]:
    """Finished frames (n, h, w, 3) from frame `start` on, a window at a time, in the dtype of `frames`."""
    crops = AlignedFaces(frames, track.matrices, track.found, track.resolution, settings.track.published)
    superres, mask_image = settings.superres, settings.mask_image
    first = start if superres is None else superres.first(track, start)
    synced = sync(model, crops, features, settings.sync, track.runs(), first, on_step, mask_image)
    if superres is None:
        return blend(frames, track, synced, settings.blend, start=first, mask_image=mask_image)
    finished = blend_restored(frames, track, synced, superres, settings.blend, first, mask_image)
    return skip_frames(finished, start - first)


def with_progress(items: Iterable, total: int, phase: str, progress: Progress, done: int = 0) -> Iterator:
    """`items` as they are, reporting frames done; a tensor counts as its length."""
    progress(phase, done, total)
    for item in items:
        yield item
        done += len(item) if isinstance(item, torch.Tensor) else 1
        progress(phase, done, total)


def plan(video: str | os.PathLike, detector: Detector, settings: RunSettings, **more: object) -> dict[str, object]:
    """Everything that the pixels of a result depend on, for a `Workspace`; `more` is what not all commands have."""
    superres, mask = settings.superres, settings.mask_image
    kind = type(getattr(detector, "detector", detector)).__name__  # one that remembers is as good as what it asks
    return {
        "video": identity(video),
        "detector": [kind, *(identity(detector.path) if isinstance(detector, FaceFile) else [])],
        "settings": asdict(replace(settings, superres=None, mask_image=None)),
        "mask image": None if mask is None else [*mask.shape, hashlib.sha256(mask.tobytes()).hexdigest()],
        "superres": superres and [superres.plan(), *map(identity, superres.files)],
        **more,
    }


def _workspace(
    video: str | os.PathLike,
    audio: str | os.PathLike,
    out: str | os.PathLike,
    model: LipSyncModel,
    detector: Detector,
    settings: RunSettings,
) -> Workspace:
    source = identity(model.source) if os.path.isfile(model.source) else model.source
    nets = [source, model.resolution, str(model.dtype)]
    return Workspace(Path(out), plan(video, detector, settings, audio=identity(audio), model=nets))
