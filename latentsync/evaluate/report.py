"""The metrics of all videos: a table in Markdown, JSON, a chart of each video, and a page to look at."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..face.track_sheet import write_png
from ..files import replacing
from .charts import drawn, new_figure, style
from .metrics import METRICS, MetricValue
from .moments import Moment, as_png

ARROWS = {"higher": "↑", "lower": "↓", "zero": "→0", "source": "→source"}
TEMPLATE = Path(__file__).with_name("report.html")
LEAKS = ("lip_leak", "leak_c", "stable_leak")
LINE, SOURCE = "#2e6eb4", "#b4bac6"
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
    language: str = ""
    sound: str = ""  # what it is to the reference's, see `curves.kind_of_sound`
    codecs: str = ""  # of pictures and sound
    source: "VideoReport | None" = None  # of the reference by itself
    moments: list[Moment] = field(default_factory=list)

    def add(self, values: Mapping[str, MetricValue | str]) -> None:
        """Take the values of metrics that were asked for; a sentence says why there is none.

        With the source's own sound nothing tells what leaks from what is right: then there is "lip_match" alone.
        """
        idle = LEAKS if self.sound == "matched" else ("lip_match",)
        for name, value in values.items():
            if name in self.metrics and name not in (*self.missing, *idle):
                (self.missing if isinstance(value, str) else self.values)[name] = value

    def fail(self, measured_by: str, error: Exception) -> None:
        """The metrics of this measurement have no value."""
        self.missing |= {name: str(error) for name in self.metrics if METRICS[name].measured_by == measured_by}

    def figures(self) -> dict[str, float]:
        return {name: metric.value for name, metric in self.values.items()}

    def row(self) -> dict:
        """All of it as JSON can hold it."""
        return asdict(self) | {
            "video": str(self.video),
            "reference": self.reference and str(self.reference),
            "values": {name: [_plain(v) for v in (m.value, m.curve, m.times)] for name, m in self.values.items()},
            "source": self.source and self.source.row(),
        }

    @classmethod
    def from_row(cls, row: dict) -> "VideoReport":
        names = cls.__dataclass_fields__
        values = {
            name: MetricValue(float(value), *(part if part is None else np.array(part, float) for part in curve))
            for name, (value, *curve) in row["values"].items()
        }
        return cls(**{name: row[name] for name in names} | {
            "video": Path(row["video"]),
            "reference": row["reference"] and Path(row["reference"]),
            "values": values,
            "source": row["source"] and cls.from_row(row["source"]),
            "moments": [Moment(**moment) for moment in row["moments"]],
        })  # fmt: skip


def _plain(value: float | np.ndarray | None) -> object:
    """Numbers as JSON has them: what is not finite as a word."""
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        return [_plain(float(number)) for number in value]
    return float(value) if math.isfinite(value) else str(value)


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

    def means(self, videos: Sequence[VideoReport]) -> dict[str, float]:
        """Of each metric that some of the videos have."""
        values = {name: [v.values[name].value for v in videos if name in v.values] for name in self.metrics}
        return {name: float(np.mean(found)) for name, found in values.items() if found}

    @property
    def overall(self) -> dict[str, float]:
        """Means over the videos, and the pooled metrics."""
        found = self.means(self.videos) | self.pooled
        return {name: found[name] for name in self.metrics if name in found}

    @property
    def sources(self) -> list[VideoReport]:
        """Of the source videos, each once."""
        return list({video.reference: video.source for video in self.videos if video.source}.values())

    @property
    def groups(self) -> dict[str, list[VideoReport]]:
        """The videos by what their sound is to their source's and by language, where they differ in it."""
        found: dict[str, list[VideoReport]] = {}
        for kind in ("sound", "language"):
            names = sorted({getattr(video, kind) for video in self.videos})
            for name in names if len(names) > 1 else ():
                found[f"{kind}: {name or 'unknown'}"] = [v for v in self.videos if getattr(v, kind) == name]
        return found

    def note_codecs(self, sync_codec: str) -> None:
        """Say what SyncNets judged: their figures move with the codec."""
        found = ", ".join(sorted({video.codecs for video in [*self.videos, *self.sources] if video.codecs}))
        if sync_codec != "raw":
            self.notes.append(f"SyncNets judge all files as {sync_codec} and AAC (they are {found})")
        elif "," in found:
            self.notes.append(
                f"files are of different codecs ({found}), with which Sync-C and Sync-D move by 0.4 to 1.2: compare "
                "them with --sync_codec h264"
            )

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
        return list(dict.fromkeys([note for video in self.videos for note in video.notes] + self.notes))

    def table(self, by_group: bool = False) -> list[list[str]]:
        """Rows of cells, first the heads: of each video, or of groups of them; of all, and of the source videos."""

        def row(name: str, videos: Sequence[VideoReport], figures: Mapping[str, float]) -> list[str]:
            known = ({getattr(video, kind) for video in videos} for kind in kinds)
            facts = [min(names) if len(names) == 1 else "" for names in known]
            cells = [f"{figures[n]:.{METRICS[n].decimals}f}" if n in figures else "-" for n in self.metrics]
            return [name, str(sum(video.frames for video in videos) or "-"), *facts, *cells]

        kinds = [kind for kind in ("sound", "language") if any(getattr(video, kind) for video in self.videos)]
        titles = [f"{METRICS[name].title} {ARROWS[METRICS[name].better]}" for name in self.metrics]
        rows = [["video", "frames", *kinds, *titles]]
        if by_group:
            rows += [row(name, videos, self.means(videos)) for name, videos in self.groups.items()]
        else:
            rows += [row(video.video.name, [video], video.figures()) for video in self.videos]
        rows.append(row("all", self.videos, self.overall))
        if self.sources:
            rows.append(row("source", self.sources, self.means(self.sources)))
        return rows

    @property
    def head(self) -> list[str]:
        """Sentences on what the figures are of."""
        found = [f"Protocol: {self.protocol}. {self.about_protocol}".rstrip()]
        return found + ([f"Pictures compared: {REGIONS[self.region]}."] if self.videos else [])

    def markdown(self, by_group: bool = False) -> str:
        """The table, with a line for each note and for each missing metric."""
        heads, *rows = self.table(by_group)
        marks = ["---", *["---:"] * (len(heads) - 1)]
        rows = [[f"**{cells[0]}**" if cells[0] in ("all", "source") else cells[0], *cells[1:]] for cells in rows]
        rows = [[cell.replace("|", "\\|") for cell in cells] for cells in (heads, marks, *rows)]
        lines = [f"| {' | '.join(cells)} |" for cells in rows]
        told = [f"- note: {note}" for note in self.all_notes] + [f"- missing: {reason}" for reason in self.missing]
        return "\n\n".join(["  \n".join(self.head), "\n".join(lines), *(["\n".join(told)] if told else [])])

    def write_json(self, path: Path) -> None:
        """Everything but the curves; a missing value is null, and the PSNR of equal pictures is "inf"."""

        def plain(figures: Mapping[str, float]) -> dict[str, float | str | None]:
            return {name: _plain(figures.get(name)) for name in self.metrics}

        videos = [
            {
                "video": str(video.video),
                "reference": None if video.reference is None else str(video.reference),
                "frames": video.frames,
                "fps": video.fps,
                "sound": video.sound,
                "language": video.language,
                "codecs": video.codecs,
                "figures": plain(video.figures()),
                "source": video.source and plain(video.source.figures()),
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
            if (picture := chart(video, self.protocol)) is not None:
                write_png((folder or video.video.parent) / f"{video.video.stem}.metrics.png", picture)

    def write_page(self, path: Path, by_group: bool = False) -> None:
        """One file of HTML that loads nothing: the table, and of each video its curves and its worst moments."""
        from jinja2 import Environment

        page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        page.filters |= {"png": as_png, "chart": lambda video: chart(video, self.protocol)}
        template = page.from_string(TEMPLATE.read_text(encoding="utf-8"))
        tables = [self.table(True), self.table()] if by_group else [self.table()]
        with replacing(path) as part:
            part.write_text(template.render(report=self, tables=tables, metrics=METRICS), encoding="utf-8")


def chart(video: VideoReport, protocol: str) -> np.ndarray | None:
    """A panel for each metric with a curve, one below the other, its mean dashed: (h, 1280, 3) uint8.

    Where the source has that curve too, it is grey. None if there is nothing to draw.
    """
    curves = {name: metric for name, metric in video.values.items() if metric.curve is not None}
    if not curves:
        return None
    figure = new_figure(1280, 60 + 190 * len(curves), f"{video.video.name} ({protocol} protocol)")
    panels = figure.subplots(len(curves), squeeze=False)[:, 0]
    for axes, (name, metric) in zip(panels, curves.items(), strict=True):
        source = video.source and video.source.values.get(name)
        for shown, look in ((source, {"color": SOURCE}), (metric, {"color": LINE, "marker": "."})):
            if shown and shown.curve is not None:
                times = (np.arange(len(shown.curve)) + 0.5) / video.fps if shown.times is None else shown.times
                known = np.where(np.isfinite(shown.curve), shown.curve, np.nan)  # gaps where there is no number
                look = look if len(known) < 3 else look | {"marker": None}
                axes.plot(times, known, linewidth=1.2, **look)
        if math.isfinite(metric.value) and METRICS[name].better != "source":  # whose value is no mean
            axes.axhline(metric.value, color="#262a32", linewidth=0.8, linestyle="--")
        axes.set_xlim(0, video.frames / video.fps)
        style(axes, f"{METRICS[name].title} {metric.value:.{METRICS[name].decimals}f}", "seconds")
    return drawn(figure)
