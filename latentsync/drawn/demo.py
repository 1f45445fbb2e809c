"""The demo: draw a head, lip-sync it to other words as `run` does, and measure the result against the truth."""

import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from ..errors import FileError, InputError
from ..evaluate.charts import GREY, drawn, new_figure, style
from ..evaluate.curves import best_lag, correlation
from ..evaluate.image_metrics import psnr, ssim
from ..evaluate.opening import measure_opening
from ..evaluate.sync_score import STRIDE, audio_embeddings, load_stable_syncnet, video_embeddings
from ..face.align import AlignedFaces
from ..face.geometry import CANVAS_UNITS, crop_matrix, homogeneous
from ..face.masks import keep_mask
from ..face.track import FaceTrack
from ..face.track_file import read_track_file, write_track_file
from ..face.track_sheet import write_png
from ..media import VideoReader
from ..media.sound import write_wav
from ..models.embedded import EMBEDDED
from ..models.load import LipSyncModel, find_checkpoints
from ..pipelines.lip_sync import lip_sync
from ..progress import Progress, no_progress
from ..settings import RunSettings, Settings, options
from .heads.clip import DrawnClip, render
from .heads.corpus import detections, track_clip, write_clip
from .heads.speaker import make_speaker
from .heads.speech import FPS, Speech, make_speech, speak

SIZE = 256  # side of the drawn pictures in pixels
SHORTEST, LONGEST = 1.0, 60.0  # seconds
COLUMNS, TILE, GAP = 9, 144, 5  # of the picture sheet: how many, and pixels
CLOSE_UP = (0.22, 0.46, 0.78, 0.88)  # left, top, right, bottom of the mouth's picture, as fractions of the crop
CROP_HEIGHT = CANVAS_UNITS[1] / CANVAS_UNITS[0]  # of its width, before it is stretched to a square


@dataclass(frozen=True, eq=False)
class Scene:
    """One head, two speeches of the same length in the same voice."""

    source: DrawnClip  # the head saying the old words
    truth: DrawnClip  # the same head, moving the same way, saying the new words: only the lower face differs
    speech: Speech  # the new words


@dataclass(frozen=True)
class DemoResult:
    """How well the result speaks the new audio; `str` gives the lines that the command prints."""

    correlation: float  # of the mouth's opening, measured in the result, with the true one of the new audio
    lag: int  # frames by which the measured mouth comes later than the true one
    old_correlation: float  # of the measured opening with that of the old audio
    psnr: float  # dB, of the repainted part of the aligned crops against the true pictures
    ssim: float  # of the same
    sync: tuple[float, float] | None  # SyncNet's mean cosine with the new and the old audio; None without a SyncNet
    settings: Settings = Settings()
    folder: Path = Path()
    seconds: float = 0.0  # that everything took

    def __str__(self) -> str:
        folder = self.folder
        source, audio, track = (folder / name for name in ("source.mp4", "audio.wav", "track.json"))
        lines = [
            "mouth opening in the result, against the true one of the new audio:",
            f"correlation {self.correlation:.2f}",
            f"best lag {self.lag} frames",
            f"correlation with the old audio {self.old_correlation:.2f}",
            "pictures, against the true ones:",
            f"PSNR of the mouth {self.psnr:.1f} dB, SSIM {self.ssim:.3f}",
        ]
        if self.sync:
            lines.append(f"SyncNet {self.sync[0]:.2f} with the new audio, {self.sync[1]:.2f} with the old")
        changed = [item for item in options(Settings) if getattr(self.settings, item.name) != item.default]
        lines += [
            f"{folder / 'result.mp4'} in {self.seconds:.0f} s, from {source} and {audio}",
            f"to look at: {folder / 'strip.png'} and {folder / 'curve.png'}",
            "the same by hand: python -m latentsync run --checkpoints embedded --detector file "
            f"--detector_model {track} --video_path {source} --audio_path {audio} "
            f"--video_out_path {folder / 'again.mp4'}"
            + "".join(f" --{item.flag} {getattr(self.settings, item.name)}" for item in changed),
        ]
        return "\n".join(lines)


