"""Who does the work: this process, processes of this machine, or Ray. All give the same outcomes."""

import hashlib
import json
import multiprocessing
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

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


PACKAGE = Path(__file__).parents[1]
SECONDS_TO_ANSWER = 10
RETRIES = 1  # of a job whose process died


class _Worker:
    """A process that keeps its share of a GPU, and what it has loaded, until the work is done."""

    def ready(self) -> None:
        """Answers when the process is there."""

    def do(self, work: Do, job: object) -> Outcome:
        return work(job)


@contextmanager
def _kept_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; who runs the command has already said what it does."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


class Ray:
    """An executor on Ray.

    Args:
        address: of a running cluster, as `ray.init` takes it; None is RAY_ADDRESS, or else a Ray of this machine that
            is started and stopped with the work.
        workers: jobs at the same time; None is as many as the cluster has cores, or GPUs for if they get some.
        gpus: share of a GPU that each worker gets; Ray hides the GPUs from those that ask for none. None is one where
            the cluster has GPUs.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: the cluster does not answer, or no Ray can be started here.
    """

    def __init__(self, address: str | None = None, workers: int | None = None, gpus: float | None = 0.0):
        try:
            import ray
        except ImportError as error:
            raise ImportError(f"the executor ray needs its package ({error}): pip install ray") from error
        self._ray = ray
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        self.workers, self.gpus = workers, gpus

    def __enter__(self) -> "Ray":
        ray = self._ray
        self._ours = not ray.is_initialized()
        if self._ours:
            options = {"num_cpus": self.workers, "include_dashboard": False} if self.address == "local" else {}
            quiet = {"log_to_driver": False, "logging_level": "ERROR"}
            try:
                self._knock()
                with _kept_signals():
                    ray.init(self.address, runtime_env=self._environment(), **options, **quiet)
            except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                where = "this machine" if self.address == "local" else self.address
                raise ConnectionError(
                    f"Ray cannot be started on {where} ({reason}): look into Ray's logs, or use --executor local"
                ) from error
        has = ray.cluster_resources()
        gpus = float("GPU" in has) if self.gpus is None else self.gpus
        count = self.workers or max(1, int(has.get("GPU", 0) / gpus if gpus else has.get("CPU", 1)))
        # A task's process would give its GPU back after each job, with all that it has loaded.
        self._worker = ray.remote(_Worker).options(num_cpus=1, num_gpus=gpus)
        self._workers: list = []
        self._idle: list = []
        self._running: dict = {}
        for _ in range(count):
            self._add_worker()
        return self

    def _add_worker(self) -> None:
        """Ask for a worker; it gets jobs once it has answered, for which the cluster must have room."""
        worker = self._worker.remote()
        self._workers.append(worker)
        self._running[worker.ready.remote()] = worker, None, 0

    def _knock(self) -> None:
        """Ray itself asks a closed port for two minutes."""
        host, colon, port = self.address.rpartition(":")
        if colon and port.isdigit():
            socket.create_connection((host.rpartition("/")[2], int(port)), SECONDS_TO_ANSWER).close()

    def _environment(self) -> dict[str, object]:
        """How the workers find this package: here by its place, on other machines by a copy."""
        if self.address != "local":
            return {"py_modules": [str(PACKAGE)]}
        places = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"env_vars": {"PYTHONPATH": os.pathsep.join(places)}}

    def __exit__(self, kind, error, trace) -> None:
        for worker in self._workers:
            self._ray.kill(worker)
        if self._ours:
            self._ray.shutdown()

    def results(self, jobs: Iterable, do: Do = perform) -> Iterator[tuple[Any, Outcome]]:
        waiting, running = deque((job, RETRIES) for job in jobs), self._running
        while waiting or any(job is not None for _, job, _ in running.values()):
            while waiting and self._idle:
                worker, (job, retries) = self._idle.pop(), waiting.popleft()
                running[worker.do.remote(do, job)] = worker, job, retries
            (reference,), _ = self._ray.wait(list(running), num_returns=1)
            worker, job, retries = running.pop(reference)
            if job is None:
                self._ray.get(reference)
                self._idle.append(worker)
                continue
            outcome = self._outcome(reference)
            if outcome is not CRASHED:
                self._idle.append(worker)
                yield job, outcome
                continue
            self._workers.remove(worker)
            self._add_worker()
            if retries:
                waiting.append((job, retries - 1))
            else:
                yield job, CRASHED

    def _outcome(self, reference) -> Outcome:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except (errors.RayActorError, errors.OutOfMemoryError):
            return CRASHED
        except errors.RayTaskError as error:
            raise error.cause from error
