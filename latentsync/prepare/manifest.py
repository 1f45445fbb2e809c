"""What has been done, so that nothing is done twice, and what came of each item.

journal.jsonl is appended to, one line for each finished piece of work; manifest.jsonl is made from it at the end.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..files import JsonLines, replacing
from .executor import Job, Outcome
from .settings import FPS
from .sources import Source

JOURNAL, MANIFEST = "journal.jsonl", "manifest.jsonl"


class Journal(JsonLines):
    """The outcomes of all jobs done in an output folder, whatever ended the runs.

    The last line of a stage and item counts; one without outcome says that it is not known any more.
    """

    def __init__(self, folder: Path):
        self._entries: dict[tuple[str, str], tuple[str, Outcome | None]] = {}
        super().__init__(folder / JOURNAL)
        for line in self.values:
            with suppress(ValueError, TypeError):  # of another version; that piece of work is done again
                stage, item, fingerprint, outcome = line
                self._entries[stage, item] = fingerprint, outcome and Outcome(**outcome)

    def get(self, job: Job) -> Outcome | None:
        """Of this very job, if it has been done."""
        fingerprint, outcome = self._entries.get((job.stage, job.item), (None, None))
        return outcome if fingerprint == job.fingerprint else None

    def add(self, job: Job, outcome: Outcome) -> None:
        """Keep an outcome, unless another run should try again."""
        if outcome.final:
            self._note(job, {"figures": outcome.figures, "reason": outcome.reason, "sentence": outcome.sentence})

    def forget(self, job: Job) -> None:
        """Its files are about to be written: from now on an older outcome no longer speaks of what is in them."""
        if (job.stage, job.item) in self._entries:
            self._note(job, None)

    def _note(self, job: Job, outcome: dict | None) -> None:
        self.append([job.stage, job.item, job.fingerprint, outcome])
        self._entries[job.stage, job.item] = job.fingerprint, outcome and Outcome(**outcome)


@dataclass
class Item:
    """A source, or frames `start` to `stop` of it at 25 frames/s, on its way through the stages.

    `stage` is the last one that it reached. At its end it is dropped, for a `reason`, or kept, as the file `clip`.
    """

    source: Source
    start: int | None = None
    stop: int | None = None
    figures: dict[str, object] = field(default_factory=dict)
    stage: str = ""
    reason: str | None = None
    sentence: str = ""

    @property
    def name(self) -> str:
        """What it is called in the journal."""
        return self.source.name if self.start is None else f"{self.source.name}@{self.start}-{self.stop}"

    @property
    def label(self) -> str:
        """What its files are called, without an ending."""
        return self.source.label if self.start is None else f"{self.source.label}-{self.start:06d}-{self.stop:06d}"

    @property
    def clip(self) -> str | None:
        """Its finished clip, in the output folder."""
        return f"clips/{self.label}.mp4" if self.stage == "clip" and self.reason is None else None

    def line(self) -> dict[str, object]:
        """Its line in the manifest. Times are seconds of the source."""
        return {
            "source": self.source.name,
            "seconds": None if self.start is None else [self.start / FPS, self.stop / FPS],
            "stage": self.stage,
            "fate": "kept" if self.reason is None else "dropped",
            "reason": self.reason,
            "sentence": self.sentence,
            "clip": self.clip,
            "figures": self.figures,
        }


def write_manifest(path: Path, items: Iterable[Item]) -> None:
    """One line for each item, by source and time; nothing in it says when, where or in which order it was made."""
    ordered = sorted(items, key=lambda item: (item.source.name, -1 if item.start is None else item.start))
    with replacing(path) as part:
        part.write_text("".join(json.dumps(item.line(), ensure_ascii=False) + "\n" for item in ordered), "utf-8")
