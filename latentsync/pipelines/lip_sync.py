"""One video from start to end: track the face, sync the mouth, blend, write; in memory that does not grow with it."""

import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import tee
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from ..audio.pauses import Pauses, packaged
from ..audio.whisper import SAMPLE_RATE, AudioFeatures, encode_audio
from ..errors import InputError
from ..face.align import AlignedFaces
from ..face.blend import Blender
from ..face.detect.insightface import InsightFace
from ..face.landmarks import LOOSE_LIMITS, PUBLISHED_LIMITS, Detection, Detector
from ..face.occlusion import FreeCrops, Occlusion
from ..face.parsing import FaceParser, ParsedOcclusions
from ..face.shots import detect_faces
from ..face.track import FaceTrack, Follower, Runs, choices_apart, joined, place_choices, split
from ..face.track_file import FaceFile
from ..files import file_version, refuse_inputs, sweep_parts
from ..frames import Frames, FramesInTurn, FrameView, SharedFrames, Window, end_map, skip_frames, windows_from
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
from .speakers import Person, Speaker, check_speakers, people_of
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
    def of(cls, path: str | os.PathLike, tracks: Sequence[FaceTrack], fps: float) -> "Summary":
        """Of a result with the faces of `tracks`: a frame counts by any of them, the jitter by the worst."""
        seen, found = (int(np.any([getattr(t, name) for t in tracks], axis=0).sum()) for name in ("seen", "found"))
        return cls(Path(path), len(tracks[0]), seen, fps, max(t.jitter() for t in tracks), seen - found)


