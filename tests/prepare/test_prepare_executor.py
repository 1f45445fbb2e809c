"""Processes that do the work: they may die, and they do not outlive the one that they work for."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from latentsync.prepare.executor import CRASHED, Local
from latentsync.prepare.work import Job, Outcome

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


def test_a_deadly_file_is_found_and_the_rest_is_done():
    jobs = [job(i, deadly=i == 2) for i in range(6)]
    with Local(1) as executor:
        outcomes = {job.item: outcome for job, outcome in executor.results(jobs)}
    assert outcomes == {str(i): CRASHED if i == 2 else Outcome({"number": i}) for i in range(6)}


def test_a_mistake_ends_the_work_at_once(tmp_path):
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="a mistake"), Local(1) as executor:
        list(executor.results([job(0, wrong=True), job(1, note=tmp_path / "note")]))
    assert not multiprocessing.active_children() and time.monotonic() - start < NAP


def test_workers_end_with_a_killed_parent(tmp_path):
    note = tmp_path / "worker"
    program = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parents[2]), str(Path(__file__).parent)]!r}
from pathlib import Path
from test_prepare_executor import Local, job
if __name__ == "__main__":
    with Local(1) as executor:
        list(executor.results([job(0, note=Path({str(note)!r}))]))
"""
    (tmp_path / "program.py").write_text(program)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "program.py")])
    try:
        wait_for(lambda: note.exists() and note.read_text(), 300)
        assert alive(int(note.read_text()))
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not alive(int(note.read_text())), 60)


def wait_for(happened, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
