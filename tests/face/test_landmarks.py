import numpy as np
import pytest

from latentsync.face.landmarks import (
    LOOSE_LIMITS,
    Face,
    box_from_points,
    plausible,
    points_from_106,
    points_from_box,
    points_from_five,
)

# Mean face of the 68-point mark-up: eyes, nose tip, mouth corners, then the brow centres.
MEAN_FIVE = np.array([[0.2257, 0.2161], [0.7547, 0.2161], [0.490, 0.5156], [0.254, 0.780], [0.726, 0.780]])
MEAN_BROWS = np.array([[0.188, 0.0552], [0.792, 0.0552]])


def turned(points, degrees=0.0, scale=1.0, shift=(0.0, 0.0)):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return scale * points @ np.array([[c, s], [-s, c]]) + np.asarray(shift)


def face(width=100.0, height=120.0, score=0.9):
    return Face((10.0, 20.0, 10.0 + width, 20.0 + height), score, np.zeros((3, 2)))


def test_106_landmarks_are_averaged_by_the_published_rows():
    landmarks = np.stack([np.arange(106.0), np.arange(106.0) ** 2], 1)
    points = points_from_106(landmarks)
    assert points.dtype == np.float64
    np.testing.assert_allclose(points[:, 0], [48.2, 103.0, 80.0])
    np.testing.assert_allclose(points[1, 1], np.mean(np.arange(101, 106) ** 2))


def test_five_points_of_the_mean_face_give_its_brows_above_the_eyes():
    points = points_from_five(MEAN_FIVE)
    np.testing.assert_allclose(points[:2], MEAN_BROWS, atol=1.5e-3)
    np.testing.assert_allclose(points[2], [0.490, 0.48], atol=1e-3)


def test_five_points_turn_scale_and_move_with_the_face():
    motion = {"degrees": 33.0, "scale": 240.0, "shift": (500.0, -80.0)}
    expected = turned(points_from_five(MEAN_FIVE), **motion)
    np.testing.assert_allclose(points_from_five(turned(MEAN_FIVE, **motion)), expected, atol=1e-9)


def test_the_mouth_does_not_move_the_points():
    talking = MEAN_FIVE + np.array([[0, 0], [0, 0], [0, 0], [-0.05, 0.1], [0.05, 0.1]])
    np.testing.assert_array_equal(points_from_five(talking), points_from_five(MEAN_FIVE))


@pytest.mark.parametrize("bad", [np.zeros((5, 3)), np.zeros((68, 2)), np.full((5, 2), np.nan)])
def test_bad_landmarks_are_refused(bad):
    with pytest.raises(ValueError, match="five-point landmarks"):
        points_from_five(bad)


def test_points_of_a_box_lie_in_it_and_give_it_back():
    box = (100.0, 50.0, 100.0 + 0.74 * 400, 450.0)
    points = points_from_box(box)
    np.testing.assert_allclose(points_from_box((0, 0, 100, 100)), [[24, 28], [76, 28], [50, 55.5]])
    np.testing.assert_allclose(box_from_points(points), box, atol=1e-9)


def test_box_of_a_lying_face_is_beside_its_brows():
    points = turned(points_from_box((0.0, 0.0, 74.0, 100.0)), degrees=90.0)  # forehead to the right
    x1, y1, x2, y2 = box_from_points(points)
    assert (x1 + x2) / 2 < points[0, 0]
    np.testing.assert_allclose((y1 + y2) / 2, points[:2, 1].mean())


def test_box_from_coinciding_brows_is_refused():
    with pytest.raises(ValueError, match="coincide"):
        box_from_points(np.array([[3.0, 3.0], [3.0, 3.0], [4.0, 9.0]]))


@pytest.mark.parametrize(
    ("candidate", "good"),
    [
        (face(50, 80, 0.5), True),
        (face(49.9, 80, 0.5), False),
        (face(60, 79.9, 0.5), False),
        (face(score=0.49), False),
        (face(150, 100), True),
        (face(151, 100), False),
        (face(100, 501), False),
        (face(60, 300), True),
        (face(60, 301), False),
        (face(-100, -120), False),
    ],
)
def test_the_published_limits_are_inclusive(candidate, good):
    assert plausible(candidate) is good


def test_loose_limits_take_small_faces():
    assert plausible(face(24, 24, score=0.5), LOOSE_LIMITS) and not plausible(face(24, 24))
    assert not plausible(face(23.9, 24), LOOSE_LIMITS) and not plausible(face(24, 23.9), LOOSE_LIMITS)
    assert not plausible(face(24, 30, score=0.4), LOOSE_LIMITS)
