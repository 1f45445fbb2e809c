"""Who does the work: this process, other processes of this machine, or Ray. All give the same outcomes."""

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
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import torch

from ..errors import InputError
from ..limits import raised_limits, set_limits
from .sources import SourceError

PACKAGE = Path(__file__).parents[1]
CONNECT_SECONDS = 10
RETRIES = 1  # of a job whose process died

worker_number = 0  # of this process among those that share the machine


@dataclass(frozen=True)
class Outcome:
    """What one stage says of one item."""

    figures: Mapping[str, object] = field(default_factory=dict)  # what was measured; JSON numbers and lists
    reason: str | None = None  # None if the item goes on, else a stable word for why it is dropped
    sentence: str = ""  # the same for people
    final: bool = True  # False where a later run should try again


CRASHED = Outcome(
    reason="crashed",
    sentence="the process that worked on it died: out of memory, or a damaged file that crashes its decoder",
    final=False,
)


@dataclass(frozen=True)
class Job:
    """One stage of one item, by its names in the journal."""

    stage: str
    item: str
    fingerprint: str  # of all that it depends on
    work: Callable[[], Outcome]  # can be pickled; raises SourceError if the source cannot be used
    files: tuple[Path, ...] = ()  # that it writes; they appear when they are complete


def fingerprint(*facts: object) -> str:
    """A short hash of JSON values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


def perform(job: Job) -> Outcome:
    """Do a job in this process, on one thread, so that figures do not depend on how many jobs share the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return job.work()
    except SourceError as error:
        return Outcome(reason=error.reason, sentence=error.sentence, final=error.final)
    finally:
        torch.set_num_threads(threads)


Do = Callable[[Any], Outcome]  # what is done with a job


class InProcess(AbstractContextManager):
    """Does one job after the other in this process."""

    def __exit__(self, *_) -> None:
        pass

    def results(self, jobs: Iterable, do: Do = perform) -> Iterator[tuple[Any, Outcome]]:
        """Each job with its outcome, in the order they finish; an exception in `do` ends the work."""
        for job in jobs:
            yield job, do(job)


class _Workers(AbstractContextManager):
    """Does jobs in `workers` processes. One that dies is replaced; a job whose process dies twice is `CRASHED`."""

    died: tuple[type[Exception], ...] = (BrokenProcessPool,)

    def __init__(self, workers: int | None):
        self.workers = workers
        self._count = 0  # of workers that were ever started, but for those that replaced another
        self._starting: dict[Future, tuple[Callable[..., Future], int]] = {}
        self._idle: list[tuple[Callable[..., Future], int]] = []

    def _start(self, number: int) -> Callable[..., Future]:
        """Start a process: the function that has it call a function."""
        raise NotImplementedError

    def _add(self, number: int) -> None:
        """Start a worker. It gets jobs once it has answered: a cluster may not have room for all of them."""
        submit = self._start(number)
        self._starting[submit(int)] = submit, number

    def results(self, jobs: Iterable, do: Do = perform) -> Iterator[tuple[Any, Outcome]]:
        """As `InProcess.results`."""
        waiting, running = deque((job, RETRIES) for job in jobs), {}
        while self._count < self.workers and len(self._idle) + len(self._starting) < len(waiting):
            self._add(self._count)
            self._count += 1
        while waiting or running:
            while waiting and self._idle:
                (submit, number), (job, retries) = self._idle.pop(), waiting[0]
                try:
                    running[submit(do, job)] = submit, number, job, retries
                except self.died:  # while it had nothing to do
                    self._add(number)
                    continue
                waiting.popleft()
            for future in wait([*running, *self._starting], return_when=FIRST_COMPLETED).done:
                if future in self._starting:
                    future.result()
                    self._idle.append(self._starting.pop(future))
                    continue
                submit, number, job, retries = running.pop(future)
                try:
                    outcome = future.result()
                except self.died:
                    self._add(number)
                    if retries:
                        waiting.append((job, retries - 1))
                        continue
                    outcome = CRASHED
                else:
                    self._idle.append((submit, number))
                yield job, outcome


