"""Who speaks: the numbers that a drawn face is made of.

Convention
    Face coordinates: the unit is the height of the head from crown to chin, x to the right of the PICTURE and 0
    on the middle line, y down from 0 at the crown to 1 at the chin of the closed mouth. Colours are RGB in [0, 1].
"""

from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]

EYE_Y, BROW_Y, NOSE_BASE_Y, CHIN_Y = 0.482, 0.395, 0.675, 1.0

SKINS = ((0.98, 0.84, 0.75), (0.94, 0.76, 0.64), (0.87, 0.67, 0.52), (0.77, 0.56, 0.42), (0.62, 0.43, 0.31),
         (0.48, 0.32, 0.235))  # fmt: skip
HAIRS = ((0.09, 0.08, 0.08), (0.2, 0.13, 0.09), (0.36, 0.22, 0.13), (0.55, 0.36, 0.19), (0.82, 0.66, 0.4),
         (0.6, 0.25, 0.11), (0.62, 0.62, 0.62), (0.9, 0.89, 0.87))  # fmt: skip
IRISES = ((0.25, 0.14, 0.08), (0.4, 0.26, 0.13), (0.3, 0.42, 0.3), (0.3, 0.45, 0.6), (0.45, 0.52, 0.55))
HAIR_STYLES = ("short", "fringe", "parted", "bob", "long", "curly", "bun", "receding", "bald")
NECKLINES = ("round", "deep", "collar", "turtleneck")


@dataclass(frozen=True)
class Speaker:
    """A drawn person and the room behind. Lengths in face coordinates, colours RGB in [0, 1].

    `face_width`, `neck_width` and `mouth_width` are halves. `max_opening` is the greatest height between the lips,
    which an opening of 1 means; `jaw` and `chin` are widths of the outline relative to `face_width`.
    """

    seed: int
    skin: Colour
    lip: Colour
    hair: Colour
    iris: Colour
    clothes: Colour
    wall: Colour
    hair_style: str
    neckline: str
    glasses: bool
    face_width: float
    jaw: float
    chin: float
    neck_width: float
    nose_width: float
    eye_width: float
    eye_height: float
    eye_spread: float
    brow_arch: float
    brow_thickness: float
    mouth_y: float
    mouth_width: float
    max_opening: float
    upper_lip: float
    lower_lip: float
    smile: float
    light: float
    blush: float


def _between(rng: np.random.Generator, palette: tuple[Colour, ...]) -> np.ndarray:
    """A colour on the line between two neighbours of a palette."""
    place = rng.uniform(0, len(palette) - 1)
    first = min(int(place), len(palette) - 2)
    share = place - first
    return (1 - share) * np.array(palette[first]) + share * np.array(palette[first + 1])


def _colour(values: np.ndarray) -> Colour:
    r, g, b = np.clip(values, 0.0, 1.0).tolist()
    return r, g, b


def make_speaker(seed: int) -> Speaker:
    """The person that `seed` stands for; the same seed gives the same one."""
    rng = np.random.default_rng((seed, 0))
    skin = _between(rng, SKINS)
    # Lips are the skin, redder and darker: less so on dark skin, so that they stay apart from the open mouth.
    lip = skin * np.array([rng.uniform(0.85, 0.95), rng.uniform(0.58, 0.7), rng.uniform(0.62, 0.74)])
    lip += (0.06 if skin.mean() < 0.5 else 0.0) * np.array([1.0, 0.35, 0.4])
    hair = np.array(HAIRS[rng.integers(0, 4) if skin.mean() < 0.5 else rng.integers(len(HAIRS))])
    width = rng.uniform(0.325, 0.375)
    return Speaker(
        seed=seed,
        skin=_colour(skin),
        lip=_colour(lip),
        hair=_colour(hair * rng.uniform(0.85, 1.15)),
        iris=_colour(np.array(IRISES[rng.integers(0, 2) if skin.mean() < 0.5 else rng.integers(len(IRISES))])),
        clothes=_colour(rng.uniform(0.12, 0.8) + 0.45 * rng.uniform(-0.4, 0.4, 3)),
        wall=_colour(rng.uniform(0.25, 0.85) * rng.uniform(0.75, 1.1, 3)),
        hair_style=HAIR_STYLES[rng.integers(len(HAIR_STYLES))],
        neckline=NECKLINES[rng.integers(len(NECKLINES))],
        glasses=bool(rng.random() < 0.2),
        face_width=width,
        jaw=rng.uniform(0.73, 0.83),
        chin=rng.uniform(0.34, 0.5),
        neck_width=width * rng.uniform(0.52, 0.68),
        nose_width=rng.uniform(0.058, 0.085),
        eye_width=rng.uniform(0.066, 0.08),
        eye_height=rng.uniform(0.024, 0.036),
        eye_spread=width * rng.uniform(0.465, 0.495),
        brow_arch=rng.uniform(0.008, 0.03),
        brow_thickness=rng.uniform(0.011, 0.024),
        mouth_y=rng.uniform(0.79, 0.808),
        mouth_width=rng.uniform(0.115, 0.14),
        max_opening=rng.uniform(0.088, 0.11),
        upper_lip=rng.uniform(0.024, 0.036),
        lower_lip=rng.uniform(0.032, 0.044),
        smile=rng.uniform(-0.008, 0.014),
        light=rng.uniform(-1.0, 1.0),
        blush=rng.uniform(0.0, 0.12),
    )
