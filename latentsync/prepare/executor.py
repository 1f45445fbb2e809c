"""Who does the work: this process, processes of this machine, or Ray. All give the same outcomes."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol

import torch

from .work import Outcome, perform

AHEAD = 2  # jobs handed out for each worker, so that none waits for the next
CRASHED = Outcome(
    reason="crashed",
    sentence="the process that worked on it died: out of memory, or a damaged file that its decoder cannot stand",
    final=False,
)
Do = Callable[[Any], Outcome]  # what is done with a job
worker_number = 0  # of this process among those that share the machine


class Executor(Protocol):
    """Does jobs; a context manager, which stops what is going on when it is left by an exception."""

    def results(self, jobs: Iterable, do: Do = perform) -> Iterator[tuple[Any, Outcome]]:
        """Every job with what `do` makes of it, as they are finished; what that raises ends it all."""

    def __enter__(self) -> "Executor": ...

    def __exit__(self, kind, error, trace) -> None: ...


class InProcess:
    """One job after the other, here."""

    def results(self, jobs: Iterable, do: Do = perform) -> Iterator[tuple[Any, Outcome]]:
        for job in jobs:
            yield job, do(job)

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(self, kind, error, trace) -> None:
        pass


class Local:
    """Processes of this machine.

    A process that dies takes the others of its pool with it; then the jobs that were going on are done one by one,
    and the one with which it happens again has `CRASHED`.
    """

    def __init__(self, workers: int):
        self.workers = workers

    def __enter__(self) -> "Local":
        self._start()
        return self

    def _start(self) -> None:
        self._others = set(multiprocessing.active_children())
        # Started afresh: threads of torch and OpenCV do not survive a fork.
        context = multiprocessing.get_context("spawn")
        given = (context.Value("i", 0), self.workers)
        self._pool = ProcessPoolExecutor(self.workers, context, initializer=_begin_worker, initargs=given)

    def __exit__(self, kind, error, trace) -> None:
        self._pool.shutdown(wait=kind is None, cancel_futures=True)
        if kind is not None:
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
                process.join()

    def results(self, jobs: Iterable, do: Do = perform) -> Iterator[tuple[Any, Outcome]]:
        waiting, running = deque(jobs), {}
        while waiting or running:
            try:
                while waiting and len(running) < AHEAD * self.workers:
                    running[self._pool.submit(do, waiting[0])] = waiting[0]
                    waiting.popleft()
            except BrokenProcessPool:
                yield from self._one_by_one(running.values(), do)
                running = {}
                continue
            done = wait(running, return_when=FIRST_COMPLETED).done
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                yield from self._one_by_one(running.values(), do)
                running = {}
                continue
            for future in done:
                yield running.pop(future), future.result()

    def _one_by_one(self, jobs: Iterable, do: Do) -> Iterator[tuple[Any, Outcome]]:
        self._restart()
        for job in list(jobs):
            future: Future[Outcome] = self._pool.submit(do, job)
            if isinstance(future.exception(), BrokenProcessPool):
                self._restart()
                yield job, CRASHED
            else:
                yield job, future.result()

    def _restart(self) -> None:
        self._pool.shutdown()
        self._start()


def _begin_worker(taken, workers: int) -> None:
    """Take a number, which `taken` counts, and a share of the cores.

    Ctrl-C is the main process's business, and without that one nobody goes on.
    """
    import signal

    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    global worker_number
    with taken.get_lock():
        worker_number = taken.value
        taken.value += 1

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
