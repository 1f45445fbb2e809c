"""Threads beside the calling one: `ahead` makes what it needs next, `behind` finishes what it has made, `beside` does
something else.

Results come in the order of the items, and are those of a run without threads.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from typing import Any, TypeVar

import torch

THREADED = True  # False does everything in the calling thread, item by item

T, R = TypeVar("T"), TypeVar("R")
_local = threading.local()  # workers: those of this thread; worker: the one whose thread this is


class Worker(AbstractContextManager):
    """A thread for the time of a block. At its end the thread is joined, and calls that have not begun are dropped."""

    def __init__(self, finish: bool = False):
        """With `finish` they are made first, unless one of them fails."""
        self.error: BaseException | None = None
        self.stopped = threading.Event()
        self._finish = finish
        self._inference = torch.is_inference_mode_enabled()  # each thread has its own
        self._thread = ThreadPoolExecutor(1, "latentsync")
        # Started before there is work: the pool would not wait for a thread that Ctrl-C hits in starting.
        self._thread.submit(int).result()
        self._siblings = _local.__dict__.setdefault("workers", [])
        self._siblings.append(self)

    def submit(self, function: Callable, *args: Any) -> Future:
        return self._thread.submit(self._call, function, *args)

    def _call(self, function: Callable, *args: Any) -> Any:
        _local.worker = self
        check()
        try:
            with torch.inference_mode(self._inference):
                return function(*args)
        except BaseException as error:
            self.error = error
            self.stopped.set()
            raise

    def __exit__(self, *_) -> None:
        if not self._finish:
            self.stopped.set()
        self._thread.shutdown(cancel_futures=not self._finish)
        self._siblings.remove(self)
        self.error = None  # with its traceback it would keep pictures alive


def check() -> None:
    """Raise now what a worker of this thread has run into; in a worker's thread, end what nobody waits for any more.

    To be called between the steps of long work.
    """
    worker = getattr(_local, "worker", None)
    if worker is not None and worker.stopped.is_set():
        raise CancelledError
    for worker in getattr(_local, "workers", ()):
        if worker.error is not None:
            raise worker.error


@contextmanager
def beside(function: Callable[..., R], *args: Any) -> Iterator[Callable[[], R]]:
    """`function(*args)` in a thread while the block does other work; what is given waits for its result."""
    if not THREADED:
        yield partial(function, *args)
        return
    with Worker() as worker:
        yield worker.submit(function, *args).result


def ahead(items: Generator[T, None, None], depth: int = 1) -> Generator[T, None, None]:
    """`items`, of which `depth` are made in a thread while the caller works on the last one it got."""
    with closing(items):
        if not THREADED:
            yield from items
            return
        end = object()
        with Worker() as worker:
            coming = deque(worker.submit(next, items, end) for _ in range(depth))
            while (item := coming.popleft().result()) is not end:
                coming.append(worker.submit(next, items, end))
                yield item


def behind(
    function: Callable[[T], R], items: Generator[T, None, None], depth: int = 1, finish: bool = False
) -> Generator[R, None, None]:
    """`function` of each item, called in a thread while the caller's makes the next item.

    It is `depth` items behind, so that so many results wait at most. With `finish`, what `items` raise comes after the
    results of those that there were.
    """
    raised: list[BaseException] = []
    with closing(items):
        items = _until_raised(items, raised) if finish else items
        if not THREADED:
            yield from map(function, items)
        else:
            with Worker(finish) as worker:
                coming: deque[Future] = deque()
                for item in items:
                    check()
                    coming.append(worker.submit(function, item))
                    if len(coming) > depth:
                        yield coming.popleft().result()
                while coming:
                    yield coming.popleft().result()
    if raised:
        raise raised[0]


def _until_raised(items: Generator[T, None, None], raised: list[BaseException]) -> Generator[T, None, None]:
    """`items`, and for an end what they raise put into `raised`."""
    try:
        yield from items
    except GeneratorExit:
        raise
    except BaseException as error:
        raised.append(error)
