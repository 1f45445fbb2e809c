"""Who speaks: the numbers that a drawn face is made of.

Convention
    Face coordinates: the unit is the height of the head from crown to chin, x to the right of the PICTURE and 0
    on the middle line, y down from 0 at the crown to 1 at the chin of the closed mouth. Colours are RGB in [0, 1].
"""

from dataclasses import dataclass, field, fields

import numpy as np

Colour = tuple[float, float, float]

EYE_Y, BROW_Y, NOSE_BASE_Y, CHIN_Y = 0.482, 0.395, 0.675, 1.0
LEFT, TOP, RIGHT, BOTTOM = -0.78, -0.2, 0.78, 1.65  # of the head's picture

SKINS = ((0.98, 0.84, 0.75), (0.94, 0.76, 0.64), (0.87, 0.67, 0.52), (0.77, 0.56, 0.42), (0.62, 0.43, 0.31),
         (0.48, 0.32, 0.235))  # fmt: skip
HAIRS = ((0.09, 0.08, 0.08), (0.2, 0.13, 0.09), (0.36, 0.22, 0.13), (0.55, 0.36, 0.19), (0.82, 0.66, 0.4),
         (0.6, 0.25, 0.11), (0.62, 0.62, 0.62), (0.9, 0.89, 0.87))  # fmt: skip
IRISES = ((0.25, 0.14, 0.08), (0.4, 0.26, 0.13), (0.3, 0.42, 0.3), (0.3, 0.45, 0.6), (0.45, 0.52, 0.55))
HAIR_STYLES = ("short", "fringe", "parted", "bob", "long", "curly", "bun", "receding", "bald")
NECKLINES = ("round", "deep", "collar", "turtleneck")


def _between(low: float, high: float):
    return field(metadata={"range": (low, high)})


@dataclass(frozen=True)
class Speaker:
    """A drawn person and the room behind: lengths in face coordinates, with the range they are drawn from."""

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
    face_width: float  # half of it, as are those of neck and mouth
    jaw: float = _between(0.73, 0.83)  # width of the outline there, relative to the face; so is the chin's
    chin: float = _between(0.34, 0.5)
    neck_width: float = _between(0.52, 0.68)  # drawn relative to the face's
    nose_width: float = _between(0.058, 0.085)
    eye_width: float = _between(0.066, 0.08)
    eye_height: float = _between(0.024, 0.036)
    eye_spread: float = _between(0.465, 0.495)  # drawn relative to the face's width
    brow_arch: float = _between(0.008, 0.03)
    brow_thickness: float = _between(0.011, 0.024)
    mouth_y: float = _between(0.79, 0.808)
    mouth_width: float = _between(0.115, 0.14)
    max_opening: float = _between(0.088, 0.11)  # height between the lips at an opening of 1
    upper_lip: float = _between(0.024, 0.036)
    lower_lip: float = _between(0.032, 0.044)
    smile: float = _between(-0.008, 0.014)
    light: float = _between(-1.0, 1.0)  # where it comes from: left to right
    blush: float = _between(0.0, 0.12)


def make_speaker(seed: int) -> Speaker:
    """The person that `seed` stands for."""
    rng = np.random.default_rng((seed, 0))

    def colour(values: np.ndarray) -> Colour:
        return tuple(np.clip(values, 0.0, 1.0).tolist())

    place = rng.uniform(0, len(SKINS) - 1)
    lighter = min(int(place), len(SKINS) - 2)
    share = place - lighter
    skin = (1 - share) * np.array(SKINS[lighter]) + share * np.array(SKINS[lighter + 1])
    dark = skin.mean() < 0.5
    # Lips are the skin, redder and darker: less so on dark skin, so that they stay apart from the open mouth.
    lip = skin * np.array([rng.uniform(0.85, 0.95), rng.uniform(0.58, 0.7), rng.uniform(0.62, 0.74)])
    lip += (0.06 if dark else 0.0) * np.array([1.0, 0.35, 0.4])
    hair = np.array(HAIRS[rng.integers(4 if dark else len(HAIRS))])
    width = rng.uniform(0.325, 0.375)
    # The order of the draws, here and of the fields, makes the person: keep it.
    looks = {
        "skin": colour(skin),
        "lip": colour(lip),
        "hair": colour(hair * rng.uniform(0.85, 1.15)),
        "iris": colour(np.array(IRISES[rng.integers(2 if dark else len(IRISES))])),
        "clothes": colour(rng.uniform(0.12, 0.8) + 0.45 * rng.uniform(-0.4, 0.4, 3)),
        "wall": colour(rng.uniform(0.25, 0.85) * rng.uniform(0.75, 1.1, 3)),
        "hair_style": HAIR_STYLES[rng.integers(len(HAIR_STYLES))],
        "neckline": NECKLINES[rng.integers(len(NECKLINES))],
        "glasses": bool(rng.random() < 0.2),
        "face_width": width,
    }
    sizes = {f.name: rng.uniform(*f.metadata["range"]) for f in fields(Speaker) if f.metadata}
    for name in ("neck_width", "eye_spread"):
        sizes[name] *= width
    return Speaker(seed, **looks, **sizes)
