"""All stages in order, over all items, going on where an earlier run stopped."""

import logging
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..face.detect import load_detector
from ..models.folders import find_checkpoints
from .align import Align, Clip, DetectorChoice
from .executor import Executor, InProcess, Job, Outcome, fingerprint
from .filters import Quality, Sync
from .manifest import MANIFEST, Item, Journal, write_manifest
from .read import Cuts, Read, import_scenedetect, shots, split
from .settings import FPS, PrepareSettings, Tools
from .sources import Source, find_sources, identity

# The stages that are done by jobs. A number is raised when its stage computes something else than before, so that
# older outcomes of it are not taken.
VERSIONS = {"read": 1, "cuts": 1, "align": 1, "sync": 1, "quality": 1, "clip": 1}
DETECTOR_NAMES = {"InsightFace": "insightface", "YuNet": "yunet", "RetinaFace": "facexlib"}
NEEDED = {
    "sync": ("syncnet_v2", "auxiliary/syncnet_v2.model"),
    "quality": ("hyperiqa", "auxiliary/koniq_pretrained.pkl"),
}


def check_tools(settings: PrepareSettings, tools: Tools, sources: list[Source]) -> tuple[Tools, dict[str, Path]]:
    """The tools with the detector by its own name, and the weights of each stage that needs some.

    Raises:
        FileNotFoundError: weights, a detector's model or track files are not there; the sentence says how to get them.
        ImportError: PySceneDetect is not installed, or what the detector needs.
        ValueError: see `detect.load_detector`.
    """
    if "cuts" in settings.stages:
        import_scenedetect()
    # Workers may have another current folder.
    model = tools.detector_model and Path(tools.detector_model).absolute()
    tools = replace(tools, detector_model=model, checkpoints=Path(tools.checkpoints).absolute())
    found = find_checkpoints(tools.checkpoints)
    weights = {stage: getattr(found, name) for stage, (name, _) in NEEDED.items() if stage in settings.stages}
    if missing := [stage for stage, path in weights.items() if path is None]:
        files = " and ".join(str(Path(tools.checkpoints) / NEEDED[stage][1]) for stage in missing)
        raise FileNotFoundError(
            f"{files} not there, which {' and '.join(missing)} need: fetch with `python -m latentsync download --only "
            f"auxiliary --checkpoints {tools.checkpoints}`, or leave the stages out with --skip {','.join(missing)}"
        )
    if tools.detector == "file":
        _check_track_files(tools, sources)
        return tools, weights
    detector = load_detector(
        tools.detector, model=tools.detector_model, checkpoints=tools.checkpoints, device=tools.device
    )
    name = DETECTOR_NAMES.get(type(detector).__name__)
    if name is None:
        raise InputError(f"{tools.detector_model} is for one video: give the detector file and a folder of track files")
    return replace(tools, detector=name), weights


def _check_track_files(tools: Tools, sources: list[Source]) -> None:
    folder = tools.detector_model
    if folder is None or not Path(folder).is_dir():
        raise FileNotFoundError(
            f"the detector file needs a folder of track files, and detector_model is {folder}: it holds NAME.json for "
            "each video NAME.mp4"
        )
    lacking = [source for source in sources if not _track_file(folder, source).is_file()]
    if lacking:
        raise FileNotFoundError(
            f"{_track_file(folder, lacking[0])}: no such track file ({len(lacking)} are missing); write it with "
            "`python -m latentsync track`"
        )


def _track_file(folder: str | os.PathLike, source: Source) -> Path:
    return (Path(folder) / source.name).with_suffix(".json")


