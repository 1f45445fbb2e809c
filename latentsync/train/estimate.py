"""What is asked of the one-step estimate: lips that fit the sound, true pictures, true motion.

LatentSync, arXiv 2412.09262, sec. 3. Clips are (b, 3, f, h, w) in [-1, 1] and latents (b, c, f, h / 8, w / 8), all of
the whole crop: nothing is pasted into the estimate. Everything here is float32, also where frozen nets are not.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..nets.syncnet import StableSyncNet
from .latents import decode_clips
from .losses import lpips_loss, sync_loss
from .trepa import trepa_loss

COLOURS = 3


@dataclass(frozen=True)
class SyncJudge:
    """A frozen StableSyncNet and the way in which clips are shown to it.

    side: of the crop, in pixels, whose lower half the net was trained on; a net of latents sees them as they are.
    """

    net: StableSyncNet
    side: int = 256

    def __post_init__(self):
        self.net.eval().requires_grad_(False)

    @property
    def frames(self) -> int:
        """How many it judges at once."""
        return self.net.config.frames

    @property
    def sees_pixels(self) -> bool:
        return self.net.config.visual.in_channels == self.frames * COLOURS

    def vision(self, clips: Tensor) -> Tensor:
        """Embeddings (b, d) of clips of `frames`: pixels or latents, as `sees_pixels` says; gradients flow back."""
        if clips.shape[2] != self.frames:
            raise ValueError(f"SyncNet got clips of {clips.shape[2]} frames: it takes {self.frames}")
        frames = rearrange(clips.float(), "b c f h w -> b (f c) h w")
        if self.sees_pixels:
            if frames.shape[-2:] != (self.side, self.side):
                frames = F.interpolate(frames, (self.side, self.side), mode="bicubic", align_corners=False)
            frames = frames[..., self.side // 2 :, :]
        return self.net.visual_encoder(frames.to(self._dtype))

    def hearing(self, mel: Tensor) -> Tensor:
        """Embeddings (b, d) of `speech.mel_window` of `frames`: (b, 1, 80, 52) for 16 of them."""
        return self.net.audio_encoder(mel.to(self._dtype))

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.net.parameters()).dtype


@dataclass(frozen=True)
class Truth:
    """What the estimate is compared with; `pixels` is None for samples of latents, `mel` may be without a sync loss."""

    latents: Tensor
    pixels: Tensor | None = None
    mel: Tensor | None = None


@dataclass(frozen=True)
class Supervision:
    """The losses on the estimate that are wanted, by the frozen nets that they need; None: this one is not computed.

    Attributes:
        vae: for the nets that see pixels.
        judge: for `sync`, and for `trepa` where `motion_by_judge`.
        sync: whether the sound must fit.
        lpips: from `losses.load_lpips`.
        trepa: from `trepa.load_trepa`.
        motion_by_judge: TREPA by SyncNet's embeddings of the frames instead of VideoMAE's, for small models.
    """

    vae: nn.Module
    judge: SyncJudge | None = None
    sync: bool = False
    lpips: nn.Module | None = None
    trepa: nn.Module | None = None
    motion_by_judge: bool = False

    @property
    def is_empty(self) -> bool:
        return self.judge is None and self.lpips is None and self.trepa is None

    @property
    def needs_pixels(self) -> bool:
        """Whether the estimate must be decoded."""
        return self.lpips is not None or self.trepa is not None or (self.judge is not None and self.judge.sees_pixels)

    def losses(self, estimate: Tensor, truth: Truth) -> dict[str, Tensor]:
        """The wanted of "sync", "lpips" and "trepa", each the mean over the batch; gradients flow to `estimate`.

        Where the true pixels are wanted and the sample came as latents, their decoded pictures stand for them.
        """
        decoded = decode_clips(self.vae, estimate) if self.needs_pixels else None
        found = {}
        if self.judge is not None:
            seen = self.judge.vision(decoded if self.judge.sees_pixels else estimate)
        if self.sync:
            if truth.mel is None:
                raise ValueError(f"the sync loss got samples without mel: train on {self.judge.frames} frames")
            found["sync"] = sync_loss(seen, self.judge.hearing(truth.mel), 1.0)
        if self.motion_by_judge:
            with torch.no_grad():
                wanted = self.judge.vision(self._pixels(truth) if self.judge.sees_pixels else truth.latents)
            found["trepa"] = F.mse_loss(seen, wanted)
        if self.lpips is not None:
            found["lpips"] = lpips_loss(self.lpips, decoded, self._pixels(truth))
        if self.trepa is not None:
            found["trepa"] = trepa_loss(self.trepa, decoded, self._pixels(truth))
        return found

    @torch.no_grad()
    def _pixels(self, truth: Truth) -> Tensor:
        return decode_clips(self.vae, truth.latents) if truth.pixels is None else truth.pixels
