"""How far the work is: denoising steps as parts of a window, and the one progress bar of the command line."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

Progress = Callable[[str, float, int], None]  # (phase, frames done, frames in all)


def no_progress(phase: str, done: float, total: int) -> None:
    """A `Progress` that shows nothing."""


def with_progress(windows: Iterable, total: int, phase: str, progress: Progress, done: int = 0) -> Iterator:
    """`windows` as they are (anything with a length in frames), reporting frames done."""
    progress(phase, done, total)
    for window in windows:
        yield window
        done += len(window)
        progress(phase, done, total)


class StepProgress:
    """A `Progress` that moves within a window too: each denoising step is its share of the window's frames.

    Of several people in the same frames each one's windows are a `share` of them.
    """

    def __init__(self, progress: Progress, share: float = 1.0):
        self.progress, self.share = progress, share
        self.phase, self.done, self.total, self.said = "", 0, 0, 0.0

    def __call__(self, phase: str, done: float, total: int) -> None:
        if phase != self.phase:
            self.said = 0.0
        self.phase, self.done, self.total = phase, done, total
        self._say(done)

    def on_step(self, step: int, steps: int, latents: Any) -> None:
        """A `sync.StepCallback`; `latents` are (1, 4, f, h, w)."""
        self._say(self.done + self.share * latents.shape[2] * step / steps)

    def _say(self, done: float) -> None:
        # Never backwards: a window's frames are counted one batch after the other once it is denoised.
        self.said = min(self.total, max(self.said, done))
        self.progress(self.phase, self.said, self.total)


class Bar:
    """Called as (phase, done, total): shows the phase, what is done and the time left; a new phase starts it anew.

    `note` stands behind the figures. A context manager, which leaves the terminal tidy after an error too; in it, lines
    of the log go above the bar. Units of "B" are shown as kB, MB, GB.
    """

    def __init__(self, unit: str = "frame"):
        self.phase: str | None = None
        self.bar: tqdm | None = None
        self.options = {"unit": unit, "dynamic_ncols": True, "miniters": 0}
        if unit == "B":
            self.options |= {"unit_scale": True, "unit_divisor": 1000}
        else:  # whole units, also while a part of one is done
            figures = "{n:.0f}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
            self.options["bar_format"] = "{l_bar}{bar}| " + figures
        self.redirect = logging_redirect_tqdm()

    def __call__(self, phase: str, done: float, total: int | None, note: str = "") -> None:
        if phase != self.phase:
            self.phase = phase
            if self.bar is not None:
                self.bar.leave = False  # its line is the next one's
                self.bar.close()
            # `initial`: what an earlier run did tells nothing about the speed of this one.
            self.bar = tqdm(desc=phase, total=total, initial=done, file=sys.stderr, **self.options)
        self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(done - self.bar.n)
        if done == total:
            self.bar.refresh()

    def __enter__(self) -> "Bar":
        self.redirect.__enter__()
        return self

    def __exit__(self, *error) -> None:
        if self.bar is not None:
            self.bar.close()
        self.redirect.__exit__(*error)
