"""The sounds of the synthetic language, and the mouth that each one needs."""

from dataclasses import dataclass
from typing import Literal, NamedTuple


class MouthShape(NamedTuple):
    """A mouth in the numbers that the drawing needs, each 0..1.

    Attributes:
        opening: height between the lips, as a fraction of the face's greatest.
        width: 0 pursed, about 0.5 at rest, 1 drawn wide.
        rounding: how far the lips are pushed forward.
        teeth: how much of the upper teeth shows; above 0.6 the lower ones show too.
        tongue: how high the tongue lies.
        tuck: 1 = the lower lip is drawn in under the upper teeth.
    """

    opening: float
    width: float
    rounding: float = 0.0
    teeth: float = 0.0
    tongue: float = 0.0
    tuck: float = 0.0


@dataclass(frozen=True)
class Sound:
    """How a phone is made and seen.

    Attributes:
        kind: what excites it. A stop is silent but for the burst at its end.
        shape: the mouth, before loudness and neighbours change it.
        level: root mean square relative to the loudest phones.
        bands: centre frequencies of the resonances in Hz (voiced), or lower and upper edge (noise and bursts).
        hold: weight against the neighbours: closures must be reached, vowels may be cut short.
    """

    kind: Literal["voiced", "noise", "stop", "silence"]
    shape: MouthShape
    level: float = 0.0
    bands: tuple[float, ...] = ()
    hold: float = 1.0


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
}
VOWELS = ("a", "e", "i", "o", "u")
ONSETS = ("m", "b", "p", "f", "s", "sh", "l", "n", "t")
CODAS = ("n", "m", "s", "l", "sh")