class Local(_Workers):
    """Processes of this machine, one pool for each, so that one that dies leaves the others alone."""

    def __init__(self, workers: int):
        super().__init__(workers)
        self._pools: list[ProcessPoolExecutor] = []
        self._others = set(multiprocessing.active_children())

    def _start(self, number: int) -> Callable[..., Future]:
        # Started afresh: threads of torch and OpenCV do not survive a fork.
        context, arguments = multiprocessing.get_context("spawn"), (number, self.workers, raised_limits())
        self._pools.append(ProcessPoolExecutor(1, context, _begin_worker, arguments))
        return self._pools[-1].submit

    def __exit__(self, kind, *_) -> None:
        for pool in self._pools:
            pool.shutdown(wait=kind is None, cancel_futures=True)
        if kind is not None:
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
                process.join()


def _begin_worker(number: int, workers: int, limits: Mapping[str, float]) -> None:
    """Take a number and a share of the cores, leave Ctrl-C to the main process, and end when that one ends."""
    global worker_number
    worker_number = number
    set_limits(limits)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class _Actor:
    """A process on Ray that keeps its share of a GPU, and what it has loaded, until the work is done."""

    def __init__(self, limits: Mapping[str, float]):
        set_limits(limits)

    def call(self, function: Callable, *arguments):
        return function(*arguments)


class Ray(_Workers):
    """An executor on Ray.

    Args:
        address: of a running cluster; None is RAY_ADDRESS, or else a Ray of this machine for the time of the work.
        workers: jobs at the same time; None is one per core of the cluster, or per share of a GPU if they get one.
        gpus: share of a GPU that each worker gets, without which Ray hides the GPUs; None is 1 if there are some.
    """

    def __init__(self, address: str | None = None, workers: int | None = None, gpus: float | None = 0.0):
        try:
            import ray
        except ImportError as error:
            raise InputError(f"the executor ray needs its package ({error}): pip install ray") from error
        super().__init__(workers)
        self._ray, self._actors, self.gpus = ray, [], gpus
        self.died = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"

    def __enter__(self) -> "Ray":
        ray = self._ray
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                self._connect()
            except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                where = "this machine" if self.address == "local" else self.address
                way_out = "look into Ray's logs, or use --executor local"
                raise InputError(f"Ray cannot be started on {where} ({reason}): {way_out}") from error
        has = ray.cluster_resources()
        gpus = float("GPU" in has) if self.gpus is None else self.gpus
        # An actor, since a task's process would give its GPU back after each job, with all that it has loaded.
        self._actor = ray.remote(_Actor).options(num_cpus=1, num_gpus=gpus)
        self.workers = self.workers or max(1, int(has.get("GPU", 0) / gpus if gpus else has.get("CPU", 1)))
        return self

    def _connect(self) -> None:
        # Ray itself asks a closed port for two minutes.
        host, colon, port = self.address.rpartition(":")
        if colon and port.isdigit():
            socket.create_connection((host.rpartition("/")[2], int(port)), CONNECT_SECONDS).close()
        # Workers find this package here by its place, and on other machines by a copy.
        options = {"runtime_env": {"py_modules": [str(PACKAGE)]}}
        if self.address == "local":
            places = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
            environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(places)}}
            options = {"runtime_env": environment, "num_cpus": self.workers, "include_dashboard": False}
        # Ray takes SIGTERM for itself; what it does here is up to the command.
        before = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(self.address, log_to_driver=False, logging_level="ERROR", **options)
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)

    def _start(self, number: int) -> Callable[..., Future]:
        actor = self._actor.remote(raised_limits())
        self._actors.append(actor)
        return lambda *call: actor.call.remote(*call).future()

    def results(self, jobs: Iterable, do: Do = perform) -> Iterator[tuple[Any, Outcome]]:
        try:
            yield from super().results(jobs, do)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error

    def __exit__(self, *_) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        if self._ours:
            self._ray.shutdown()


Executor = InProcess | Local | Ray
