from itertools import chain, combinations

import cv2
import numpy as np
import pytest
import torch
from real_clips import clip_frames, media_file

from latentsync.face.detect import load_detector
from latentsync.face.landmarks import Face
from latentsync.face.shots import CutDetector, colour_histogram, detect_faces
from latentsync.face.track import SAME_APPEARANCE


def scene(seed, height=120, width=200):
    """A smooth random picture, float (h, w, 3) in 0..255, with neighbours beyond the frame to pan to."""
    noise = np.random.default_rng(seed).normal(size=(height, width * 2, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 9)
    return np.clip(128 + 45 * smooth / smooth.std(), 0, 255)


def cuts(pictures):
    is_cut = CutDetector()
    return [i for i, p in enumerate(pictures) if is_cut(np.ascontiguousarray(np.clip(p, 0, 255).astype(np.uint8)))]


A, B = scene(1)[:, :200], scene(2)[:, :200]


def shaken(picture, count, seed=0):
    rng = np.random.default_rng(seed)
    return [picture + rng.normal(0, 4, picture.shape) for _ in range(count)]


def test_a_hard_cut_is_found_at_its_first_frame_both_ways():
    assert cuts(shaken(A, 10) + shaken(B, 10) + shaken(A, 10)) == [10, 20]


def test_a_cut_through_black_is_found():
    assert cuts(shaken(A, 5) + [A * 0] * 3 + shaken(B, 5)) == [8]


DOWN = [A * t for t in np.linspace(1, 0, 13)]


@pytest.mark.parametrize(
    "then",
    [
        [A * 1.5 + 50, *shaken(A, 8)],  # a flash
        [A * 0 + 255, *shaken(A, 8)],  # a white one
        shaken(A * 0.4, 8),  # the light is switched off
        DOWN + DOWN[::-1],
        [A * (1 - t) + B * t for t in np.linspace(0, 1, 13)],  # a dissolve
    ],
)
def test_flashes_light_fades_and_dissolves_are_no_cuts(then):
    assert cuts(shaken(A, 8) + then) == []


def test_a_fast_pan_is_at_most_one_cut_and_a_cut_after_it_is_found():
    wide = scene(3)
    pan = [wide[:, 12 * i : 12 * i + 200] for i in range(16)]
    assert len(cuts([pan[0]] * 8 + pan)) <= 1
    assert cuts(shaken(pan[-1], 30) + shaken(B, 3)) == [30]


@pytest.mark.parametrize("height, rows", [(36 * 16 - 1, 575), (36 * 16, 288), (1080, 360)])
def test_of_tall_pictures_8_rows_or_more_count_for_each_that_is_compared(height, rows, monkeypatch):
    seen, resize = [], cv2.resize
    monkeypatch.setattr(cv2, "resize", lambda picture, *a, **k: seen.append(len(picture)) or resize(picture, *a, **k))
    first, second = (cv2.resize(p, (400, height)).clip(0, 255) for p in (A, B))
    seen.clear()
    assert cuts(shaken(first, 3) + shaken(second, 3)) == [3] and set(seen) == {rows}


CHECKER = np.indices((36, 64)).sum(0) % 2 * 2.0 - 1  # at the size at which pictures are compared
STRIPES = np.indices((36, 64))[0] % 2 * 2.0 - 1


def grey(levels):
    return np.rint(levels)[..., None].repeat(3, -1)


@pytest.mark.parametrize(("contrast", "cut"), [(12, False), (13, True)])
def test_a_cut_differs_by_more_than_8_levels(contrast, cut):
    """Grey pictures differ in one of three channels: by 24 levels there, 8 in the mean."""
    assert cuts([grey(128 + contrast * CHECKER), grey(128 - contrast * CHECKER)]) == [1] * cut


@pytest.mark.parametrize(("contrast", "cut"), [(15, False), (17, True)])
def test_a_cut_differs_by_more_than_4_times_the_usual(contrast, cut):
    """The light changes by 9 levels, 3 in the mean, from frame to frame, so a cut needs more than 36."""
    flicker = [grey(128 + 9 * (i % 2) + 20 * CHECKER) for i in range(9)]
    assert cuts([*flicker, grey(128 - contrast * CHECKER)]) == [9] * cut


@pytest.mark.parametrize(("still", "cut"), [(12, False), (13, True)])
def test_the_usual_difference_is_the_median_of_24_frames(still, cut):
    """The light has changed by 6 levels 15 times, then not; half of that is more than a quarter of the cut's 10."""
    restless = [grey(128 + 18 * (i % 2) + 20 * CHECKER) for i in range(16)]
    assert cuts([*restless, *restless[-1:] * still, grey(146 - 10 * CHECKER)]) == [16 + still] * cut


@pytest.mark.parametrize(("contrast", "cut"), [(2, False), (3, True)])
def test_a_picture_that_varies_by_less_than_3_levels_shows_no_shot(contrast, cut):
    assert cuts([grey(128 + 40 * CHECKER), grey(128 - contrast * CHECKER)]) == [1] * cut


@pytest.mark.parametrize(("correlation", "cut"), [(0.88, False), (0.82, True)])
def test_the_same_pattern_of_light_is_no_cut(correlation, cut):
    other = correlation * CHECKER + np.sqrt(1 - correlation**2) * STRIPES
    assert cuts([grey(128 + 80 * CHECKER), grey(128 + 80 * other)]) == [1] * cut


def test_real_clips_have_no_cut_and_their_joint_is_one():
    first = [picture for _, picture in clip_frames("demo1_video.mp4", stop=30)]
    second = [picture for _, picture in clip_frames("demo3_video.mp4", stop=30)]
    assert cuts(chain(first, second)) == [30]


class Recorded:
    """Frames of one grey level each that remember how they were asked for."""

    def __init__(self, count):
        self.count, self.asked = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, indices):
        self.asked.append(list(indices))
        return torch.stack([torch.full((4, 6, 3), i / 255.0) for i in indices])