@dataclass
class Plan:
    """Makes the jobs of every item. `weights` are the files that `check_tools` found."""

    folder: Path
    settings: PrepareSettings
    tools: Tools
    weights: dict[str, Path]

    @property
    def work_folder(self) -> Path:
        return self.folder / "work"

    @property
    def clips_folder(self) -> Path:
        return self.folder / "clips"

    def make_folders(self) -> None:
        for folder in (self.clips_folder, self.work_folder / "read", self.work_folder / "align"):
            folder.mkdir(parents=True, exist_ok=True)

    def job(self, stage: str, item: Item) -> Job:
        """The job of this stage; for "clip", the item must have been through "sync" if that is run."""
        return {
            "read": self._read,
            "cuts": self._cuts,
            "align": self._align,
            "sync": self._sync,
            "quality": self._quality,
            "clip": self._clip,
        }[stage](item)

    def _read(self, item: Item) -> Job:
        sound = self._sound(item)
        return self._job("read", item, Read(item.source, sound), (sound,))

    def _cuts(self, item: Item) -> Job:
        threshold = self.settings.cut_threshold
        return self._job("cuts", item, Cuts(item.source, threshold), (), threshold)

    def _align(self, item: Item) -> Job:
        video, boxes = self._aligned(item)
        detector = DetectorChoice(
            self.tools.detector, self._detector_model(item), self.tools.checkpoints, self.tools.device
        )
        work = Align(
            item.source, item.start, item.stop, detector, self.settings.resolution, self.settings.crf, video, boxes
        )
        return self._job("align", item, work, (video, boxes), *self._align_facts(item))

    def _sync(self, item: Item) -> Job:
        weights = self.weights["sync"]
        boxes = self._aligned(item)[1]
        work = Sync(item.source, item.start, item.stop, boxes, self._sound(item), weights, self.tools.device)
        return self._job("sync", item, work, (), *self._detector_facts(item), identity(weights))

    def _quality(self, item: Item) -> Job:
        weights = self.weights["quality"]
        work = Quality(self._aligned(item)[0], weights, self.tools.device)
        return self._job("quality", item, work, (), *self._align_facts(item), identity(weights))

    def _clip(self, item: Item) -> Job:
        offset = item.figures.get("offset", 0)
        out = self.clips_folder / f"{item.label}.mp4"
        work = Clip(item.start, item.stop, offset, self._sound(item), self._aligned(item)[0], out)
        return self._job("clip", item, work, (out,), *self._align_facts(item), offset)

    def _job(self, stage: str, item: Item, work, files: tuple[Path, ...], *facts: object) -> Job:
        mark = fingerprint(stage, VERSIONS[stage], item.name, identity(item.source.path), *facts)
        return Job(stage, item.name, mark, work, files)

    def _detector_model(self, item: Item) -> Path | None:
        model = self.tools.detector_model
        return _track_file(model, item.source) if self.tools.detector == "file" else model

    def _detector_facts(self, item: Item) -> tuple:
        model = self._detector_model(item)
        return self.tools.detector, model and identity(model)

    def _align_facts(self, item: Item) -> tuple:
        return *self._detector_facts(item), self.settings.resolution, self.settings.crf

    def _sound(self, item: Item) -> Path:
        return self.work_folder / "read" / f"{item.source.label}.wav"

    def _aligned(self, item: Item) -> tuple[Path, Path]:
        folder = self.work_folder / "align"
        return folder / f"{item.label}.mp4", folder / f"{item.label}.npy"


def judge(stage: str, item: Item, settings: PrepareSettings) -> tuple[str, str] | None:
    """(reason, sentence) for dropping an item that has the figures of `stage`; None if it goes on."""
    figures = item.figures
    if stage == "face_size" and figures["face_size"] < settings.resolution:
        size = figures["face_size"]
        return "small_face", f"the face is {size:g} pixels wide, less than the resolution of {settings.resolution}"
    if stage == "sync" and figures["confidence"] < settings.min_confidence:
        return "low_confidence", f"SyncNet's confidence is {figures['confidence']:g}, under {settings.min_confidence:g}"
    if stage == "sync" and abs(figures["offset"]) > settings.max_offset:
        return "offset", f"the sound is {figures['offset']} frames off, over {settings.max_offset} either way"
    if stage == "quality" and figures["quality"] < settings.min_quality:
        return "low_quality", f"hyperIQA's score is {figures['quality']:g}, under {settings.min_quality:g}"
    return None


