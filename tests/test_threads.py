"""Work ahead of the calling thread and behind it: order, faults, the end, and how much is under way."""

import gc
import threading
from concurrent.futures import CancelledError

import pytest
import torch

from latentsync import threads
from latentsync.threads import ahead, behind, check


class Fault(Exception):
    pass


@pytest.fixture(autouse=True)
def no_thread_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


@pytest.fixture(params=[True, False], ids=["threads", "none"])
def threaded(request, monkeypatch):
    monkeypatch.setattr(threads, "THREADED", request.param)
    return request.param


class Source:
    """Numbers 0, 1, ... that tell who makes them and how far they are; `fault` is raised in place of one."""

    def __init__(self, count, fault=None):
        self.count, self.fault, self.made, self.thread, self.closed = count, fault, 0, None, False
        self.has = threading.Condition()

    def __call__(self):
        self.thread = threading.current_thread()
        try:
            for i in range(self.count):
                if i == self.fault:
                    raise Fault(i)
                with self.has:
                    self.made += 1
                    self.has.notify_all()
                yield i
        finally:
            self.closed = True

    def wait_for(self, made):
        with self.has:
            assert self.has.wait_for(lambda: self.made >= made, timeout=60)


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("depth", [1, 3])
def test_items_and_results_come_in_order(threaded, count, depth):
    source = Source(count)
    items = behind(str, behind(lambda i: i * i, ahead(source(), depth), depth), depth)
    assert list(items) == [str(i * i) for i in range(count)] and source.closed
    assert (source.thread is threading.current_thread()) != threaded


@pytest.mark.parametrize("depth", [1, 3])
def test_ahead_makes_depth_items_more_than_were_taken(depth):
    source = Source(20)
    items = ahead(source(), depth)
    for taken in range(1, 6):
        next(items)
        source.wait_for(taken + depth)
    items.close()
    assert source.made == 5 + depth and source.closed


@pytest.mark.parametrize("depth", [1, 3])
def test_behind_waits_for_what_is_depth_items_behind(depth):
    source = Source(20)
    results = behind(lambda i: i, source(), depth)
    for taken in range(1, 6):
        assert next(results) == taken - 1 and source.made == depth + taken
    results.close()
    assert source.closed


def raising(i):
    if i == 3:
        raise Fault(i)
    return i


@pytest.mark.parametrize(
    "items",
    [
        lambda: ahead(Source(9, fault=3)()),
        lambda: behind(raising, Source(9)()),
        lambda: behind(raising, behind(int, Source(9)())),
        lambda: behind(int, behind(raising, Source(9)())),
    ],
    ids=["ahead", "behind", "second", "first"],
)
def test_a_fault_comes_in_its_turn_with_its_traceback(threaded, items):
    got = []
    with pytest.raises(Fault) as caught:
        for item in items():
            got.append(item)
    assert got == [0, 1, 2] and caught.value.args == (3,)
    assert {"__call__", "raising"} & {entry.name for entry in caught.traceback}


@pytest.mark.parametrize("error", [Fault, KeyboardInterrupt])
@pytest.mark.parametrize("taken", [0, 1, 4])
def test_whoever_takes_the_items_may_stop_at_any_of_them(threaded, error, taken):
    source = Source(9)
    with pytest.raises(error):
        for i in behind(lambda i: i, ahead(source(), 2), 2):
            if i == taken:
                raise error
    gc.collect()
    assert source.closed


def test_an_interrupt_while_the_thread_starts_finds_nothing_at_work(monkeypatch):
    """The pool does not know of such a thread, and could not wait for it."""
    begun, go_on = threading.Event(), threading.Event()
    start = threading.Thread.start

    def interrupted(thread):
        start(thread)
        begun.wait(0.5)
        raise KeyboardInterrupt

    def source():
        begun.set()
        yield go_on.wait(60)

    before = set(threading.enumerate())
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(ahead(source()))
    assert not begun.is_set()
    gc.collect()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)


def test_a_second_function_gets_an_item_while_the_next_is_made_and_the_first_is_at_another():
    """Item 0 is through both before item 1 is made, and while item 1 is held in the first, 2 is made."""
    through, held = [threading.Event() for _ in range(3)], threading.Event()

    def source():
        yield 0
        assert through[0].wait(60)
        yield 1
        yield 2
        held.set()

    def first(i):
        assert i != 1 or held.wait(60)
        return i + 10

    def second(i):
        through[i - 10].set()
        return i + 100

    assert list(behind(second, behind(first, source(), 1), 2)) == [110, 111, 112]


@pytest.mark.parametrize("finish, done", [(False, [0]), (True, [0, 1, 2])])
def test_what_is_under_way_when_the_source_fails_is_dropped_or_finished(finish, done):
    got = []
    with pytest.raises(Fault):
        for i in behind(lambda i: i, Source(9, fault=3)(), depth=2, finish=finish):
            got.append(i)
    assert got == done


@pytest.mark.parametrize("finish", [False, True])
def test_after_a_fault_nothing_more_is_called(finish):
    called, behind_it = [], []

    def fault(i):
        called.append(i)
        raise Fault(i)

    with pytest.raises(Fault, match="0"):
        list(behind(behind_it.append, behind(fault, Source(5)(), depth=9, finish=finish)))
    assert called == [0] and not behind_it


def test_check_raises_what_a_worker_ran_into_before_its_turn():
    failed = threading.Event()

    def source():
        yield 0
        try:
            raise Fault("in the thread")
        finally:
            failed.set()

    items = ahead(source())
    assert next(items) == 0 and failed.wait(60)
    with pytest.raises(Fault, match="in the thread"):
        while True:
            check()
    items.close()
    check()


@pytest.mark.parametrize("side", ["ahead", "behind", "second"])
def test_a_worker_that_nobody_waits_for_ends_at_its_next_check(side):
    begun, seen = threading.Event(), []

    def long_work(i):
        try:
            while i:
                begun.set()
                check()
        except CancelledError:
            seen.append(i)
            raise
        return i

    def numbers():
        yield from (0, 1)
        assert begun.wait(60)
        raise Fault

    if side == "ahead":
        items = ahead(long_work(i) for i in range(3))
        assert next(items) == 0 and begun.wait(60)
        items.close()
    else:
        with pytest.raises(Fault):
            list(behind(long_work, numbers() if side == "behind" else behind(int, numbers()), depth=2))
    assert seen == [1]


def test_workers_of_one_thread_do_not_stop_another_s():
    """Two runs at a time, as on the page: each sees its own faults only."""
    items = ahead(Source(5, fault=1)())
    assert next(items) == 0
    seen = []
    other = threading.Thread(target=lambda: seen.append(check()))
    other.start()
    other.join()
    assert seen == [None]
    items.close()


@pytest.mark.parametrize("inference", [False, True])
def test_workers_compute_in_the_caller_s_inference_mode(threaded, inference):
    def modes():
        yield torch.is_inference_mode_enabled()

    with torch.inference_mode(inference):
        assert list(ahead(modes())) == list(behind(lambda _: torch.is_inference_mode_enabled(), modes())) == [inference]
