"""What the benchmarks of crop and paste share. Importing it first makes the repository importable from any folder."""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from latentsync.face.geometry import canvas_size


RESOLUTION = 512
FACES = (200, 350, 600)  # pixels between the edges of the crop in the frame
HEADLINE = 350

#: Makes a picture (h, w, 3) uint8 for a face at a frame-to-canvas matrix (2, 3).
Way = Callable[[np.ndarray], np.ndarray]


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Milliseconds of the median of `repeats` calls, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def face_matrix(size: float) -> np.ndarray:
    """(2, 3) frame-to-canvas matrix of a slightly turned face whose crop is `size` pixels wide in the frame."""
    height, width = canvas_size(RESOLUTION)
    scale, angle = width / size, 0.1
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, np.array([width / 2, height / 2]) - linear @ [540, 800]])


def compare(published: Way, ours: Way, ours_as_published: Way) -> None:
    """Print a table of the three ways for faces of several sizes, then how many times faster ours is."""
    ratio = 0.0
    print("face px   published ms   ours ms   ours, published geometry ms   worst difference of the last two pictures")
    for size in FACES:
        matrix = face_matrix(size)
        theirs = median_ms(lambda m=matrix: published(m), repeats=5)
        quick = median_ms(lambda m=matrix: ours(m), repeats=30)
        same = median_ms(lambda m=matrix: ours_as_published(m), repeats=15)
        worst = np.abs(ours_as_published(matrix).astype(int) - published(matrix).astype(int)).max()
        print(f"{size:7}   {theirs:12.1f}   {quick:7.1f}   {same:27.1f}   {worst}")
        ratio = theirs / quick if size == HEADLINE else ratio
    print(f"{ratio:.1f}x")
