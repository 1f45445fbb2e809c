"""All stages in order, over all items, going on where an earlier run stopped."""

import logging
import re
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..errors import FileError, InputError
from ..face.detect import load_detector
from ..files import file_version, make_folder
from ..models.folders import find_checkpoints
from ..progress import Progress, no_progress
from .align import CRF, align_segment, finish_clip
from .executor import Executor, InProcess, Job, Outcome, fingerprint
from .filters import measure_quality, measure_sync
from .manifest import MANIFEST, Item, Journal, write_manifest
from .read import cut_source, import_scenedetect, read_source, shots, split
from .settings import FPS, PrepareSettings, Tools
from .sources import Source, find_sources

log = logging.getLogger(__name__)

# The stages that are done by jobs. A number is raised when its stage computes something else than before, so that
# older outcomes of it are not taken.
VERSIONS = {"read": 1, "cuts": 1, "align": 1, "sync": 1, "quality": 1, "clip": 1}
DETECTOR_NAMES = {"InsightFace": "insightface", "YuNet": "yunet", "CenterFace": "centerface", "RetinaFace": "facexlib"}
CLIP_NAME = re.compile(r"(.+-[0-9a-f]{10})-\d{6,}-\d{6,}\.mp4")  # `Source.label`, start, stop
NEEDED = {
    "sync": ("syncnet_v2", "auxiliary/syncnet_v2.model"),
    "quality": ("hyperiqa", "auxiliary/koniq_pretrained.pkl"),
}


def check_tools(settings: PrepareSettings, tools: Tools, sources: list[Source]) -> tuple[Tools, dict[str, Path]]:
    """The tools with the detector by its own name, and the weights of each stage that needs some."""
    if "cuts" in settings.stages:
        import_scenedetect()
    # Workers may have another current folder.
    model = tools.detector_model and Path(tools.detector_model).absolute()
    tools = replace(tools, detector_model=model, checkpoints=Path(tools.checkpoints).absolute())
    found = find_checkpoints(tools.checkpoints)
    weights = {stage: getattr(found, name) for stage, (name, _) in NEEDED.items() if stage in settings.stages}
    if missing := [stage for stage, path in weights.items() if path is None]:
        files = " and ".join(str(Path(tools.checkpoints) / NEEDED[stage][1]) for stage in missing)
        raise FileError(
            f"there is no {files} for {' and '.join(missing)}: fetch with `python -m latentsync download --only "
            f"auxiliary --checkpoints {tools.checkpoints}`, or leave these stages out with --skip {','.join(missing)}"
        )
    if tools.detector == "file":
        if model is None or not model.is_dir():
            raise FileError(f"detector_model is {model}: give a folder of track files, NAME.json for each NAME.mp4")
        if lacking := [file for source in sources if not (file := _track_file(model, source)).is_file()]:
            raise FileError(
                f"there is no track file {lacking[0]} ({len(lacking)} are missing): write it with "
                "`python -m latentsync track`"
            )
        return tools, weights
    detector = load_detector(tools.detector, model=model, checkpoints=tools.checkpoints, device=tools.device)
    name = DETECTOR_NAMES.get(type(detector).__name__)
    if name is None:
        raise InputError(f"{model} is for one video: give the detector file and a folder of track files")
    return replace(tools, detector=name), weights


def _track_file(folder: Path, source: Source) -> Path:
    return (folder / source.name).with_suffix(".json")


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


@dataclass(frozen=True)
class Row:
    """How one stage went: items before and after it, and dropped ones by reason."""

    stage: str
    entered: int
    left: int
    dropped: Mapping[str, int]
    worked: int  # on in this run; the others were done before
    seconds: float


@dataclass(frozen=True)
class Report:
    """The stages of a run, the number of finished clips, and where the fate of each item is written."""

    rows: tuple[Row, ...]
    clips: int
    manifest: Path

    def __str__(self) -> str:
        table = [("stage", "in", "out", "dropped", "per minute")]
        for row in self.rows:
            dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(row.dropped.items()))
            speed = f"{60 * row.worked / row.seconds:.1f}" if row.worked and row.seconds else "-"
            table.append((row.stage, str(row.entered), str(row.left), dropped or "-", speed))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
        return "\n".join([*lines, f"{self.clips} clips; the fate of each item is in {self.manifest}"])


