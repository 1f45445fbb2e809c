"""Jobs: one after the other, watched, and ended between two steps."""

import gc
import threading
import weakref
from pathlib import Path

import pytest

from latentsync.ui.job import Cancelled, Job, JobQueue, LineFull, Status
from latentsync.ui.markup import preview_html, status_html
from latentsync.ui.visitors import was_cancelled


@pytest.fixture
def queue():
    queue = JobQueue()
    yield queue
    queue.close()


@pytest.fixture
def running(queue):
    """A job at work, which takes one step when its `going` is set, and then the rest."""
    job, started = Job(), threading.Event()
    job.going = threading.Event()

    def work():
        started.set()
        job.going.wait(60)
        for i in range(100):
            job.progress("syncing", i, 100)
        return "made"

    queue.add(job, work)
    assert started.wait(60)
    yield job
    job.going.set()


def test_jobs_run_in_the_order_they_came_and_know_their_place(queue, running):
    done = []
    second, third, last = (
        queue.add(Job(), lambda name=name: done.append(name)) for name in ("second", "third", "last")
    )
    assert [queue.before(job) for job in (running, second, third, last)] == [0, 1, 2, 3]
    assert not (running.ended or second.ended)
    second.cancel()  # it never begins, and the others go on
    assert second.ended and was_cancelled(second) and [queue.before(job) for job in (third, last)] == [1, 2]
    running.going.set()
    last.future.result(60)
    assert running.future.result() == "made" and done == ["third", "last"] and not was_cancelled(running)
    assert queue.before(last) == 0 and last.ended


def test_a_running_job_ends_at_its_next_step_and_the_next_one_runs(queue, running):
    def fail():
        raise ValueError("bad input")

    bad = queue.add(Job(), fail)
    running.cancel()
    assert running.status().cancelling and not running.ended
    running.going.set()
    assert queue.add(Job(), lambda: 7).future.result(60) == 7
    assert was_cancelled(running) and isinstance(running.future.exception(), Cancelled)
    assert str(bad.future.exception()) == "bad input" and not was_cancelled(bad)


def test_closing_ends_all_jobs(queue, running):
    waiting = queue.add(Job(), lambda: None)
    waiting.future.add_done_callback(lambda _: running.going.set())  # it is cancelled, too, and after the running one
    queue.close()
    assert was_cancelled(running) and was_cancelled(waiting)
    with pytest.raises(RuntimeError):
        queue.add(Job(), lambda: None)


def test_the_line_has_a_length_and_keeps_nothing_of_what_has_ended():
    queue, started, going = JobQueue(most=2), threading.Event(), threading.Event()
    running, waiting = queue.add(Job(), lambda: started.set() or going.wait(60)), Job()
    assert started.wait(60) and not queue.full
    queue.add(waiting, lambda: None)
    with pytest.raises(LineFull, match="2 runs are waiting, and this page takes no more: try again later"):
        queue.add(Job(), lambda: None)
    waiting.cancel()
    assert not queue.full
    left = weakref.ref(queue.add(Job(), lambda: None))
    going.set()
    running.future.result(60)
    queue.close()
    del running, waiting
    gc.collect()
    assert left() is None and queue._jobs == []


def test_the_time_left_follows_what_is_done():
    now = [100.0]
    job = Job(clock=lambda: now[0])
    assert job.status().phase == "" and job.status().seconds_left is None
    job.progress("syncing", 0, 32)
    now[0] += 3
    job.progress("syncing", 4, 32)
    assert job.status().done == 4 and job.status().seconds_left == pytest.approx(21)
    job.progress("syncing", 32, 32)
    assert job.status().done == 32 and job.status().seconds_left == 0
    job.progress("writing", 0, 10)  # a new phase starts anew
    assert (job.status().phase, job.status().seconds_left) == ("writing", None)
    job.cancel()
    with pytest.raises(Cancelled):
        job.progress("writing", 1, 10)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"cancelling": True, "before": 1}, "Cancelling"),
        ({"before": 1}, "Waiting: one run is ahead of yours"),
        ({"before": 2}, "Waiting: 2 runs are ahead of yours"),
        ({"phase": ""}, "Starting"),
        ({"total": 0}, "Syncing"),
        ({"done": 3.9}, "Syncing, 3 of 10 frames"),
        ({"seconds_left": 0.2}, "Syncing, 2 of 10 frames, 1 s left"),
        ({"seconds_left": 59.4}, "Syncing, 2 of 10 frames, 59 s left"),
        ({"seconds_left": 59.6}, "Syncing, 2 of 10 frames, 1 min 0 s left"),
        ({"done": 10, "seconds_left": 0.0}, "Syncing, 10 of 10 frames"),
        ({"phase": "<b>"}, "&lt;b&gt;, 2 of 10 frames"),
    ],
)
def test_a_status_in_words(changes, says):
    usual = {"phase": "syncing", "cancelling": False, "done": 2, "total": 10, "seconds_left": None, "before": 0}
    assert f"<p>{says}</p><progress" in status_html(Status(**usual | {"preview": None, "pieces": 0} | changes))


def test_the_status_tells_how_far_the_preview_may_play():
    status = Status("syncing", False, 2, 10, None, 0, Path("/tmp/a b"), 3)
    assert '<progress max="10" value="2.00">' in status_html(status) and 'data-pieces="3"' in status_html(status)
    assert preview_html(status.preview) == (
        '<latentsync-preview src="gradio_api/file=/tmp/a%20b/"></latentsync-preview>'
    )
