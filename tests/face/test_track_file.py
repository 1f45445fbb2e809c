import json
import random

import numpy as np
import pytest
import torch

from latentsync.errors import InputError
from latentsync.face.align import AlignedFaces
from latentsync.face.blend import blend
from latentsync.face.landmarks import Detection, Face, points_from_106, points_from_box, points_from_five
from latentsync.face.shots import detect_faces
from latentsync.face.track import left_alone, track_faces
from latentsync.face.track_file import read_track_file, write_track_file
from latentsync.face.track_sheet import strip
from latentsync.settings import TrackSettings

FRAME = np.zeros((480, 640, 3), np.uint8)
POINTS = [[110.0, 120.0], [150.0, 121.0], [131.0, 150.0]]
FIVE = [[110.0, 120.0], [150.0, 121.0], [131.0, 150.0], [112.0, 170.0], [150.0, 171.0]]


def content(faces, **changes):
    header = {"format": "latentsync-track", "version": 1, "fps": 25.0, "width": 640, "height": 480, "frames": 20}
    return header | {"faces": faces} | changes


def saved(tmp_path, value):
    path = tmp_path / "track.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def read(tmp_path, faces, **changes):
    return read_track_file(saved(tmp_path, content(faces, **changes)))


def boxed(frame, x=0.0, **more):
    return {"frame": frame, "box": [x, 0.0, x + 74.0, 100.0], **more}


def test_what_is_written_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    clip = []
    for index in range(6):
        faces = [
            Face((1.5 + k, 2.25, 90.0 + k, 130.125), 0.5 + 0.1 * k, rng.uniform(0, 90, (3, 2)))
            for k in range(index % 3)
        ]
        clip.append(Detection(None if index == 3 else faces, cut=index == 4))
    path = tmp_path / "clip.json"
    write_track_file(path, iter(clip), width=640, height=480, fps=29.97)
    file = read_track_file(path)
    assert (file.width, file.height, file.frames, file.fps, file.cuts) == (640, 480, 6, 29.97, [4])
    for index, detection in enumerate(clip):
        back = file(FRAME, index)
        assert len(back) == len(detection.faces or [])
        for face, again in zip(detection.faces or [], back, strict=True):
            np.testing.assert_allclose(again.box, face.box, atol=5.1e-4)
            np.testing.assert_allclose(again.points, face.points, atol=5.1e-4)
            assert again.score == pytest.approx(face.score, abs=5.1e-4)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.json"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = saved(tmp_path, "old")
    broken = Face((0.0, 0.0, float("nan"), 1.0), 1.0, np.zeros((3, 2)))
    with pytest.raises(ValueError):
        write_track_file(path, [Detection([broken])], width=4, height=4, fps=25.0)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["track.json"]


def test_interpolation_cannot_be_promised_for_several_faces(tmp_path):
    crowd = [Detection([Face((0, 0, 9, 9), 1.0, points_from_box((0, 0, 9, 9)))] * 2)]
    with pytest.raises(ValueError, match="frame 0 has 2 faces"):
        write_track_file(tmp_path / "t.json", crowd, width=9, height=9, fps=25.0, interpolate=True)


def test_box_or_points_alone_are_enough(tmp_path):
    file = read(tmp_path, [boxed(0), {"frame": 1, "points": POINTS, "score": 0.25}])
    (by_box,), (by_points,) = file(FRAME, 0), file(FRAME, 1)
    np.testing.assert_allclose(by_box.points, points_from_box((0, 0, 74, 100)))
    assert by_box.score == 1.0 and by_points.score == 0.25
    np.testing.assert_array_equal(by_points.points, POINTS)
    x1, y1, x2, y2 = by_points.box
    assert all(x1 < x < x2 and y1 < y < y2 for x, y in POINTS)


def test_five_and_106_points_are_mapped(tmp_path):
    five = np.random.default_rng(1).uniform(0, 400, (5, 2))
    many = np.random.default_rng(2).uniform(0, 400, (106, 2))
    file = read(tmp_path, [boxed(0, points=five.tolist()), boxed(1, points=many.tolist())])
    np.testing.assert_allclose(file(FRAME, 0)[0].points, points_from_five(five))
    np.testing.assert_allclose(file(FRAME, 1)[0].points, points_from_106(many))


def test_unlisted_frames_and_frames_after_the_end_have_no_face(tmp_path):
    file = read(tmp_path, [boxed(3), boxed(3, x=300.0)])
    assert [len(file(FRAME, i)) for i in (0, 3, 4, 19, 20, 500)] == [0, 2, 0, 0, 0, 0]


def test_key_frames_are_joined_by_lines_and_held_at_the_ends(tmp_path):
    file = read(tmp_path, [boxed(10, x=100.0, score=0.5), boxed(2, x=20.0)], interpolate=True)
    lefts = [file(FRAME, i)[0].box[0] for i in (0, 2, 4, 6, 10, 19)]
    np.testing.assert_allclose(lefts, [20, 20, 40, 60, 100, 100])
    middle = file(FRAME, 6)[0]
    np.testing.assert_allclose(middle.points, points_from_box((60, 0, 134, 100)))
    assert middle.score == 0.5 and file(FRAME, 20) == []