def prepare(
    inputs: str | Path,
    output: str | Path,
    settings: PrepareSettings | None = None,
    tools: Tools | None = None,
    *,
    executor: Executor | None = None,
    keep_work: bool = False,
    progress: Progress = no_progress,
) -> Report:
    """Make clips to train on out of the videos of `find_sources`; goes on where an earlier call was interrupted.

    In `output`: clips/ holds the finished clips (aligned faces at 25 frames/s, 16 kHz mono sound in FLAC),
    manifest.jsonl the fate of every item (`Item.line`), journal.jsonl what has been done, and work/, until the end,
    what the stages hand on. What is as it was (source, settings, weights) is not done again. Clips of the given sources
    that no longer come out are removed; those of sources that are not given this time stay, outside the manifest.
    """
    settings, tools, output = settings or PrepareSettings(), tools or Tools(), Path(output).absolute()
    sources = find_sources(inputs, output)
    tools, weights = check_tools(settings, tools, sources)
    work, clips = output / "work", output / "clips"
    for folder in (clips, work / "read", work / "align"):
        make_folder(folder)
    with Journal(output) as journal, executor or InProcess() as executor:
        for part in clips.glob("*.part"):  # of a killed run; no other one is at work here
            part.unlink()
        run = Run(work, clips, settings, tools, weights, journal, executor, progress)
        items, rows = run.all_stages(sources)
        write_manifest(output / MANIFEST, items)
        kept = {item.clip for item in items if item.clip}
        labels, others = {source.label for source in sources}, 0
        for match in filter(None, (CLIP_NAME.fullmatch(path.name) for path in clips.iterdir())):
            if match[1] not in labels:
                others += 1
            elif f"clips/{match[0]}" not in kept:  # it did not come out this time
                (clips / match[0]).unlink()
        if others:
            log.info("%s also holds %d clips of sources that were not given this time", clips, others)
        if not keep_work:
            shutil.rmtree(work)
    return Report(tuple(rows), len(kept), output / MANIFEST)


@dataclass(frozen=True)
class Run:
    """What the stages share."""

    work: Path  # a folder, as `clips`
    clips: Path
    settings: PrepareSettings
    tools: Tools
    weights: dict[str, Path]  # see `check_tools`
    journal: Journal
    executor: Executor
    progress: Progress

    def job(self, stage: str, item: Item) -> Job:
        """The job of this stage; for "clip", the item must have been through "sync" if that is run."""
        source, span, settings, tools = item.source, (item.start, item.stop), self.settings, self.tools
        model = _track_file(tools.detector_model, source) if tools.detector == "file" else tools.detector_model
        sound = self.work / "read" / f"{source.label}.wav"
        video, boxes = (self.work / "align" / f"{item.label}.{ending}" for ending in ("mp4", "npy"))
        detected_by = tools.detector, model and file_version(model)
        aligned_by = *detected_by, settings.resolution, CRF
        weights = self.weights.get(stage)
        files, facts = (), ()
        if stage == "read":
            work, files = partial(read_source, source, sound), (sound,)
        elif stage == "cuts":
            work, facts = partial(cut_source, source, settings.cut_threshold), (settings.cut_threshold,)
        elif stage == "align":
            files, facts = (video, boxes), aligned_by
            detector = replace(tools, detector_model=model)
            work = partial(align_segment, source, *span, detector, settings.resolution, *files)
        elif stage == "sync":
            work = partial(measure_sync, source, *span, boxes, sound, weights, tools.device)
            facts = *detected_by, file_version(weights)
        elif stage == "quality":
            work, facts = partial(measure_quality, video, weights, tools.device), (*aligned_by, file_version(weights))
        else:
            offset, out = item.figures.get("offset", 0), self.clips / f"{item.label}.mp4"
            work = partial(finish_clip, *span, offset, sound, video, out)
            files, facts = (out,), (*aligned_by, offset)
        mark = fingerprint(stage, VERSIONS[stage], item.name, file_version(source.path), *facts)
        return Job(stage, item.name, mark, work, files)

    def all_stages(self, sources: Sequence[Source]) -> tuple[list[Item], list[Row]]:
        """Every item at its end (dropped sources, shots that are too short, segments), and how each stage went."""
        items, ended, rows = [Item(source) for source in sources], [], []
        settled = set()  # for which nothing is left to do; of a source, for all of its segments too
        for item in items:
            known = self.recall(item)
            if known is not None and all(map(self.recall, segments(known, self.settings))):
                settled.add(item.name)
        for stage in self.settings.stages:
            if stage == "segments":
                items = [segment for item in items for segment in segments(item, self.settings)]
                settled = {item.name for item in items if self.recall(item)}
            start = time.perf_counter()
            worked = self._do(stage, items, settled) if stage in VERSIONS else 0
            seconds = time.perf_counter() - start
            for item in items:
                conclude(stage, item, self.settings)
            dropped = [item for item in items if item.reason is not None]
            left = [item for item in items if item.reason is None]
            rows.append(Row(stage, len(items), len(left), Counter(item.reason for item in dropped), worked, seconds))
            ended, items = ended + dropped, left
        return ended + items, rows

    def _do(self, stage: str, items: Sequence[Item], settled: set[str]) -> int:
        """Bring `items` through a stage, each by its job or by what is known of it; returns the number of jobs done.

        What other items need of the files of work/ may have been removed, and is then made again.
        """
        pending = {}
        for item in items:
            job = self.job(stage, item)
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

    def recall(self, item: Item) -> Item | None:
        """An item as it will be at its end (a source: when it is cut), if the journal knows that; None if not."""
        item = replace(item, figures=dict(item.figures))
        stages = self.settings.stages
        middle = stages.index("segments")
        for stage in stages[:middle] if item.start is None else stages[middle + 1 :]:
            if item.reason is not None:
                break
            if stage in VERSIONS:
                job = self.job(stage, item)
                outcome = self.journal.get(job)
                if outcome is None or (stage == "clip" and not job.files[0].is_file()):
                    return None
                take(outcome, item)
            conclude(stage, item, self.settings)
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
