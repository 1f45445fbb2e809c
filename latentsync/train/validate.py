"""A clip lip-synced with the net as it is now, and how well SyncNet finds that its lips fit the sound."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..audio import SAMPLE_RATE, encode_audio, resample, to_mono
from ..checkpoint import LipSyncModel
from ..frames import Extended, Frames, as_uint8, batches, end_map
from ..media import VideoReader, VideoWriter, read_audio
from ..speech import SYNCNET_FRAMES, VIDEO_FPS, mel_window, syncnet_mel
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
        "sync": mean cosine over windows of 16 frames, 4 apart, 0..1; "sync_offset": by how many frames, -10..10, the
        sound would have to come later to fit best. Both are missing without a SyncNet or for a clip too short for it.

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


@torch.no_grad()
def judge_sync(judge: SyncJudge, vae: nn.Module, pictures: Frames, wave: Tensor) -> dict[str, float]:
    """The figures of `validate` for crops (n, h, w, 3) at 25 frames per second and their sound at 16 kHz.

    Sound that ends before the pictures goes on in silence.
    """
    starts = list(range(0, len(pictures) - SYNCNET_FRAMES + 1, STRIDE))
    if not starts:
        log.info("no sync figures: the clip has %d frames, and SyncNet judges %d", len(pictures), SYNCNET_FRAMES)
        return {}
    device = next(judge.net.parameters()).device
    mel = syncnet_mel(F.pad(wave, (0, max(0, math.ceil(len(pictures) / VIDEO_FPS * SAMPLE_RATE) - len(wave)))))
    seen = torch.cat([_vision(judge, vae, pictures[list(range(s, s + SYNCNET_FRAMES))], device) for s in starts])
    places = range(len(pictures) - SYNCNET_FRAMES + 1)
    windows = torch.stack([mel_window(mel, place) for place in places])
    heard = torch.cat([judge.hearing(windows[numbers].to(device)) for numbers in batches(len(places), 16)])
    cosines = seen @ heard.T  # (windows of pictures, places of the sound)
    by_shift = {}
    for shift in range(-FARTHEST, FARTHEST + 1):
        pairs = [(row, start - shift) for row, start in enumerate(starts) if start - shift in places]
        if pairs:
            by_shift[shift] = sum(cosines[pair].item() for pair in pairs) / len(pairs)
    return {"sync": by_shift[0], "sync_offset": float(max(by_shift, key=by_shift.get))}


def _vision(judge: SyncJudge, vae: nn.Module, pictures: Tensor, device: torch.device) -> Tensor:
    clip = rearrange(for_net(pictures), "f c h w -> 1 c f h w").to(device)
    return judge.vision(clip if judge.sees_pixels else encode_clips(vae, clip))


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """`net` in evaluation mode in the block, and as it was after it."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)