HEAD = ("stage", "in", "out", "dropped", "per minute")


@dataclass(frozen=True)
class Row:
    """One stage.

    Attributes:
        entered, left: items before and after it.
        dropped: number of dropped items by reason.
        worked: items that were worked on in this run; the others were done before.
        seconds: that the work took.
    """

    stage: str
    entered: int
    left: int
    dropped: Mapping[str, int]
    worked: int
    seconds: float

    def cells(self) -> tuple[str, ...]:
        dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()))
        speed = f"{60 * self.worked / self.seconds:.1f}" if self.worked and self.seconds else "-"
        return self.stage, str(self.entered), str(self.left), dropped or "-", speed


@dataclass(frozen=True)
class Report:
    """The stages of a run, the number of finished clips, and where the fate of each item is written."""

    rows: tuple[Row, ...]
    clips: int
    manifest: Path

    def __str__(self) -> str:
        table = [HEAD, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        return "\n".join([*lines, f"{self.clips} clips; the fate of each item is in {self.manifest}"])


logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
CLIP_NAME = re.compile(r"(.+-[0-9a-f]{10})-\d{6,}-\d{6,}\.mp4")  # `Source.label`, start, stop


def prepare(
    inputs: str | Path,
    output: str | Path,
    settings: PrepareSettings | None = None,
    tools: Tools | None = None,
    *,
    executor: Executor | None = None,
    keep_work: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Make clips to train on out of videos; the same call goes on where an earlier one was interrupted.

    In `output`: clips/ holds the finished clips (aligned faces at 25 frames/s, 16 kHz mono sound in FLAC),
    manifest.jsonl the fate of every item (`manifest.Item.line`), journal.jsonl what has been done, and work/ what
    the stages hand on. What is as it was (source, settings, weights) is not done again. Clips of the given sources
    that no longer come out are removed; those of sources that are not given this time stay, outside the manifest.

    Args:
        inputs: a folder, or a file that lists videos; see `sources.find_sources`.
        executor: None does everything in this process.
        keep_work: leave work/ there at the end.
        progress: called as (stage, items done, items in all); what it raises ends the run.

    Raises:
        ValueError, OSError, ImportError: bad input, in one sentence, before any work is started.
    """
    settings, tools, output = settings or PrepareSettings(), tools or Tools(), Path(output).absolute()
    sources = find_sources(inputs, output)
    plan = Plan(output, settings, *check_tools(settings, tools, sources))
    plan.make_folders()
    with Journal(output) as journal, executor or InProcess() as executor:
        for part in plan.clips_folder.glob("*.part"):  # of a killed run; no other one is at work here
            part.unlink()
        line = Line(plan, journal, executor, progress or (lambda stage, done, total: None))
        items, rows = line.run(sources)
        write_manifest(output / MANIFEST, items)
        kept = {item.clip for item in items if item.clip}
        _remove_outdated(plan, sources, kept)
        if not keep_work:
            shutil.rmtree(plan.work_folder)
    return Report(tuple(rows), len(kept), output / MANIFEST)


@dataclass(frozen=True)
class Line:
    """What the stages share: how jobs are made, remembered and done."""

    plan: Plan
    journal: Journal
    executor: Executor
    progress: Progress

    def run(self, sources: Sequence[Source]) -> tuple[list[Item], list[Row]]:
        """Every item at its end (dropped sources, shots that are too short, segments), and how each stage went."""
        items, ended, rows = [Item(source) for source in sources], [], []
        settled = {item.name for item in items if self._all_settled(item)}
        for stage in self.plan.settings.stages:
            if stage == "segments":
                items = [segment for item in items for segment in segments(item, self.plan.settings)]
                settled = {item.name for item in items if self.recall(item)}
            start = time.perf_counter()
            worked = self._work(stage, items, settled) if stage in VERSIONS else 0
            seconds = time.perf_counter() - start
            for item in items:
                conclude(stage, item, self.plan.settings)
            dropped = [item for item in items if item.reason is not None]
            left = [item for item in items if item.reason is None]
            reasons = Counter(item.reason for item in dropped)
            rows.append(Row(stage, len(items), len(left), reasons, worked, seconds))
            ended, items = ended + dropped, left
        return ended + items, rows

    def _work(self, stage: str, items: Sequence[Item], settled: set[str]) -> int:
        """Bring `items` through a stage, each by its job or by what is known of it; returns the number of jobs done.

        What other items need of the files of work/ may have been removed, and is then made again.
        """
        pending = {}
        for item in items:
            job = self.plan.job(stage, item)
            outcome = self.journal.get(job)
            if outcome and (outcome.reason or item.name in settled or all(file.is_file() for file in job.files)):
                take(outcome, item)
            else:
                pending[item.name] = item, job
                self.journal.forget(job)
        done = len(items) - len(pending)
        self.progress(stage, done, len(items))
        for job, outcome in self.executor.results([job for _, job in pending.values()]):
            self.journal.add(job, outcome)
            take(outcome, pending[job.item][0])
            done += 1
            self.progress(stage, done, len(items))
        return len(pending)

    def _all_settled(self, source: Item) -> bool:
        """Whether nothing is left to do for a source and all of its segments."""
        known = self.recall(source)
        return known is not None and all(map(self.recall, segments(known, self.plan.settings)))

    def recall(self, item: Item) -> Item | None:
        """An item as it will be at its end (a source: when it is cut), if the journal knows that; None if not."""
        item = replace(item, figures=dict(item.figures))
        stages = self.plan.settings.stages
        middle = stages.index("segments")
        for stage in stages[:middle] if item.start is None else stages[middle + 1 :]:
            if item.reason is not None:
                break
            if stage in VERSIONS:
                job = self.plan.job(stage, item)
                outcome = self.journal.get(job)
                if outcome is None or (stage == "clip" and not job.files[0].is_file()):
                    return None
                take(outcome, item)
            conclude(stage, item, self.plan.settings)
        return item


def take(outcome: Outcome, item: Item) -> None:
    """Put what a job found into its item."""
    item.figures.update(outcome.figures)
    item.reason, item.sentence = outcome.reason, outcome.sentence


def conclude(stage: str, item: Item, settings: PrepareSettings) -> None:
    """Decide, at the end of a stage, by an item's figures whether it goes on; after the last one it is kept."""
    item.stage = stage
    if item.reason is None:
        item.reason, item.sentence = judge(stage, item, settings) or (None, "")


def segments(source: Item, settings: PrepareSettings) -> list[Item]:
    """The segments of a source that has been cut, and its shots that are too short for one, as dropped items."""
    if source.reason is not None:
        return []
    found = []
    for start, stop in shots(source.figures["frames"], source.figures.get("cuts", [])):
        clips = split(start, stop, settings)
        found += [Item(source.source, a, b) for a, b in clips]
        if not clips:
            sentence = f"the shot lasts {(stop - start) / FPS:.2f} s, under {settings.min_seconds:g} s"
            found.append(Item(source.source, start, stop, reason="too_short", sentence=sentence))
    return found


def _remove_outdated(plan: Plan, sources: Iterable[Source], kept: set[str]) -> None:
    """Remove clips of `sources` that did not come out this time; files of other names are not ours."""
    labels, strangers = {source.label for source in sources}, 0
    for path in plan.clips_folder.iterdir():
        match = CLIP_NAME.fullmatch(path.name)
        if match is None:
            continue
        if match[1] not in labels:
            strangers += 1
        elif f"clips/{path.name}" not in kept:
            path.unlink()
    if strangers:
        logger.info("%s also holds %d clips of sources that were not given this time", plan.clips_folder, strangers)
