from itertools import combinations

import numpy as np
import torch
from real_clips import clip_frames, media_file

from latentsync.appearance import appearance
from latentsync.detect import load_detector
from latentsync.faces import SAME_APPEARANCE
from latentsync.landmarks import Face
from latentsync.scan import detect_faces


def face(box) -> Face:
    return Face(box, 0.9, np.zeros((3, 2)))


def test_one_person_is_alike_over_time_and_two_are_not():
    detector = load_detector("yunet", model=media_file("face_detection_yunet.onnx"))
    people = []
    for name in ("demo1_video.mp4", "demo3_video.mp4"):
        frames = [frame for _, frame in clip_frames(name, every=60)]
        people.append([appearance(frame, detector(frame, 0)[0]) for frame in frames])
    for person in people:
        assert len(person) > 3 and min(a @ b for a, b in combinations(person, 2)) > SAME_APPEARANCE + 0.05
    assert max(a @ b for a in people[0] for b in people[1]) < SAME_APPEARANCE - 0.05


def test_vectors_have_unit_length_wherever_the_box_is():
    frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    for box in ((20, 20, 60, 80), (-30, -30, 20, 30), (150, 100, 220, 190), (900, 900, 950, 990)):
        vector = appearance(frame, face(box))
        assert vector.min() >= 0 and abs(np.linalg.norm(vector) - 1) < 1e-3


def test_light_changes_matter_less_than_people():
    rng = np.random.default_rng(1)
    frame = np.clip(rng.normal([150, 90, 70], 12, (120, 160, 3)), 0, 255).astype(np.uint8)
    other = np.clip(rng.normal([60, 90, 160], 12, (120, 160, 3)), 0, 255).astype(np.uint8)
    here = face((40, 30, 90, 90))
    darker = (frame * 0.93).astype(np.uint8)
    assert appearance(frame, here) @ appearance(darker, here) > appearance(frame, here) @ appearance(other, here) + 0.3


def test_a_scan_describes_faces_when_asked():
    frames = np.random.default_rng(0).integers(0, 256, (3, 120, 160, 3), dtype=np.uint8)

    def detector(frame, index):
        return [face((20, 20, 60, 80))]

    plain = list(detect_faces(torch.from_numpy(frames), detector))
    described = list(detect_faces(torch.from_numpy(frames), detector, describe=True))
    assert all(d.faces[0].appearance is None for d in plain)
    for picture, d in zip(frames, described, strict=True):
        assert np.array_equal(d.faces[0].appearance, appearance(picture, d.faces[0]))
