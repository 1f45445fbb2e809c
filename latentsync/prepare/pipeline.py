"""All stages in order, over all items, going on where an earlier run stopped."""

import logging
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .executor import Executor, InProcess
from .manifest import MANIFEST, Item, Journal, write_manifest
from .plan import VERSIONS, Plan, check_tools, judge
from .read import shots, split
from .report import Report, Row
from .settings import FPS, PrepareSettings, Tools
from .sources import Source, find_sources
from .work import Outcome

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
