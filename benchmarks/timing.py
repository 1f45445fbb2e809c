"""What the benchmarks share. Importing it first makes the repository importable from any folder."""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the median of `repeats` calls, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def face_matrix(size: float, resolution: int) -> np.ndarray:
    """(2, 3) frame-to-canvas matrix of a slightly turned face whose crop is `size` pixels wide in the frame."""
    from latentsync.geometry import canvas_size

    height, width = canvas_size(resolution)
    scale, angle = width / size, 0.1
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, np.array([width / 2, height / 2]) - linear @ [540, 800]])
