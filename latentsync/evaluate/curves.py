"""How well two curves go together; a curve is one number per video frame, such as the height between the lips."""

from collections.abc import Sequence

import numpy as np

from ..errors import InputError

MOST_LAG = 10  # frames, 0.4 s at 25 frames/s


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's correlation of two curves, in [-1, 1]; 0 where one of them never changes."""
    a, b = (np.asarray(curve, np.float64) - np.mean(curve) for curve in (a, b))
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else 0.0


def best_lag(curve: Sequence[float], reference: Sequence[float], most: int = MOST_LAG) -> int:
    """Frames by which `curve` comes later than `reference`, -most..most: where they correlate best.

    Each lag is judged on the frames that both then have. Of equals the smallest lag is given.
    """
    count = len(curve)
    if count <= 2 * most:
        raise InputError(f"the curves have {count} frames: a lag of up to {most} needs more than {2 * most}")

    def at(lag: int) -> float:
        late, early = (curve, reference) if lag >= 0 else (reference, curve)
        return correlation(late[abs(lag) :], early[: count - abs(lag)])

    return max(sorted(range(-most, most + 1), key=abs), key=at)
