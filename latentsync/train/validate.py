"""A clip lip-synced with the net as it is now, and how well SyncNet finds that its lips fit the sound.

The clip is of aligned crops, as those to train on, or whole: then it goes through the whole pipeline, as `run` does.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..audio.syncnet import SAMPLES_PER_FRAME, VIDEO_FPS
from ..audio.whisper import encode_audio, resample, to_mono
from ..errors import InputError
from ..evaluate.sync_score import MouthViews, SyncScorer, sync_curve, sync_score
from ..face.align import AlignedFaces
from ..face.geometry import apply, fit_similarity, homogeneous, invert
from ..face.landmarks import BOX_ASPECT, Box, Detector, points_from_box
from ..files import make_folder
from ..frames import Frames, FrameView, as_uint8, end_map
from ..media import VideoReader, VideoWriter, read_audio
from ..models.load import LipSyncModel
from ..nets.syncnet_v2 import SyncNetV2
from ..pipelines.lip_sync import LipSyncInput, lip_sync_frames, load_mono_16k, track_or_resume, write
from ..progress import no_progress
from ..sampling.sample import sync
from ..settings import TRAINED_WINDOW, RunSettings, Settings
from .clips import Clip, Pictures
from .task import evaluating

log = logging.getLogger(__name__)


def validate(
    model: LipSyncModel,
    video: Path,
    audio: Path,
    settings: Settings,
    out: Path,
    syncnet: SyncScorer | None,
    mask_image=None,
) -> dict[str, float]:
    """Lip-sync the crops in `video` (see `check_crops`) to `audio`, write them to `out` with the sound, and judge them.

    Where the sound is longer, the crops go on backward, then forward. `mask_image` is what the net repaints.

    Returns:
        "sync": mean cosine over windows of `syncnet.frames`, 4 apart, 0..1; "sync_offset": by how many frames, -10..10,
        the sound would have to come later to fit best. Both are missing without a SyncNet or for a clip too short for
        it; the log says so.
    """
    waveform, rate = read_audio(audio)
    features = encode_audio(model.audio_encoder, waveform, rate, VIDEO_FPS)
    made, side = [], model.resolution
    with Pictures(check_crops(video, side), side, TRAINED_WINDOW) as pictures, evaluating(model.unet):
        crops = FrameView(pictures, end_map(len(pictures), len(features), "pingpong"))
        make_folder(out.parent)
        with VideoWriter(out, VIDEO_FPS, side, side, audio=audio) as writer:
            for synced in sync(model, crops, features, settings, mask_image=mask_image):
                writer.write(synced)
                made.append(as_uint8(synced))
    if syncnet is None:
        log.info("%s has no sync metrics: set files.syncnet to have them", out.name)
        return {}
    return sync_metrics(syncnet, model.vae, torch.cat(made), resample(to_mono(waveform), rate))


class WholeClip:
    """A video as a camera made it and a voice, at 25 frames per second; crops have the side `resolution`.

    The face is detected once, here, so that a clip without one is refused before training.
    """

    def __init__(
        self,
        video: Path,
        audio: Path,
        detector: Detector,
        resolution: int,
        sync: Settings,
        mask_image: np.ndarray | None = None,
        syncnet_v2: SyncNetV2 | None = None,
    ):
        self.video, self.audio, self.detector, self.syncnet_v2 = video, audio, detector, syncnet_v2
        self.settings = RunSettings(sync=sync, fps=float(VIDEO_FPS), mask_image=mask_image)
        self.wave = load_mono_16k(audio)
        with self.open() as reader:
            self.track = track_or_resume(reader, VIDEO_FPS, detector, resolution, self.settings, no_progress)

    def open(self) -> VideoReader:
        return VideoReader(self.video, fps=VIDEO_FPS, cache=2 * self.settings.sync.window)


def validate_whole(model: LipSyncModel, clip: WholeClip, out: Path, syncnet: SyncScorer | None) -> dict[str, float]:
    """`validate` on a clip that goes the whole way, judged by the longest stretch that shows the face.

    Returns what `validate` does, and by SyncNet v2, if the clip has it, "sync_c" (confidence, LSE-C), "sync_d"
    (distance, LSE-D) and "sync_v2_offset", which means what "sync_offset" does.
    """
    make_folder(out.parent)
    with evaluating(model.unet), clip.open() as reader:
        take = LipSyncInput(reader, VIDEO_FPS, clip.wave)
        made = lip_sync_frames(take, model, clip.detector, clip.settings, no_progress, clip.track)
        write(made.windows(), out, reader, clip.settings, made.sound(clip.audio))
    start, stop = max(made.track.runs(), key=lambda run: run[1] - run[0])
    track, wave = made.track.take(range(start, stop)), clip.wave[start * SAMPLES_PER_FRAME :]
    metrics = {}
    with VideoReader(out, cache=2 * TRAINED_WINDOW) as reader:
        frames = FrameView(reader, range(start, stop))
        if syncnet is not None:
            crops = AlignedFaces(frames, track.matrices, track.found, track.resolution)
            metrics |= sync_metrics(syncnet, model.vae, crops, wave)
        if clip.syncnet_v2 is not None:
            boxes = np.array([face_box(matrix, track.resolution) for matrix in track.matrices])
            try:
                score = sync_score(clip.syncnet_v2.to(model.device), MouthViews(frames, boxes), wave)
            except ValueError as error:
                log.info("no metrics of SyncNet v2: %s", error)
            else:
                metrics |= {"sync_c": score.confidence, "sync_d": score.min_distance}
                metrics["sync_v2_offset"] = float(score.offset)
    if syncnet is None and clip.syncnet_v2 is None:
        log.info("%s has no sync metrics: set files.syncnet or validation.syncnet_v2 to have them", out.name)
    return metrics


def face_box(matrix: np.ndarray, resolution: int) -> Box:
    """The box, in frame pixels, of a face of usual proportions that `matrix` takes to the canvas."""
    width, height = 100 * BOX_ASPECT, 100.0
    to_canvas, _ = fit_similarity(points_from_box((0, 0, width, height)), resolution)
    back = invert(matrix) @ homogeneous(to_canvas)
    x, y = apply(back, np.array([[width / 2, height / 2]]))[0]
    half = np.array([width, height]) / 2 * np.hypot(*back[:, 0])
    return x - half[0], y - half[1], x + half[0], y + half[1]


def check_crops(video: Path, side: int) -> Clip:
    """The clip in a file of aligned crops, square and at least `side` pixels, at 25 frames per second."""
    with VideoReader(video, cache=1) as reader:
        frames, height, width, fps = len(reader), reader.height, reader.width, reader.fps
    if height != width or height < side or fps != VIDEO_FPS:
        raise InputError(
            f"{video} has {float(fps):.4g} pictures of {width} x {height} a second: to validate with, give "
            f"{VIDEO_FPS} square crops of at least {side}, such as a clip to train on"
        )
    return Clip(video, frames, height)


def sync_metrics(syncnet: SyncScorer, vae: nn.Module, pictures: Frames, wave: Tensor) -> dict[str, float]:
    """The metrics of `validate` for crops (n, h, w, 3) at 25 frames per second and their sound at 16 kHz.

    Sound that ends before the pictures goes on in silence.
    """
    try:
        curve = sync_curve(syncnet, vae, pictures, wave)
    except InputError as error:
        log.info("no sync metrics: %s", error)
        return {}
    return {"sync": curve.confidence, "sync_offset": float(curve.offset)}
