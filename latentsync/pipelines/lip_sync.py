"""One video from start to end: track the face, sync the mouth, blend, write; in memory that does not grow with it."""

import logging
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..audio.pauses import Pauses, packaged
from ..audio.whisper import SAMPLE_RATE, AudioFeatures, encode_audio
from ..errors import InputError
from ..face.align import AlignedFaces
from ..face.blend import Blender
from ..face.detect.insightface import InsightFace
from ..face.landmarks import LOOSE_LIMITS, PUBLISHED_LIMITS, Detection, Detector
from ..face.occlusion import FreeCrops, Occlusion
from ..face.shots import detect_faces
from ..face.track import FaceTrack, choices, joined, place_choices
from ..face.track_file import FaceFile
from ..files import file_version, refuse_inputs, sweep_parts
from ..frames import Frames, FrameView, SharedFrames, Window, end_map, skip_frames, windows_from
from ..media import VideoReader, VideoWriter, codec_for, join, output_format
from ..media.audio import load_mono_16k
from ..models.embedded import is_embedded
from ..models.load import LipSyncModel
from ..progress import Progress, StepProgress, no_progress
from ..restore.superres import blend_restored
from ..sampling.sample import sync
from ..settings import RunSettings, TrackSettings
from ..threads import behind, check
from .resume import Workspace, plan
from .search import LOOKING, TrackSearch, apart
from .still import StillMouth

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What a run made: frames written, frames with the face, frames per second, the crop's jitter in pixels, and how
    many of the frames with the face were left alone."""

    path: Path
    frames: int
    frames_with_face: int
    fps: float
    jitter: float
    left_alone: int = 0

    @classmethod
    def of(cls, path: str | os.PathLike, track: FaceTrack, fps: float) -> "Summary":
        seen = int(track.seen.sum())
        return cls(Path(path), len(track), seen, fps, track.jitter(), seen - int(track.found.sum()))


def lip_sync(
    video: str | os.PathLike,
    audio: str | os.PathLike,
    out: str | os.PathLike,
    model: LipSyncModel,
    detector: Detector,
    settings: RunSettings | None = None,
    *,
    occlusion: str | os.PathLike | None = None,
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
        occlusion: a video of the size of `video`, white where something is in front of the face; there that stays.
        resume: keep finished parts beside `out` while running, and go on from those of an interrupted run with the same
            files and settings.
        progress: called as (phase, frames done, frames in all); denoising steps are parts of a window's frames. What
            it raises ends the run.
    """
    settings = settings or RunSettings()
    progress = progress or no_progress
    check_paths(video, audio, out, occlusion)
    kept = 2 * settings.sync.window
    with ExitStack() as opened:
        reader, masks, more = opened.enter_context(VideoReader(video, settings.fps, kept, progress)), None, {}
        if occlusion is not None:
            masks = opened.enter_context(VideoReader(occlusion, reader.fps, kept, progress))
            if (masks.height, masks.width) != (reader.height, reader.width):
                raise InputError(
                    f"{occlusion} is {masks.width} x {masks.height} and {video} is {reader.width} x {reader.height}: "
                    "give a mask of the video's size"
                )
            more["occlusion"] = file_version(occlusion)
        if settings.silence != "model":
            more["voice activity"] = (path := packaged()) and file_version(path)
        take = LipSyncInput(reader, float(reader.fps), load_mono_16k(audio), masks)
        codec = written_codec(out, reader, settings)
        space = (
            _workspace(video, audio, out, model, detector, settings, codec=codec, **more) if resume else nullcontext()
        )
        with space as work:
            result = lip_sync_frames(take, model, detector, settings, progress, work=work)
            del take  # the whole sound
            windows = result.windows(work.frames_done, finish=True) if work else result.windows()
            write(windows, Path(out), reader, settings, result.sound(audio), work)
    return Summary.of(out, result.track, result.fps)


