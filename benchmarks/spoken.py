"""Speech by espeak-ng, with the sounds that it says it spoke: what `embedded.py` lets the lips follow."""

import ctypes
from dataclasses import dataclass
from itertools import pairwise

import espeakng_loader
import numpy as np
import torch

from latentsync.audio.whisper import resample
from latentsync.drawn.heads.voice import Phone

SENTENCES = (
    ("en-us", "The quick brown fox jumps over the lazy dog, and nobody knows why."),
    ("en-gb-x-rp", "Open your mouth, close your lips, and say the whole thing again."),
    ("de", "Morgen geht die Sonne auf, und niemand weiß, warum das so ist."),
    ("fr", "Le chat dort sur le lit, et personne ne sait pourquoi."),
)
SYNCHRONOUS, UTF8, RATE, PHONEMES, IPA = 2, 1, 1, 1, 2  # of espeak-ng's speak_lib.h, as are the events
LIST_END, PHONEME = 0, 7
# The sound of latentsync.drawn.heads.phones that is seen and heard most like each of IPA's, by its first letter or two.
NEAREST = {
    key: name
    for name, keys in {
        "a": "a ɑ ʌ ɐ", "ae": "æ ɛ", "aw": "ɔ ɒ", "e": "e", "i": "i", "ih": "ɪ", "o": "o əʊ", "u": "u ʊ", "y": "y ʏ",
        "oe": "œ ø", "uh": "ə ɚ ɜ", "w": "w", "j": "j", "l": "l ɫ", "r": "ɹ", "rr": "ɾ r", "m": "m", "n": "n ɲ",
        "ng": "ŋ", "v": "v β", "f": "f", "z": "z", "s": "s ts", "sh": "ʃ ʒ tʃ dʒ", "dh": "ð", "th": "θ",
        "x": "ʁ ʀ x ç ɣ", "h": "h", "p": "p", "b": "b", "t": "t", "d": "d", "k": "k", "g": "ɡ",
    }.items()
    for key in keys.split()
}  # fmt: skip


class _Event(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("unique", ctypes.c_uint), ("text_position", ctypes.c_int),
                ("length", ctypes.c_int), ("milliseconds", ctypes.c_int), ("sample", ctypes.c_int),
                ("user_data", ctypes.c_void_p), ("name", ctypes.c_char * 8)]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Spoken:
    """What espeak-ng made: (samples,) float32 at 16 kHz, and its sounds as those of the drawn heads."""

    wave: torch.Tensor
    phones: list[Phone]


def espeak(text: str, voice: str, speed: int = 160) -> Spoken:
    """`text` spoken by espeak-ng.

    Args:
        voice: a name or language of espeak-ng, such as "en-us".
        speed: words per minute.

    Raises:
        ValueError: espeak-ng refuses; the message has what was asked and its error code.
    """
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = espeakng_loader.get_data_path().encode()
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, data, PHONEMES | IPA)
    pieces: list[np.ndarray] = []
    marks: list[tuple[float, str]] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
    def keep(samples, count, events):
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for event in _until_end(events):
            if event.type == PHONEME:
                marks.append((event.sample / rate, event.name.decode(errors="ignore")))
        return 0

    library.espeak_SetSynthCallback(keep)
    content = text.encode() + b"\0"
    library.espeak_Synth.argtypes = (
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
        ctypes.c_void_p, ctypes.c_void_p,
    )  # fmt: skip
    errors = (
        min(rate, 0),
        library.espeak_SetVoiceByName(voice.encode()),
        library.espeak_SetParameter(RATE, speed, 0),
        library.espeak_Synth(content, len(content), 0, 0, 0, UTF8, None, None),
    )
    if any(errors) or not pieces:
        raise ValueError(f"espeak-ng does not speak {text!r} as {voice!r} at {speed}: codes {errors}")
    samples = np.concatenate(pieces)
    end = (len(samples) / rate, "")
    phones = [_phone(name, start, stop) for (start, name), (stop, _) in pairwise([*marks, end]) if stop > start]
    return Spoken(resample(torch.from_numpy(samples.astype(np.float32) / 32768), rate), phones)


def _until_end(events):
    place = 0
    while events and events[place].type != LIST_END:
        yield events[place]
        place += 1


def _phone(name: str, start: float, stop: float) -> Phone:
    """One of espeak-ng's sounds, whose stress its name begins with."""
    stress = {"ˈ": 1.0, "ˌ": 0.75}.get(name[:1], 0.5)
    letters = name.lstrip("ˈˌ").replace("ː", "")
    nearest = NEAREST.get(letters[:2]) or NEAREST.get(letters[:1], "uh")
    return Phone(nearest if letters else "_", start, stop, stress)
