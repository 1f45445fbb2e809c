"""The border with ComfyUI: widgets that several nodes share, and IMAGE and AUDIO in the form that the library takes."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..latentsync.audio.whisper import resample, to_mono
from ..latentsync.errors import InputError
from ..latentsync.settings import (
    QUALITIES,
    BlendSettings,
    EncodingSettings,
    Option,
    QualityOptions,
    RunSettings,
    Settings,
    TrackSettings,
    options,
)
from . import sockets

logger = logging.getLogger(__name__)

FACES = ["largest", "index", "nearest", "similar"]
CUSTOM = "custom"  # quality: as the widgets say
SAMPLING = ("steps", "guidance", "seed", "sampler", "window", "overlap")
# Of the nodes that do the whole run: all but steps, guidance, seed, face and quality.
SELDOM_TURNED = (
    "sampler", "window", "overlap", "index", "x", "y", "smoothing", "max_gap", "detect_every", "audio_longer",
    "audio_shorter", "mask_smooth", "match_colour", "crf", "deep_cache", "max_yaw", "min_face", "silence", "detail",
)  # fmt: skip
LIP_SYNC_ALIASES = ("lipsync", "lip sync", "talking head", "dubbing", "wav2lip", "latentsync wrapper")


def widgets(settings: type, *names: str, **more) -> list[io.Input]:
    """The widgets of options in the order of `names`: default, limits and text are those of the settings class."""
    table = {item.name: item for item in options(settings)}
    return [_widget(table[name], **more) for name in names]


def _widget(item: Option, **more) -> io.Input:
    about = {"id": item.name, "default": item.default, "tooltip": f"{item.help[0].upper()}{item.help[1:]}."} | more
    if item.choices is not None:
        return io.Combo.Input(options=list(item.choices), **about)
    if item.kind is bool:
        return io.Boolean.Input(**about)
    low, high, step = item.widget or (item.low, item.high, item.slider and item.slider[2])
    if item.kind is int:
        # The editor may draw a new seed after each run; a new node keeps its seed where ComfyUI can be told so.
        fixed = getattr(getattr(io, "ControlAfterGenerate", None), "fixed", True)
        seed = {"control_after_generate": fixed} if item.name == "seed" else {}
        return io.Int.Input(min=low, max=high, **seed, **about)
    return io.Float.Input(min=float(low), max=float(high), step=step, **about)


def quality() -> io.Input:
    """The widget that stands for those of sampler, steps, guidance and DeepCache; `sampling_settings` reads it."""
    (item,) = options(QualityOptions)
    tooltip = f"{item.help[0].upper()}{item.help.partition(';')[0][1:]}. {CUSTOM.capitalize()}: as the widgets say."
    return io.Combo.Input("quality", options=[CUSTOM, *QUALITIES], default=CUSTOM, tooltip=tooltip, optional=True)


def sampling_settings(values: Mapping[str, Any]) -> Settings:
    """How windows are denoised, by the widgets of `Settings` and that of `quality`."""
    chosen = choice("quality", values.get("quality", CUSTOM), (CUSTOM, *QUALITIES))
    if chosen == CUSTOM:
        return from_widgets(Settings, values)
    kept = {item.name: values[item.name] for item in options(Settings) if item.name in values and not item.by_quality}
    return from_widgets(Settings, kept, **QUALITIES[chosen])


def from_widgets(settings: type, values: Mapping[str, Any], **more) -> Any:
    """A settings object of those values of widgets that are its options; `more` are its other fields."""
    return settings(**{item.name: values[item.name] for item in options(settings) if item.name in values}, **more)


def fps() -> io.Input:
    return io.Float.Input("fps", default=25.0, min=1.0, max=240.0, step=0.01)


def face() -> list[io.Input]:
    """The widgets that say which face is meant; `track_settings` reads them."""
    pixels = {"default": 0.0, "min": 0.0, "max": 16384.0, "step": 1.0}
    tooltip = (
        "Which of several faces to follow: the largest; the one at an index; the one nearest to a point; or, across "
        "cuts, the one most similar to the first one found."
    )
    return [
        io.Combo.Input("face", options=FACES, default="largest", tooltip=tooltip),
        io.Int.Input("index", default=0, min=0, max=99, tooltip="For face = index: counted from the left, from 0."),
        io.Float.Input("x", **pixels, tooltip="For face = nearest: pixels from the left edge of the frame."),
        io.Float.Input("y", **pixels, tooltip="For face = nearest: pixels from the top edge of the frame."),
    ]


def track_settings(values: Mapping[str, Any]) -> TrackSettings:
    """How a face is followed, by the widgets of `face` and those of `TrackSettings`."""
    face = choice("face", values["face"], FACES)
    which = {"index": "index:{index}", "nearest": "nearest:{x},{y}"}.get(face, face)
    return from_widgets(TrackSettings, values, which=which.format(**values))


def run_widgets() -> list[io.Input]:
    """The widgets of a whole run; `run_settings` reads them."""
    return [
        *widgets(Settings, *SAMPLING),
        *face(),
        *widgets(TrackSettings, "smoothing", "max_gap"),
        *widgets(RunSettings, "detect_every", "audio_longer", "audio_shorter"),
        *widgets(BlendSettings, "mask_smooth", "match_colour"),
        *widgets(Settings, "deep_cache", optional=True),
        quality(),
    ]


def more_run_widgets() -> list[io.Input]:
    """Those that came later: they stand at the end, for saved workflows go by position."""
    return [
        *widgets(TrackSettings, "max_yaw", "min_face", optional=True),
        *widgets(RunSettings, "silence", optional=True),
        *widgets(BlendSettings, "detail", optional=True),
    ]


def run_settings(values: Mapping[str, Any]) -> RunSettings:
    sync, track = sampling_settings(values), track_settings(values)
    blend, encoding = from_widgets(BlendSettings, values), from_widgets(EncodingSettings, values)
    return from_widgets(RunSettings, values, sync=sync, track=track, blend=blend, encoding=encoding)


def crops_track() -> io.Input:
    """The optional track of nodes that work on crops."""
    tooltip = (
        "The track that the crops were made with. With it, frames without the face are left alone, and nothing is "
        "carried across a cut."
    )
    return sockets.Track.Input("track", optional=True, tooltip=tooltip)


def check_track(track: sockets.TrackedFace | None, count: int, what: str = "crops") -> None:
    """Refuse a track of another clip than that of `count` crops, or of other pictures."""
    if track is not None and len(track.track) != count:
        raise InputError(
            f"the track covers {len(track.track)} frames and there are {count} {what}: connect the track that "
            "belongs to them"
        )


def choice(name: str, value: str, options: Iterable[str]) -> str:
    """`value`, if it is one of `options`; the server does not check the combos of V3 nodes."""
    options = list(options)
    if value not in options:
        raise InputError(f"{name} is {value!r}: choose one of {', '.join(map(str, options))}")
    return value


def pictures(image: Tensor) -> Tensor:
    """An IMAGE as (n, h, w, 3) float32 in [0, 1] on the CPU; a view where it is that already."""
    if not isinstance(image, Tensor):
        raise InputError(f"images is a {type(image).__name__}, not an IMAGE: connect the frames")
    if image.ndim == 3:
        image = image[None]
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or not image.numel():
        raise InputError(f"images has shape {tuple(image.shape)}: connect an IMAGE (frames, height, width, 3)")
    colour = image.expand(-1, -1, -1, 3) if image.shape[-1] == 1 else image[..., :3]
    return colour.detach().to("cpu", torch.float32)


def occlusion() -> io.Input:
    """The optional mask of what is in front of the face; `masks` reads it."""
    tooltip = (
        "What is in front of the face, such as a hand or a microphone, for each frame: there the video stays as it is. "
        "Any segmentation node's mask, of the size of the frames."
    )
    return io.Mask.Input("occlusion", optional=True, tooltip=tooltip)


def masks(mask: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    """A MASK of frames of `size` (h, w), if there is one, as (n, h, w) float32 in [0, 1] on the CPU."""
    if mask is None:
        return None
    mask = mask.detach().to("cpu", torch.float32).reshape(-1, *mask.shape[-2:])
    if tuple(mask.shape[1:]) != tuple(size):
        given, wanted = (f"{width} x {height}" for height, width in (mask.shape[1:], size))
        raise InputError(f"the mask of what is in front of the face is {given} and the frames are {wanted}: resize it")
    return mask.clamp(0, 1)


def sound(audio: Mapping | None) -> tuple[Tensor, int]:
    """An AUDIO as (channels, samples) in its own dtype, and its sample rate in Hz."""
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


def mono_16k(audio: Mapping | None) -> Tensor:
    """An AUDIO as the model hears it: (samples,) float32, mono, 16 kHz."""
    wave, rate = sound(audio)
    return resample(to_mono(wave), rate)


def concat_windows(windows: Iterable[Tensor], count: int) -> Tensor:
    """Windows of pictures (n, h, w, 3) as one tensor of `count` float32 pictures on the CPU.

    They go into their final place as they come: concatenating a list of them would hold everything twice.
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
