"""Work to give to processes, in a module that they can import."""

import os
import signal
from functools import partial
from pathlib import Path

from latentsync.limits import limit
from latentsync.prepare.executor import Job, Outcome


def deed(number: int, deadly: Path | None, wrong: bool, note: Path | None) -> Outcome:
    """Gives `number`, or kills its process, or fails, or says in the pipe `note` that it is there, and never ends.

    The file `deadly` counts how often a process was killed.
    """
    if deadly:
        with deadly.open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    if wrong:
        raise RuntimeError("a mistake")
    if note:
        with note.open("w") as pipe:
            pipe.write("here\n")
            pipe.flush()
            signal.pause()
    return Outcome({"number": number})


def job(number: int, deadly: Path | None = None, wrong: bool = False, note: Path | None = None) -> Job:
    return Job("align", str(number), "", partial(deed, number, deadly, wrong, note))


def gap_limit() -> Outcome:
    return Outcome({"gap": limit("gap")})
