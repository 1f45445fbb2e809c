"""How well lips and sound fit: SyncNet v2 (Sync-C, Sync-D) and StableSyncNet."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..audio.syncnet import SAMPLES_PER_FRAME, SYNCNET_FRAMES, VIDEO_FPS, mel_window, mfcc, mfcc_windows, syncnet_mel
from ..audio.whisper import SAMPLE_RATE
from ..errors import FileError, InputError
from ..frames import Frames, FrameView, as_uint8, batches, for_net
from ..models.folders import UNREADABLE
from ..models.load import find_checkpoints, load_vae
from ..models.state_dict import read_checkpoint, recognise
from ..nets.syncnet import EncoderConfig, StableSyncNet, SyncNetConfig
from ..nets.syncnet_v2 import SyncNetV2, SyncScore, offset_and_confidence, sync_distances
from ..sampling.latents import encode_clips
from .metrics import MetricValue

SIDE = 224  # pixels: of what SyncNet v2 sees
LIP_FRAMES = 5  # that it sees at once
PADDING = 0.4  # of half a face box's longer side, added to it; below it twice, for the box is placed lower
MEDIAN = 13  # frames over which place and size of the box are smoothed
OUTSIDE = 110  # grey beyond the picture
BATCH = 16
PUBLISHED_SIDE = 256  # of the crops, in pixels, that the published StableSyncNets were trained on
MOST_SIDE = 1024  # that training takes
STRIDE = 4  # frames between the windows that StableSyncNet judges
NO_SOURCE = "the source has no sound: what the mouth keeps of it cannot be judged"
FARTHEST = 10  # frames that pictures and sound are shifted against each other at most


class MouthViews:
    """What SyncNet v2 sees of a face, framed as in its authors' program: the smoothed box, padded by 40 %.

    `boxes` are (n, 4), one for each of `frames`. A slice gives (k, 3, 224, 224) uint8, BGR, made when it is asked for.
    """

    def __init__(self, frames: Frames, boxes: np.ndarray):
        self.frames = frames
        self.half = running_median((boxes[:, 2:] - boxes[:, :2]).max(axis=1) / 2)
        self.centres = np.stack([running_median((boxes[:, k] + boxes[:, k + 2]) / 2) for k in (0, 1)], axis=1)

    def __len__(self) -> int:
        return len(self.half)

    def __getitem__(self, part: slice) -> Tensor:
        indices = list(range(*part.indices(len(self))))
        views = torch.empty((len(indices), 3, SIDE, SIDE), dtype=torch.uint8)
        for k, (i, frame) in enumerate(zip(indices, as_uint8(self.frames[indices]).cpu().numpy(), strict=True)):
            scale = SIDE / (2 * self.half[i] * (1 + PADDING))
            # The middle of the view lies lower than that of the box, so that the chin is in it.
            middle = self.centres[i] + [0, PADDING * self.half[i]]
            matrix = np.column_stack([np.eye(2) * scale, (SIDE - 1) / 2 - scale * middle])
            view = cv2.warpAffine(frame, matrix, (SIDE, SIDE), borderValue=(OUTSIDE,) * 3)
            views[k] = torch.from_numpy(view[..., ::-1].copy()).permute(2, 0, 1)
        return views


def running_median(values: np.ndarray) -> np.ndarray:
    """(n,) medians over `MEDIAN` neighbours; the values are mirrored at the ends, so that none counts for more."""
    padded = np.pad(values, MEDIAN // 2, mode="reflect")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, MEDIAN), axis=1)


def sync_score(net: SyncNetV2, views: Tensor | MouthViews, samples: np.ndarray | Tensor) -> SyncScore:
    """The score of a clip at 25 frames/s, by SyncNet v2, as the published program measures it.

    `views` are (n, 3, 224, 224) uint8, those of a batch at a time. `samples` (m,) at 16 kHz, int16 or float in [-1, 1],
    begin with the first view.
    """
    return sync_scores(net, views, [samples])[0]


def sync_scores(net: SyncNetV2, views: Tensor | MouthViews, sounds: Sequence[np.ndarray | Tensor]) -> list[SyncScore]:
    """`sync_score` with each of several sounds, for which the lips are looked at once; nan where one is too short."""
    counts = [min(len(views), len(samples) // SAMPLES_PER_FRAME) - LIP_FRAMES for samples in sounds]
    if counts[0] < 1:
        raise InputError(f"the clip has {counts[0] + LIP_FRAMES} frames with sound: SyncNet v2 needs {LIP_FRAMES + 1}")
    weight = next(net.parameters())
    lips, scores = [], []
    with torch.inference_mode():
        for indices in batches(max(counts), BATCH):
            part = views[indices[0] : indices[-1] + LIP_FRAMES]
            windows = torch.stack([part[k : k + LIP_FRAMES].transpose(0, 1) for k in range(len(indices))])
            lips.append(net.lips(windows.to(weight)).cpu())
        for samples, count in zip(sounds, counts, strict=True):
            if count < 1:
                scores.append(SyncScore(0, math.nan, math.nan))
                continue
            sound = mfcc_windows(mfcc(samples))[:count]
            audio = [net.audio(part.to(weight)).cpu() for part in sound.split(BATCH)]
            scores.append(offset_and_confidence(sync_distances(torch.cat(lips)[:count], torch.cat(audio))))
    return scores


def syncnet_v2(
    net: SyncNetV2, frames: Frames, boxes: np.ndarray, wave: Tensor, fps: float, source_wave: Tensor | None = None
) -> dict[str, MetricValue | str]:
    """The metrics of `sync_metrics`, of whole pictures at `fps`.

    `boxes` (n, 4) are those of the face, in frame pixels; `wave` (samples,) at 16 kHz begins with the first frame, as
    does the sound of the source video.
    """
    frames = at_25(frames, fps)
    views = MouthViews(frames, boxes[frames.index_map])
    return sync_metrics(sync_scores(net, views, [sound for sound in (wave, source_wave) if sound is not None]))


def sync_metrics(scores: Sequence[Sequence[float]]) -> dict[str, MetricValue | str]:
    """The metrics "sync_c" (LSE-C), "sync_d" (LSE-D) and "sync_offset" (Chung and Zisserman 2016, Prajwal et al. 2020,
    arXiv 2008.10010), and "leak_c", LSE-C with the source's sound, out of scores with the own sound and with that."""
    (offset, confidence, distance), *leak = scores
    values = {"sync_c": confidence, "sync_d": distance, "sync_offset": float(int(offset))}
    values |= {"leak_c": leak[0][1]} if leak and not math.isnan(leak[0][1]) else {}
    return {"leak_c": NO_SOURCE} | {name: MetricValue(value) for name, value in values.items()}


