"""Looking for faces where they were, in threads: what is found, and what that takes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from real_clips import clip_frames, media_file

from latentsync.face.detect import load_detector
from latentsync.face.landmarks import Face
from latentsync.face.shots import WHOLE_EVERY, detect_faces
from latentsync.face.track import choose_faces, track_faces
from latentsync.settings import TrackSettings


def square(x, y, size) -> Face:
    points = np.array([[x - size / 4, y - size / 4], [x + size / 4, y - size / 4], [x, y]])
    return Face((x - size / 2, y - size / 2, x + size / 2, y + size / 2), 0.9, points)


class Dots:
    """Takes each bright pixel for the middle of a square face, as many pixels wide as it is bright."""

    def __init__(self):
        self.whole, self.regions, self.threads = [], [], set()  # numbers of frames; lists are safe in threads

    def __call__(self, frame, index):
        assert int(frame[0, 0, 1]) == index
        return self.find(frame)

    def find(self, frame):
        self.threads.add(threading.current_thread())
        self.whole.append(int(frame[0, 0, 1]))
        ys, xs = np.nonzero(frame[..., 0])
        found = [square(int(x), int(y), int(frame[y, x, 0])) for x, y in zip(xs, ys, strict=True)]
        return sorted(found, key=lambda face: -face.width)

    def measure(self, frame, faces):
        seen = []
        for face in faces:
            self.regions.append(int(frame[0, 0, 1]))
            ys, xs = np.nonzero(frame[..., 0])
            apart = np.hypot(xs - np.mean(face.box[::2]), ys - np.mean(face.box[1::2]))
            k = apart.argmin() if len(apart) else None
            near = k is not None and apart[k] < face.width / 2
            seen.append(square(int(xs[k]), int(ys[k]), int(frame[ys[k], xs[k], 0])) if near else None)
        return seen


def clip(count, *paths):
    """(count, 200, 320, 3) uint8 of faces whose (x, y, size), or None, `paths` give for each frame."""
    frames = torch.zeros(count, 200, 320, 3, dtype=torch.uint8)
    for i in range(count):
        frames[i, ..., 1] = i
        for x, y, size in filter(None, (path(i) for path in paths)):
            frames[i, y, x, 0] = size
    return frames


def boxes(detections):
    return [d.faces if d.faces is None else sorted(face.box for face in d.faces) for d in detections]


def still(i):
    return 60, 100, 50


def moving(i):
    return 60 + 5 * i, 100 + i % 3, 50 + i % 2


ROW = [lambda i, k=k: (40 + 50 * k, 100, 20) for k in range(5)]
CLIPS = {
    "one face that moves": (clip(31, moving), {}, 7),
    "a face that leaves its region": (clip(31, lambda i: (60 if i in (12, 13) else 200, 100, 50)), {}, 9),
    "a lost face": (clip(31, lambda i: None if 12 <= i < 24 else still(i)), {}, 19),
    "a larger face elsewhere": (clip(31, still, lambda i: (250, 100, 90) if i >= 13 else None), {}, 11),
    "two faces of which one goes": (clip(31, still, lambda i: (250, 100, 40) if i < 18 else None), {}, 11),
    "a face hidden by another between searches": (clip(31, still, lambda i: None if i % 5 else (80, 100, 50)), {}, 31),
    "another face after a cut": (clip(31, lambda i: still(i) if i < 13 else (240, 60, 70)), {"cuts": [13]}, 9),
    "a cut in each frame": (clip(8, moving), {"cuts": range(8)}, 8),
    "four faces": (clip(8, *ROW[:4]), {}, 3),
    "a crowd": (clip(8, *ROW), {}, 8),
    "no face": (clip(8), {}, 8),
    "every second frame": (clip(31, moving), {"every": 2, "cuts": [13]}, 7),
    "every tenth frame": (clip(33, still), {"every": 10, "cuts": [14]}, 6),
    "one frame": (clip(1, still), {}, 1),
    "no frame": (clip(0), {}, 0),
}


@pytest.mark.parametrize("name", CLIPS)
def test_regions_find_what_whole_frames_show_whatever_the_number_of_threads(name):
    frames, options, searched = CLIPS[name]
    options = {"cuts": (), **options}
    whole = boxes(detect_faces(frames, Dots(), whole=True, **options))
    assert len(whole) == len(frames)
    for threads in (1, 2, 4):
        detector = Dots()
        assert boxes(detect_faces(frames, detector, threads=threads, **options)) == whole
        assert len(detector.whole) == searched
        assert threading.current_thread() not in detector.threads and len(detector.threads) <= threads
        assert not any(thread.is_alive() for thread in detector.threads)


def test_the_whole_frame_is_searched_every_fifth_time_and_at_both_ends_of_a_shot():
    detector = Dots()
    list(detect_faces(clip(24, still), detector, cuts=[13]))
    assert sorted(detector.whole) == [0, 5, 10, 12, 13, 18, 23] and WHOLE_EVERY == 5
    assert sorted(detector.regions) == list(range(24))


@pytest.mark.parametrize("which, then", [("largest", 60), ("nearest:250,100", 60), ("index:1", 250)])
def test_who_is_followed_is_chosen_as_among_whole_frames(which, then):
    """The larger face comes when the first one is followed already; the second shot begins with both."""
    frames = clip(40, still, lambda i: (250, 100, 90) if i >= 13 else None)
    settings = TrackSettings(which=which)
    chosen = [
        choose_faces(detect_faces(frames, Dots(), cuts=[25], whole=whole), 25.0, settings).faces for whole in (0, 1)
    ]
    assert [face and face.box for face in chosen[0]] == [face and face.box for face in chosen[1]]
    assert [np.mean(chosen[0][i].box[::2]) for i in (20, 30)] == [then, 250]


class Counted:
    """Frames that know how many were asked for, and by which threads."""

    def __init__(self, frames):
        self.frames, self.asked, self.threads = frames, 0, set()

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, indices):
        self.asked += len(indices)
        self.threads.add(threading.current_thread())
        return self.frames[indices]


def test_frames_are_read_in_the_calling_thread_and_little_ahead():
    frames = Counted(clip(60, still))
    for done, _ in enumerate(detect_faces(frames, Dots(), cuts=(), threads=2), 1):
        assert frames.asked <= done + 3 * WHOLE_EVERY + 1
    assert frames.asked == 60 and frames.threads == {threading.current_thread()}


def test_results_wait_for_the_slowest_and_keep_their_order():
    """Frame 1 is done after frame 3, by another thread."""
    later = threading.Event()

    class Slow(Dots):
        def measure(self, frame, faces):
            number = int(frame[0, 0, 1])
            if number == 1:
                assert later.wait(60)
            if number == 3:
                later.set()
            return super().measure(frame, faces)

    frames = clip(20, moving)
    assert boxes(detect_faces(frames, Slow(), cuts=(), threads=2)) == boxes(detect_faces(frames, Dots(), cuts=()))


class Stop(Exception):
    pass


@pytest.mark.parametrize("method", ["find", "measure"])
@pytest.mark.parametrize("frame", [0, 5, 7, 19])
def test_an_error_in_a_thread_comes_in_its_place_and_leaves_none(method, frame):
    class Broken(Dots):
        def find(self, picture):
            return self.stop("find", picture) or super().find(picture)

        def measure(self, picture, faces):
            return self.stop("measure", picture) or super().measure(picture, faces)

        def stop(self, now, picture):
            if now == method and int(picture[0, 0, 1]) == frame:
                raise Stop

    frames = clip(20, still if method == "measure" or frame != 7 else lambda i: still(i) if i != 7 else None)
    detector, done = Broken(), 0
    with pytest.raises(Stop):
        for _ in detect_faces(frames, detector, cuts=(), threads=2):
            done += 1
    # Of a frame that is searched whole, those before it need to know the places.
    first = {"find": {0: 0, 5: 1, 7: 7, 19: 16}, "measure": {0: 0, 5: 5, 7: 7, 19: 19}}[method][frame]
    assert done == first
    assert not any(thread.is_alive() for thread in detector.threads)


def test_who_stops_listening_leaves_no_thread_and_no_task(monkeypatch):
    began, go = threading.Event(), threading.Event()

    class Slow(Dots):
        def find(self, frame):
            if int(frame[0, 0, 1]) == 10:
                began.set()
                assert go.wait(60)
            return super().find(frame)

    def shutdown(pool, wait=True, *, cancel_futures=False):
        real(pool, wait=False, cancel_futures=cancel_futures)
        go.set()
        real(pool, wait)

    real = ThreadPoolExecutor.shutdown
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
    detector = Slow()
    scan = detect_faces(clip(40, still), detector, cuts=(), threads=1)
    next(scan)
    assert began.wait(60)
    scan.close()
    assert detector.whole == [0, 5, 10] and detector.regions == [0]
    with pytest.raises(Stop):
        for _ in detect_faces(clip(40, still), detector, cuts=(), threads=2):
            raise Stop
    assert not any(thread.is_alive() for thread in detector.threads)


@pytest.fixture(scope="module")
def yunet():
    return load_detector("yunet", model=media_file("face_detection_yunet.onnx"))


def test_yunet_measures_a_face_near_its_place_and_no_other(yunet):
    (_, frame) = next(clip_frames("demo1_video.mp4"))
    (face,), (rough,) = yunet(frame), yunet.find(frame)
    (near,) = yunet.measure(frame, [rough])
    shift = 0.15 * face.width
    beside = replace(rough, box=tuple(np.add(rough.box, [shift, -shift, shift, -shift])))
    apart = replace(rough, box=tuple(np.add(rough.box, [-300, 0, -300, 0])))
    brows = np.hypot(*(face.points[1] - face.points[0]))
    again, none = yunet.measure(frame, [beside, apart])
    assert none is None and near.score == rough.score
    for other in (near, again):
        assert np.abs(other.points - face.points).max() < 0.06 * brows


def test_yunet_sees_the_same_in_every_thread(yunet):
    frames = [frame for _, frame in clip_frames("demo3_video.mp4", every=5, stop=30)]
    alone = [yunet(frame)[0] for frame in frames]
    with ThreadPoolExecutor(3) as pool:
        together = [faces[0] for faces in pool.map(yunet, frames)]
    for a, b in zip(alone, together, strict=True):
        assert a.box == b.box and a.score == b.score and np.array_equal(a.points, b.points)


@pytest.mark.parametrize("name, fps", [("demo1_video.mp4", 25.0), ("demo3_video.mp4", 30.0)])
def test_a_real_face_is_followed_as_steadily_as_in_whole_frames(yunet, name, fps):
    frames = torch.from_numpy(np.stack([frame for _, frame in clip_frames(name, stop=60)]))
    whole, now, again = (list(detect_faces(frames, yunet, **how)) for how in ({"whole": True}, {}, {"threads": 3}))
    assert boxes(now) == boxes(again)
    assert all(d.cut == e.cut and len(d.faces) == len(e.faces) == 1 for d, e in zip(whole, now, strict=True))
    for d, e in zip(whole, now, strict=True):
        assert np.abs(np.subtract(d.faces[0].box, e.faces[0].box)).max() < 0.1 * d.faces[0].width
    assert track_faces(now, 256, fps).jitter() < 1.1 * track_faces(whole, 256, fps).jitter()
