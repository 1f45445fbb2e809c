"""A piece of work that any process can do, and what came of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from .sources import SourceError


@dataclass(frozen=True)
class Outcome:
    """What one stage says of one item.

    Attributes:
        figures: what was measured; JSON numbers and lists.
        reason: None if the item goes on, else a stable word for why it is dropped.
        sentence: the same for people.
        final: False where a later run should try again.
    """

    figures: Mapping[str, object] = field(default_factory=dict)
    reason: str | None = None
    sentence: str = ""
    final: bool = True


class Work(Protocol):
    """A frozen dataclass of paths and numbers, which other processes get by pickling."""

    def run(self) -> Outcome:
        """Do it; files appear when they are complete. Raises SourceError if the source cannot be used."""


@dataclass(frozen=True)
class Job:
    """One stage of one item.

    Attributes:
        stage, item: what it is called in the journal.
        fingerprint: of everything that its outcome and its files depend on.
        work: what is to be done.
        files: what it writes.
    """

    stage: str
    item: str
    fingerprint: str
    work: Work
    files: tuple[Path, ...] = ()


def fingerprint(*facts: object) -> str:
    """A short hash of JSON values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


def perform(job: Job) -> Outcome:
    """Do a job in this process, on one thread, so that figures do not depend on how many jobs share the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return job.work.run()
    except SourceError as error:
        return Outcome(reason=error.reason, sentence=error.sentence, final=error.final)
    finally:
        torch.set_num_threads(threads)
