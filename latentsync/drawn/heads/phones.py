"""The sounds of the synthetic language, and the mouth that each one needs."""

from dataclasses import dataclass
from typing import Literal, NamedTuple


class MouthShape(NamedTuple):
    """A mouth in the numbers that the drawing needs, each 0..1."""

    opening: float  # height between the lips, as a fraction of the face's greatest
    width: float  # 0 pursed, about 0.5 at rest, 1 drawn wide
    rounding: float = 0.0  # how far the lips are pushed forward
    teeth: float = 0.0  # how much of the upper teeth shows; above 0.6 the lower ones show too
    tongue: float = 0.0  # how high it lies
    tuck: float = 0.0  # 1: the lower lip is drawn in under the upper teeth


@dataclass(frozen=True)
class Sound:
    """How a phone is made and seen."""

    kind: Literal["voiced", "noise", "stop", "silence"]  # a stop is silent but for the burst at its end
    shape: MouthShape  # before loudness and neighbours change it
    level: float = 0.0  # root mean square relative to the loudest phones
    bands: tuple[float, ...] = ()  # Hz: centres of the resonances (voiced), or lower and upper edge (noise, bursts)
    hold: float = 1.0  # weight against the neighbours: closures must be reached, vowels may be cut short


# Formants are round numbers near the means of adult speakers (Peterson & Barney, JASA 24, 1952). All vowels are
# equally loud, so that loudness alone does not tell the mouth.
SOUNDS: dict[str, Sound] = {
    "a": Sound("voiced", MouthShape(1.0, 0.55, 0.0, 0.5, 0.35), 1.0, (780, 1250, 2600)),
    "e": Sound("voiced", MouthShape(0.58, 0.8, 0.0, 0.7, 0.5), 1.0, (530, 1850, 2550)),
    "i": Sound("voiced", MouthShape(0.3, 1.0, 0.0, 1.0, 0.3), 1.0, (290, 2300, 3050)),
    "o": Sound("voiced", MouthShape(0.62, 0.2, 0.8, 0.1, 0.2), 1.0, (480, 850, 2500)),
    "u": Sound("voiced", MouthShape(0.3, 0.0, 1.0), 1.0, (310, 680, 2250)),
    "l": Sound("voiced", MouthShape(0.38, 0.6, 0.0, 0.4, 1.0), 0.6, (360, 1050, 2800)),
    "m": Sound("voiced", MouthShape(0.0, 0.48), 0.4, (250, 1000), 5.0),
    "n": Sound("voiced", MouthShape(0.2, 0.6, 0.0, 0.6, 0.8), 0.4, (260, 1500), 2.0),
    "s": Sound("noise", MouthShape(0.17, 0.85, 0.0, 1.0), 0.4, (4600, 7600), 2.5),
    "sh": Sound("noise", MouthShape(0.3, 0.2, 0.8, 1.0), 0.45, (1900, 4600), 2.0),
    "f": Sound("noise", MouthShape(0.13, 0.6, 0.0, 1.0, 0.0, 1.0), 0.2, (1000, 7600), 4.0),
    "p": Sound("stop", MouthShape(0.0, 0.48), 0.3, (400, 2500), 5.0),
    "b": Sound("stop", MouthShape(0.0, 0.5), 0.15, (150, 900), 5.0),
    "t": Sound("stop", MouthShape(0.2, 0.65, 0.0, 0.9, 0.6), 0.35, (2800, 6000), 2.0),
    "_": Sound("silence", MouthShape(0.0, 0.5)),
    # Those of the wide language only.
    "ae": Sound("voiced", MouthShape(0.8, 0.75, 0.0, 0.6, 0.3), 1.0, (660, 1720, 2410)),
    "aw": Sound("voiced", MouthShape(0.75, 0.3, 0.6, 0.2, 0.2), 1.0, (590, 880, 2500)),
    "ih": Sound("voiced", MouthShape(0.4, 0.85, 0.0, 0.9, 0.4), 0.9, (400, 2000, 2600)),
    "uh": Sound("voiced", MouthShape(0.45, 0.5, 0.0, 0.3, 0.4), 0.7, (500, 1450, 2500)),
    "oe": Sound("voiced", MouthShape(0.42, 0.2, 0.8, 0.1, 0.3), 1.0, (420, 1500, 2250)),
    "y": Sound("voiced", MouthShape(0.25, 0.05, 1.0), 1.0, (290, 1900, 2250)),
    "w": Sound("voiced", MouthShape(0.18, 0.0, 1.0), 0.6, (300, 640, 2200), 1.5),
    "j": Sound("voiced", MouthShape(0.25, 0.9, 0.0, 0.9, 0.4), 0.6, (280, 2250, 3000)),
    "r": Sound("voiced", MouthShape(0.25, 0.35, 0.5, 0.3, 0.5), 0.5, (330, 1150, 1550), 1.5),
    "rr": Sound("voiced", MouthShape(0.25, 0.55, 0.0, 0.5, 0.8), 0.3, (350, 1350, 2300), 1.5),
    "ng": Sound("voiced", MouthShape(0.22, 0.55, 0.0, 0.4, 0.3), 0.4, (270, 1900, 2700), 1.5),
    "v": Sound("voiced", MouthShape(0.13, 0.6, 0.0, 1.0, 0.0, 1.0), 0.25, (240, 1100, 2300), 4.0),
    "z": Sound("voiced", MouthShape(0.17, 0.85, 0.0, 1.0), 0.25, (240, 1650, 2600), 2.5),
    "dh": Sound("voiced", MouthShape(0.2, 0.6, 0.0, 0.8, 1.0), 0.25, (260, 1350, 2500), 2.0),
    "th": Sound("noise", MouthShape(0.2, 0.6, 0.0, 0.8, 1.0), 0.15, (1400, 7000), 2.0),
    "x": Sound("noise", MouthShape(0.28, 0.5), 0.25, (900, 3200), 1.5),
    "h": Sound("noise", MouthShape(0.4, 0.55, 0.0, 0.3), 0.15, (500, 3500), 0.5),
    "d": Sound("stop", MouthShape(0.2, 0.65, 0.0, 0.8, 0.7), 0.2, (1800, 4500), 2.0),
    "g": Sound("stop", MouthShape(0.25, 0.55, 0.0, 0.4, 0.2), 0.2, (1100, 2600), 1.5),
    "k": Sound("stop", MouthShape(0.25, 0.6, 0.0, 0.5, 0.2), 0.3, (1400, 3800), 1.5),
}


class Language(NamedTuple):
    """The keys in `SOUNDS` that syllables are made of."""

    vowels: tuple[str, ...]
    onsets: tuple[str, ...]
    codas: tuple[str, ...]


#: What the drawn heads speak: few sounds, plainly different to eye and ear.
PLAIN = Language(("a", "e", "i", "o", "u"), ("m", "b", "p", "f", "s", "sh", "l", "n", "t"), ("n", "m", "s", "l", "sh"))
#: Nearer to what is spoken in Europe, for nets that listen.
WIDE = Language(
    (*PLAIN.vowels, "ae", "aw", "ih", "uh", "uh", "oe", "y"),
    (*PLAIN.onsets, "w", "j", "r", "rr", "v", "z", "dh", "th", "h", "d", "g", "k"),
    (*PLAIN.codas, "r", "rr", "ng", "z", "v", "x", "t", "d", "k"),
)
