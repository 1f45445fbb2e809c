"""The metrics of all videos: a table in Markdown, JSON, and a chart of each video."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..face.track_sheet import write_png
from ..files import replacing
from .charts import INK, Canvas, Panel
from .metrics import METRICS, MetricValue

ARROWS = {"higher": "↑", "lower": "↓", "zero": "→0"}
WIDTH, PANEL, HEAD, GAP = 1280, 130, 60, 60  # of a chart and its parts, in pixels
LINE = (46, 110, 180)


@dataclass
class ClipReport:
    """The metrics of one video.

    Attributes:
        metrics: that were asked for.
        frames: that were compared, or of the video where it has no reference.
        fps: frames per second of the video.
        missing: why a metric has no value.
        protocol: by which it was measured, for the chart.
    """

    metrics: Sequence[str]
    video: Path
    reference: Path | None
    frames: int
    fps: float
    values: dict[str, MetricValue] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    protocol: str = "own"

    def add(self, values: Mapping[str, MetricValue]) -> None:
        self.values |= {name: value for name, value in values.items() if name in self.metrics}

    def fail(self, measured_by: str, error: Exception) -> None:
        """The metrics of this measurement have no value."""
        self.missing |= {name: str(error) for name in self.metrics if METRICS[name].measured_by == measured_by}

    def plain_values(self) -> dict[str, float]:
        return {name: value.value for name, value in self.values.items()}


@dataclass
class Report:
    """The metrics of all videos; `pooled` are those that take all videos together.

    `protocol` is "own" or "published", and `about_protocol` says in a sentence or two what that means.
    """

    metrics: Sequence[str]
    region: str
    clips: list[ClipReport]
    pooled: dict[str, float] = field(default_factory=dict)
    pooled_missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    protocol: str = "own"
    about_protocol: str = ""

    @property
    def overall(self) -> dict[str, float]:
        """Means over the videos, and the pooled metrics."""
        found = {}
        for name in self.metrics:
            values = [clip.values[name].value for clip in self.clips if name in clip.values]
            if name in self.pooled or values:
                found[name] = self.pooled[name] if name in self.pooled else float(np.mean(values))
        return found

    @property
    def missing(self) -> list[str]:
        """A sentence for each reason why values are missing: of which metrics, and of which videos if not of all."""
        found: dict[tuple[str, str], list[str]] = {}
        for clip in self.clips:
            for reason in dict.fromkeys(clip.missing.values()):
                titles = ", ".join(METRICS[name].title for name in self.metrics if clip.missing.get(name) == reason)
                found.setdefault((titles, reason), []).append(clip.video.name)
        sentences = [f"{METRICS[name].title}: {reason}" for name, reason in self.pooled_missing.items()]
        for (titles, reason), names in found.items():
            where = "" if len(names) == len(self.clips) else f" of {', '.join(names)}"
            sentences.append(f"{titles}{where}: {reason}")
        return sentences

    @property
    def all_notes(self) -> list[str]:
        return [note for clip in self.clips for note in clip.notes] + self.notes

    @property
    def is_complete(self) -> bool:
        return not self.missing

    def markdown(self) -> str:
        """The table, with a line for each note and for each missing metric."""
        titles = [f"{METRICS[name].title} {ARROWS[METRICS[name].better]}" for name in self.metrics]
        rows = [["video", "frames", *titles], ["---", *["---:"] * (len(titles) + 1)]]
        for clip in self.clips:
            rows.append([clip.video.name, str(clip.frames), *self._cells(clip.plain_values())])
        total = str(sum(clip.frames for clip in self.clips) or "-")
        rows.append(["**all**", total, *self._cells(self.overall)])
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
        lines = [f"- note: {note}" for note in self.all_notes] + [f"- missing: {reason}" for reason in self.missing]
        where = {"frame": "whole frames", "face": "aligned faces", "mouth": "the square about the mouth"}[self.region]
        head = [f"Protocol: {self.protocol}. {self.about_protocol}".rstrip()]
        head += [f"Pictures compared: {where}."] if self.clips else []
        return "\n\n".join(["  \n".join(head), table, *(["\n".join(lines)] if lines else [])])

    def _cells(self, values: Mapping[str, float]) -> list[str]:
        return [f"{values[name]:.{METRICS[name].decimals}f}" if name in values else "-" for name in self.metrics]

    def write_json(self, path: Path) -> None:
        """Everything but the curves; a missing value is null, the PSNR of equal pictures "inf"."""
        about = {name: {k: getattr(METRICS[name], k) for k in ("title", "better", "about")} for name in self.metrics}
        clips = [
            {
                "video": str(clip.video),
                "reference": None if clip.reference is None else str(clip.reference),
                "frames": clip.frames,
                "fps": clip.fps,
                "figures": self._plain(clip.plain_values()),
                "missing": clip.missing,
            }
            for clip in self.clips
        ]
        content = {
            "protocol": self.protocol,
            "about_protocol": self.about_protocol,
            "region": self.region,
            "metrics": about,
            "videos": clips,
            "all": self._plain(self.overall),
            "missing": self.missing,
            "notes": self.all_notes,
        }
        with replacing(path) as part:
            part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def _plain(self, values: Mapping[str, float]) -> dict[str, float | str | None]:
        plain = {name: values.get(name) for name in self.metrics}
        return {name: "inf" if value == math.inf else value for name, value in plain.items()}


def write_chart(clip: ClipReport, path: Path) -> bool:
    """The curves of a video over time as a PNG file; False, and no file, where no metric has one."""
    if all(value.curve is None for value in clip.values.values()):
        return False
    with replacing(path) as part:
        write_png(part, chart(clip))
    return True


def chart(clip: ClipReport) -> np.ndarray:
    """A panel for each metric with a curve, one below the other: (h, 1280, 3) uint8."""
    curves = {name: value for name, value in clip.values.items() if value.curve is not None}
    canvas = Canvas(WIDTH, HEAD + len(curves) * (PANEL + GAP))
    canvas.text(64, 26, f"{clip.video.name} ({clip.protocol} protocol)", 19)
    for k, (name, metric) in enumerate(curves.items()):
        _draw(canvas, HEAD + k * (PANEL + GAP) + 10, clip, name, metric)
    return canvas.finish()


def _draw(canvas: Canvas, top: float, clip: ClipReport, name: str, metric: MetricValue) -> None:
    """One curve between its lowest and highest value; gaps where it has none, and its mean dashed."""
    curve, known = metric.curve, np.isfinite(metric.curve)
    low, high = (float(curve[known].min()), float(curve[known].max())) if known.any() else (0.0, 1.0)
    room = 0.1 * (high - low) or max(abs(high), 1.0) * 0.1
    low, high = low - room, high + room
    panel = Panel(84, top, WIDTH - 28, top + PANEL, clip.frames / clip.fps, high, low)
    title = f"{METRICS[name].title} {metric.value:.{METRICS[name].decimals}f}"
    panel.axes(canvas, title, (low, (low + high) / 2, high), seconds_shown=True)
    times = (np.arange(len(curve)) + 0.5) / clip.fps if metric.times is None else metric.times
    for part in np.split(np.arange(len(curve)), np.flatnonzero(np.diff(known)) + 1):
        if len(part) and known[part[0]]:
            points = panel.points(times[part], curve[part])
            canvas.line(points if len(points) > 1 else points.repeat(2, axis=0), LINE, 2.0)
    if low <= metric.value <= high:
        canvas.line(panel.points([0, panel.seconds], [metric.value] * 2), INK, 1.2, dash=6)
