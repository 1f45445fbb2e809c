"""A clip lip-synced with the net as it is now, and how well SyncNet finds that its lips fit the sound."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..audio import SAMPLE_RATE, encode_audio, resample, to_mono
from ..checkpoint import LipSyncModel
from ..frames import Extended, Frames, as_uint8, batches, end_map
from ..media import VideoReader, VideoWriter, read_audio
from ..speech import VIDEO_FPS, mel_window, syncnet_mel
from ..sync import TRAINED_WINDOW, Settings, sync
from .clips import Clip, Pictures, for_net
from .estimate import SyncJudge
from .latents import encode_clips

log = logging.getLogger(__name__)

STRIDE = 4  # frames between the windows that are judged
FARTHEST = 10  # frames that pictures and sound are shifted against each other at most


def validate(
    model: LipSyncModel, video: Path, audio: Path, settings: Settings, out: Path, judge: SyncJudge | None
) -> dict[str, float]:
    """Lip-sync the crops in `video` to `audio`, write them to `out` with the sound, and judge them.

    Args:
        model: its U-Net is put in evaluation mode meanwhile.
        video: aligned crops at 25 frames per second, square and no smaller than `model.resolution`; where the sound is
            longer, they go on backward, then forward.
        judge: the SyncNet that judges; None: the result has no figures, and the log says so.

    Returns:
        "sync": mean cosine over windows of `judge.frames`, 4 apart, 0..1; "sync_offset": by how many frames, -10..10,
        the sound would have to come later to fit best. Both are missing without a SyncNet or for a clip too short for
        it.

    Raises:
        FileNotFoundError, OSError: a file that is missing or may not be read.
        ValueError: see `check_crops`.
    """
    waveform, rate = read_audio(audio)
    features = encode_audio(model.audio_encoder, waveform, rate, VIDEO_FPS)
    made: list[Tensor] = []
    side = model.resolution
    with Pictures(check_crops(video, side), side, TRAINED_WINDOW) as pictures, _evaluating(model.unet):
        crops = Extended(pictures, end_map(len(pictures), len(features), "pingpong"))
        out.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(out, VIDEO_FPS, side, side, audio=audio) as writer:
            for synced in sync(model, crops, features, settings):
                writer.write(synced)
                made.append(as_uint8(synced))
    if judge is None:
        log.info("%s has no sync figures: set files.syncnet to have them", out.name)
        return {}
    return judge_sync(judge, model.vae, torch.cat(made), resample(to_mono(waveform), rate))


def check_crops(video: Path, side: int) -> Clip:
    """The clip in a file whose pictures can be validated with.

    Raises:
        FileNotFoundError, OSError: it is missing or may not be read.
        ValueError: not a video, another frame rate than 25, or pictures that are not square or under `side` pixels.
    """
    with VideoReader(video, cache=1) as reader:
        frames, height, width, fps = len(reader), reader.height, reader.width, reader.fps
    if height != width or height < side or fps != VIDEO_FPS:
        raise ValueError(
            f"{video} has {float(fps):.4g} pictures of {width} x {height} a second: to validate with, give "
            f"{VIDEO_FPS} square crops of at least {side}, such as a clip to train on"
        )
    return Clip(video, frames, height)


def judge_sync(judge: SyncJudge, vae: nn.Module, pictures: Frames, wave: Tensor) -> dict[str, float]:
    """The figures of `validate` for crops (n, h, w, 3) at 25 frames per second and their sound at 16 kHz.

    Sound that ends before the pictures goes on in silence.
    """
    shifts, cosines = sync_cosines(judge, vae, pictures, wave)
    if not len(cosines):
        log.info("no sync figures: the clip has %d frames, and SyncNet judges %d", len(pictures), judge.frames)
        return {}
    curve = mean_of_windows(cosines)
    return {"sync": float(curve[FARTHEST]), "sync_offset": float(shifts[np.nanargmax(curve)])}


@torch.no_grad()
def sync_cosines(
    judge: SyncJudge, vae: nn.Module | None, pictures: Frames, wave: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """How well pictures and sound fit when shifted against each other; arguments as for `judge_sync`.

    Returns:
        The shifts (21,), -10..10: by how many frames the sound comes later; and the cosines (windows, 21) of
        `judge.frames` pictures, 4 apart, with the sound at every shift; nan where it would lie outside the clip. A clip
        of fewer pictures has no windows.
    """
    starts = list(range(0, len(pictures) - judge.frames + 1, STRIDE))
    shifts = np.arange(-FARTHEST, FARTHEST + 1)
    cosines = np.full((len(starts), len(shifts)), np.nan, np.float32)
    if starts:
        places = range(len(pictures) - judge.frames + 1)
        seen, heard = see(judge, vae, pictures, starts), hear(judge, wave, len(pictures), places)
        every = (seen @ heard.T).cpu().numpy()  # (windows of pictures, places of the sound)
        for row, start in enumerate(starts):
            for column, shift in enumerate(shifts):
                if start - shift in places:
                    cosines[row, column] = every[row, start - shift]
    return shifts, cosines


def mean_of_windows(cosines: np.ndarray) -> np.ndarray:
    """The mean cosine at every shift (21,) of those of `sync_cosines`; nan where no window has one."""
    known = np.isfinite(cosines)
    count = known.sum(axis=0)
    return np.where(count, np.where(known, cosines, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


@torch.no_grad()
def see(judge: SyncJudge, vae: nn.Module, pictures: Frames, starts: Sequence[int]) -> Tensor:
    """Embeddings (len(starts), d) of the `judge.frames` crops from each of `starts` on."""
    device, found = next(judge.net.parameters()).device, []
    for start in starts:
        clip = rearrange(for_net(pictures[list(range(start, start + judge.frames))]), "f c h w -> 1 c f h w")
        found.append(judge.vision(clip.to(device) if judge.sees_pixels else encode_clips(vae, clip.to(device))))
    return torch.cat(found)


@torch.no_grad()
def hear(judge: SyncJudge, wave: Tensor, frames: int, starts: Sequence[int]) -> Tensor:
    """Embeddings (len(starts), d) of the 16 kHz sound from each of `starts` on, of a clip of `frames`."""
    device = next(judge.net.parameters()).device
    mel = syncnet_mel(F.pad(wave, (0, max(0, math.ceil(frames / VIDEO_FPS * SAMPLE_RATE) - len(wave)))))
    windows = torch.stack([mel_window(mel, start, frames=judge.frames) for start in starts])
    return torch.cat([judge.hearing(windows[numbers].to(device)) for numbers in batches(len(starts), 16)])


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """`net` in evaluation mode in the block, and as it was after it."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)
