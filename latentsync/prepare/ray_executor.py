"""Work done by Ray, on this machine or a cluster whose machines share the folders of sources, weights and output."""

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .executor import CRASHED, Do
from .work import Outcome, perform

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
