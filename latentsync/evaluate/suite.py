"""A whole set of results: which videos it has, and their rows, kept so that an interrupted run goes on."""

import csv
import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ..errors import FileError, InputError
from ..files import JsonLines, file_version, reading, replacing
from ..models.load import find_checkpoints
from ..progress import Bar
from .frechet import Gaussian, Sums
from .pair import Pair, videos_in
from .report import VideoReport
from .settings import EvaluateSettings

TABLE, MANIFEST, ROWS, SUMS = "suite.csv", "manifest.jsonl", "evaluation.jsonl", "evaluation.npz"
COLUMNS = {"video", "reference", "language"}


def find_suite(folder: Path, language: str = "") -> list[Pair]:
    """The videos of a suite and their sources: those of its table, of what `batch` wrote, or of two folders."""
    if not folder.is_dir():
        raise FileError(f"there is no folder {folder}: give one with {TABLE}, or the --out of batch")
    if (folder / TABLE).is_file():
        pairs = _from_table(folder / TABLE, language)
    elif (folder / MANIFEST).is_file():
        with reading(folder / MANIFEST):
            lines = (folder / MANIFEST).read_text(encoding="utf-8", errors="replace").splitlines()
        done = [row for row in map(_json_of, lines) if row.get("status") == "done"]
        files = [[row.get(name) for name in ("output", "video")] for row in done]
        # The last line of an output holds.
        last = {row[0]: row for row in files if all(isinstance(path, str) for path in row)}
        pairs = [Pair(Path(made), Path(true), language) for made, true in last.values()]
    elif (folder / "results").is_dir() and (folder / "sources").is_dir():
        made, true = videos_in(folder / "results"), videos_in(folder / "sources")
        # The result of other words is called SOURCE__WORDS.
        sources = {name: true.get(name, true.get(name.partition("__")[0])) for name in made}
        if alone := [made[name].name for name, source in sources.items() if source is None]:
            raise InputError(f"{folder / 'sources'} has no video of {', '.join(alone[:3])}: call it a.mp4 or a__b.mp4")
        pairs = [Pair(path, sources[name], language) for name, path in made.items()]
    else:
        raise InputError(
            f"{folder} is no suite: it needs {TABLE} (video,reference,language), the {MANIFEST} of batch, or the "
            "folders results and sources"
        )
    if not pairs:
        raise InputError(f"the suite {folder} has no videos: put some into it")
    for path in (path for pair in pairs for path in (pair.video, pair.reference) if path is not None):
        if not path.is_file():
            raise FileError(f"there is no video {path}, which the suite {folder} names: check the path")
    return pairs


def _from_table(path: Path, language: str) -> list[Pair]:
    try:
        with reading(path), path.open(newline="", encoding="utf-8-sig") as file:  # Excel begins with a byte order mark
            reader = csv.DictReader(file, restval="", strict=True)
            if not {"video"} <= set(reader.fieldnames or ()) <= COLUMNS:
                raise InputError(f"{path} has the columns {reader.fieldnames}: give video, reference, language")
            rows = list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not CSV text in UTF-8 ({error}): save it as that") from error
    return [
        Pair(
            path.parent / row["video"],
            path.parent / row["reference"] if row.get("reference") else None,
            row.get("language") or language,
        )
        for row in rows
    ]


def _json_of(line: str) -> dict:
    """{} for what a killed process left half written."""
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class FinishedRows(AbstractContextManager):
    """The rows of a suite that are done, with what their videos gave to the metrics of all of them together.

    A row counts as long as its files, the metrics, the settings and the weights are the same. Sums cannot be taken
    apart: once a row that is in them does not count any more, all begin anew.
    """

    def __init__(
        self, folder: Path, pairs: Sequence[Pair], metrics: Sequence[str], settings: EvaluateSettings, bar: Bar
    ):
        self._file, self._sums_path, self._bar = JsonLines(folder / ROWS), folder / SUMS, bar
        weights = list(vars(find_checkpoints(settings.checkpoints)).values())[1:]
        read = [file_version(path) for path in (*weights, settings.detector_model, settings.syncnet) if path]
        how = json.dumps(
            [list(VideoReport.__dataclass_fields__), list(metrics), asdict(replace(settings, device=None)), read],
            default=str,
        )
        self._keys = {pair: self._key(pair, how) for pair in pairs}
        self.sums: dict[str, Sums] = {}
        self._rows: dict[str, dict] = {}
        summed = self._read_sums()
        rows = {row["key"]: row for row in self._file.values if isinstance(row, dict) and "key" in row}
        counts = summed & set(self._keys.values()) & rows.keys()
        if self.sums and counts != summed:
            counts = set()
            self.sums.clear()
        self._rows = {key: rows[key] for key in counts}
        bar("videos", len(self._rows), len(self._keys))

    def _key(self, pair: Pair, how: str) -> str:
        files = [[str(path), file_version(path)] for path in (pair.video, pair.reference) if path]
        return hashlib.sha256(json.dumps([files, pair.language, how]).encode()).hexdigest()[:20]

    def _read_sums(self) -> set[str]:
        """Fills `sums`; gives the keys of the rows that are in them."""
        if not self._sums_path.is_file():
            return set()
        try:
            with np.load(self._sums_path, allow_pickle=False) as content:
                for name in {entry.split("/")[0] for entry in content.files} - {"rows"}:
                    parts = [[content[f"{name}/{k}/{part}"] for part in Gaussian.PARTS] for k in (0, 1)]
                    self.sums[name] = tuple(Gaussian(*some) for some in parts)
                return set(content["rows"].tolist())
        except (BadZipFile, ValueError, KeyError, OSError, EOFError) as error:
            raise InputError(f"{self._sums_path} is damaged ({error}): remove it, and the suite begins anew") from error

    def take(self, pair: Pair) -> VideoReport | None:
        """The row of a video, if it is done."""
        row = self._rows.get(self._keys[pair])
        return None if row is None else VideoReport.from_row(row)

    def add(self, pair: Pair, video: VideoReport) -> None:
        """Keep a row: the line first, for only what is in the sums counts."""
        key = self._keys[pair]
        self._file.append({"key": key} | video.row())
        self._rows[key] = {}
        parts = {
            f"{name}/{k}/{part}": getattr(gaussian, part)
            for name, sums in self.sums.items()
            for k, gaussian in enumerate(sums)
            for part in Gaussian.PARTS
        }
        with replacing(self._sums_path) as path, path.open("wb") as file:
            np.savez(file, rows=np.array(sorted(self._rows)), **parts)
        self._bar("videos", len(self._rows), len(self._keys))

    def __call__(self, phase: str, done: float, total: int) -> None:
        """The `Progress` of a video: what is done of it stands behind the bar of the suite."""
        self._bar("videos", len(self._rows), len(self._keys), f"{phase} {done:.0f}/{total}")

    def __exit__(self, kind, error, trace) -> None:
        self._file.__exit__(kind, error, trace)
        if isinstance(error, KeyboardInterrupt) and not error.args:
            done = f"{len(self._rows)} of {len(self._keys)} videos are done"
            raise KeyboardInterrupt(f"{done}; run the same command again to go on") from error
