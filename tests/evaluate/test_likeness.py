"""Landmarks and embeddings of a detector whose answers are known."""

import math

import numpy as np
import pytest
import torch

from latentsync.evaluate.metrics import measured
from latentsync.evaluate.pictures import Identity, identity, landmark_distance, mouth_distance
from latentsync.face.landmarks import Face, points_from_box

BOX = (10.0, 10.0, 30.0, 40.0)
FAR = (50.0, 10.0, 70.0, 40.0)


def lips(width: float, x: float = 20.0) -> np.ndarray:
    """106 landmarks, of which the 20 of the lips lie on a circle."""
    angle = np.arange(20) / 20 * 2 * math.pi
    points = np.full((106, 2), -99.0)
    points[52:72] = np.stack([x + width * np.cos(angle), 30 + width * np.sin(angle)], axis=1)
    return points


def look(picture: np.ndarray) -> list[tuple[Face, np.ndarray]]:
    """A stranger, and a face with lips as wide as the red says, whom green turns into another; in black nobody."""
    red, green, _ = (int(v) for v in picture[0, 0])
    if not red:
        return []
    embedding = np.array([math.cos(green / 100), math.sin(green / 100)])
    stranger = Face(FAR, 0.9, points_from_box(FAR), np.array([0.0, 1.0]))
    known = Face(BOX, 0.9, points_from_box(BOX), embedding)
    return [(stranger, lips(1, 60)), (known, lips(red, 20 + green))]


def clip(*colours: tuple[int, int]) -> torch.Tensor:
    return torch.tensor([(*c, 0) for c in colours], dtype=torch.uint8)[:, None, None].expand(-1, 50, 80, 3)


def boxes(frames: int) -> np.ndarray:
    return np.array([BOX] * frames)


def test_the_lips_are_compared_about_their_own_mean():
    assert mouth_distance(lips(5), lips(3, x=44)) == pytest.approx(2)
    made, true = clip((5, 10), (9, 10)), clip((3, 0), (9, 0))
    assert landmark_distance(look, made, true, boxes(2)) == pytest.approx(1)
    assert landmark_distance(look, true, true, boxes(2)) == 0


def test_identity_is_the_cosine_of_the_face_that_counts():
    assert identity(look, clip((5, 50)), clip((5, 0)), boxes(1)) == pytest.approx(math.cos(0.5))
    assert identity(look, clip((5, 7)), clip((5, 7)), boxes(1)) == pytest.approx(1)


def test_frames_in_which_one_of_the_two_shows_no_face_do_not_count():
    made, true = clip((5, 0), (0, 0), (7, 0)), clip((3, 0), (3, 0), (3, 0))
    figure = measured(Identity(look, boxes(3)), made, true)["lmd"]
    assert figure.value == pytest.approx(3) and np.isnan(figure.curve[1])
    with pytest.raises(ValueError, match="lmd found the face in no frame of both videos"):
        landmark_distance(look, clip((0, 0)), clip((3, 0)), boxes(1))
    with pytest.raises(ValueError, match="found the face in no frame"):
        landmark_distance(look, made, true, np.array([[200.0, 0, 220, 30]] * 3))
