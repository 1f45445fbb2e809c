from dataclasses import replace

import numpy as np
import pytest

from latentsync.face.landmarks import (
    LOOSE_LIMITS,
    Face,
    between,
    box_from_points,
    plausible,
    points_from_106,
    points_from_box,
    points_from_five,
    points_from_mesh,
    yaw_from_mesh,
)

# Mean face of the 68-point mark-up: eyes, nose tip, mouth corners, then the brow centres.
MEAN_FIVE = np.array([[0.2257, 0.2161], [0.7547, 0.2161], [0.490, 0.5156], [0.254, 0.780], [0.726, 0.780]])
MEAN_BROWS = np.array([[0.188, 0.0552], [0.792, 0.0552]])


# Vertices of MediaPipe's canonical face model, x to the right, y up, z to the front: the brow on the left, the wing
# of the nose there and the corners of the eye; what has the same number on the right is at -x.
CANONICAL = {
    46: (-5.253307, 3.881582, 3.363159), 52: (-3.734964, 4.508230, 4.550454), 53: (-4.588603, 4.302037, 4.048484),
    55: (-1.220941, 4.142165, 5.106035), 63: (-4.985894, 4.802461, 3.751977), 65: (-2.644548, 4.524654, 4.921559),
    66: (-2.760292, 5.100971, 5.015990), 70: (-5.720968, 4.254584, 2.830852), 105: (-3.986562, 5.109487, 4.466315),
    107: (-1.395634, 5.011963, 5.316032), 129: (-1.785794, -0.978284, 4.850470), 33: (-4.445859, 2.663991, 3.173422),
    133: (-1.856432, 2.585245, 3.757904), 61: (-2.456206, -4.342621, 4.283884),
}  # fmt: skip
MIRRORED = {
    46: 276, 52: 282, 53: 283, 55: 285, 63: 293, 65: 295, 66: 296, 70: 300, 105: 334, 107: 336, 129: 358, 33: 263,
    133: 362, 61: 291,
}  # fmt: skip
MIDLINE = {4: (0.0, -0.463170, 7.586580), 5: (0.0, 0.365669, 7.242870)}


def canonical_mesh(count=478, yaw=0.0, pitch=0.0):
    """The vertices above, y down, turned to the right of the picture and then down; the others are not numbers."""
    mesh = np.full((count, 3), np.nan)
    for vertex, (x, y, z) in (CANONICAL | MIDLINE).items():
        mesh[vertex] = x, -y, z
        if vertex in MIRRORED:
            mesh[MIRRORED[vertex]] = -x, -y, z
    mesh[:, [0, 2]] = turned(mesh[:, [0, 2]], -yaw)
    mesh[:, [1, 2]] = turned(mesh[:, [1, 2]], -pitch)
    return mesh[:, :2]


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


@pytest.mark.parametrize("count", [468, 478])
def test_the_mesh_of_mediapipes_canonical_face_gives_the_points_of_the_mean_face(count):
    mesh = canonical_mesh(count)
    eyes = np.stack([mesh[[33, 133]].mean(0), mesh[[263, 362]].mean(0)])
    mesh = np.where(np.isnan(mesh), 0, mesh)
    distance = eyes[1, 0] - eyes[0, 0]
    relative = (points_from_mesh(mesh) - eyes.mean(0)) / distance
    mean_eyes = MEAN_FIVE[:2].mean(0)
    expected = (points_from_five(MEAN_FIVE) - mean_eyes) / 0.529
    expected[:, 0] -= expected[:, 0].mean()  # the mean face's nose is not in its middle
    np.testing.assert_allclose(relative[:2], expected[:2], atol=0.006)
    np.testing.assert_allclose(relative[2], [0, expected[2, 1]], atol=0.006)


@pytest.mark.parametrize("bad", [np.zeros((106, 2)), np.zeros((478, 3)), np.full((468, 2), np.inf)])
def test_what_is_no_face_mesh_is_refused(bad):
    with pytest.raises(ValueError, match="MediaPipe's face landmarks"):
        points_from_mesh(bad)


@pytest.mark.parametrize("pitch, roll", [(0, 0), (20, 30), (-20, -30)])
@pytest.mark.parametrize("yaw", [-75, -60, -45, -20, 0, 20, 45, 60, 75])
def test_the_yaw_of_a_face_that_is_known_to_be_turned(yaw, pitch, roll):
    """Also where the camera looks down or up at it; by three points only where it does not."""
    mesh = np.nan_to_num(turned(canonical_mesh(468, yaw, pitch), roll, scale=8, shift=(300, 200)))
    assert abs(yaw_from_mesh(mesh) - yaw) < 3
    eyes = np.stack([mesh[[33, 133]].mean(0), mesh[[263, 362]].mean(0)])
    face = Face((0, 0, 100, 120), 0.9, points_from_five(np.concatenate([eyes, mesh[[4, 61, 291]]])))
    if pitch == 0:
        assert abs(face.yaw - yaw) < 3
    assert between(replace(face, turned=50.0), replace(face, turned=10.0), 0.25).yaw == pytest.approx(40)


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