def numbers_looked_at(count, **options):
    seen = []

    def detector(frame, index):
        assert frame.dtype == np.uint8 and frame.shape == (4, 6, 3) and (frame == index).all()
        seen.append(index)
        return []

    found = list(detect_faces(Recorded(count), detector, **options))
    assert [d.faces is not None for d in found] == [i in seen for i in range(count)]
    return seen


def test_every_frame_gets_a_detection_and_the_last_is_looked_at():
    assert numbers_looked_at(5) == [0, 1, 2, 3, 4]
    assert numbers_looked_at(12, every=5) == [0, 5, 10, 11]
    assert numbers_looked_at(1, every=5) == [0]
    assert numbers_looked_at(0) == []


def test_a_new_shot_is_looked_at_even_between():
    assert numbers_looked_at(12, every=5, cuts=[7]) == [0, 5, 7, 10, 11]
    pictures = np.stack(shaken(A, 7) + shaken(B, 7)).clip(0, 255).astype(np.uint8)
    found = list(detect_faces(torch.from_numpy(pictures), lambda frame, index: [], every=5))
    assert [i for i, d in enumerate(found) if d.cut] == [7]
    assert [i for i, d in enumerate(found) if d.faces is not None] == [0, 5, 7, 10, 13]


def test_frames_are_pulled_window_by_window_as_they_are_needed():
    frames = Recorded(10)
    scan = detect_faces(frames, lambda frame, index: [], window=4)
    next(scan)
    assert frames.asked == [[0, 1, 2, 3]]
    list(scan)
    assert frames.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("options", [{"every": 0}, {"window": 0}])
def test_bad_numbers_are_refused(options):
    with pytest.raises(ValueError, match="1 or more"):
        next(detect_faces(Recorded(3), lambda frame, index: [], **options))


def face(box) -> Face:
    return Face(box, 0.9, np.zeros((3, 2)))


def test_one_person_is_alike_over_time_and_two_are_not():
    detector = load_detector("yunet", model=media_file("face_detection_yunet.onnx"))
    people = []
    for name in ("demo1_video.mp4", "demo3_video.mp4"):
        frames = [frame for _, frame in clip_frames(name, every=60)]
        people.append([colour_histogram(frame, detector(frame, 0)[0]) for frame in frames])
    for person in people:
        assert len(person) > 3 and min(a @ b for a, b in combinations(person, 2)) > SAME_APPEARANCE + 0.05
    assert max(a @ b for a in people[0] for b in people[1]) < SAME_APPEARANCE - 0.05


def test_colours_are_counted_around_the_face_and_nowhere_else():
    """The box is 40 x 50; hair and background are looked at 0.6 above, 0.5 beside and a whole height below."""
    plain, beyond = np.zeros((260, 260, 3), np.uint8), np.full((260, 260, 3), 200, np.uint8)
    here, (top, bottom, left, right) = face((100, 100, 140, 150)), (70, 201, 80, 161)
    beyond[top:bottom, left:right] = 0
    assert np.array_equal(colour_histogram(beyond, here), colour_histogram(plain, here))
    for edge in np.s_[top, :], np.s_[bottom - 1, :], np.s_[:, left], np.s_[:, right - 1]:
        painted = plain.copy()
        painted[edge] = 255
        assert not np.array_equal(colour_histogram(painted, here), colour_histogram(plain, here))
    assert np.array_equal(colour_histogram(beyond, face((-60, 20, -50, 30))), colour_histogram(plain, here))


def test_vectors_have_unit_length_wherever_the_box_is():
    frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    for box in ((20, 20, 60, 80), (-30, -30, 20, 30), (150, 100, 220, 190), (900, 900, 950, 990)):
        vector = colour_histogram(frame, face(box))
        assert vector.min() >= 0 and abs(np.linalg.norm(vector) - 1) < 1e-3


def test_light_changes_matter_less_than_people():
    rng, here = np.random.default_rng(1), face((40, 30, 90, 90))
    frame, other = (rng.normal(colour, 12, (120, 160, 3)).astype(np.uint8) for colour in ((150, 90, 70), (60, 90, 160)))
    me, dark, them = (colour_histogram(f, here) for f in (frame, (frame * 0.93).astype(np.uint8), other))
    assert me @ dark > me @ them + 0.3


def test_a_scan_describes_faces_when_asked():
    frames = np.random.default_rng(0).integers(0, 256, (3, 120, 160, 3), dtype=np.uint8)
    box = face((20, 20, 60, 80))
    plain, described = (
        list(detect_faces(torch.from_numpy(frames), lambda frame, index: [box], describe=asked)) for asked in (0, 1)
    )
    assert all(d.faces[0].appearance is None for d in plain)
    for picture, d in zip(frames, described, strict=True):
        assert np.array_equal(d.faces[0].appearance, colour_histogram(picture, box))
