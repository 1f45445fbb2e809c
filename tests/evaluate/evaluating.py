"""A metric over a whole clip, videos to evaluate, and the command."""

from pathlib import Path

import numpy as np
import torch

from latentsync.commands.main import main
from latentsync.evaluate.metrics import MetricValue, windows
from latentsync.media import VideoWriter


def measure(metric, pictures, truth) -> dict[str, MetricValue]:
    for numbers in windows(pictures, [(0, len(pictures))]):
        metric.update(numbers, pictures[numbers], truth[numbers])
    return metric.compute()


def write_video(path: Path, pictures, audio: Path | None = None) -> Path:
    """Pictures (n, h, w, 3) uint8, at 25 frames per second."""
    path.parent.mkdir(exist_ok=True)
    with VideoWriter(path, 25, *pictures[0].shape[:2], preset="ultrafast", crf=1, audio=audio) as writer:
        writer.write(torch.from_numpy(np.stack(pictures)))
    return path


def run(capsys, *arguments) -> tuple[int, str, str]:
    """Exit code, standard output and errors of `evaluate`."""
    code = main(["evaluate", "--device", "cpu", *map(str, arguments)])
    return code, *capsys.readouterr()
