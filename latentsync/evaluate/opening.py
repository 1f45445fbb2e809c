"""How far a mouth is open, read off the pixels of aligned crops."""

import torch

from ..frames import as_float

# Parts of the crop, as fractions of its side. The lips move between the rows; of the columns the middle ones
# are taken, since the height there does not depend on the width of the mouth.
MOUTH_ROWS, MOUTH_COLUMNS = (0.52, 0.82), (0.465, 0.535)
CHEEK_ROWS, CHEEK_COLUMNS = (0.46, 0.54), (0.2, 0.3)  # and mirrored
# Lips are no darker than 0.7 of the skin; cavity and tongue are below 0.45 of it (`mouth.Mouth`).
DARK = (0.66, 0.4)  # of the skin's brightness: lip, and wholly inside the mouth
LIP = (0.03, 0.08)  # green over red falls short of the skin's by this much: skin, and certainly lip
TEETH_GREEN = 0.97  # green over red of the teeth
TEETH = (0.15, 0.8)  # of the way from the lips' green over red to the teeth's


def measure_opening(crops: torch.Tensor) -> torch.Tensor:
    """Height of the gap between the lips as a fraction of the crop's side: (n,) float32.

    `crops` are aligned faces (n, r, r, 3) of one speaker, uint8 or float in [0, 1]. Between the outer edges of the
    lips, whatever is much darker than the cheeks (cavity, tongue) or less red than the lips (teeth) counts as gap. The
    thresholds are soft, so that blur and parts of pixels cost little; they were found on drawn heads.
    """
    return opening_of(mouth_profiles(crops), crops.shape[1])


def mouth_profiles(crops: torch.Tensor) -> torch.Tensor:
    """What `opening_of` needs of crops: (n, 1 + rows, 3), the colour of the cheeks, then of the mouth from above."""
    if crops.ndim != 4 or crops.shape[1] != crops.shape[2] or crops.shape[3] != 3:
        raise ValueError(f"crops have shape {tuple(crops.shape)}: give aligned crops (n, r, r, 3)")
    faces, side = as_float(crops), crops.shape[1]

    def part(faces: torch.Tensor, rows: tuple[float, float], columns: tuple[float, float]) -> torch.Tensor:
        top, bottom, left, right = (round(edge * side) for edge in (*rows, *columns))
        return faces[:, top : max(bottom, top + 1), left : max(right, left + 1)]

    cheeks = torch.cat([part(half, CHEEK_ROWS, CHEEK_COLUMNS) for half in (faces, faces.flip(2))], 2)
    skin = cheeks.flatten(1, 2).median(1).values[:, None]  # (n, 1, 3)
    return torch.cat([skin, part(faces, MOUTH_ROWS, MOUTH_COLUMNS).mean(2)], dim=1)


def opening_of(profiles: torch.Tensor, side: int) -> torch.Tensor:
    """`measure_opening` of all of a speaker's `profiles` together, from crops of this side."""
    skin, profile = profiles[:, :1], profiles[:, 1:]
    dark = _ramp(profile.mean(-1) / skin.mean(-1).clamp(min=0.02), *DARK)
    green, skin_green = (colours[..., 1] / colours[..., 0].clamp(min=0.02) for colours in (profile, skin))
    enclosed = _between(_ramp(1 - green / skin_green, *LIP))
    # The reddest place that is not dark is pure lip. The lips' colour is the person's, not the frame's: thin lips
    # beside teeth are pale, so the redder frames say what it is.
    reddest = torch.where(dark < 0.1, green / skin_green, 1.0).amin(1)
    lip_green = (reddest.quantile(0.25) * skin_green).clamp(max=TEETH_GREEN - 0.1)
    teeth = _ramp((green - lip_green) / (TEETH_GREEN - lip_green), *TEETH)
    gap = torch.maximum(dark, teeth) * enclosed
    # Where a tooth meets the tongue the mix looks like lip, but it lies between two rows that are surely gap.
    return torch.maximum(gap, _between(_ramp(gap, 0.5, 1.0))).sum(1) / side


def _between(share: torch.Tensor) -> torch.Tensor:
    """`share` (n, rows) with its hollows filled: at each row the lesser of the greatest above and below."""
    return torch.minimum(share.cummax(1).values, share.flip(1).cummax(1).values.flip(1))


def _ramp(values: torch.Tensor, zero: float, one: float) -> torch.Tensor:
    """0 where `values` are at `zero`, 1 at `one`, straight between and clipped beyond."""
    return ((values - zero) / (one - zero)).clamp(0, 1)
