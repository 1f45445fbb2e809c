"""Steady paths through time: gaps filled, noise of the detector taken out, motion of the head kept."""

import numpy as np

REACH = 3.0  # the window ends where its weight has fallen to 1 %
ROUNDS = 2  # fits after the first, each with less weight on outliers
OUTLIER = 3.0  # robust standard deviations from the path at which a sample counts half
JUMP_RATIO = 4.0  # how many times the usual step a jump is, at least
JUMP_CONTEXT = 3  # frames before and after that have to agree with it


def bridge(before: np.ndarray, after: np.ndarray, steps: int) -> np.ndarray:
    """Values (steps, k) on the straight way from `before` (k,), without it, to `after`.

    The last one is an angle in radians and takes the short way round.
    """
    after = after.copy()
    after[-1] += 2 * np.pi * np.round((before[-1] - after[-1]) / (2 * np.pi))
    share = np.arange(1, steps)[:, None] / steps
    return np.concatenate([before + (after - before) * share, after[None]])


def jumps(places: np.ndarray, threshold: float) -> list[int]:
    """Frames of a path (n, 2) at which it moves at once and for good by more than `threshold`.

    These are edits inside a shot, which must not be smoothed over. A step counts where the medians of the frames on
    both sides differ too, so that one wrong detection is no jump, and where it is large against the steps around it,
    so that a fast head is none either.
    """
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    found = []
    for i in np.flatnonzero(steps > threshold) + 1:
        before, after = places[max(0, i - JUMP_CONTEXT) : i], places[i : i + JUMP_CONTEXT]
        around = np.concatenate([steps[max(0, i - 1 - JUMP_CONTEXT) : i - 1], steps[i : i + JUMP_CONTEXT]])
        moved = np.linalg.norm(np.median(after, axis=0) - np.median(before, axis=0))
        whole = len(before) == len(after) == JUMP_CONTEXT
        if whole and moved > threshold and steps[i - 1] > JUMP_RATIO * np.median(around):
            found.append(int(i))
    return found


def reach(sigma: float) -> int:
    """Frames before and after one that `smooth` looks at, but for the medians by which it knows outliers."""
    return (ROUNDS + 1) * int(np.ceil(REACH * sigma))


def smooth(path: np.ndarray, sigma: float) -> np.ndarray:
    """A path (n, k) smoothed over time without lag; sigma in frames, 0 returns it unchanged.

    Robust local regression (Cleveland, "Robust locally weighted regression and smoothing scatterplots", 1979): a
    parabola is fitted around each frame with Gaussian weights, then twice more with less weight on outliers. It follows
    turning heads where a moving average would cut corners; looking both ways avoids a filter's delay.
    """
    if sigma <= 0 or len(path) < 3:
        return path.copy()
    robust = np.ones_like(path)
    fitted = path
    for _ in range(ROUNDS + 1):
        fitted = _local_parabolas(path, robust, sigma)
        residual = np.abs(path - fitted)
        spread = 1.4826 * np.median(residual, axis=0) + 1e-9
        robust = 1 / (1 + (residual / (OUTLIER * spread)) ** 2)
    return fitted


def _local_parabolas(path: np.ndarray, robust: np.ndarray, sigma: float) -> np.ndarray:
    """Value at each frame of the weighted least-squares parabola around it, for each column of `path` (n, k)."""
    width = int(np.ceil(REACH * sigma))
    fitted = np.empty_like(path)
    for i in range(len(path)):
        low, high = max(0, i - width), min(len(path), i + width + 1)
        t = (np.arange(low, high) - i) / sigma
        # A line where the window holds too few frames for a parabola, and at its open end a calmer estimate.
        basis = np.stack([np.ones_like(t), t, t * t], axis=1)[:, : min(3, high - low - 1)]
        weights = np.exp(-0.5 * t * t)[:, None] * robust[low:high]
        normal = np.einsum("ta,tk,tb->kab", basis, weights, basis) + 1e-9 * np.eye(basis.shape[1])
        moment = np.einsum("ta,tk,tk->ka", basis, weights, path[low:high])
        fitted[i] = np.linalg.solve(normal, moment[..., None])[:, 0, 0]
    return fitted
