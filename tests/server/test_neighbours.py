"""Beside other packs, with nothing cached: their real nodes before and after ours, and neither in the other's way."""

import os
import shutil
from pathlib import Path
from urllib.parse import urlencode

import pytest
from comfy_server import PACK, ROOT, Server
from real_clips import media_file
from test_review_list import kind

from latentsync.media import VideoReader, read_audio

PACKS = Path(os.environ.get("COMFYUI_PACKS", ""))
HELPERS, KJNODES, WRAPPER = "ComfyUI-VideoHelperSuite", "ComfyUI-KJNodes", "ComfyUI-LatentSyncWrapper"
SAMPLE = ROOT / "latentsync" / "assets" / "sample" / "short_clip"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    packs = [PACKS / name for name in (HELPERS, KJNODES, WRAPPER) if (PACKS / name).is_dir()]
    if not packs or not os.environ.get("COMFYUI_PACKS"):
        pytest.skip(f"set COMFYUI_PACKS to a folder with {HELPERS}, {KJNODES} or {WRAPPER}")
    server = Server(tmp_path_factory.mktemp("neighbours") / "base", "--cache-none", packs=packs)
    shutil.copy(SAMPLE.with_suffix(".mp4"), server.base / "input")
    yield server
    server.close()


@pytest.fixture
def prompt(one_node) -> dict:
    """Model "1", sample clip "2", and "3", Lip Sync Frames, to which frames and a voice are still to be linked."""
    widgets = {name: value for name, value in kind(one_node, "Video").items() if not isinstance(value, list)}
    linked = {"images": ["2", 4], "audio": ["2", 1], "fps": ["2", 5], "model": ["1", 0], "detector": ["2", 3]}
    frames = {"class_type": "LatentSyncFrames", "inputs": widgets | linked}
    del frames["inputs"]["crf"]
    return {"1": one_node["1"], "2": one_node["2"], "3": frames}


def needs(server, *nodes: str) -> None:
    known = server.get("/object_info")
    if missing := [name for name in nodes if name not in known]:
        pytest.skip(f"this ComfyUI, or COMFYUI_PACKS, has no {', '.join(missing)}")


def test_video_helper_suite_loads_and_combines(server, prompt):
    """Its lazy AUDIO, which is no dict, and the frame rate that it reads."""
    needs(server, "VHS_LoadVideo", "VHS_VideoInfoSource", "VHS_VideoCombine")
    load = {"video": "short_clip.mp4", "force_rate": 0, "custom_width": 0, "custom_height": 0}
    load |= {"frame_load_cap": 12, "skip_first_frames": 0, "select_every_nth": 1}
    combine = {"images": ["3", 0], "audio": ["3", 1], "frame_rate": ["5", 0], "loop_count": 0, "pingpong": False}
    combine |= {"filename_prefix": "helpers", "format": "video/h264-mp4", "save_output": True}
    prompt |= {
        "4": {"class_type": "VHS_LoadVideo", "inputs": load},
        "5": {"class_type": "VHS_VideoInfoSource", "inputs": {"video_info": ["4", 3]}},
        "6": {"class_type": "VHS_VideoCombine", "inputs": combine},
    }
    prompt["3"]["inputs"] |= {"images": ["4", 0], "audio": ["4", 2], "fps": ["5", 0]}
    server.run(prompt)
    video = next((server.base / "output").glob("helpers*-audio.mp4"))
    with VideoReader(video) as made, VideoReader(SAMPLE.with_suffix(".mp4")) as source:
        assert (len(made), made.fps) == (12, source.fps)
        before, after = source[range(12)].int(), made[range(12)].int()
        changed = (after - before).abs().amax((0, 3)) > 40
        assert changed.any() and not changed[: source.height // 3].any()  # the mouth, and nothing of the forehead
    sound, rate = read_audio(video)
    assert abs(sound.shape[-1] / rate - 12 / source.fps) < 0.1 and sound.abs().max() > 0.05


def test_kjnodes_cut_resize_and_compare(server, prompt, tmp_path):
    needs(server, "GetImageRangeFromBatch", "ImageResizeKJv2", "ImageConcanate")
    cut = {"images": ["2", 4], "start_index": 0, "num_frames": 8}
    resize = {"image": ["3", 0], "width": 128, "height": 128, "upscale_method": "lanczos", "keep_proportion": "stretch"}
    resize |= {"pad_color": "0, 0, 0", "crop_position": "center", "divisible_by": 2, "device": "cpu"}
    beside = {"image1": ["5", 0], "image2": ["4", 0], "direction": "right", "match_image_size": True}
    prompt |= {
        "4": {"class_type": "GetImageRangeFromBatch", "inputs": cut},
        "5": {"class_type": "ImageResizeKJv2", "inputs": resize},
        "6": {"class_type": "ImageConcanate", "inputs": beside},
        "7": {"class_type": "LatentSyncPreview", "inputs": {"after": ["6", 0], "fps": ["2", 5]}},
    }
    prompt["3"]["inputs"]["images"] = ["4", 0]
    (shown,) = server.run(prompt).outputs["7"]["images"]
    shown_file = tmp_path / "shown.mp4"
    shown_file.write_bytes(server.get(f"/view?{urlencode(shown)}"))
    with VideoReader(shown_file) as made:
        assert (len(made), made.height, made.width) == (8, 128, 256)


def test_the_wrapper_and_this_pack_are_both_there(server):
    """It brings a package of the name `latentsync`, too."""
    needs(server, "LatentSyncNode", "VideoLengthAdjuster")
    owners = {name: node["python_module"].split(".")[-1] for name, node in server.get("/object_info").items()}
    assert owners["LatentSyncNode"] == WRAPPER and owners["LatentSyncVideo"] == PACK


def test_a_face_is_found_and_the_log_has_no_complaint(server, one_node):
    folder = server.base / "models" / "latentsync" / "auxiliary"
    folder.mkdir(parents=True)
    shutil.copy(media_file("face_detection_yunet.onnx"), folder / "face_detection_yunet_2023mar.onnx")
    del kind(one_node, "Video")["detector"]
    before = len(server.log)
    run = server.wait(server.queue(one_node))
    assert run.status == "execution_success" or "no frame" in run.error  # the head is a drawn one
    said = server.log[before:]
    assert not [line for line in said.splitlines() if "WARN" in line.upper()], said
