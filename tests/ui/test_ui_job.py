"""Jobs: one after the other, watched, and ended between two steps."""

import gc
import threading
import time
import weakref

import pytest
import torch

from latentsync.ui.job import Cancelled, Job, JobQueue, LineFull, Status
from latentsync.ui.markup import status_html
from latentsync.ui.visitors import was_cancelled


@pytest.fixture
def queue():
    queue = JobQueue()
    yield queue
    queue.close()


def stepping(job, started, going):
    """Work that takes a step whenever `going` lets it, up to 100."""

    def work():
        started.set()
        for i in range(100):
            job.progress("syncing", i, 100)
            going.wait(5)
            time.sleep(0.001)
        return "made"

    return work


def test_jobs_run_in_the_order_they_came_and_know_their_place(queue):
    started, going, done = threading.Event(), threading.Event(), []
    first, second, third = Job(), Job(), Job()
    queue.add(first, stepping(first, started, going))
    queue.add(second, lambda: done.append("second"))
    queue.add(third, lambda: done.append("third"))
    assert started.wait(5)
    assert [queue.before(job) for job in (first, second, third)] == [0, 1, 2]
    assert not (first.ended or second.ended)
    going.set()
    third.future.result(10)
    assert first.future.result() == "made" and done == ["second", "third"]
    assert queue.before(third) == 0 and third.ended


def test_a_running_job_ends_at_its_next_step(queue):
    started, going = threading.Event(), threading.Event()
    job = Job()
    queue.add(job, stepping(job, started, going))
    assert started.wait(5)
    job.cancel()
    assert job.status().cancelling and not job.ended
    going.set()
    with pytest.raises(Cancelled):
        job.future.result(5)
    assert was_cancelled(job)


def test_a_waiting_job_never_begins_and_the_others_go_on(queue):
    started, going, done = threading.Event(), threading.Event(), []
    first, second, third = Job(), Job(), Job()
    queue.add(first, stepping(first, started, going))
    queue.add(second, lambda: done.append("second"))
    queue.add(third, lambda: done.append("third"))
    second.cancel()
    assert second.ended and was_cancelled(second) and queue.before(third) == 1
    going.set()
    third.future.result(10)
    assert done == ["third"] and not was_cancelled(first)


def test_an_error_is_kept_and_the_next_job_runs(queue):
    def fail():
        raise ValueError("bad input")

    first = queue.add(Job(), fail)
    assert queue.add(Job(), lambda: 7).future.result(5) == 7
    assert str(first.future.exception()) == "bad input" and not was_cancelled(first)


def test_closing_ends_all_jobs():
    queue, started, going = JobQueue(), threading.Event(), threading.Event()
    running, waiting = Job(), Job()
    queue.add(running, stepping(running, started, going))
    queue.add(waiting, lambda: None)
    assert started.wait(5)
    threading.Timer(0.05, going.set).start()
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
    assert f"<p>{says}</p><progress" in status_html(Status(**usual | {"frame": None} | changes))


def test_the_latest_frame_is_shown_small():
    status = Status("syncing", False, 2, 10, None, 0, torch.zeros(330, 640, 3))
    assert '<progress max="10" value="2.00">' in status_html(status)
    assert 'width="320" height="165"' in status_html(status)
