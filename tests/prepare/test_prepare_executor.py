"""Processes that do the work: they may die, and they do not outlive the one that they work for."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from deeds import gap_limit, job
from raw_videos import SETTINGS, clips_of

from latentsync.limits import LIMITS, set_limits
from latentsync.prepare.executor import CRASHED, Job, Local, Outcome, Ray
from latentsync.prepare.manifest import MANIFEST
from latentsync.prepare.pipeline import prepare


def test_workers_have_the_limits_of_the_run_and_are_replaced_when_they_die_between_and_in_jobs(tmp_path):
    set_limits({"gap": 2 * LIMITS["gap"].value})
    try:
        with Local(1) as executor:
            ((_, outcome),) = executor.results([Job("align", "a", "", gap_limit)])
            assert outcome.figures["gap"] == 2 * LIMITS["gap"].value
            for process in multiprocessing.active_children():
                process.kill()
                process.join()
            jobs = [job(0), job(1, deadly=tmp_path / "deaths"), job(2)]
            outcomes = {job.item: outcome for job, outcome in executor.results(jobs)}
    finally:
        set_limits({})
    assert outcomes == {"0": Outcome({"number": 0}), "1": CRASHED, "2": Outcome({"number": 2})}
    assert (tmp_path / "deaths").read_text() == "xx"


def test_a_mistake_ends_the_work_at_once(tmp_path):
    os.mkfifo(tmp_path / "note")
    with pytest.raises(RuntimeError, match="a mistake"), Local(1) as executor:
        list(executor.results([job(0, wrong=True), job(1, note=tmp_path / "note")]))
    assert not multiprocessing.active_children()


def test_workers_end_with_a_killed_parent(tmp_path):
    os.mkfifo(tmp_path / "note")
    program = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parents[2]), str(Path(__file__).parent)]!r}
from pathlib import Path
from deeds import gap_limit, job
from latentsync.prepare.executor import Local
if __name__ == "__main__":
    with Local(1) as executor:
        list(executor.results([job(0, note=Path({str(tmp_path / "note")!r}))]))
"""
    (tmp_path / "program.py").write_text(program)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "program.py")])
    try:
        with (tmp_path / "note").open() as pipe:
            assert pipe.readline() == "here\n"
            parent.kill()
            assert pipe.read() == ""  # the pipe ends with the worker
    finally:
        parent.kill()
        parent.wait()


def test_ray_workers_each_hold_a_gpu_outlive_a_deadly_job_and_make_the_same_clips(made, raw, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    seen = tmp_path / "seen"
    seen.mkdir()

    def meet(job):
        if job == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        (seen / str(os.getpid())).touch()
        while len(os.listdir(seen)) < 2:  # until another worker has a job, too
            os.sched_yield()
        return Outcome({"process": os.getpid(), "gpu": os.environ["CUDA_VISIBLE_DEVICES"]})

    init = ray.init
    monkeypatch.setattr(ray, "init", lambda *address, **options: init(*address, **options | {"num_gpus": 2}))
    try:
        with Ray(workers=3, gpus=None) as executor:  # of which one finds no GPU
            outcomes = [outcome for _, outcome in executor.results(range(6), meet)]
            later = dict(executor.results(["deadly", "good"], meet))
            assert later["deadly"] == CRASHED and later["good"].reason is None
            prepare(raw[0], tmp_path / "data", SETTINGS, raw[1], executor=executor)
    finally:
        ray.shutdown()
    pairs = {tuple(outcome.figures.values()) for outcome in outcomes}
    assert len(outcomes) == 6 and len(pairs) == 2 and {gpu for _, gpu in pairs} == {"0", "1"}
    assert (tmp_path / "data" / MANIFEST).read_bytes() == (made[0] / MANIFEST).read_bytes()
    assert clips_of(tmp_path / "data") == clips_of(made[0])