def check_request(folder: str | os.PathLike, seed: int, seconds: float) -> None:
    """Refuse, before any work, what cannot be drawn or written."""
    folder = Path(folder)
    if not SHORTEST <= seconds <= LONGEST:
        raise InputError(f"seconds is {seconds}: give a length from {SHORTEST:g} to {LONGEST:g}")
    if seed < 0:
        raise InputError(f"seed is {seed}: give a whole number from 0 up")
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file: give the name of a folder")
    if not folder.parent.is_dir():
        raise FileError(f"{folder.parent} does not exist: create it first, or choose another folder")


def run_demo(
    folder: str | os.PathLike,
    model: LipSyncModel,
    seed: int,
    seconds: float = 4.0,
    settings: Settings | None = None,
    *,
    progress: Progress = no_progress,
) -> DemoResult:
    """Make a drawn head say other words and write into `folder`: source.mp4, audio.wav, track.json, result.mp4,
    strip.png and curve.png. They appear together, when all are complete.

    `model` comes from `load_embedded`; another one would have to know drawn faces.
    """
    check_request(folder, seed, seconds)
    start, folder = time.monotonic(), Path(folder)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent) as name:
        work = Path(name)
        progress("drawing", 0, round(seconds * FPS))
        scene = make_scene(seed, seconds)
        video, audio, track_file = write_scene(scene, work)
        run = RunSettings(sync=settings or Settings())
        lip_sync(video, audio, work / "result.mp4", model, read_track_file(track_file), run, progress=progress)
        with VideoReader(work / "result.mp4") as reader:
            frames = reader[range(len(reader))]
        track = track_clip(scene.source, model.resolution)
        result, measured = measure(scene, frames, track)
        write_png(work / "strip.png", picture_sheet(scene, frames, track))
        write_png(work / "curve.png", opening_chart(scene, measured, result))
        folder.mkdir(exist_ok=True)
        for path in work.iterdir():
            os.replace(path, folder / path.name)
    return replace(result, settings=run.sync, folder=folder, seconds=time.monotonic() - start)


def make_scene(seed: int, seconds: float) -> Scene:
    old = make_speech(seed, seconds)
    new = speak(make_speech(seed + 1, seconds).phones, seconds, seed)  # other words, this seed's voice
    speaker = make_speaker(seed)
    return Scene(render(speaker, old, SIZE, seed), render(speaker, new, SIZE, seed), new)


def write_scene(scene: Scene, folder: Path) -> tuple[Path, Path, Path]:
    """Write `source.mp4` with its own sound, `audio.wav` (the new words) and `track.json` (where the face is)."""
    video, audio, track = (folder / name for name in ("source.mp4", "audio.wav", "track.json"))
    write_clip(video, scene.source.frames, scene.source)
    write_wav(audio, [scene.truth.waveform], scene.truth.rate)
    write_track_file(track, detections(scene.source), SIZE, SIZE, scene.source.fps)
    return video, audio, track


def measure(scene: Scene, frames: torch.Tensor, track: FaceTrack) -> tuple[DemoResult, np.ndarray]:
    """How good the lip-synced `frames` (n, h, w, 3) are, and the mouth's opening in them, 0..1: (n,)."""
    crops, truth = (
        AlignedFaces(pictures, track.matrices, track.found, track.resolution)[range(len(track))]
        for pictures in (frames, scene.truth.frames)
    )
    # What an opening of 1 measures depends on the speaker; the true pictures tell.
    slope, level = np.polyfit(measure_opening(truth).numpy(), scene.truth.opening, 1)
    measured = slope * measure_opening(crops).numpy() + level
    region = keep_mask(track.resolution)[0] < 0.5
    paths, sync = find_checkpoints(EMBEDDED), None
    if paths.syncnet is not None and paths.vae is not None:
        syncnet, vae = load_stable_syncnet(EMBEDDED)
        starts = range(0, len(crops) - syncnet.frames + 1, STRIDE)
        seen = video_embeddings(syncnet, vae, crops, starts)
        heard = (audio_embeddings(syncnet, c.waveform, len(crops), starts) for c in (scene.truth, scene.source))
        sync = tuple(float((seen * sounds).sum(1).mean()) for sounds in heard)
    result = DemoResult(
        correlation=correlation(measured, scene.truth.opening),
        lag=best_lag(measured, scene.truth.opening),
        old_correlation=correlation(measured, scene.source.opening),
        psnr=psnr(crops, truth, region),
        ssim=float(ssim(crops, truth, region, grey=True).mean()),
        sync=sync,
    )
    return result, measured


