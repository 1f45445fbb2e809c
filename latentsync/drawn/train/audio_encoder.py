"""Training of a small Whisper-shaped audio encoder on synthetic speech, whose mouth is known.

Whisper learned its states by transcribing. These are learned by telling the mouth of each video frame from the states
in the frame's window, in the two ways in which the U-Net can read them: their mean, and attention followed by a gated
layer.
"""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from ...audio.syncnet import VIDEO_FPS
from ...audio.whisper import COLUMNS_PER_SECOND, SEGMENT_COLUMNS, SEGMENT_SECONDS, AudioFeatures, log_mel
from ...errors import InputError
from ...models.load import load_audio_encoder
from ...nets.layers import Attention, FeedForward, Parts
from ...nets.loading import check_state_dict
from ...train.config import DataConfig, OptimizerConfig, RunConfig, settings
from ...train.dataset import pass_order
from ...train.init_weights import seeded, write_weights
from ...train.task import Samples, Task
from ..heads.phones import MouthShape
from ..heads.speech import make_speech

N_MELS = 80
FRAMES = SEGMENT_SECONDS * VIDEO_FPS  # of one segment
SHAPES = len(MouthShape._fields)
HELD_OUT = 1_000_000  # seeds of speech from here on are for validation only
MEL_PER_DECADE = 0.25  # Whisper's scaling: (log10 + 4) / 4
DYNAMIC_RANGE = 8 * MEL_PER_DECADE  # below the loudest, as Whisper cuts it off


@settings
class AudioEncoderShape:
    """Whisper's `AudioEncoder`: width of a state, heads and layers. The states are the rows that the U-Net sees."""

    n_state: PositiveInt = 64
    n_head: PositiveInt = 4
    n_layer: PositiveInt = 4

    def __post_init__(self):
        if self.n_state % (2 * self.n_head):
            raise InputError(f"n_state is {self.n_state}: give a multiple of twice the {self.n_head} heads")


@settings
class AudioEncoderTraining:
    """Training of the audio encoder; no clips are needed."""

    fixed: ClassVar[tuple[str, ...]] = ("net",)

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    net: AudioEncoderShape = field(default_factory=AudioEncoderShape)
    speeches: PositiveInt = 300  # how many different synthetic speeches of up to 30 s there are
    variety: Annotated[float, Field(ge=0, le=1)] = 0.0  # how far voices differ from the clips'; see `voice.draw_voice`
    start: str | None = None  # an audio encoder to go on from, of shape `net`
    loudness: NonNegativeFloat = 2.0  # up to how many powers of ten the level is changed
    tilt: NonNegativeFloat = 1.0  # and the balance of high and low sounds
    validation_samples: PositiveInt = 8  # held-out speeches to judge


class SpeechSamples:
    """Samples for the audio encoder: synthetic speech of 4 to 30 s and its mouth, padded to 30 s.

    A sample is a dict of
        mel: (80, 3000) float32, Whisper's, zero after the end of the speech;
        shapes: (750, 6) float32, the mouth of every frame, columns as in `MouthShape`;
        inside: (750,) bool, the frames that there is speech for;
        seed: int64 scalar.

    Half of the speeches fill their 30 s. They stay in memory, 1 MB each. Sample n follows from `config.run.seed` and n.
    With `augment` level, balance and noise vary; `first` is the seed of the first speech.
    """

    def __init__(
        self, config: AudioEncoderTraining, augment: bool = True, first: int = 0, variety: float | None = None
    ):
        self.config, self.augment, self.first = config, augment, first
        self.variety = config.variety if variety is None else variety
        self._speeches: dict[int, tuple[Tensor, Tensor]] = {}

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.config.run.seed, n))
        epoch, place = divmod(n, self.config.speeches)
        order = pass_order(self.config.run.seed, epoch, self.config.speeches)
        mel, shapes = self._speech(self.first + int(order[place]))
        mel = self._augmented(mel, rng) if self.augment else mel
        return {
            "mel": F.pad(mel, (0, SEGMENT_COLUMNS - mel.shape[1])),
            "shapes": F.pad(shapes, (0, 0, 0, FRAMES - len(shapes))),
            "inside": torch.arange(FRAMES) < len(shapes),
            "seed": torch.tensor(rng.integers(2**63), dtype=torch.int64),
        }

    def _speech(self, seed: int) -> tuple[Tensor, Tensor]:
        if seed not in self._speeches:
            rng = np.random.default_rng((seed, 11))
            seconds = SEGMENT_SECONDS if rng.random() < 0.5 else int(rng.integers(4, SEGMENT_SECONDS))
            speech = make_speech(seed, seconds, VIDEO_FPS, self.variety)
            mel = log_mel(speech.waveform)[:, : seconds * COLUMNS_PER_SECOND]
            self._speeches[seed] = mel, torch.from_numpy(speech.shapes)
        return self._speeches[seed]

    def _augmented(self, mel: Tensor, rng: np.random.Generator) -> Tensor:
        """`mel` through another microphone in another room: level, balance and noise."""
        pitch = torch.linspace(-1, 1, N_MELS)[:, None]

        def balance() -> Tensor:
            bend = rng.uniform(-1, 1) * pitch + rng.uniform(-1, 1) * (pitch.square() - 1 / 3)
            return (MEL_PER_DECADE * self.config.tilt * bend).float()

        level = -MEL_PER_DECADE * self.config.loudness * rng.random()
        noise = mel.max() - MEL_PER_DECADE * rng.uniform(2.5, 8) + balance()
        # Powers add up; Whisper's numbers are a quarter of their decimal logarithms.
        scale = np.log(10) / MEL_PER_DECADE
        mel = torch.logaddexp((mel + balance()) * scale, noise.expand_as(mel) * scale) / scale
        return mel.clamp(min=mel.max() - DYNAMIC_RANGE) + level


