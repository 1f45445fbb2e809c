"""The one progress bar of the command line."""

import sys

from tqdm import tqdm


class Bar:
    """Called as (phase, done, total): shows the phase, what is done and the time left; a new phase starts it anew.

    A context manager, which leaves the terminal tidy after an error too. Units of "B" are shown as kB, MB, GB.
    """

    def __init__(self, unit: str = "frame"):
        self.phase: str | None = None
        self.bar: tqdm | None = None
        self.options = {"unit": unit, "unit_scale": unit == "B", "unit_divisor": 1000, "dynamic_ncols": True}

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        if self.bar is None:
            self.bar = tqdm(file=sys.stderr, **self.options)
        if phase != self.phase:
            self.phase = phase
            self.bar.set_description(phase, refresh=False)
            self.bar.reset(total)
            self.bar.initial = done  # what an earlier run did tells nothing about the speed of this one
            self.bar.n = done
        self.bar.update(done - self.bar.n)
        if done == total:
            self.bar.refresh()

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_) -> None:
        if self.bar is not None:
            self.bar.close()