def at_25(pictures: Frames, fps: float) -> FrameView:
    """Pictures at `fps` as SyncNet sees them, at 25 per second: some are dropped or repeated."""
    if not 0 < fps < math.inf:
        raise InputError(f"fps is {fps}: give the frames per second of the crops")
    count = round(len(pictures) * VIDEO_FPS / fps)
    return FrameView(pictures, [min(int((i + 0.5) * fps / VIDEO_FPS), len(pictures) - 1) for i in range(count)])


@dataclass(frozen=True)
class SyncScorer:
    """A frozen StableSyncNet and how clips are shown to it."""

    net: StableSyncNet
    side: int = PUBLISHED_SIDE  # pixels, of the crop whose lower half the net sees; one of latents sees all of it

    def __post_init__(self):
        self.net.eval().requires_grad_(False)

    @property
    def frames(self) -> int:
        """How many it judges at once."""
        return self.net.config.frames

    @property
    def sees_pixels(self) -> bool:
        return self.net.config.visual.in_channels == self.frames * 3

    def embed_video(self, clips: Tensor) -> Tensor:
        """Embeddings (b, d) of clips of `frames`: pixels or latents, as `sees_pixels` says; gradients flow back."""
        if clips.shape[2] != self.frames:
            raise InputError(f"SyncNet got clips of {clips.shape[2]} frames: it takes {self.frames}")
        frames = rearrange(clips.float(), "b c f h w -> b (f c) h w")
        if self.sees_pixels:
            if frames.shape[-2:] != (self.side, self.side):
                frames = F.interpolate(frames, (self.side, self.side), mode="bicubic", align_corners=False)
            frames = frames[..., self.side // 2 :, :]
        return self.net.visual_encoder(frames.to(self.weight.dtype))

    def embed_audio(self, mel: Tensor) -> Tensor:
        """Embeddings (b, d) of `mel_window` of `frames`: (b, 1, 80, 52) for 16 of them."""
        return self.net.audio_encoder(mel.to(self.weight.dtype))

    @property
    def weight(self) -> Tensor:
        """One of the net's, for its device and dtype."""
        return next(self.net.parameters())


def load_syncnet(path: str | Path) -> tuple[StableSyncNet, int]:
    """The StableSyncNet in a file, frozen, float32, on the CPU, and the side in pixels of the crops that it judges.

    The shape of the net, its number of frames and the side are those that `SyncNetTask.save` put beside the weights;
    for files without them, such as the published ones, shape and frames are read off the weights and the side is 256.
    """
    state, about = read_checkpoint(path)
    try:
        config, side = None, json.loads(about.get("resolution", str(PUBLISHED_SIDE)))
        if not isinstance(side, int) or not 64 <= side <= MOST_SIDE:
            raise ValueError(f"its resolution is {side!r}, and has to be 64 to {MOST_SIDE}")
        if "tables" in about:
            tables, frames = json.loads(about["tables"]), json.loads(about.get("frames", str(SYNCNET_FRAMES)))
            encoders = {kind: EncoderConfig.from_table(**tables[kind]) for kind in ("visual", "audio")}
            config = SyncNetConfig(**encoders, frames=frames)
            if not isinstance(frames, int) or config.visual.in_channels not in (3 * frames, 4 * frames):
                raise ValueError(f"its {config.visual.in_channels} channels are not those of {frames!r} frames")
        net = StableSyncNet.from_state_dict(state, config=config, dtype=torch.float32)
    except UNREADABLE as error:
        raise InputError(f"{path} looks like {recognise(state)} and does not load as a SyncNet: {error}") from error
    return net.requires_grad_(False), side


def load_stable_syncnet(folder: str | Path, file: str | Path | None = None) -> tuple[SyncScorer, nn.Module | None]:
    """The SyncNet in a checkpoints folder and, if it sees latents, the VAE that makes them. On the CPU, float32.

    `file` is a SyncNet in place of the folder's; a VAE beside it is taken before the folder's.
    """
    paths = find_checkpoints(folder)
    beside = paths if file is None else find_checkpoints(Path(file).parent)
    path, vae = file or paths.syncnet, beside.vae or paths.vae
    if path is None:
        raise FileError(
            f"{folder} lacks stable_syncnet: fetch it with `python -m latentsync download --checkpoints {folder} "
            "--only syncnet`, in ComfyUI with Download LatentSync Models and syncnet on"
        )
    syncnet = SyncScorer(*load_syncnet(path))
    if syncnet.sees_pixels:
        return syncnet, None
    if vae is None:
        raise FileError(
            f"{path} judges latents and {folder} lacks the VAE: fetch it with `python -m latentsync download "
            f"--checkpoints {folder} --only vae`, in ComfyUI with Download LatentSync Models"
        )
    return syncnet, load_vae(vae)


@torch.no_grad()
def video_embeddings(syncnet: SyncScorer, vae: nn.Module | None, crops: Frames, starts: Sequence[int]) -> Tensor:
    """(len(starts), d) of the `syncnet.frames` crops from each of `starts` on; each crop is encoded once."""
    device, found, seen = syncnet.weight.device, [], {}
    for start in starts:
        numbers = range(start, start + syncnet.frames)
        seen = {i: picture for i, picture in seen.items() if i in numbers}
        fresh = [i for i in numbers if i not in seen]
        clip = rearrange(for_net(crops[fresh]), "f c h w -> 1 c f h w").to(device)
        clip = clip if syncnet.sees_pixels else encode_clips(vae, clip)
        seen |= zip(fresh, clip[0].unbind(1), strict=True)
        found.append(syncnet.embed_video(torch.stack([seen[i] for i in numbers], dim=1)[None]))
    return torch.cat(found)


@torch.no_grad()
def audio_embeddings(syncnet: SyncScorer, wave: Tensor, frames: int, starts: Sequence[int]) -> Tensor:
    """(len(starts), d) of the 16 kHz sound from each of `starts` on, of a clip of `frames`."""
    device = syncnet.weight.device
    mel = syncnet_mel(F.pad(wave, (0, max(0, math.ceil(frames / VIDEO_FPS * SAMPLE_RATE) - len(wave)))))
    windows = torch.stack([mel_window(mel, start, frames=syncnet.frames) for start in starts])
    return torch.cat([syncnet.embed_audio(windows[numbers].to(device)) for numbers in batches(len(starts), 16)])


@dataclass(frozen=True, eq=False)
class SyncCurve:
    """How well lips and sound fit when shifted against each other."""

    offsets: np.ndarray  # (k,) frames of 1/25 s; positive: the mouth is that late, the sound would have to come later
    cosines: np.ndarray  # (k,) mean over the clip, 0 (do not belong together) to 1; nan where it is too short to tell
    over_time: np.ndarray  # (windows,) cosine of sound and lips as they are, for windows of `frames`, 4 apart
    frames: int = SYNCNET_FRAMES  # what SyncNet judges at once

    @property
    def middles(self) -> np.ndarray:
        """(windows,) seconds: the middle of each window of `over_time`."""
        return (np.arange(len(self.over_time)) * STRIDE + self.frames / 2) / VIDEO_FPS

    @property
    def confidence(self) -> float:
        """Mean cosine of lips and sound as they are."""
        return float(self.cosines[self.offsets == 0][0])

    @property
    def offset(self) -> int:
        """Frames of 1/25 s by which the mouth is late: where the cosine is highest."""
        return int(self.offsets[np.nanargmax(self.cosines)])

    @property
    def margin(self) -> float:
        """How much the best offset stands out: its cosine less the median over the offsets."""
        return float(np.nanmax(self.cosines) - np.nanmedian(self.cosines))


def sync_curve(
    syncnet: SyncScorer, vae: nn.Module | None, crops: Frames, wave: Tensor, fps: float = VIDEO_FPS
) -> SyncCurve:
    """How well aligned crops at `fps` and their sound `wave` (samples,) at 16 kHz fit at every offset.

    Crops are read 16 (`syncnet.frames`) at a time. Sound that ends before the pictures goes on in silence.
    """
    crops = at_25(crops, fps)
    starts = _starts(syncnet, crops)
    return _curve(syncnet, video_embeddings(syncnet, vae, crops, starts), starts, len(crops), wave)


def _starts(syncnet: SyncScorer, crops: Frames) -> range:
    """Of the windows that are judged."""
    if len(crops) < syncnet.frames:
        raise InputError(
            f"the clip has {len(crops)} frames at {VIDEO_FPS} frames per second: SyncNet judges {syncnet.frames} at "
            "once, give a longer one"
        )
    return range(0, len(crops) - syncnet.frames + 1, STRIDE)


def _curve(syncnet: SyncScorer, video: Tensor, starts: range, frames: int, wave: Tensor) -> SyncCurve:
    """Windows that are embedded already against the sound."""
    places, offsets = range(frames - syncnet.frames + 1), np.arange(-FARTHEST, FARTHEST + 1)
    audio = audio_embeddings(syncnet, wave, frames, places)
    place = np.array(starts)[:, None] - offsets  # where the sound of each window and offset begins
    cosines = np.take_along_axis((video @ audio.T).cpu().numpy(), place.clip(0, len(places) - 1), axis=1)
    known = (place >= 0) & (place < len(places))  # inside the clip
    count = known.sum(axis=0)
    means = np.where(count, np.where(known, cosines, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
    return SyncCurve(offsets, means, cosines[:, FARTHEST], syncnet.frames)


def stable_syncnet(
    syncnet: SyncScorer,
    vae: nn.Module | None,
    crops: Frames,
    wave: Tensor,
    fps: float,
    source_wave: Tensor | None = None,
) -> dict[str, MetricValue | str]:
    """The metrics "stable_sync", 0..1, with a curve over the windows, and "stable_offset"; see `SyncCurve`.

    "stable_leak" is the same as "stable_sync" with the sound of the source video.
    """
    crops = at_25(crops, fps)
    starts = _starts(syncnet, crops)
    video = video_embeddings(syncnet, vae, crops, starts)
    curve = _curve(syncnet, video, starts, len(crops), wave)
    confidence = MetricValue(curve.confidence, curve.over_time.astype(np.float64), curve.middles)
    values = {"stable_sync": confidence, "stable_offset": MetricValue(float(curve.offset)), "stable_leak": NO_SOURCE}
    if source_wave is not None:
        values["stable_leak"] = MetricValue(_curve(syncnet, video, starts, len(crops), source_wave).confidence)
    return values