class Listener(nn.Module):
    """An audio encoder, and two heads that tell the mouth from its states; only the encoder is kept."""

    def __init__(self, shape: AudioEncoderShape):
        super().__init__()
        from whisper.model import AudioEncoder

        width = shape.n_state
        self.encoder = AudioEncoder(N_MELS, SEGMENT_COLUMNS // 2, width, shape.n_head, shape.n_layer)
        parts = Parts(nn, F.scaled_dot_product_attention, n_head=8, groups=1)
        self.query = nn.Parameter(0.5 * torch.randn(1, 1, width))
        self.attention = Attention(width, width, parts)
        self.norm = nn.LayerNorm(width)
        self.gated = FeedForward(width, parts)
        self.by_attention = nn.Linear(width, SHAPES)
        self.by_mean = nn.Linear((shape.n_layer + 1) * width, SHAPES)

    def forward(self, mel: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """The mouths (k, 6) of the frames where `inside` (b, 750) is set, read from the mean and by attention.

        `mel` is (b, 80, 3000).
        """
        rows = [
            AudioFeatures(states, VIDEO_FPS, FRAMES)[torch.nonzero(chosen)[:, 0].tolist()]
            for states, chosen in zip(self.states(mel), inside, strict=True)
        ]
        windows = torch.cat(rows)  # (k, 10 * (layers + 1), width)
        means = windows.unflatten(1, (-1, len(self.encoder.blocks) + 1)).mean(dim=1).flatten(1)
        hidden = self.query.expand(len(windows), -1, -1)
        hidden = hidden + self.attention(hidden, windows)
        hidden = hidden + self.gated(self.norm(hidden))
        return self.by_mean(means), self.by_attention(hidden[:, 0])

    def states(self, mel: Tensor) -> Tensor:
        """All states, as `audio.hidden_states` has them but with gradients: (b, 1500, layers + 1, width)."""
        encoder = self.encoder
        hidden = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).transpose(1, 2) + encoder.positional_embedding
        found = [hidden]
        for block in encoder.blocks:
            found.append(block(found[-1]))
        return torch.stack(found, dim=2)


class AudioEncoderTask(Task):
    """The audio encoder, its speeches and its loss."""

    def __init__(self, config: AudioEncoderTraining, data: Samples | None = None):
        self.config = config
        with seeded(config.run.seed):
            self.net = Listener(config.net)
        if config.start is not None:
            state = load_audio_encoder(config.start).state_dict()
            check_state_dict(self.net.encoder.state_dict(), state, f"audio encoder that starts from {config.start}")
            self.net.encoder.load_state_dict(state)
        # They have no part in the states (`audio.hidden_states`), so no gradient reaches them.
        self.net.encoder.ln_post.requires_grad_(False)
        self.data = SpeechSamples(config) if data is None else data

    def loss(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Squared errors of the mouths that are read in either way."""
        truth = batch["shapes"][batch["inside"]]
        by_mean, by_attention = (F.mse_loss(mouth.float(), truth) for mouth in net(batch["mel"], batch["inside"]))
        return {"loss": by_mean + by_attention, "by_mean": by_mean.detach(), "by_attention": by_attention.detach()}

    def save(self, state_dict: Mapping[str, Tensor], folder: Path, step: int) -> list[Path]:
        """The encoder as OpenAI's files have it: `whisper/tiny.pt` and `.safetensors`, with its dimensions."""
        encoder = {name: tensor for name, tensor in state_dict.items() if name.startswith("encoder.")}
        dims = {"n_mels": N_MELS, "n_audio_ctx": SEGMENT_COLUMNS // 2}
        dims |= {name.replace("n_", "n_audio_"): value for name, value in vars(self.config.net).items()}
        about = {"dims": dims, "global_step": step}
        return write_weights(folder / "whisper" / "tiny", encoder, about, "model_state_dict")

    @torch.no_grad()
    def validate(self, net: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Correlation of the mouth's opening and width with the truth on held-out speeches, for both ways.

        The voices are those of the clips and, with variety, half of the speeches are in others.
        """
        device = next(net.parameters()).device
        figures: dict[str, list[float]] = {}
        for n in range(self.config.validation_samples):
            samples = SpeechSamples(self.config, False, HELD_OUT, variety=self.config.variety * (n % 2))
            batch = {name: tensor[None].to(device) for name, tensor in samples[n].items()}
            truth = batch["shapes"][batch["inside"]]
            for way, mouth in zip(("mean", "attention"), net(batch["mel"], batch["inside"]), strict=True):
                for column, name in enumerate(MouthShape._fields[:2]):
                    pair = torch.stack([mouth[:, column], truth[:, column]])
                    figures.setdefault(f"{name}_by_{way}", []).append(float(torch.corrcoef(pair)[0, 1]))
        return {name: sum(values) / len(values) for name, values in figures.items()}
