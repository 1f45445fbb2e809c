"""ComfyUI's values at the border: whatever comes in as IMAGE and AUDIO, in the one form that the library takes."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..latentsync.audio.whisper import resample, to_mono
from ..latentsync.errors import InputError
from ..latentsync.files import replacing

logger = logging.getLogger(__name__)


def choice(name: str, value: str, options: Iterable[str]) -> str:
    """`value`, if it is one of `options`; the server checks no combo of a V3 node.

    Raises:
        ValueError: it is not; the sentence names the options.
    """
    options = list(options)
    if value not in options:
        raise InputError(f"{name} is {value!r}: choose one of {', '.join(map(str, options))}")
    return value


def pictures(image: Tensor) -> Tensor:
    """An IMAGE as (n, h, w, 3) float32 in [0, 1] on the CPU: a view where it is that already, never changed itself.

    Raises:
        ValueError: not connected, no frames, or another shape.
    """
    if not isinstance(image, Tensor):
        raise InputError(f"images is a {type(image).__name__}, not an IMAGE: connect the frames")
    if image.ndim == 3:
        image = image[None]
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or not image.numel():
        raise InputError(f"images has shape {tuple(image.shape)}: connect an IMAGE (frames, height, width, 3)")
    colour = image.expand(-1, -1, -1, 3) if image.shape[-1] == 1 else image[..., :3]
    return colour.detach().to("cpu", torch.float32)


def sound(audio: Mapping | None) -> tuple[Tensor, int]:
    """An AUDIO as (channels, samples) in its own dtype, and its samples per second.

    Raises:
        ValueError: not connected, or not an AUDIO.
    """
    if audio is None:
        raise InputError("there is no audio: connect an AUDIO with the words to speak")
    if not isinstance(audio, Mapping) or "waveform" not in audio or "sample_rate" not in audio:
        raise InputError(f"audio is a {type(audio).__name__}, not an AUDIO with waveform and sample_rate: connect one")
    wave, rate = torch.as_tensor(audio["waveform"]).detach().cpu(), audio["sample_rate"]
    if wave.ndim == 3:
        if len(wave) > 1:
            logger.warning("the audio is a batch of %d: taking the first", len(wave))
        wave = wave[0] if len(wave) else wave.new_zeros(0)
    wave = wave[None] if wave.ndim == 1 else wave
    if wave.ndim != 2 or not wave.numel():
        raise InputError(f"audio has shape {tuple(audio['waveform'].shape)}: connect an AUDIO that is not empty")
    if rate <= 0 or rate != int(rate):
        raise InputError(f"audio sample rate is {rate}: connect an AUDIO with a positive whole number of Hz")
    return wave, int(rate)


def heard(audio: Mapping | None) -> Tensor:
    """What the model hears of an AUDIO: (samples,) float32, mono, 16 kHz.

    Raises:
        ValueError: no audio, an empty one, or samples that are not finite.
    """
    wave, rate = sound(audio)
    return resample(to_mono(wave), rate)


def write_wav(audio: Mapping, path: Path) -> Path:
    """An AUDIO as a WAV file with all its channels at its rate; float samples as 32-bit float, others as they are.

    Raises:
        ValueError: no audio.
        OSError: it cannot be written.
    """
    from scipy.io import wavfile

    wave, rate = sound(audio)
    if wave.dtype not in (torch.uint8, torch.int16, torch.int32, torch.float32):
        wave = wave.to(torch.float32)
    with replacing(path) as part:
        wavfile.write(part, rate, wave.T.contiguous().numpy())
    return Path(path)


def concat_windows(windows: Iterable[Tensor], count: int) -> Tensor:
    """Windows of pictures (n, h, w, 3) as one tensor of `count` float32 pictures on the CPU.

    They go into their final place as they come: concatenating a list of them would hold everything twice.

    Raises:
        ValueError: another number of pictures.
    """
    whole, done = None, 0
    for window in windows:
        if whole is None:
            whole = torch.empty((count, *window.shape[1:]), dtype=torch.float32)
        if done + len(window) > count:
            raise InputError(f"there are more than the expected {count} frames: connect inputs of one clip")
        whole[done : done + len(window)] = window
        done += len(window)
    if whole is None or done != count:
        raise InputError(f"{done} frames came and {count} were expected: connect inputs of one clip")
    return whole