@dataclass(frozen=True, eq=False)
class LipSyncInput:
    """Pictures, and what they are to say.

    Attributes:
        frames: the source's, uncut.
        fps: their rate.
        wave: (samples,) float32, mono, 16 kHz.
        masks: what is in front of the face in each of the frames, or one for all; see `face.occlusion`.
    """

    frames: Frames
    fps: float
    wave: torch.Tensor
    masks: Frames | None = None

    def order(self, settings: RunSettings) -> list[int]:
        """The source's frame of each frame of the result."""
        return frame_map(len(self.frames), len(self.wave) / SAMPLE_RATE * self.fps, settings)

    def used(self, settings: RunSettings) -> FrameView:
        """The source's frames up to the last one that the result shows."""
        return FrameView(self.frames, range(max(self.order(settings)) + 1))


@dataclass(frozen=True, eq=False)
class LipSyncResult:
    """A lip sync that is ready to be rendered, from the start or a later frame, as often as is wanted.

    Attributes:
        frames: the source's, in the order of the result.
        fps: their rate.
        track: where the face is in each; with a `search`, in those that were rendered.
        hear: gives what they say, once.
        outlasts: they go on after the sound for a frame or more; less is no reason to encode the sound again.
        search: what finds the face while they are rendered; None where the track was known.
        masks: what is in front of it, in each or one for all.
        pauses: of what they say, in which the mouth is held still.
    """

    model: LipSyncModel
    frames: FrameView
    fps: float
    track: FaceTrack
    hear: Callable[[], AudioFeatures]
    outlasts: bool
    settings: RunSettings
    progress: Progress
    search: TrackSearch | None = None
    masks: Frames | None = None
    pauses: Pauses | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def features(self) -> AudioFeatures:
        """What they say."""
        self.progress("listening", 0, len(self))
        return self.hear()

    def windows(self, start: int = 0, finish: bool = False) -> Iterator[Window]:
        """The finished frames from `start` on, in the dtype of the source; `progress` is told of each step.

        They come while the face is still looked for in those that follow. The nets run in the caller's thread, those
        that restore faces too. While they work on a window the next one is read and cropped in one thread and the last
        one blended in another; all end with the iterator: close it. With `finish`, an error or an interruption comes
        after the windows that the nets had finished.
        """
        frames, track, superres, mask_image = self.frames, self.track, self.settings.superres, self.settings.mask_image
        # What works against flicker looks back: it begins a little earlier, and that is not shown.
        first = start if superres is None else superres.first(track, start)
        shared = SharedFrames(frames, first)
        crops, free = CropsAhead(shared, track, self.settings.track.published), None
        if self.masks is not None:
            free = SharedFrames(Occlusion(self.masks, track), first)
            crops = FreeCrops(crops, free.read)
        synced = self._synced(crops, first)
        if superres is not None:
            return self._restored(synced, shared, free, first, start)
        blender = Blender(shared, track, self.settings.blend, mask_image=mask_image)

        def blended(window: Window) -> Window:
            weights = None if free is None else free[list(window.numbers)]
            return Window(window.numbers, blender(window.pictures, window.numbers.start, weights))

        return behind(blended, synced, finish=finish)

    def _restored(
        self, synced: Generator[Window, None, None], frames: Frames, free: Frames | None, first: int, start: int
    ) -> Generator[Window, None, None]:
        settings = self.settings
        with closing(synced):
            crops = (window.pictures for window in synced)
            given = settings.superres, settings.blend, first, settings.mask_image, free
            yield from windows_from(
                start, skip_frames(blend_restored(frames, self.track, crops, *given), start - first)
            )

    def _synced(self, crops: Frames, first: int) -> Generator[Window, None, None]:
        """Windows of crops that speak, from frame `first` on. Where the track is not known yet the search is under way
        meanwhile, and waited for."""
        search, frames, track = self.search, self.frames, self.track
        steps, still = StepProgress(self.progress), self.pauses and StillMouth(self.pauses, track)
        start = still.first(first) if still else first  # the mouth that is held comes earlier, and is not shown

        def begin() -> None:
            if not steps.phase:
                steps("syncing", start, len(frames))

        def on_step(*state) -> None:
            check()
            begin()
            steps.on_step(*state)

        def on_wait() -> None:
            check()
            if steps.phase:
                steps(steps.phase, steps.done, steps.total)
            else:
                self.progress(*search.state)

        def source(i: int) -> tuple[int, bytes]:
            return frames.index_map[i], track.matrices[i].tobytes()

        # Crops that are filled from others of their window are not the same in another one.
        same, done = source if self.masks is None else None, start
        with search.going_on() if search else nullcontext(track.runs) as runs:
            features = self.features
            if search is None or search.ended:
                begin()
            else:
                self.progress(*search.state)
            given = self.settings.sync, runs, start, on_step, self.settings.mask_image, same, on_wait
            with closing(sync(self.model, crops, features, *given)) as synced:
                for pictures in still(synced, start) if still else synced:
                    begin()
                    window = Window(range(done, done + len(pictures)), pictures)
                    done += len(pictures)
                    if (early := max(0, first - window.numbers.start)) < len(pictures):
                        yield Window(window.numbers[early:], pictures[early:]) if early else window
                    steps("syncing", done, len(frames))

    def sound(self, audio: str | os.PathLike | None) -> dict[str, object]:
        """What `write` takes of the sound that these frames say."""
        return {"audio": audio, "duration": len(self) / self.fps, "pad_audio": self.outlasts}


