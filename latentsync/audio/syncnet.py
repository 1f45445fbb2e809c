"""What the two SyncNets hear: a mel spectrogram (StableSyncNet) and cepstra (SyncNet v2), both of 16 kHz mono sound.

Neither is Whisper's log-mel spectrogram, which `audio` has. Both are computed in float64 and given as float32.
"""

import math

import numpy as np
import torch

from ..errors import InputError
from .whisper import HOP_LENGTH, SAMPLE_RATE, to_mono

VIDEO_FPS = 25  # frames per second that both SyncNets were trained at
SAMPLES_PER_FRAME = SAMPLE_RATE // VIDEO_FPS  # 640, without a rest: sound and pictures are cut at the same times
SYNCNET_FRAMES = 16  # frames that most StableSyncNets see at once; each says its own number in its config
PRE_EMPHASIS = 0.97  # of both

# The mel spectrogram of StableSyncNet (LatentSync, arXiv 2412.09262), which is that of Wav2Lip (arXiv 2008.10010).
MEL_FFT, MEL_HOP = 800, 200  # samples
MEL_COLUMNS_PER_SECOND = SAMPLE_RATE // MEL_HOP  # 80
N_MELS, MEL_LOW, MEL_HIGH = 80, 55.0, 7600.0  # Hz
MIN_DB, REFERENCE_DB = -100.0, 20.0
MEL_MAX = 4.0

# The cepstra of SyncNet v2 (Chung and Zisserman, 2016): the defaults of the package python_speech_features.
MFCC_FFT, MFCC_FRAME = 512, SAMPLE_RATE // 40  # samples; a frame is 25 ms, and there is one every HOP_LENGTH samples
N_CEPSTRA, N_FILTERS, LIFTER = 13, 26, 22
MFCC_WINDOW = 20  # columns: 5 frames
MFCC_COLUMNS_PER_FRAME = SAMPLE_RATE // HOP_LENGTH // VIDEO_FPS  # 4


def syncnet_mel(waveform: torch.Tensor | np.ndarray) -> torch.Tensor:
    """StableSyncNet's mel spectrogram of a clip at 16 kHz: (80, 1 + samples // 200) float32 in [-4, 4].

    `waveform` is (samples,) or (channels, samples), see `to_mono`. Column k is centred on sample 200 k, and there
    are 80 a second.
    """
    from transformers.audio_utils import mel_filter_bank

    wave = torch.from_numpy(_pre_emphasised(to_mono(waveform)))
    window = torch.hann_window(MEL_FFT, dtype=torch.float64)
    spectrum = torch.stft(wave, MEL_FFT, MEL_HOP, window=window, pad_mode="constant", return_complex=True).abs()
    shape = MEL_FFT // 2 + 1, N_MELS, MEL_LOW, MEL_HIGH, SAMPLE_RATE
    mel = torch.from_numpy(mel_filter_bank(*shape, norm="slaney", mel_scale="slaney").T) @ spectrum
    decibels = 20 * torch.log10(mel.clamp(min=10 ** (MIN_DB / 20))) - REFERENCE_DB
    scaled = 2 * MEL_MAX * (decibels - MIN_DB) / -MIN_DB - MEL_MAX
    return scaled.clamp(-MEL_MAX, MEL_MAX).to(torch.float32)


def mel_columns(frames: int = SYNCNET_FRAMES) -> int:
    """Columns of `syncnet_mel` that StableSyncNet hears with so many frames: 52 with 16, 80 with 25."""
    return math.ceil(MEL_COLUMNS_PER_SECOND * frames / VIDEO_FPS)


def mel_window(mel: torch.Tensor, frame: int, fps: float = VIDEO_FPS, frames: int = SYNCNET_FRAMES) -> torch.Tensor:
    """The columns of `syncnet_mel` that belong to the `frames` from `frame` on: (1, 80, 52) for 16 of them.

    A clip of n frames at 25 fps, with all of its sound, has a window for every frame up to n - frames.
    """
    start, columns = int(MEL_COLUMNS_PER_SECOND * frame / fps), mel_columns(frames)
    if frame < 0 or start + columns > mel.shape[-1]:
        raise InputError(
            f"frame {frame} needs mel columns {start} to {start + columns - 1} and the clip has {mel.shape[-1]}: "
            f"choose a frame from 0 up that has {frames} frames of sound"
        )
    return mel[None, :, start : start + columns]


def mfcc(waveform: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Mel-frequency cepstral coefficients of a clip at 16 kHz, (13, n) float32; the first is the log of the energy.

    `waveform` is (samples,) or (channels, samples), see `to_mono`. Column k is of the 25 ms from sample 160 k on, and
    there are 100 a second. Samples become 16-bit integers first, cut off and not rounded, as the net was trained on
    those.
    """
    from scipy.fft import dct

    samples = (to_mono(waveform) * 32768).clamp(-32768, 32767).to(torch.int16)
    wave = _pre_emphasised(samples)
    columns = 1 + max(0, math.ceil((len(wave) - MFCC_FRAME) / HOP_LENGTH))
    wave = np.pad(wave, (0, (columns - 1) * HOP_LENGTH + MFCC_FRAME - len(wave)))
    frames = np.lib.stride_tricks.sliding_window_view(wave, MFCC_FRAME)[::HOP_LENGTH]
    power = np.abs(np.fft.rfft(frames, MFCC_FFT)) ** 2 / MFCC_FFT
    cepstra = dct(_log(power @ _mfcc_filters().T), norm="ortho")[:, :N_CEPSTRA]
    cepstra *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(N_CEPSTRA) / LIFTER)
    cepstra[:, 0] = _log(power.sum(axis=1))
    return torch.from_numpy(cepstra.T.astype(np.float32))


def mfcc_windows(cepstra: torch.Tensor) -> torch.Tensor:
    """What SyncNet v2 hears with each video frame (25 fps): `mfcc` (13, columns) to (n, 1, 13, 20), 4 columns apart.

    The sound of k frames has 4 k - 1 columns, and so k - 5 windows; window i belongs to frames i to i + 4.
    """
    if cepstra.ndim != 2 or cepstra.shape[1] < MFCC_WINDOW:
        raise InputError(
            f"cepstra have shape {tuple(cepstra.shape)}: give ({N_CEPSTRA}, columns) with at least {MFCC_WINDOW} "
            "columns, about 0.21 s of sound"
        )
    return cepstra.unfold(1, MFCC_WINDOW, MFCC_COLUMNS_PER_FRAME).transpose(0, 1)[:, None].contiguous()


def _pre_emphasised(wave: torch.Tensor) -> np.ndarray:
    """Every sample less 0.97 of the one before it, float64."""
    samples = wave.numpy().astype(np.float64)
    return np.append(samples[:1], samples[1:] - PRE_EMPHASIS * samples[:-1])


def _mfcc_filters() -> np.ndarray:
    """(26, 257) triangles of height 1, up to 8 kHz, whose corners are rounded down to whole FFT bins."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, top, N_FILTERS + 2) / 2595) - 1)
    corners = np.floor((MFCC_FFT + 1) * hertz / SAMPLE_RATE)[:, None]
    low, peak, high = corners[:-2], corners[1:-1], corners[2:]
    bins = np.arange(MFCC_FFT // 2 + 1)
    return np.maximum(0, np.minimum((bins - low) / (peak - low), (high - bins) / (high - peak)))


def _log(energy: np.ndarray) -> np.ndarray:
    return np.log(np.where(energy == 0, np.finfo(np.float64).eps, energy))