def test_key_frames_are_not_joined_across_a_cut(tmp_path):
    file = read(tmp_path, [boxed(2, x=20.0), boxed(10, x=100.0)], interpolate=True, cuts=[6])
    assert [file(FRAME, i)[0].box[0] for i in (2, 5, 6, 10)] == [20, 20, 100, 100]
    file = read(tmp_path, [boxed(2, x=20.0), boxed(10, x=100.0)], interpolate=True, cuts=[4, 8, 12])
    assert [file(FRAME, i)[0].box[0] for i in (1, 3, 4, 7, 8, 11, 15)] == [20, 20, 20, 20, 100, 100, 100]


def test_a_track_of_a_proxy_fits_the_full_picture(tmp_path, caplog):
    file = read(tmp_path, [{"frame": 0, "box": [-0.5, -0.5, 9.5, 19.5], "points": POINTS}])
    with caplog.at_level("INFO"):
        (face,) = file(np.zeros((960, 1920, 3), np.uint8), 0)
        file(np.zeros((960, 1920, 3), np.uint8), 0)
    np.testing.assert_allclose(face.box, [-0.5, -0.5, 29.5, 39.5])  # edges of the picture stay edges
    np.testing.assert_allclose(face.points[0], [(110.5) * 3 - 0.5, (120.5) * 2 - 0.5])
    assert len([r for r in caplog.records if "640 x 480" in r.message and "1920 x 960" in r.message]) == 1


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (7, r"faces\[1\] is 7"),
        ({"box": [0, 0, 1, 1]}, r"faces\[1\].frame is None; expected a whole number, 0 to 19"),
        (boxed(20), r"faces\[1\].frame is 20"),
        (boxed(True), r"faces\[1\].frame is True"),
        (boxed(1.5), r"faces\[1\].frame is 1.5"),
        ({"frame": 1}, r"faces\[1\] has neither box nor points"),
        ({"frame": 1, "boxes": [0, 0, 1, 1]}, r"faces\[1\] has an unknown key 'boxes'"),
        ({"frame": 1, "box": [0, 0, 1]}, r"faces\[1\].box is \[0, 0, 1\]; expected 4 numbers"),
        ({"frame": 1, "box": [5, 0, 5, 9]}, r"x1 < x2"),
        ({"frame": 1, "box": [0, 0, "9", 9]}, r"faces\[1\].box\[2\] is '9'"),
        ({"frame": 1, "box": [0, 0, float("nan"), 9]}, r"faces\[1\].box\[2\] is nan"),
        ({"frame": 1, "box": [0, 0, 10**400, 9]}, r"faces\[1\].box\[2\] is 1000"),
        ({"frame": 1, "points": POINTS[:2]}, r"3, 5 or 106"),
        ({"frame": 1, "points": [[1, 2], [3, 4], 5]}, r"faces\[1\].points\[2\] is 5; expected 2 numbers"),
        ({"frame": 1, "points": [[1, 2], [1, 2], [3, 4]]}, r"apart"),
        (boxed(1, score=1.5), r"faces\[1\].score is 1.5; expected a number from 0 to 1"),
    ],
)
def test_a_bad_entry_is_named_with_its_value(tmp_path, entry, says):
    with pytest.raises(ValueError, match=says) as error:
        read(tmp_path, [boxed(0), entry])
    assert str(tmp_path / "track.json") in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": "other"}, "latentsync-track"),
        ({"version": 2}, "version is 2; expected 1"),
        ({"fps": 0}, "fps is 0"),
        ({"width": 0}, "width is 0"),
        ({"height": 480.5}, "height is 480.5"),
        ({"frames": -1}, "frames is -1"),
        ({"faces": {}}, "expected a list"),
        ({"cuts": [25]}, r"cuts\[0\] is 25"),
        ({"cuts": 3}, "cuts is 3"),
        ({"interpolate": 1}, "interpolate is 1"),
        ({"frames": 10**12}, "has 1e[+]12 frames of a video .*--limit frames=1000000000000$"),
        ({"frames": 10**400}, "at most 5000000 are taken"),
        ({"frames": 5_000_000, "fps": 0.001}, "--limit seconds=5000000000$"),
        ({"width": 10**400}, "has 1.7.*e[+]308 pixels"),
        ({"width": 2**14, "height": 2**12 + 1}, "has 67125248 pixels"),
        ({"cuts": [0] * 9 + [[[[[[[[[]]]]]]]]]}, r"cuts\[9\] is \[\[\[\[\[\[\[...\]"),
        ({"interplate": True}, "unknown key 'interplate'"),
        ({"interpolate": True, "faces": [boxed(0), boxed(0)]}, "frame 0 lists more .* at most 1, as it asks"),
        ({"faces": [boxed(5)] * 1001}, "frame 5 lists more faces than expected; give at most 1000$"),
    ],
)
def test_a_bad_header_is_named(tmp_path, changes, says):
    with pytest.raises(ValueError, match=says):
        read_track_file(saved(tmp_path, content([]) | changes))