def lip_sync_frames(
    take: LipSyncInput,
    model: LipSyncModel,
    detector: Detector,
    settings: RunSettings,
    progress: Progress,
    track: FaceTrack | None = None,
    work: Workspace | None = None,
) -> LipSyncResult:
    """What is needed to render a take; its sound is heard and the face is followed while `windows` are rendered.

    Args:
        progress: called as in `lip_sync`, after each denoising step too; what it raises ends the run.
        track: where the face is in the source's frames, if that is known.
        work: of an interrupted run, or keeps the track for it.
    """
    order, frames, fps, search, masks = take.order(settings), take.frames, take.fps, None, take.masks
    if masks is not None and settings.blend.published:
        raise InputError("the published way of blending knows nothing in front of the face: leave out the occlusion")
    if masks is not None and len(masks) > 1:
        if len(masks) <= max(order):
            raise InputError(
                f"there are {len(masks)} masks of what is in front of the face for {max(order) + 1} frames: give one "
                "for each frame, or one for all"
            )
        masks = FrameView(masks, order)
    face, pauses, shares = (fps, detector, model.resolution, settings), None, np.ones(len(order), np.float32)
    if settings.silence != "model":
        progress("looking for pauses", 0, len(order))
        pauses = Pauses(take.wave, fps, len(order))
    if settings.silence == "source":
        shares, pauses = pauses.shares, None
    if work is not None and (work.track is not None or work.frames_done):
        # Frames that go on from others look back: the whole track is known before they begin.
        track = track_or_resume(take.used(settings), *face, progress, work)
    if track is None:
        _warn_of_real_faces(model, detector)

        def begin(say: Progress) -> Generator[FaceTrack, None, None]:
            with apart(frames) as source:
                yield from grow_track(FrameView(source, range(max(order) + 1)), *face, say, work and work.keep_track)

        search = TrackSearch(begin, order, model.resolution, shares)
    waves = [take.wave]  # it is as long as the clip, and goes once it is heard

    def hear() -> AudioFeatures:
        return listen(model.audio_encoder, waves.pop(), fps, len(order), settings.hard_cut)

    outlasts = _missing(take.wave, fps, len(order)) * fps >= SAMPLE_RATE
    track = search.track if search else track.take(order).faded(shares)
    given = settings, progress, search, masks, pauses
    return LipSyncResult(model, FrameView(frames, order), fps, track, hear, outlasts, *given)


def _warn_of_real_faces(model: LipSyncModel, detector: Detector) -> None:
    """Say so where the embedded model meets faces that a detector finds, for such ones are not drawn."""
    if is_embedded(model) and not isinstance(detector, FaceFile):
        logger.warning(
            "the embedded model knows drawn faces only: on a real face the result will look wrong. Get the weights for "
            "real faces with `python -m latentsync download --version 1.5`, or with the node Download LatentSync Models"
        )


def _workspace(video, audio, out, model: LipSyncModel, detector, settings: RunSettings, **more: object) -> Workspace:
    weights = list(map(file_version, model.files)) or model.source
    nets = [model.resolution, str(model.dtype), weights]
    return Workspace(Path(out), plan(video, detector, settings, audio=file_version(audio), model=nets, **more))


