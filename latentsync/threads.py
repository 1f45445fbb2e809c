"""Threads beside the calling one: `ahead` makes what it needs next, and `behind` finishes what it has made.

Results come in the order of the items, and are those of a run without threads.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, closing
from typing import Any, TypeVar

import torch

THREADED = True  # False does everything in the calling thread, item by item
TOLD_EVERY = 0.1  # seconds between two calls of `waiting`

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


class Ahead(Worker, Iterator[T]):
    """`items`, of which `depth` are made in a thread before they are taken, from the beginning of the block on.

    While the next one is not there `waiting` is called now and then, in the thread that takes it, which may be another
    one than the block's; what it raises ends the waiting.
    """

    def __init__(self, items: Generator[T, None, None], depth: int = 1, waiting: Callable[[], object] | None = None):
        super().__init__()
        self._items, self._waiting, self._end = items, waiting, object()
        self._coming = deque(self.submit(next, items, self._end) for _ in range(depth if THREADED else 0))

    def __next__(self) -> T:
        if not THREADED:
            return next(self._items)
        while self._waiting is not None and not wait([self._coming[0]], TOLD_EVERY).done:
            self._waiting()
        item = self._coming.popleft().result()
        self._coming.append(self.submit(next, self._items, self._end))
        if item is self._end:
            raise StopIteration
        return item

    def __exit__(self, *error) -> None:
        super().__exit__(*error)
        self._items.close()


def ahead(items: Generator[T, None, None], depth: int = 1) -> Generator[T, None, None]:
    """`items`, of which `depth` are made in a thread while the caller works on the last one it got."""
    with Ahead(items, depth) as made:
        yield from made


def behind(
    function: Callable[[T], R], items: Generator[T, None, None], depth: int = 1, finish: bool = False
) -> "Behind[R]":
    """`function` of each item, called in a thread while the caller's makes the next items; `depth` wait at most.

    Where `items` are themselves made so, they go from one thread to the next without coming back in between. With
    `finish`, what `items` raise comes after the results of those that there were.
    """
    if isinstance(items, Behind):
        return Behind((*items.functions, function), items.items, items.depth + depth, items.finish or finish)
    return Behind((function,), items, depth, finish)


class Behind(Iterator[R]):
    """The results of `behind`; to be closed if they are not taken to the end."""

    def __init__(self, functions: tuple[Callable, ...], items: Generator, depth: int, finish: bool):
        self.functions, self.items, self.depth, self.finish = functions, items, depth, finish
        self._results = self._run()

    def __next__(self) -> R:
        return next(self._results)

    def close(self) -> None:
        self._results.close()

    def _run(self) -> Generator[R, None, None]:
        raised: list[BaseException] = []
        with closing(self.items), ExitStack() as opened:
            items = _until_raised(self.items, raised) if self.finish else self.items
            if not THREADED:
                for item in items:
                    for function in self.functions:
                        item = function(item)
                    yield item
            else:
                # The first of them ends first, so that none waits for what is not coming.
                workers = [opened.enter_context(Worker(self.finish)) for _ in self.functions][::-1]
                coming: deque[Future] = deque()
                for item in items:
                    check()
                    made = workers[0].submit(self.functions[0], item)
                    for worker, function in zip(workers[1:], self.functions[1:], strict=True):
                        made = worker.submit(_after, function, made)
                    coming.append(made)
                    del item, made  # pictures
                    if len(coming) > self.depth:
                        yield coming.popleft().result()
                while coming:
                    yield coming.popleft().result()
        if raised:
            raise raised[0]


def _after(function: Callable[[T], R], made: Future) -> R:
    return function(made.result())


def _until_raised(items: Generator[T, None, None], raised: list[BaseException]) -> Generator[T, None, None]:
    """`items`, and for an end what they raise put into `raised`."""
    try:
        yield from items
    except GeneratorExit:
        raise
    except BaseException as error:
        raised.append(error)
