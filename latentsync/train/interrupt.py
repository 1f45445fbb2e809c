"""Ctrl-C and SIGTERM in a training run."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


class Interruption:
    """Whether someone asked the run to stop."""

    wanted = False

    def __call__(self, number: int, frame) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
        logger.info("finishing this step, then saving; press Ctrl-C again to stop without")


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Ctrl-C and SIGTERM ask for a stop, which comes between two steps: inside one, weights would be half updated."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C in a terminal reaches the workers too, which the parent still needs for the step it is in."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
