"""The record of a run: `log.jsonl` to read by machine, TensorBoard and `loss.png` to look at."""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path

from ..files import replacing

logger = logging.getLogger(__name__)


class Log:
    """Writes figures into `folder`: a line of JSON in `log.jsonl`, and for TensorBoard where it is installed.

    A resumed run goes on in the same files; what an earlier one wrote after `step` is taken out.

    Args:
        folder: made where it is missing.
        step: that the run starts after, 0 for a new one.
    """

    def __init__(self, folder: Path, step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.path = folder, folder / "log.jsonl"
        kept = [line for line in read_log(self.path) if line["step"] <= step] if step else []
        with replacing(self.path) as part:
            part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self.board = _open_tensorboard(folder / "tensorboard", step)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Add one line. NaN and infinity, which JSON does not know, become null."""
        line = {"step": step} | {name: value if math.isfinite(value) else None for name, value in figures.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.board is not None:
            for name, value in figures.items():
                self.board.add_scalar(name, value, step)

    def draw(self) -> Path | None:
        """`loss.png`: every figure over the steps, one picture below the other; None where matplotlib is missing."""
        try:
            # Figure without pyplot, which would keep every figure and choose a backend for the whole process.
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            logger.info("no loss.png without matplotlib: pip install matplotlib")
            return None
        lines = read_log(self.path)
        names = list(dict.fromkeys(name for line in lines for name in line if name != "step"))
        figure = Figure(figsize=(8, 1 + 2 * len(names)), layout="constrained")
        FigureCanvasAgg(figure)
        for row, name in enumerate(names, start=1):
            axes = figure.add_subplot(len(names), 1, row)
            known = [line for line in lines if line.get(name) is not None]
            marker = "." if len(known) < 50 else None
            axes.plot([line["step"] for line in known], [line[name] for line in known], marker=marker)
            axes.set_title(name, fontsize="small", loc="left")
            axes.grid(alpha=0.3)
        path = self.folder / "loss.png"
        with replacing(path) as part:
            figure.savefig(part, format="png", dpi=100)
        return path

    def close(self) -> None:
        if self.board is not None:
            self.board.close()

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def read_log(path: Path) -> list[dict]:
    """The lines of a `log.jsonl`, without a last one that was cut off; [] where there is no file."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _open_tensorboard(folder: Path, step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("nothing is written for TensorBoard, which is not installed: pip install tensorboard")
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
