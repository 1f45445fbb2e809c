"""Training of StableSyncNet: frames and sound of one place against those of two (LatentSync, arXiv 2412.09262, 3.3)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import default_collate

from ..audio.syncnet import N_MELS, mel_columns
from ..errors import InputError
from ..evaluate.sync_score import SyncScorer
from ..frames import batches
from ..models.load import load_vae
from ..models.state_dict import read_checkpoint
from ..nets.layers import MadeOfRecomputed
from ..nets.loading import check_state_dict
from ..nets.syncnet import EncoderConfig, StableSyncNet, SyncNetConfig
from ..progress import Progress
from ..sampling.sample import LATENT_SCALE
from .config import DataConfig, SyncNetTraining, build, plain
from .dataset import SyncNetClips, pass_order
from .files import find_file
from .init_weights import frozen_dtype, seeded, write_weights
from .losses import sync_loss
from .task import Samples, Task

COARSE = 8, 13  # bands and times in which the sound is told
WATCHED = 300  # steps whose mean loss tells whether anything was learned
TEMPERATURE = 0.1  # of cosines that are told apart from each other
ACCURACY_BATCH = 16
ACCURACY_SEED = 42  # that of the published script
NEAR = 0.005  # the loss is no different from that of a net that always says 0.5


class SyncNetTask(Task):
    """StableSyncNet, its clips and its loss. Samples that are not given are made of the clips in `config`."""

    def __init__(self, config: SyncNetTraining, data: Samples | None = None, held_out: Samples | None = None):
        self.config = config
        self.vae = None
        if config.space == "latent":
            self.vae = load_vae(find_file(config.vae, config.data.resolution))
            nn.Module.to(self.vae, dtype=frozen_dtype(config))  # diffusers' own `to` logs about casts
            self.frozen_nets = [self.vae]
        self.net = start_syncnet(config, 3 if self.vae is None else self.vae.config.latent_channels)
        self.data, self.held_out = data, held_out
        if data is None:
            self.data = SyncNetClips(config.data, self.vae, config.run.seed)
        if held_out is None and config.validation_clips is not None:
            others = replace(config.data, clips=config.validation_clips)
            self.held_out = SyncNetClips(others, self.vae, config.run.seed)
        self.recent: list[tuple[int, float]] = []  # (step, loss) since the first line of the log or the last warning

    def loss(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss, and the share of samples whose cosine is on the right side of 0.5."""
        vision, audio, *told = net(batch["frames"], batch["mel"])
        right = ((vision * audio).sum(dim=1) > 0.5) == (batch["target"] > 0.5)
        parts = {"sync": sync_loss(vision, audio, batch["target"])}
        if told:
            parts["guide"] = guide_loss(*told, batch["mel"], batch["target"])
        if self.config.contrast:
            parts["contrast"] = contrast_loss(vision, audio, batch["target"])
        weights = {"sync": 1.0, "guide": self.config.guide, "contrast": self.config.contrast}
        loss = sum(weights[name] * part for name, part in parts.items())
        metrics = {"loss": loss, "accuracy": right.float().mean()}
        return metrics | {name: part.detach() for name, part in parts.items()} if len(parts) > 1 else metrics

    def save(self, state_dict: Mapping[str, Tensor], folder: Path, step: int) -> list[Path]:
        """`stable_syncnet.pt` and `.safetensors`, with what `load_syncnet` needs to know beside the weights."""
        inner = "syncnet." if self.config.guide else ""
        kept = {name.removeprefix(inner): tensor for name, tensor in state_dict.items() if name.startswith(inner)}
        # Of both encoders what `EncoderConfig.from_table` takes.
        inputs = {"visual": kept["visual_encoder.conv_in.weight"].shape[1], "audio": 1}
        tables = {kind: {"in_channels": inputs[kind]} | plain(t) for kind, t in asdict(self.config.net).items()}
        data = self.config.data
        about = {"global_step": step, "resolution": data.resolution, "frames": data.frames, "tables": tables}
        return write_weights(folder / "stable_syncnet", kept, about)

    def validate(self, net: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Loss and accuracy over the first `validation_samples` held-out samples, half of them in sync."""
        if self.held_out is None:
            return {}
        count, sums = self.config.validation_samples, {"loss": 0.0, "accuracy": 0.0}
        for numbers in batches(count, self.config.run.batch_size):
            metrics = self.loss(net, _batch(self.held_out, numbers, net))
            sums["loss"] += float(metrics.get("sync", metrics["loss"])) * len(numbers)
            sums["accuracy"] += float(metrics["accuracy"]) * len(numbers)
        return {name: total / count for name, total in sums.items()}

    def warning(self, metrics: Mapping[str, float], step: int) -> str | None:
        """Says so when the loss has been at ln 2, that of a net that always says 0.5, for some hundred steps."""
        if step <= self.config.optimizer.warmup_steps:
            return None
        self.recent.append((step, metrics.get("sync", metrics["loss"])))
        if step - self.recent[0][0] < WATCHED:
            return None
        inside = [loss for at, loss in self.recent if at > step - WATCHED]
        mean = sum(inside) / len(inside)
        if abs(mean - math.log(2)) > NEAR:
            self.recent = self.recent[-len(inside) :]
            return None
        self.recent = []
        return (
            f"the loss has been {mean:.3f} for {WATCHED} steps, which is ln 2: the net has learned nothing yet. It "
            "often sits there for thousands of steps; larger batches help most (run.batch_size, run.accumulate; "
            "published: 256 to 1024). If it stays, check that the clips' sound is in sync with their pictures and that "
            "the mouth is in the lower half of the crops"
        )


def _batch(samples: Samples, numbers: Sequence[int], net: nn.Module) -> dict[str, Tensor]:
    """Samples as a batch on the device of `net`."""
    device = next(net.parameters()).device
    return {name: x.to(device) for name, x in default_collate([samples[n] for n in numbers]).items()}


class GuidedSyncNet(MadeOfRecomputed):
    """A SyncNet, and one linear layer that tells from either embedding what the sound is like.

    One for both, so that they say it in the same way, which is what their cosine wants. Only `syncnet` is saved.
    """

    def __init__(self, syncnet: StableSyncNet, length: int):
        super().__init__()
        self.syncnet = syncnet
        self.tell = nn.Linear(length, COARSE[0] * COARSE[1])
        self.scale = length**0.5  # of embeddings of length 1, so that their numbers are about 1

    def forward(self, frames: Tensor, mel: Tensor) -> tuple[Tensor, ...]:
        """Both embeddings (b, d), and what is told from each (b, 104)."""
        vision, audio = self.syncnet(frames, mel)
        return vision, audio, self.tell(self.scale * vision), self.tell(self.scale * audio)


def guide_loss(seen: Tensor, heard: Tensor, mel: Tensor, target: Tensor) -> Tensor:
    """Squared error of what the embeddings tell of the sound: of its mel in 8 bands and 13 times, of variance one.

    What frames of another place tell is not judged.
    """
    coarse = F.adaptive_avg_pool2d(mel, COARSE).flatten(1)
    coarse = (coarse - coarse.mean(dim=1, keepdim=True)) / coarse.std(dim=1, keepdim=True).clamp(min=1e-3)
    errors = (heard - coarse).square().mean(dim=1) + (seen - coarse).square().mean(dim=1) * target
    return errors.mean()


def contrast_loss(vision: Tensor, audio: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of finding the frames' own sound among those of the batch, and a sound's own frames.

    InfoNCE (arXiv 1807.03748), asked only for samples in sync (`target` 1). Embeddings are (b, d), of unit length.
    """
    cosines = vision.float() @ audio.float().T / TEMPERATURE
    right = -(cosines.log_softmax(dim=1).diagonal() + cosines.log_softmax(dim=0).diagonal()) / 2
    return (right * target).sum() / target.sum().clamp(min=1)


def start_syncnet(config: SyncNetTraining, channels: int) -> nn.Module:
    """The net to train: fresh, the same for the same seed, or with the start weights.

    Refuses tables that do not fit each other, or crops of this size, before any clip is read.
    """
    side, frames = config.data.resolution, config.data.frames
    visual = EncoderConfig.from_table(frames * channels, **asdict(config.net.visual))
    shape = SyncNetConfig(visual, EncoderConfig.from_table(1, **asdict(config.net.audio)), frames)
    size = (side // 2, side) if config.space == "pixel" else (side // LATENT_SCALE, side // LATENT_SCALE)
    with torch.device("meta"), torch.no_grad():  # costs nothing
        try:
            inputs = torch.empty(1, frames * channels, *size), torch.empty(1, 1, N_MELS, mel_columns(frames))
            length = StableSyncNet(shape)(*inputs)[0].shape[1]
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"net does not fit crops of {side} pixels in {config.space} space, {frames} at once: {error}"
            ) from error
    with seeded(config.run.seed):
        net = StableSyncNet(shape)
        guided = GuidedSyncNet(net, length) if config.guide else None
    if config.start is not None:
        state, _ = read_checkpoint(find_file(config.start, side))
        check_state_dict(net.state_dict(), state, f"SyncNet that starts from {config.start}")
        net.load_state_dict(state)
    for encoder in (net.visual_encoder, net.audio_encoder):
        encoder.norm_out.bias.data -= config.sparse
    return guided or net


@torch.no_grad()
def syncnet_accuracy(
    syncnet: SyncScorer, vae: nn.Module | None, clips: Path, samples: int, progress: Progress
) -> float:
    """Share of samples that a StableSyncNet judges rightly: in sync where the cosine is over 0.5.

    As in the published script (which takes 2048 samples), the sound of 16 frames goes with those frames or with 16
    others of the same clip. There each sample is either by chance, here exactly every other one. `clips` is a folder or
    list of aligned clips, as `prepare` makes them; the nets are on one device.
    """
    values = {"clips": str(clips), "resolution": syncnet.side, "frames": syncnet.frames, "workers": 0}
    data = SyncNetClips(build(DataConfig, values), vae, ACCURACY_SEED, progress)
    count = len(data.clips)
    # Clip by clip, so that each one's features are made once.
    order = sorted(range(samples), key=lambda n: pass_order(ACCURACY_SEED, n // count, count)[n % count])
    right = 0
    for numbers in batches(samples, ACCURACY_BATCH):
        progress("judging samples", numbers[0], samples)
        batch = _batch(data, [order[i] for i in numbers], syncnet.net)
        cosine = F.cosine_similarity(*syncnet.net(batch["frames"], batch["mel"]))
        right += int(((cosine > 0.5) == (batch["target"] > 0.5)).sum())
    progress("judging samples", samples, samples)
    return right / samples
