"""The metrics of all videos: a table in Markdown, JSON, and a chart of each video."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..face.track_sheet import write_png
from ..files import replacing
from .charts import drawn, new_figure, style
from .metrics import METRICS, MetricValue

ARROWS = {"higher": "↑", "lower": "↓", "zero": "→0"}
REGIONS = {"frame": "whole frames", "face": "aligned faces", "mouth": "the square around the mouth"}


@dataclass
class VideoReport:
    """The metrics of one video."""

    metrics: Sequence[str]  # that were asked for
    video: Path
    reference: Path | None
    frames: int  # that were compared, or of the video where it has no reference
    fps: float
    values: dict[str, MetricValue] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # why a metric has no value
    notes: list[str] = field(default_factory=list)

    def add(self, values: Mapping[str, MetricValue]) -> None:
        self.values |= {name: value for name, value in values.items() if name in self.metrics}

    def fail(self, measured_by: str, error: Exception) -> None:
        """The metrics of this measurement have no value."""
        self.missing |= {name: str(error) for name in self.metrics if METRICS[name].measured_by == measured_by}

    def figures(self) -> dict[str, float]:
        return {name: metric.value for name, metric in self.values.items()}


@dataclass
class Report:
    """The metrics of all videos."""

    metrics: Sequence[str]
    region: str
    protocol: str = "own"
    about_protocol: str = ""  # what that means, in a sentence or two
    videos: list[VideoReport] = field(default_factory=list)
    pooled: dict[str, float] = field(default_factory=dict)  # metrics that take all videos together
    missing_of_all: dict[str, str] = field(default_factory=dict)  # why one of those has no value
    notes: list[str] = field(default_factory=list)

    @property
    def overall(self) -> dict[str, float]:
        """Means over the videos, and the pooled metrics."""
        values = {name: [v.values[name].value for v in self.videos if name in v.values] for name in self.metrics}
        means = {name: float(np.mean(found)) for name, found in values.items() if found}
        return {name: (means | self.pooled)[name] for name in self.metrics if name in means | self.pooled}

    @property
    def missing(self) -> list[str]:
        """A sentence for each reason why values are missing: of which metrics, and of which videos if not of all."""
        found: dict[tuple[str, str], list[str]] = {}
        for video in self.videos:
            for reason in dict.fromkeys(video.missing.values()):
                titles = ", ".join(METRICS[name].title for name in self.metrics if video.missing.get(name) == reason)
                found.setdefault((titles, reason), []).append(video.video.name)
        sentences = [f"{METRICS[name].title}: {reason}" for name, reason in self.missing_of_all.items()]
        for (titles, reason), names in found.items():
            where = "" if len(names) == len(self.videos) else f" of {', '.join(names)}"
            sentences.append(f"{titles}{where}: {reason}")
        return sentences

    @property
    def all_notes(self) -> list[str]:
        return [note for video in self.videos for note in video.notes] + self.notes

    def markdown(self) -> str:
        """The table, with a line for each note and for each missing metric."""

        def row(video: str, frames: int | str, figures: Mapping[str, float]) -> list[str]:
            cells = [f"{figures[n]:.{METRICS[n].decimals}f}" if n in figures else "-" for n in self.metrics]
            return [video, str(frames), *cells]

        titles = [f"{METRICS[name].title} {ARROWS[METRICS[name].better]}" for name in self.metrics]
        rows = [["video", "frames", *titles], ["---", *["---:"] * (len(titles) + 1)]]
        rows += [row(video.video.name, video.frames, video.figures()) for video in self.videos]
        rows += [row("**all**", sum(video.frames for video in self.videos) or "-", self.overall)]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in rows)
        lines = [f"- note: {note}" for note in self.all_notes] + [f"- missing: {reason}" for reason in self.missing]
        head = [f"Protocol: {self.protocol}. {self.about_protocol}".rstrip()]
        head += [f"Pictures compared: {REGIONS[self.region]}."] if self.videos else []
        return "\n\n".join(["  \n".join(head), table, *(["\n".join(lines)] if lines else [])])

    def write_json(self, path: Path) -> None:
        """Everything but the curves; a missing value is null, and the PSNR of equal pictures is "inf"."""

        def plain(figures: Mapping[str, float]) -> dict[str, float | str | None]:
            found = {name: figures.get(name) for name in self.metrics}
            return {name: f if f is None or math.isfinite(f) else str(f) for name, f in found.items()}

        videos = [
            {
                "video": str(video.video),
                "reference": None if video.reference is None else str(video.reference),
                "frames": video.frames,
                "fps": video.fps,
                "figures": plain(video.figures()),
                "missing": video.missing,
            }
            for video in self.videos
        ]
        content = {
            "protocol": self.protocol,
            "about_protocol": self.about_protocol,
            "region": self.region,
            "metrics": {n: {k: getattr(METRICS[n], k) for k in ("title", "better", "about")} for n in self.metrics},
            "videos": videos,
            "all": plain(self.overall),
            "missing": self.missing,
            "notes": self.all_notes,
        }
        with replacing(path) as part:
            part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def write_charts(self, folder: Path | None = None) -> None:
        """NAME.metrics.png for each video that has a curve, in `folder` or beside the video."""
        for video in self.videos:
            if any(metric.curve is not None for metric in video.values.values()):
                path = (folder or video.video.parent) / f"{video.video.stem}.metrics.png"
                write_png(path, chart(video, self.protocol))


def chart(video: VideoReport, protocol: str) -> np.ndarray:
    """A panel for each metric with a curve, one below the other, its mean dashed: (h, 1280, 3) uint8."""
    curves = {name: metric for name, metric in video.values.items() if metric.curve is not None}
    figure = new_figure(1280, 60 + 190 * len(curves), f"{video.video.name} ({protocol} protocol)")
    panels = figure.subplots(len(curves), squeeze=False)[:, 0]
    for axes, (name, metric) in zip(panels, curves.items(), strict=True):
        times = (np.arange(len(metric.curve)) + 0.5) / video.fps if metric.times is None else metric.times
        known = np.where(np.isfinite(metric.curve), metric.curve, np.nan)  # gaps where there is no number
        axes.plot(times, known, color="#2e6eb4", linewidth=1.2, marker="." if len(known) < 3 else None)
        if math.isfinite(metric.value):
            axes.axhline(metric.value, color="#262a32", linewidth=0.8, linestyle="--")
        axes.set_xlim(0, video.frames / video.fps)
        style(axes, f"{METRICS[name].title} {metric.value:.{METRICS[name].decimals}f}", "seconds")
    return drawn(figure)
