"""One video from start to end: track the face, sync the mouth, blend, write; in memory that does not grow with it."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import get_args

import torch
import torch.nn.functional as F

from .audio import SAMPLE_RATE, AudioFeatures, encode_audio, resample, to_mono
from .blend import BlendSettings, blend
from .checkpoint import LipSyncModel
from .crops import Aligned
from .faces import FaceTrack, TrackSettings, track_faces
from .frames import EndMode, Extended, Frames, end_map
from .landmarks import LOOSE_LIMITS, PUBLISHED_LIMITS, Detection, Detector
from .media import VideoReader, VideoWriter, join, output_format, read_audio
from .resume import Workspace
from .scan import detect_faces
from .sync import Settings, sync
from .track_file import FaceFile

MOST_FPS = 1000
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RunSettings:
    """Everything about a run but its files and its model.

    Attributes:
        sync, track, blend: see the classes.
        fps: frame rate of the result; None keeps the source's. The model was trained at 25.
        detect_every: look for the face in every n-th frame and interpolate between.
        audio_longer: what the video does while a longer audio goes on: pingpong, loop, hold or stop.
        audio_shorter: "stop" ends the video with the audio, "silent" carries on with a silent mouth.
        hard_cut: let Whisper hear each 30 s alone, as published.
        crf: quality of the result, lower is better and larger.
    """

    sync: Settings = field(default_factory=Settings)
    track: TrackSettings = field(default_factory=TrackSettings)
    blend: BlendSettings = field(default_factory=BlendSettings)
    fps: float | None = None
    detect_every: int = 1
    audio_longer: EndMode = "pingpong"
    audio_shorter: str = "stop"
    hard_cut: bool = False
    crf: int = 16

    def __post_init__(self):
        if self.fps is not None and not 0 < self.fps <= MOST_FPS:
            raise ValueError(f"fps is {self.fps}: give a number of frames per second above 0, at most {MOST_FPS}")
        if self.detect_every < 1:
            raise ValueError(f"detect_every is {self.detect_every}: give 1 (every frame) or more")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf is {self.crf}: give 0 (best) to 51")
        for name, choices in (("audio_longer", get_args(EndMode)), ("audio_shorter", ("stop", "silent"))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(choices)}")

    def as_published(self) -> "RunSettings":
        """These settings with the published program's geometry, smoothing, blending, windows and 25 frames/s."""
        return replace(
            self,
            sync=replace(self.sync, overlap=0),
            track=replace(self.track, published=True),
            blend=replace(self.blend, published=True),
            hard_cut=True,
            fps=25.0,
        )


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
        progress: called as (phase, frames done, frames in all); what it raises ends the run.

    Raises:
        ValueError, OSError: bad input, in one sentence.
        FloatingPointError: the net gave NaN.
    """
    settings = settings or RunSettings()
    progress = progress or (lambda phase, done, total: None)
    check_paths(video, audio, out)
    with VideoReader(video, fps=settings.fps, cache=2 * settings.sync.window) as reader:
        fps = float(reader.fps)
        wave = heard(audio)
        index_map = frame_map(len(reader), len(wave) / SAMPLE_RATE * fps, settings)
        length = len(index_map)
        work = Workspace(Path(out), _plan(video, audio, model, detector, settings)) if resume else None
        track = work.track() if work else None
        if track is None:
            used = Extended(reader, range(max(index_map) + 1))
            track = follow(used, fps, detector, model.resolution, settings, progress)
            if work:
                work.keep_track(track)
        track = track.take(index_map)
        progress("listening", 0, length)
        silence = max(0, round(length / fps * SAMPLE_RATE) - len(wave))
        wave = F.pad(wave, (0, silence)) if silence else wave
        features = encode_audio(model.audio_encoder, wave, SAMPLE_RATE, fps, settings.hard_cut)
        del wave
        start = work.frames_done() if work else 0
        windows = render(model, Extended(reader, index_map), track, features, settings, start)
        windows = counted(windows, length, "syncing", progress, start)
        # Less than a frame of silence is no reason to encode the sound again.
        sound = {"audio": audio, "duration": length / fps, "pad_audio": silence * fps >= SAMPLE_RATE}
        write(windows, Path(out), reader, settings.crf, sound, work)
    return Summary(Path(out), length, int(track.found.sum()), fps, track.jitter())


def write(
    windows: Iterable[torch.Tensor], out: Path, source: VideoReader, crf: int, sound: dict, work: Workspace | None
) -> None:
    """Encode windows of frames as `out`, in the source's rate, size and colours; in stretches if there is a workspace.

    `sound` is what `VideoWriter` and `join` take: audio, duration and pad_audio.
    """

    def open_writer(path: Path, **sound) -> VideoWriter:
        tags = {"colour": source.colour, "sample_aspect_ratio": source.sample_aspect_ratio}
        return VideoWriter(path, source.fps, source.height, source.width, crf=crf, **tags, **sound)

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


def refuse_inputs(out: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
    """Refuse an output that would replace one of the inputs."""
    for path in inputs:
        if os.path.exists(out) and os.path.exists(path) and os.path.samefile(out, path):
            raise ValueError(f"the output {out} is also an input: give another output path")


def heard(audio: str | os.PathLike) -> torch.Tensor:
    """What the model hears of an audio file: (samples,) float32, mono, 16 kHz."""
    wave, rate = read_audio(audio)
    return resample(to_mono(wave), rate)


def frame_map(count: int, audio_frames: float, settings: RunSettings) -> list[int]:
    """Source frame of each output frame, for a clip of `count` frames and audio of so many frames' length."""
    length = max(1, round(audio_frames))
    if length < count and settings.audio_shorter == "silent":
        length = count
    return end_map(count, length, settings.audio_longer)


