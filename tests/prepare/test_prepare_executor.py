"""Processes that do the work: they may die, and they do not outlive the one that they work for."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deeds import NAP, job

from latentsync.prepare.executor import CRASHED, Local, Outcome, Ray


def test_a_deadly_file_is_found_and_the_rest_is_done():
    jobs = [job(i, deadly=i == 2) for i in range(6)]
    with Local(1) as executor:
        outcomes = {job.item: outcome for job, outcome in executor.results(jobs)}
    assert outcomes == {str(i): CRASHED if i == 2 else Outcome({"number": i}) for i in range(6)}


def test_a_worker_that_dies_between_jobs_is_replaced():
    with Local(1) as executor:
        list(executor.results([job(0)]))
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        assert [outcome for _, outcome in executor.results([job(1)])] == [Outcome({"number": 1})]


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
from deeds import job
from latentsync.prepare.executor import Local
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


def test_each_ray_worker_holds_a_gpu_and_outlives_a_deadly_job(tmp_path):
    ray = pytest.importorskip("ray")

    def do(job):
        if job == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        (tmp_path / str(os.getpid())).touch()
        end = time.monotonic() + 120
        while len(os.listdir(tmp_path)) < 2 and time.monotonic() < end:  # until another worker has a job, too
            time.sleep(0.05)
        return Outcome({"process": os.getpid(), "gpu": os.environ["CUDA_VISIBLE_DEVICES"]})

    environment = {"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}}
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init("local", num_cpus=8, num_gpus=2, runtime_env=environment, **quiet)
    try:
        with Ray(workers=3, gpus=None) as executor:  # of which one finds no GPU
            outcomes = [outcome for _, outcome in executor.results(range(6), do)]
            assert dict(executor.results(["deadly", "good"], do))["deadly"] == CRASHED
    finally:
        ray.shutdown()
    pairs = {tuple(outcome.figures.values()) for outcome in outcomes}
    assert len(outcomes) == 6 and len(pairs) == 2 and {gpu for _, gpu in pairs} == {"0", "1"}


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
