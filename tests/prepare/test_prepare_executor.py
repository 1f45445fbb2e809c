"""Processes that do the work: they may die, and they do not outlive the one that they work for."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from deeds import gap_limit, job

from latentsync.limits import LIMITS, set_limits
from latentsync.prepare.executor import CRASHED, Job, Local, Outcome, Ray


def test_processes_that_die_between_and_in_jobs_are_replaced_and_a_deadly_job_is_found(tmp_path):
    with Local(1) as executor:
        assert [outcome for _, outcome in executor.results([job(7)])] == [Outcome({"number": 7})]
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        jobs = [job(0), job(1, deadly=tmp_path / "deaths"), job(2)]
        outcomes = {job.item: outcome for job, outcome in executor.results(jobs)}
    assert outcomes == {"0": Outcome({"number": 0}), "1": CRASHED, "2": Outcome({"number": 2})}
    assert (tmp_path / "deaths").read_text() == "xx"


def test_workers_have_the_limits_of_the_run():
    set_limits({"gap": 2 * LIMITS["gap"].value})
    try:
        with Local(1) as executor:
            ((_, outcome),) = executor.results([Job("align", "a", "", gap_limit)])
    finally:
        set_limits({})
    assert outcome.figures["gap"] == 2 * LIMITS["gap"].value


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


def test_each_ray_worker_holds_a_gpu_and_outlives_a_deadly_job(tmp_path):
    ray = pytest.importorskip("ray")

    def meet(job):
        if job == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        (tmp_path / str(os.getpid())).touch()
        while len(os.listdir(tmp_path)) < 2:  # until another worker has a job, too
            os.sched_yield()
        return Outcome({"process": os.getpid(), "gpu": os.environ["CUDA_VISIBLE_DEVICES"]})

    environment = {"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}}
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init("local", num_cpus=8, num_gpus=2, runtime_env=environment, **quiet)
    try:
        with Ray(workers=3, gpus=None) as executor:  # of which one finds no GPU
            outcomes = [outcome for _, outcome in executor.results(range(6), meet)]
            later = dict(executor.results(["deadly", "good"], meet))
            assert later["deadly"] == CRASHED and later["good"].reason is None
    finally:
        ray.shutdown()
    pairs = {tuple(outcome.figures.values()) for outcome in outcomes}
    assert len(outcomes) == 6 and len(pairs) == 2 and {gpu for _, gpu in pairs} == {"0", "1"}
