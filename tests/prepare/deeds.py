"""Work to give to processes, in a module that they can import."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from latentsync.prepare.executor import Job, Outcome

NAP = 300  # seconds of work that nobody waits for


@dataclass(frozen=True)
class Deed:
    """Work of which nothing is left: it gives `number`, or kills its process, or fails, or takes its time."""

    number: int
    deadly: bool = False
    wrong: bool = False
    note: Path | None = None

    def run(self) -> Outcome:
        if self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.wrong:
            raise RuntimeError("a mistake")
        if self.note:
            self.note.write_text(str(os.getpid()))
            time.sleep(NAP)
        return Outcome({"number": self.number})


def job(number: int, **traits) -> Job:
    return Job("align", str(number), "", Deed(number, **traits))
