"""Work done by Ray, on this machine or a cluster whose machines share the folders of sources, weights and output."""

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .executor import AHEAD, CRASHED
from .work import Job, Outcome, perform

PACKAGE = Path(__file__).parents[1]
SECONDS_TO_ANSWER = 10
RETRIES = 1  # of a job whose process died


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
        workers: jobs at the same time; of a cluster, None is as many as it has cores.
        gpus: share of a GPU that each job gets; Ray hides the GPUs from jobs that ask for none.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: the cluster does not answer, or no Ray can be started here.
    """

    def __init__(self, address: str | None = None, workers: int | None = None, gpus: float = 0.0):
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
        self.workers = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._perform = ray.remote(perform).options(num_cpus=1, num_gpus=self.gpus, max_retries=RETRIES)
        self._running: dict = {}
        return self

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
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        if self._ours:
            self._ray.shutdown()

    def results(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
        waiting, running = deque(jobs), self._running
        while waiting or running:
            while waiting and len(running) < AHEAD * self.workers:
                job = waiting.popleft()
                running[self._perform.remote(job)] = job
            done, _ = self._ray.wait(list(running), num_returns=1)
            for reference in done:
                yield running.pop(reference), self._outcome(reference)

    def _outcome(self, reference) -> Outcome:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError):
            return CRASHED
        except errors.RayTaskError as error:
            raise error.cause from error