def test_a_track_file_is_read_only_up_to_its_limit(tmp_path):
    path = tmp_path / "large.json"
    with path.open("wb") as file:  # no more than a hole on most disks
        file.truncate(2**26 + 1)
    with pytest.raises(
        InputError, match=r"large.json has 67108865 bytes of a track file: .*--limit track_bytes=67108865"
    ):
        read_track_file(path)


def test_limits_of_a_track_file_are_inclusive(tmp_path):
    assert len(read(tmp_path, [boxed(5)] * 1000)(FRAME, 5)) == 1000
    far = {"frame": 19, "box": [-1e6, -1e6, 1e6, 1e6], "score": 0}
    near = {"frame": 0, "points": [[0, 10], [0.001, 10], [10, 20]], "score": 1}
    for last, fps in ((9, 1e-3), (19, 1e4)):
        faces = [far | {"frame": last}, near]
        assert sorted(read(tmp_path, faces, fps=fps, frames=last + 1).faces) == [0, last]
    for fps, says in ((0.9e-3, "fps is 0.0009"), (10_001, "fps is 10001")):
        with pytest.raises(ValueError, match=says):
            read(tmp_path, [], fps=fps)
    with pytest.raises(ValueError, match=r"box\[2\] is 1000001"):
        read(tmp_path, [far | {"box": [0, 0, 1_000_001, 9]}])
    with pytest.raises(ValueError, match="apart"):
        read(tmp_path, [near | {"points": [[0, 10], [0.0009, 10], [10, 20]]}])


def test_a_frame_rate_within_a_thousandth_is_the_same(tmp_path):
    file = read(tmp_path, [boxed(0)], fps=25)
    assert file.at(25.02) is file and file.at(24.98) is file
    assert file.at(25.03).rate == 25.03 and file.at(24.97).rate == 24.97


def test_at_another_rate_a_frame_is_the_one_shown_in_its_middle(tmp_path):
    slower = read(tmp_path, [boxed(0)], cuts=[0, 2, 7, 19]).at(10.0)
    assert [slower.number(i) for i in range(8)] == [1, 3, 6, 8, 11, 13, 16, 18]
    assert slower.starts == [1, 3]  # the clip's first frame is no cut, and the last one is not shown
    assert read(tmp_path, [boxed(0)], cuts=[1, 3]).at(50.0).starts == [2, 6]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[1]", '{"format": ' + "9" * 5000 + "}"])
def test_a_file_that_is_no_track_file_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="track file|latentsync-track"):
        read_track_file(saved(tmp_path, text))
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a JSON text file"):
        read_track_file(tmp_path / "bytes.json")
    with pytest.raises(ValueError, match="nowhere.json"):
        read_track_file(tmp_path / "nowhere.json")


ODD = 'null true -1 NaN Infinity [] {} [[]] "5" 1e12 1000000000000'.split()
ODD += [
    "1" + "0" * 400,
    "[" * 500 + "]" * 500,
    "[" * 9000 + "]" * 9000,
    *"0 1 3 6 9 29 0.001 1e-300 -1e6 1e6".split() * 2,
]


def places(node):
    """Every (container, key) inside `node`."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places(node[key])


def mutated(chance: random.Random) -> str:
    """The text of a track file with a few values that are absurd or gone, or bytes missing."""
    entries = [boxed(1, yaw=70.0), boxed(4, x=9.0, points=POINTS), {"frame": 6, "points": FIVE}]
    value = json.loads(json.dumps(content(entries, cuts=[5], interpolate=True)))
    for _ in range(chance.randint(1, 2)):
        node, key = chance.choice(list(places(value)))
        if chance.random() < 0.1:
            del node[key]
        else:
            node[key] = f"<{chance.choice(ODD)}>"
    text = json.dumps(value).replace('"<', "").replace('>"', "").replace("\\", "")
    start = chance.randrange(len(text))
    return text[:start] + text[start + chance.randint(1, 9) :] if chance.random() < 0.1 else text


@pytest.mark.parametrize("seed", range(2))
def test_damaged_files_end_in_a_result_or_a_sentence(tmp_path, seed):
    chance, frames = random.Random(seed), torch.full((8, 48, 64, 3), 90, dtype=torch.uint8)
    results = sentences = 0
    for _ in range(60):
        path = saved(tmp_path, mutated(chance))
        try:
            file = read_track_file(path).at(30.0)
            detections = list(detect_faces(frames, file, cuts=file.starts, describe=True, limits=None))
            settings = TrackSettings(published=chance.random() < 0.5)
            track = track_faces(detections, 64, 30.0, settings)
            crops = AlignedFaces(frames, track.matrices, track.found, 64)[range(8)]
            assert torch.isfinite(crops).all() and len(torch.cat(list(blend(frames, track, [crops])))) == 8
            faces = [(d.faces or [None])[0] for d in detections]
            strip(frames, track, faces, left_alone(track, faces, settings))
            results += 1
        except InputError as error:
            assert "\n" not in str(error) and len(str(error)) < 500, path.read_text()
            sentences += 1
        except Exception as error:
            raise AssertionError(path.read_text()) from error
    assert results > 3 and sentences > 20