def lip_sync(
    video: str | os.PathLike,
    audio: str | os.PathLike | Sequence[Speaker],
    out: str | os.PathLike,
    model: LipSyncModel,
    detector: Detector,
    settings: RunSettings | None = None,
    *,
    occlusion: str | os.PathLike | FaceParser | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Make `video` speak `audio` and write the result, with that audio, to `out`.

    Args:
        video, audio: files; anything PyAV reads. `audio` may be a video, whose sound is taken. Or it is who says what:
            the mouths are laid over the frames in this order, and all that is said is heard together.
        out: .mp4, .mov, .mkv or .webm; it appears only when it is complete.
        model: from `load_model`.
        detector: from `load_detector`.
        settings: see `RunSettings`.
        occlusion: a video of the size of `video`, white where something is in front of the face, or what finds such
            places; there the video stays.
        resume: keep finished parts beside `out` while running, and go on from those of an interrupted run with the same
            files and settings.
        progress: called as (phase, frames done, frames in all); denoising steps are parts of a window's frames. What
            it raises ends the run.
    """
    settings = settings or RunSettings()
    progress = progress or no_progress
    speakers = [] if isinstance(audio, (str, os.PathLike)) else list(audio)
    audios = [speaker.audio for speaker in speakers] or [audio]
    masks, mask_video = (occlusion, None) if isinstance(occlusion, FaceParser) else (None, occlusion)
    check_paths(video, audios, out, mask_video)
    check_speakers(speakers)
    people = people_of(speakers, detector, settings.track) or [Person(detector, settings.track)]
    kept = 2 * settings.sync.window
    with ExitStack() as opened:
        reader, more = opened.enter_context(VideoReader(video, settings.fps, kept, progress)), {}
        if masks is not None:
            more["occlusion"] = ["parsed", file_version(masks.path)]
        elif occlusion is not None:
            masks = opened.enter_context(VideoReader(occlusion, reader.fps, kept, progress))
            if (masks.height, masks.width) != (reader.height, reader.width):
                raise InputError(
                    f"{occlusion} is {masks.width} x {masks.height} and {video} is {reader.width} x {reader.height}: "
                    "give a mask of the video's size"
                )
            more["occlusion"] = file_version(occlusion)
        if speakers:
            more["speakers"] = [[who.face, who.file and file_version(who.file)] for who in speakers]
        if settings.silence != "model":
            more["voice activity"] = (path := packaged()) and file_version(path)
        take = LipSyncInput(reader, float(reader.fps), stacked(map(load_mono_16k, audios)), masks)
        codec = written_codec(out, reader, settings)
        space = (
            _workspace(video, audios, out, model, detector, settings, codec=codec, **more) if resume else nullcontext()
        )
        with space as work:
            result = lip_sync_frames(take, model, people, settings, progress, work=work)
            del take  # the whole sound
            windows = result.windows(work.frames_done, finish=True) if work else result.windows()
            sound = result.sound(audios if len(audios) > 1 else audios[0])
            write(windows, Path(out), reader, settings, sound, work)
    return Summary.of(out, result.tracks, result.fps)


@dataclass(frozen=True, eq=False)
class LipSyncInput:
    """Pictures, and what they are to say.

    Attributes:
        frames: the source's, uncut.
        fps: their rate.
        wave: (samples,) float32, mono, 16 kHz; of several people (people, samples).
        masks: what is in front of the face in each of the frames, or one for all, see `face.occlusion`; or what finds
            it.
    """

    frames: Frames
    fps: float
    wave: torch.Tensor
    masks: Frames | FaceParser | None = None

    def order(self, settings: RunSettings) -> list[int]:
        """The source's frame of each frame of the result."""
        return frame_map(len(self.frames), self.wave.shape[-1] / SAMPLE_RATE * self.fps, settings)

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
        masks: what is in front of it, in each or one for all, or what finds it.
        pauses: of what they say, in which the mouth is held still.
        name: whose it is, where there are several people.
        others: the same of the other people, whose mouths are laid over after this one's. Of them only what is their
            own counts: track, hear, pauses and name.
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
    masks: Frames | FaceParser | None = None
    pauses: Pauses | None = None
    name: str = ""
    others: tuple["LipSyncResult", ...] = ()

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def tracks(self) -> list[FaceTrack]:
        """Everyone's."""
        return [one.track for one in (self, *self.others)]

    @cached_property
    def features(self) -> AudioFeatures:
        """What they say."""
        self.progress(f"listening to {self.name}" if self.name else "listening", 0, len(self))
        return self.hear()

    def windows(self, start: int = 0, finish: bool = False) -> Iterator[Window]:
        """The finished frames from `start` on, in the dtype of the source; `progress` is told of each step.

        They come while the face is still looked for in those that follow. The nets run in the caller's thread, those
        that restore faces too. While they work on a window the next one is read and cropped in one thread and the last
        one blended in another; all end with the iterator: close it. With `finish`, an error or an interruption comes
        after the windows that the nets had finished.
        """
        settings, superres, masks, tracks = self.settings, self.settings.superres, self.masks, self.tracks
        # What works against flicker looks back: it begins a little earlier, and that is not shown.
        first = start if superres is None else min(superres.first(track, start) for track in tracks)
        frames, runs = FramesInTurn(self.frames), [track.runs for track in tracks]
        shared = SharedFrames(frames, first)
        crops: list[Frames] = [CropsAhead(shared, track, settings.track.published) for track in tracks]
        free: list[Frames | None] = [None] * len(tracks)
        if masks is not None and not isinstance(masks, FaceParser):
            masks = FramesInTurn(masks)

        def occlusion(k: int) -> Occlusion:
            def known(stop: int) -> list[tuple[int, int]]:
                return runs[k](stop)

            if isinstance(masks, FaceParser):
                parsed = ParsedOcclusions(frames, tracks[k], masks, known, settings.mask_image)
                return Occlusion(parsed, tracks[k], known)
            return Occlusion(masks, tracks[k], known)

        if masks is not None:
            free = [SharedFrames(occlusion(k), first) for k in range(len(tracks))]
            crops = [FreeCrops(some, known.read) for some, known in zip(crops, free, strict=True)]
        synced = self._synced(crops, runs, first)
        if superres is not None:
            return self._restored(synced, shared, free, first, start)
        blenders = [Blender(shared, track, settings.blend, mask_image=settings.mask_image) for track in tracks]

        def blended(windows: list[Window]) -> Window:
            numbers, out = windows[0].numbers, None
            for blender, known, window in zip(blenders, free, windows, strict=True):
                weights = None if known is None else known[list(numbers)]
                out = blender(window.pictures, numbers.start, weights, out)
            return Window(numbers, out)

        return behind(blended, synced, finish=finish)

    def _restored(
        self,
        synced: Generator[list[Window], None, None],
        frames: Frames,
        free: Sequence[Frames | None],
        first: int,
        start: int,
    ) -> Generator[Window, None, None]:
        settings = self.settings
        with closing(synced):
            crops = ([window.pictures for window in windows] for windows in synced)
            given = settings.superres, settings.blend, first, settings.mask_image, free
            finished = blend_restored(frames, self.tracks, crops, *given)
            yield from windows_from(start, skip_frames(finished, start - first))

    def _synced(self, crops: Sequence[Frames], runs: list[Runs], first: int) -> Generator[list[Window], None, None]:
        """Windows of everyone's crops that speak, from frame `first` on, each time of the same frames.

        Where the tracks are not known yet the search is under way meanwhile, and waited for by what it puts into
        `runs`.
        """
        search, frames, tracks = self.search, self.frames, self.tracks
        stills = [one.pauses and StillMouth(one.pauses, one.track) for one in (self, *self.others)]
        # A mouth that is held comes earlier, and is not shown.
        starts = [still.first(first) if still else first for still in stills]
        share, done = 1 / len(tracks), list(starts)
        steps = StepProgress(self.progress, share)

        def begin() -> None:
            if not steps.phase:
                steps("syncing", min(done), len(frames))

        def on_step(*state) -> None:
            check()
            begin()
            steps.done = sum(done) * share
            steps.on_step(*state)

        def on_wait() -> None:
            check()
            if steps.phase:
                steps(steps.phase, steps.done, steps.total)
            else:
                self.progress(*search.state)

        def source(track: FaceTrack, i: int) -> tuple[int, bytes]:
            return frames.index_map[i], track.matrices[i].tobytes()

        def counted(person: int, synced: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
            for pictures in synced:
                begin()
                done[person] += len(pictures)
                yield pictures
                steps("syncing", sum(done) * share, len(frames))

        with ExitStack() as opened:
            if search:
                runs[:] = opened.enter_context(search.going_on())
            features = [one.features for one in (self, *self.others)]
            if search is None or search.ended:
                begin()
            else:
                self.progress(*search.state)
            streams = []
            for person, (track, start, still) in enumerate(zip(tracks, starts, stills, strict=True)):
                # Crops that are filled from others of their window are not the same in another one.
                same = partial(source, track) if self.masks is None else None
                given = self.settings.sync, runs[person], start, on_step, self.settings.mask_image, same, on_wait
                synced = opened.enter_context(closing(sync(self.model, crops[person], features[person], *given)))
                stream = counted(person, synced)
                streams.append(skip_frames(still(stream, start), first - start) if still else stream)
            yield from together(streams, first)

    def sound(self, audio: str | os.PathLike | Sequence[str | os.PathLike] | None) -> dict[str, object]:
        """What `write` takes of the sound, a file or the mix of several, that these frames say."""
        return {"audio": audio, "duration": len(self) / self.fps, "pad_audio": self.outlasts}


def together(streams: Sequence[Iterator[torch.Tensor]], start: int) -> Iterator[list[Window]]:
    """Windows of several streams of pictures, of the same frames each time: they end where anyone's ends."""
    held = [torch.empty(0)] * len(streams)
    while True:
        held = [some if len(some) else next(stream, some) for some, stream in zip(held, streams, strict=True)]
        numbers = range(start, start + min(map(len, held)))
        if not numbers:
            return
        yield [Window(numbers, some[: len(numbers)]) for some in held]
        held, start = [some[len(numbers) :] for some in held], numbers.stop


def lip_sync_frames(
    take: LipSyncInput,
    model: LipSyncModel,
    detector: Detector | Sequence[Person],
    settings: RunSettings,
    progress: Progress,
    track: FaceTrack | None = None,
    work: Workspace | None = None,
) -> LipSyncResult:
    """What is needed to render a take; its sound is heard and the face is followed while `windows` are rendered.

    Args:
        detector: for one person; or the people who say the waves of the take.
        progress: called as in `lip_sync`, after each denoising step too; what it raises ends the run.
        track: where the one person's face is in the source's frames, if that is known.
        work: of an interrupted run, or keeps the tracks for it.
    """
    order, frames, fps, search, masks = take.order(settings), take.frames, take.fps, None, take.masks
    if masks is not None and settings.blend.published:
        raise InputError("the published way of blending knows nothing in front of the face: leave out the occlusion")
    if masks is not None and not isinstance(masks, FaceParser) and len(masks) > 1:
        if len(masks) <= max(order):
            raise InputError(
                f"there are {len(masks)} masks of what is in front of the face for {max(order) + 1} frames: give one "
                "for each frame, or one for all"
            )
        masks = FrameView(masks, order)
    people = detector if isinstance(detector, Sequence) else [Person(detector, settings.track)]
    face = fps, people, model.resolution, settings
    tracks = None if track is None else [track]
    waves = list(torch.atleast_2d(take.wave))  # as long as the clip; they go once they are heard
    pauses, shares = [None] * len(people), [np.ones(len(order), np.float32)] * len(people)
    if settings.silence != "model":
        progress("looking for pauses", 0, len(order))
        pauses = [Pauses(wave, fps, len(order)) for wave in waves]
    if settings.silence == "source":
        pauses, shares = [None] * len(people), [some.shares for some in pauses]
    if work is not None and (work.track is not None or work.frames_done):
        # Frames that go on from others look back: the whole tracks are known before they begin.
        tracks = tracks_or_resume(take.used(settings), *face, progress, work)
    if tracks is None:
        _warn_of_real_faces(model, people)

        def begin(say: Progress) -> Generator[tuple[FaceTrack, ...], None, None]:
            return grow_tracks(frames, range(max(order) + 1), *face, say, work and work.keep_track)

        search = TrackSearch(begin, order, model.resolution, shares)
    tracks = search.tracks if search else [t.take(order).faded(some) for t, some in zip(tracks, shares, strict=True)]
    outlasts = _missing(waves[0], fps, len(order)) * fps >= SAMPLE_RATE

    def hear(k: int) -> AudioFeatures:
        wave, waves[k] = waves[k], None
        return listen(model.audio_encoder, wave, fps, len(order), settings.hard_cut)

    def result(k: int, *others: LipSyncResult) -> LipSyncResult:
        given = outlasts, settings, progress, search, masks, pauses[k], people[k].name, others
        return LipSyncResult(model, FrameView(frames, order), fps, tracks[k], partial(hear, k), *given)

    return result(0, *map(result, range(1, len(people))))


def stacked(waves: Iterable[torch.Tensor]) -> torch.Tensor:
    """Waves (samples,) as one (people, samples), with silence after the shorter ones."""
    waves = list(waves)
    return waves[0][None] if len(waves) == 1 else pad_sequence(waves, batch_first=True)


def _warn_of_real_faces(model: LipSyncModel, people: Sequence[Person]) -> None:
    """Say so where the embedded model meets faces that a detector finds, for such ones are not drawn."""
    if is_embedded(model) and not all(isinstance(person.detector, FaceFile) for person in people):
        logger.warning(
            "the embedded model knows drawn faces only: on a real face the result will look wrong. Get the weights for "
            "real faces with `python -m latentsync download --version 1.5`, or with the node Download LatentSync Models"
        )


def _workspace(video, audios, out, model: LipSyncModel, detector, settings: RunSettings, **more: object) -> Workspace:
    weights = list(map(file_version, model.files)) or model.source
    nets = [model.resolution, str(model.dtype), weights]
    heard = file_version(audios[0]) if len(audios) == 1 else list(map(file_version, audios))
    return Workspace(Path(out), plan(video, detector, settings, audio=heard, model=nets, **more))


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
    audios: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    occlusion: str | os.PathLike | None = None,
) -> None:
    """Refuse, before any work, an output that cannot be written and one that would replace an input."""
    output_format(out)
    refuse_inputs(out, [path for path in (video, *audios, occlusion) if path is not None])


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
    people = [Person(detector, settings.track)]
    return tracks_or_resume(frames, fps, people, resolution, settings, progress, work)[0]


def tracks_or_resume(
    frames: Frames,
    fps: float,
    people: Sequence[Person],
    resolution: int,
    settings: RunSettings,
    progress: Progress,
    work: Workspace | None = None,
) -> list[FaceTrack]:
    """`track_or_resume` of several people."""
    if work and work.track is not None:
        return split(work.track, len(people))
    numbers, keep = range(len(frames)), work.keep_track if work else None
    stretches = list(grow_tracks(frames, numbers, fps, people, resolution, settings, progress, keep))
    return [joined(track) for track in zip(*stretches, strict=True)]


def grow_tracks(
    frames: Frames,
    numbers: range,
    fps: float,
    people: Sequence[Person],
    resolution: int,
    settings: RunSettings,
    progress: Progress,
    keep: Callable[[FaceTrack], None] | None = None,
) -> Generator[tuple[FaceTrack, ...], None, None]:
    """Each one's track through some of the `frames`, in stretches, as the search comes to them.

    The faces that a detector sees are looked for once, whoever goes by it. `keep` is given the whole tracks, one after
    the other.
    """
    detectors = list({id(person.detector): person.detector for person in people}.values())
    with ExitStack() as opened:
        seen: list[Iterator[Detection]] = []
        for detector in detectors:
            # The settings of someone who is known by their looks, if there is one, so that faces are described.
            those = [person.settings for person in people if person.detector is detector]
            track = max(those, key=lambda track: track.which == "similar")
            source = FrameView(opened.enter_context(apart(frames)), numbers)
            say = progress if detector is detectors[0] else no_progress
            seen.append(watch(source, fps, detector, track, settings.detect_every, say))
            opened.enter_context(closing(seen[-1]))
        places = [detectors.index(person.detector) for person in people]
        looks = ([row[place] for place in places] for row in zip(*seen, strict=True))
        followers = [Follower(fps, person.settings, person.like, person.name) for person in people]
        chosen = tee(choices_apart(looks, followers), len(people))
        stretches = []
        for k, (person, rows) in enumerate(zip(people, chosen, strict=True)):
            own = map(itemgetter(k), rows)
            stretches.append(place_choices(own, resolution, fps, person.settings, person.name))
        found = []
        for tracks in zip(*stretches, strict=True):
            found.append(tracks)
            yield tracks
    if keep:
        keep(joined([joined(track) for track in zip(*found, strict=True)]))


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