def listen(encoder: nn.Module, wave: torch.Tensor, fps: float, length: int, hard_cut: bool = False) -> AudioFeatures:
    """Features of a mono 16 kHz `wave` (samples,) for `length` frames at `fps`; silence follows where it is shorter."""
    missing = _missing(wave, fps, length)
    wave = F.pad(wave, (0, missing)) if missing else wave
    return encode_audio(encoder, wave, SAMPLE_RATE, fps, hard_cut)


def _missing(wave: torch.Tensor, fps: float, length: int) -> int:
    """Samples by which `length` frames are longer than the 16 kHz `wave`."""
    return max(0, round(length / fps * SAMPLE_RATE) - len(wave))


def write(
    windows: Iterator[Window],
    out: Path,
    source: VideoReader,
    settings: RunSettings,
    sound: dict,
    work: Workspace | None = None,
) -> None:
    """Encode windows as `out`, in the source's rate and colours; in parts if there is a workspace. Closes `windows`.

    `sound` is what `VideoWriter` and `join` take: audio, duration and pad_audio.
    """
    source.warn_of_losses()
    sweep_parts(out)
    size = written_size(source, settings)

    def open_writer(path: Path, **sound) -> VideoWriter:
        tags = {"colour": source.colour, "sample_aspect_ratio": source.sample_aspect_ratio}
        return VideoWriter(path, source.fps, *size, **asdict(settings.encoding), **tags, **sound)

    if work is None:
        with closing(windows), open_writer(out, **sound) as writer:
            for _ in behind(lambda window: writer.write(window.pictures), windows):
                pass
    else:
        with closing(windows):
            work.write(windows, open_writer)
        join(work.parts, out, **sound)
        work.remove()


def written_size(source: VideoReader, settings: RunSettings) -> tuple[int, int]:
    """Height and width of what `write` makes of a video."""
    size = (source.height, source.width)
    return size if settings.superres is None else settings.superres.size(*size)


def written_codec(out: str | os.PathLike, source: VideoReader, settings: RunSettings) -> str:
    """What `write` encodes with, which is tried before long work begins."""
    return codec_for(out, settings.encoding.encoder, *written_size(source, settings))


def check_paths(
    video: str | os.PathLike,
    audio: str | os.PathLike,
    out: str | os.PathLike,
    occlusion: str | os.PathLike | None = None,
) -> None:
    """Refuse, before any work, an output that cannot be written and one that would replace an input."""
    output_format(out)
    refuse_inputs(out, [path for path in (video, audio, occlusion) if path is not None])


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
    track = work.track if work else None
    if track is None:
        track = joined(grow_track(frames, fps, detector, resolution, settings, progress))
        if work:
            work.keep_track(track)
    return track


def grow_track(
    frames: Frames,
    fps: float,
    detector: Detector,
    resolution: int,
    settings: RunSettings,
    progress: Progress,
    keep: Callable[[FaceTrack], None] | None = None,
) -> Generator[FaceTrack, None, None]:
    """The face's track through `frames` in stretches, as the search comes to them; `keep` is given the whole."""
    found = []
    detections = watch(frames, fps, detector, settings.track, settings.detect_every, progress)
    for stretch in place_choices(choices(detections, fps, settings.track), resolution, fps, settings.track):
        found.append(stretch)
        yield stretch
    if keep:
        keep(joined(found))


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
    progress(LOOKING, 0, len(frames))
    more = {"cuts": cuts, "describe": similar, "limits": limits, "whole": settings.published}
    with closing(detect_faces(frames, detector, every, **more)) as detections:
        for done, detection in enumerate(detections, 1):
            check()
            yield detection
            progress(LOOKING, done, len(frames))


class CropsAhead:
    """The crops of a face as a `Frames`; what they are cut from is there to be taken from `frames` afterwards."""

    def __init__(self, frames: SharedFrames, track: FaceTrack, published: bool):
        self.frames, self.track, self.published = frames, track, published

    def __len__(self) -> int:
        return len(self.track)

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        track, pictures = self.track, self.frames.read(indices)
        faces = track.matrices[indices], track.found[indices], track.resolution
        return AlignedFaces(pictures, *faces, self.published)[range(len(indices))]
