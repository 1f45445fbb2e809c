"""Audio features: what the U-Net hears of each video frame.

Every constant of the time base is derived from the one before it (LatentSync, arXiv 2412.09262, and Whisper).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from ..threads import check

SAMPLE_RATE = 16_000  # Hz, mono
HOP_LENGTH = 160  # samples per column of Whisper's log-mel spectrogram
N_MELS = 80
COLUMNS_PER_SECOND = SAMPLE_RATE // HOP_LENGTH  # 100
COLUMNS_PER_STATE = 2  # the encoder's second convolution has stride 2
STATES_PER_SECOND = COLUMNS_PER_SECOND // COLUMNS_PER_STATE  # 50
SEGMENT_SECONDS = 30
SEGMENT_COLUMNS = SEGMENT_SECONDS * COLUMNS_PER_SECOND  # 3000: all that Whisper hears at once
SEGMENT_OVERLAP = SEGMENT_COLUMNS // 6  # 5 s heard by two neighbours, whose states are cross-faded
STATES_BEFORE, STATES_AFTER = 4, 5  # neighbours of the centre state in a frame's window


@dataclass(frozen=True)
class AudioFeatures:
    """Whisper states of a whole clip, indexed by video frame."""

    states: torch.Tensor  # (t50, layers + 1, width) float32 on the CPU, 50 per second
    fps: float  # of the video
    frames: int  # of the video that the clip covers: round(duration * fps)

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        """Windows of the video frames `indices`: (n, 10 * (layers + 1), width), state-major.

        Frames after the end of the clip hear its last states, as the published program's do.
        """
        centres = torch.tensor([int(i * STATES_PER_SECOND / self.fps) for i in indices], dtype=torch.long)
        offsets = torch.arange(-STATES_BEFORE, STATES_AFTER + 1)
        rows = (centres[:, None] + offsets).clamp_(0, len(self.states) - 1)
        return self.states[rows].flatten(1, 2)


def to_mono(waveform: torch.Tensor | np.ndarray) -> torch.Tensor:
    """(channels, samples) or (samples,), integers or floats, as float32 (samples,) in about [-1, 1]."""
    wave = torch.as_tensor(waveform)
    if wave.ndim not in (1, 2) or wave.numel() == 0:
        raise InputError(f"audio has shape {tuple(wave.shape)}: give (channels, samples) with at least one sample")
    if wave.dtype == torch.uint8:  # unsigned PCM rests at 128
        wave = (wave.to(torch.float32) - 128.0) / 128.0
    elif not wave.dtype.is_floating_point:
        wave = wave.to(torch.float32) / -float(torch.iinfo(wave.dtype).min)
    wave = wave.to(torch.float32)
    wave = wave.mean(dim=0) if wave.ndim == 2 else wave
    if not torch.isfinite(wave).all():
        raise InputError("audio holds samples that are NaN or infinite: export it again as 16-bit PCM")
    return wave


def resample(wave: torch.Tensor, rate: int) -> torch.Tensor:
    """A mono signal (samples,) at `rate` Hz as round(samples * 16000 / rate) samples at 16 kHz."""
    if rate <= 0 or rate != int(rate):
        raise InputError(f"audio sample rate is {rate}: give a positive whole number of Hz")
    if rate == SAMPLE_RATE:
        return wave
    from scipy.signal import resample_poly

    common = math.gcd(SAMPLE_RATE, int(rate))
    out = resample_poly(wave.numpy(), SAMPLE_RATE // common, int(rate) // common)
    length = max(1, round(len(wave) * SAMPLE_RATE / rate))
    return torch.from_numpy(np.ascontiguousarray(out[:length], dtype=np.float32))


def log_mel(wave: torch.Tensor) -> torch.Tensor:
    """Whisper's log-mel spectrogram of the whole clip at once: (80, samples // 160).

    The clip is not cut first, because the spectrogram's floor is 8 below the maximum of what it is given.
    """
    try:
        from whisper.audio import log_mel_spectrogram
    except ImportError as error:
        raise InputError("the audio encoder needs the whisper package: pip install openai-whisper") from error
    columns = len(wave) // HOP_LENGTH
    if columns < COLUMNS_PER_STATE:
        short = 1000 * len(wave) / SAMPLE_RATE
        raise InputError(f"audio is {short:.0f} ms long: at least {COLUMNS_PER_STATE * 10} ms are needed")
    return log_mel_spectrogram(wave)[:, :columns]


def hidden_states(encoder: nn.Module, mel: torch.Tensor) -> torch.Tensor:
    """All hidden states of one segment, mel (80, 3000): (1500, layers + 1, width), before the last layer norm.

    The input of the first block, then the outputs of the blocks. They are read by hooks, because openai-whisper's
    encoder returns only the normalised last one.
    """
    found: list[torch.Tensor] = []
    hooks = [encoder.blocks[0].register_forward_pre_hook(lambda _, args: found.append(args[0]))]
    hooks += [block.register_forward_hook(lambda _, __, out: found.append(out)) for block in encoder.blocks]
    weight = encoder.conv1.weight
    try:
        with torch.no_grad():
            encoder(mel[None].to(weight.device, weight.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack([state[0] for state in found], dim=1).to("cpu", torch.float32)


def segment_starts(columns: int, hard_cut: bool) -> list[int]:
    """First mel column of each segment that Whisper hears; the last overlapping one ends with the clip."""
    if hard_cut or columns <= SEGMENT_COLUMNS:
        return list(range(0, columns, SEGMENT_COLUMNS))
    last = (columns - SEGMENT_COLUMNS + 1) // COLUMNS_PER_STATE * COLUMNS_PER_STATE
    return [*range(0, last, SEGMENT_COLUMNS - SEGMENT_OVERLAP), last]


def encode_mel(encoder: nn.Module, mel: torch.Tensor, hard_cut: bool = False) -> torch.Tensor:
    """Whisper states of a mel spectrogram (80, columns) of any length: (columns // 2, layers + 1, width) float32.

    Whisper hears 30 s at a time. With `hard_cut` (the published program) each stretch of 30 s is heard alone, and the
    states jump at every boundary. Otherwise segments share 5 s or more, over which their states are cross-faded.
    """
    count, states, done = mel.shape[-1] // COLUMNS_PER_STATE, None, 0
    for start in segment_starts(mel.shape[-1], hard_cut):
        check()
        piece = mel[:, start : start + SEGMENT_COLUMNS]
        kept = piece.shape[-1] // COLUMNS_PER_STATE
        if kept == 0:  # a hard cut can leave one lone column
            break
        padded = torch.nn.functional.pad(piece, (0, SEGMENT_COLUMNS - piece.shape[-1]))
        new = hidden_states(encoder, padded)[:kept]
        if states is None:
            states = new.new_zeros(count, *new.shape[1:])
        first = start // COLUMNS_PER_STATE
        if (shared := done - first) > 0:
            fade = ((torch.arange(shared) + 0.5) / shared)[:, None, None]
            new[:shared] = torch.lerp(states[first:done], new[:shared], fade)
        states[first : first + len(new)] = new[: count - first]
        done = first + len(new)
    return states


def encode_audio(
    encoder: nn.Module, waveform: torch.Tensor | np.ndarray, rate: int, fps: float, hard_cut: bool = False
) -> AudioFeatures:
    """Audio features of a clip, one window for each of its round(duration * fps) video frames.

    `encoder` is openai-whisper's `AudioEncoder`; see `to_mono` for `waveform` and `encode_mel` for `hard_cut`.
    """
    if not 0 < fps < math.inf:
        raise InputError(f"fps is {fps}: give a positive number")
    wave = resample(to_mono(waveform), rate)
    states = encode_mel(encoder, log_mel(wave), hard_cut)
    return AudioFeatures(states, float(fps), max(1, round(len(wave) / SAMPLE_RATE * fps)))