def follow(
    frames: Frames, fps: float, detector: Detector, resolution: int, settings: RunSettings, progress: Progress
) -> FaceTrack:
    """The face's track through `frames`, in one pass over them."""
    detections = watch(frames, fps, detector, settings.track, settings.detect_every, progress)
    return track_faces(detections, resolution, fps, settings.track)


def watch(
    frames: Frames, fps: float, detector: Detector, settings: TrackSettings, every: int, progress: Progress
) -> Iterator[Detection]:
    """What the detector sees in each frame, with what following the face needs; a track file speaks for its time."""
    cuts, limits = None, PUBLISHED_LIMITS if settings.published else LOOSE_LIMITS
    if isinstance(detector, FaceFile):
        detector = detector.at(fps)
        cuts, limits = detector.starts, None
    similar = settings.which == "similar"
    detections = detect_faces(frames, detector, every, cuts=cuts, describe=similar, limits=limits)
    return counted(detections, len(frames), "looking for the face", progress)


def render(
    model: LipSyncModel,
    frames: Frames,
    track: FaceTrack,
    features: AudioFeatures,
    settings: RunSettings,
    start: int = 0,
) -> Iterator[torch.Tensor]:
    """Finished frames (n, h, w, 3) from frame `start` on, a window at a time, in the dtype of `frames`."""
    crops = Aligned(frames, track.matrices, track.found, track.resolution, settings.track.published)
    synced = sync(model, crops, features, settings.sync, track.runs(), start)
    return blend(frames, track, synced, settings.blend, start=start)


def counted(items: Iterable, total: int, phase: str, progress: Progress, done: int = 0) -> Iterator:
    """`items` as they are, reporting frames done; a tensor counts as its length."""
    progress(phase, done, total)
    for item in items:
        yield item
        done += len(item) if isinstance(item, torch.Tensor) else 1
        progress(phase, done, total)


def _plan(
    video: str | os.PathLike,
    audio: str | os.PathLike,
    model: LipSyncModel,
    detector: Detector,
    settings: RunSettings,
) -> dict[str, object]:
    """Everything that the pixels of a run depend on."""

    def identity(path: str | os.PathLike) -> list:
        stat = os.stat(path)
        return [str(Path(path).resolve()), stat.st_size, stat.st_mtime_ns]

    nets = [identity(model.source) if os.path.isfile(model.source) else model.source]
    faces = [type(detector).__name__, *(identity(detector.path) if isinstance(detector, FaceFile) else [])]
    return {
        "video": identity(video),
        "audio": identity(audio),
        "model": [*nets, model.resolution, str(model.dtype)],
        "detector": faces,
        "settings": asdict(settings),
    }