def picture_sheet(scene: Scene, result: torch.Tensor, track: FaceTrack) -> np.ndarray:
    """Source, result and truth side by side at times spread over the clip, whole and the mouth: (h, w, 3) uint8."""
    numbers = np.linspace(0, len(track) - 1, COLUMNS + 2).round().astype(int)[1:-1]
    clips = {"source": scene.source.frames, "result": result, "truth": scene.truth.frames}
    notes = ("the old words", "the new words", "drawn saying them")
    rows = [(name, note, [cv2.resize(clip[i].numpy(), (TILE, TILE), interpolation=cv2.INTER_AREA) for i in numbers])
            for (name, clip), note in zip(clips.items(), notes, strict=True)]  # fmt: skip
    rows += [(name, "the mouth", [close_up(clip[i].numpy(), track.matrices[i], track.resolution) for i in numbers])
             for name, clip in clips.items()]  # fmt: skip
    left, top = 145, 80
    width = left + COLUMNS * (TILE + GAP) + 15
    height = top + sum(len(pictures[0]) + GAP for _, _, pictures in rows) + 10
    figure = new_figure(width, height, "A drawn head, made to say other words")
    for k, i in enumerate(numbers):
        x = (left + k * (TILE + GAP) + TILE / 2) / width
        figure.text(x, 1 - (top - 17) / height, f"{i / scene.source.fps:.2f} s", ha="center", fontsize=7, color=GREY)
    y = top
    for name, note, pictures in rows:
        middle = 1 - (y + len(pictures[0]) / 2) / height
        figure.text(18 / width, middle, name, va="bottom", fontsize=9)
        figure.text(18 / width, middle, note, va="top", fontsize=7, color=GREY)
        for k, picture in enumerate(pictures):  # matplotlib counts pixels from the bottom
            figure.figimage(picture, left + k * (TILE + GAP), height - y - len(picture), origin="upper")
        y += len(pictures[0]) + GAP
    return drawn(figure)


def close_up(frame: np.ndarray, matrix: np.ndarray, resolution: int) -> np.ndarray:
    """The mouth in `frame` (h, w, 3) uint8, upright, TILE pixels wide."""
    left, top, right, bottom = (edge * resolution for edge in CLOSE_UP)
    scale = TILE / (right - left)
    height = round((bottom - top) * scale * CROP_HEIGHT)
    to_tile = np.array([[scale, 0, -left * scale], [0, scale * CROP_HEIGHT, -top * scale * CROP_HEIGHT]])
    to_crop = homogeneous(crop_matrix(matrix, resolution))
    return cv2.warpAffine(frame, to_tile @ to_crop, (TILE, height), flags=cv2.INTER_CUBIC)


def opening_chart(scene: Scene, measured: np.ndarray, result: DemoResult) -> np.ndarray:
    """The mouth's opening over time, measured and true, and the loudness of the voice: (h, w, 3) uint8."""
    title = f"What the mouth does: correlation {result.correlation:.2f} with the new audio's, "
    figure = new_figure(1280, 520, title + f"{result.old_correlation:.2f} with the old")
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    times = (np.arange(len(measured)) + 0.5) / scene.source.fps  # a frame's value stands at its middle
    upper.plot(times, measured, color="#d64541", linewidth=1.5, zorder=3, label="in the result")
    upper.plot(times, scene.truth.opening, "--", color="#262a32", linewidth=1, label="true, of the new audio")
    upper.plot(times, scene.source.opening, color="#9eaabc", linewidth=1, zorder=1, label="of the old audio")
    upper.legend(fontsize=7, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    upper.set_ylim(0, 1)
    style(upper, "mouth opening", "")
    lower.fill_between(times, scene.speech.loudness, color="#b0c4de")
    lower.set(ylim=(0, None), xlim=(0, len(times) / scene.source.fps), yticks=())
    style(lower, "loudness of the new audio", "seconds")
    return drawn(figure)
