"""What the page does with an upload: make it speak."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from ..audio.whisper import SAMPLE_RATE
from ..frames import Window, as_uint8, batches
from ..media import VideoReader, VideoWriter
from ..media.audio import load_mono_16k
from ..media.browser import QUALITY, fitted_size, playable
from ..media.sound import write_wav
from ..pipelines.lip_sync import LipSyncInput, lip_sync_frames, write
from ..pipelines.options import load_superres
from ..progress import Progress
from ..settings import RunSettings
from ..threads import behind
from .folder import Folder
from .job import Job
from .models import ModelCache

FRAMES_AT_ONCE = 8
PIECE_SECONDS = 1  # of what plays while the rest is made, at least
PREVIEW_SIDE = 640  # pixels of its longer side


def before_video(reader: VideoReader, numbers: Sequence[int], resampled: bool, out: Path, progress: Progress) -> Path:
    """A video whose frame i is frame `numbers[i]` of the source: the source itself where that will do, else `out`.

    `resampled` says whether the reader's frame rate is another than the file's. `out` is an .mp4 of at most 1280
    pixels, without sound.
    """
    if not resampled and list(numbers) == list(range(len(numbers))) and playable(reader.path):
        return Path(reader.path)
    height, width = fitted_size(reader.height, reader.width)
    tags = {"colour": reader.colour, "sample_aspect_ratio": reader.sample_aspect_ratio}
    with VideoWriter(out, reader.fps, height, width, **QUALITY, **tags) as writer:
        for places in batches(len(numbers), FRAMES_AT_ONCE):
            progress("writing the video to compare with", places[0], len(numbers))
            frames = reader[[numbers[i] for i in places]].numpy()
            small = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames]
            writer.write(torch.from_numpy(np.stack(small)))
    return out


@dataclass(frozen=True)
class Request:
    """What a visitor asks for: uploaded files, and the options of the command `run` with the settings they make."""

    video: Path
    audio: Path
    arguments: argparse.Namespace
    settings: RunSettings


@dataclass(frozen=True)
class Result:
    """A finished run: the result, the source to compare it with frame by frame, and a line about it."""

    result: Path
    before: Path
    summary: str


class Preview:
    """Writes what is done so far as short videos with their sound, which play while the rest is made.

    To be called with the windows in order; they come back as they are. `job` is told where the videos are and how many.
    """

    def __init__(self, job: Job, folder: Path, reader: VideoReader, wave: torch.Tensor, count: int):
        self.job, self.folder, self.reader, self.wave, self.count = job, folder, reader, wave, count
        self.pictures: list[torch.Tensor] = []  # since frame `first`
        self.first = 0

    def __call__(self, window: Window) -> Window:
        height, width = fitted_size(*window.pictures.shape[1:3], PREVIEW_SIDE)
        for picture in as_uint8(window.pictures).cpu().numpy():
            self.pictures.append(torch.from_numpy(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)))
        stop = window.numbers.stop
        seconds = PIECE_SECONDS if self.job.pieces else PIECE_SECONDS / 2  # the first one is to be there soon
        if len(self.pictures) >= seconds * self.reader.fps or stop == self.count:
            self._write(height, width, stop)
        return window

    def _write(self, height: int, width: int, stop: int) -> None:
        self.folder.mkdir(exist_ok=True)
        start, end = (round(i / self.reader.fps * SAMPLE_RATE) for i in (self.first, stop))
        sound, path = self.folder / "sound.wav", self.folder / f"{self.job.pieces}.mp4"
        write_wav(sound, [self.wave[start:end]], SAMPLE_RATE, end - start)
        tags = {"colour": self.reader.colour, "sample_aspect_ratio": self.reader.sample_aspect_ratio}
        with VideoWriter(path, self.reader.fps, height, width, **QUALITY, **tags, audio=sound) as writer:
            writer.write(torch.stack(self.pictures))
        sound.unlink()
        self.pictures, self.first = [], stop
        self.job.preview, self.job.pieces = self.folder, self.job.pieces + 1


def speak(job: Job, nets: ModelCache, folder: Folder, request: Request) -> Result:
    """Make a video speak, as the command `run` does.

    What is done so far can be played meanwhile. It may be cancelled at every denoising step; then nothing is left in
    the folder.
    """
    # The detector comes first: a refusal should not wait for the model.
    job.progress("loading the face detector", 0, 0)
    detector = nets.detector(request.video, request.settings.track.which)
    settings = replace(request.settings, superres=load_superres(request.arguments, nets.device))
    job.progress("loading the model", 0, 0)
    model = nets.model(request.arguments.resolution)
    result = folder.new_file(f"{request.video.stem}_lipsync.mp4")
    try:
        with VideoReader(request.video, settings.fps, 2 * settings.sync.window, job.progress) as reader:
            take = LipSyncInput(reader, float(reader.fps), load_mono_16k(request.audio))
            spoken = lip_sync_frames(take, model, detector, settings, job.progress)
            preview = Preview(job, result.with_name("preview"), reader, take.wave, len(spoken))
            write(behind(preview, spoken.windows()), result, reader, settings, spoken.sound(request.audio))
            order, resampled = take.order(settings), settings.fps is not None
            before = before_video(reader, order, resampled, result.with_name("before.mp4"), job.progress)
    except BaseException:
        folder.drop(result)
        raise
    found = int(spoken.track.seen.sum())
    return Result(result, before, f"{len(spoken)} frames at {take.fps:g} per second, the face is in {found} of them")
