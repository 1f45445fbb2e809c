"""Work of the page, one piece at a time: it can be watched, and cancelled between two denoising steps."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError


class Cancelled(Exception):
    """Ends a job from inside; nothing but `Job.check` raises it."""


@dataclass(frozen=True, eq=False)
class Status:
    """How far a job is."""

    phase: str  # as `progress.Progress` calls it; empty before the work says so
    cancelling: bool
    done: float  # frames of the phase; denoising steps move it by fractions of a window
    total: int
    seconds_left: float | None  # of the phase
    before: int  # jobs that end first
    preview: Path | None  # the folder with what is done so far, in videos called 0.mp4, 1.mp4, ...
    pieces: int  # how many they are


class Job:
    """One piece of work. `progress`, `preview` and `pieces` are for the work itself; others watch and cancel."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.seen = clock()  # when its visitor was last there
        self.preview: Path | None = None
        self.pieces = 0
        self.future: Future | None = None  # the result or error of the work, once it is queued
        self._stop = threading.Event()
        self._state = ("", 0.0, 0)
        self._begun = (0.0, 0.0)  # when the phase began, and what was done then

    def progress(self, phase: str, done: float, total: int) -> None:
        """Say how far the work is; see `progress.Progress`."""
        self.check()
        if phase != self._state[0]:
            self._begun = (self.clock(), done)
        self._state = (phase, done, total)

    def check(self) -> None:
        if self._stop.is_set():
            raise Cancelled

    def cancel(self) -> None:
        """End the work at its next step, or before it begins; a finished job stays as it is."""
        self._stop.set()
        if self.future is not None:
            self.future.cancel()

    @property
    def ended(self) -> bool:
        return self.future is not None and self.future.done()

    def status(self, before: int = 0) -> Status:
        """How far the work is now, with `before` other jobs to be waited for."""
        phase, done, total = self._state
        since, at_first = self._begun
        gained = done - at_first
        left = (self.clock() - since) / gained * (total - done) if gained > 0 else None
        return Status(phase, self._stop.is_set(), done, total, left, before, self.preview, self.pieces)


class LineFull(InputError):
    """As many jobs are waiting as may."""


class JobQueue:
    """Up to `most` jobs, one after the other in the order in which they came, in a thread of their own."""

    def __init__(self, most: float = math.inf) -> None:
        self.most = most
        self._jobs: list[Job] = []  # that have not ended
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="latentsync-ui")

    @property
    def full(self) -> str:
        """Why no job is taken; empty if one is."""
        waiting = len(self._jobs)
        return f"{waiting} runs are waiting, and this page takes no more: try again later" * (waiting >= self.most)

    def add(self, job: Job, work: Callable[[], object]) -> Job:
        """Put `work` at the end of the queue; what it returns or raises is in `job.future`."""
        with self._lock:
            if self.full:
                raise LineFull(self.full)
            job.future = self._executor.submit(work)
            self._jobs.append(job)
        job.future.add_done_callback(lambda _: self._jobs.remove(job))
        return job

    def before(self, job: Job) -> int:
        """Jobs that end before this one."""
        jobs = list(self._jobs)
        return jobs.index(job) if job in jobs else 0

    def close(self) -> None:
        """Cancel all jobs, wait until the running one has noticed, and take no more."""
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        wait([job.future for job in jobs])
        self._executor.shutdown()
