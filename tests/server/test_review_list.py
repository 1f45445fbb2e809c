"""What a user feels: cancelling, caching, memory, and that nothing is left where it should not be."""

import json
import os
import time
from pathlib import Path

import pytest
import torch
from comfy_server import ROOT

from latentsync.media import VideoReader, VideoWriter

SAMPLE = ROOT / "latentsync" / "assets" / "sample" / "talking_head"
# On a machine that has nothing else to do; elsewhere as much longer as there are more programs than processors.
CANCEL_SECONDS = 2.0 * max(1.0, os.getloadavg()[0] / os.cpu_count())
FPS = 2  # of the clips of a given duration: few frames, and large ones, so that it shows when they are kept


def kind(prompt: dict, name: str) -> dict:
    """The inputs of the prompt's node of that kind."""
    return next(node["inputs"] for node in prompt.values() if node["class_type"] == f"LatentSync{name}")


def kinds(prompt: dict, ids) -> set[str]:
    return {prompt[node_id]["class_type"].removeprefix("LatentSync") for node_id in ids}


def long_clip(server, seconds: int) -> dict:
    """The drawn head to and fro in ComfyUI's input folder, with its track file; a prompt that syncs it."""
    name = f"clip_{seconds}s.mp4"
    path, times = server.base / "input" / name, seconds * FPS
    if not path.exists():
        with (
            VideoReader(f"{SAMPLE}.mp4") as reader,
            VideoWriter(path, FPS, 2 * reader.height, 2 * reader.width) as writer,
        ):
            order = [n % (2 * len(reader) - 2) for n in range(times)]
            order = [min(n, 2 * len(reader) - 2 - n) for n in order]
            for start in range(0, times, 32):
                pictures = reader[order[start : start + 32]]
                writer.write(pictures.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2))
        track = json.loads(Path(f"{SAMPLE}.faces.json").read_text(encoding="utf-8"))
        faces = {face["frame"]: face for face in track["faces"]}
        track |= {"fps": FPS, "frames": times, "faces": [faces[n] | {"frame": i} for i, n in enumerate(order)]}
        path.with_suffix(".faces.json").write_text(json.dumps(track), encoding="utf-8")
    prompt = json.loads((ROOT / "tests" / "nodes" / "api" / "one_node.json").read_text(encoding="utf-8"))
    prompt["9"] = {"class_type": "LoadVideo", "inputs": {"file": name}}
    kind(prompt, "Video").update(video=["9", 0], audio_shorter="silent", steps=1, guidance=1.0)
    del kind(prompt, "Video")["detector"]
    preview = next(key for key, node in prompt.items() if node["class_type"] == "LatentSyncPreview")
    del prompt[preview]
    return prompt


def cancel_when(server, prompt: dict, line: str) -> tuple[str, float]:
    """How a run that is cancelled when a node shows this line ends, and how long after."""
    prompt_id = server.queue(prompt)
    server.events.wait_for(line)
    begun = time.monotonic()
    server.interrupt()
    return server.wait(prompt_id).status, time.monotonic() - begun


@pytest.mark.parametrize("line", ["syncing", "restoring", "blending"])
def test_cancelling_the_graph_ends_the_run(server, steps, line):
    kind(steps, "Sampler")["steps"] = 50 if line == "syncing" else 1
    kind(steps, "SampleClip")["clip"] = "talking head"
    status, seconds = cancel_when(server, steps, line)
    assert status == "execution_interrupted"
    assert seconds < CANCEL_SECONDS
    assert not list((server.base / "output").rglob("*.part"))


@pytest.mark.parametrize("line", ["reading the face", "syncing"])
def test_cancelling_the_video_node_ends_the_run_and_leaves_no_file(server, line):
    before = set((server.base / "temp").rglob("*"))
    status, seconds = cancel_when(server, long_clip(server, 60), line)
    assert status == "execution_interrupted"
    assert seconds < CANCEL_SECONDS
    assert set((server.base / "temp").rglob("*")) <= before


def test_a_second_run_is_cached_and_a_new_seed_starts_at_the_sampler(server, steps):
    server.run(steps)
    again = server.run(steps)
    assert again.cached == set(steps)
    kind(steps, "Sampler")["seed"] += 1
    third = server.run(steps)
    ran = kinds(steps, set(steps) - third.cached)
    assert "Sampler" in ran and "BlendFaces" in ran
    assert not ran & {"LoadModel", "SampleClip", "TrackFace", "MatchLength", "EncodeAudio", "CropFaces"}


def test_the_same_seed_gives_the_same_file_after_everything_was_forgotten(server, one_node):
    save = next(node["inputs"] for node in one_node.values() if node["class_type"] == "SaveVideo")
    frames = []
    for name in ("first", "second"):
        save["filename_prefix"] = f"same/{name}"
        server.run(one_node)
        server.free()
        with VideoReader(next((server.base / "output" / "same").glob(f"{name}*.mp4"))) as reader:
            frames.append(reader[list(range(len(reader)))])
    assert torch.equal(*frames)


def test_memory_of_the_video_node_does_not_grow_with_the_video(server):
    peaks = []
    server.run(long_clip(server, 2))  # what is loaded once is loaded
    for seconds in (10, 60):
        Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # forget the peak so far
        server.run(long_clip(server, seconds), seconds=550)
        peaks.append(server.memory("VmHWM"))
    assert peaks[1] < 1.1 * peaks[0], f"{[peak >> 20 for peak in peaks]} MiB"


def test_freeing_gives_the_memory_of_the_models_back(server, one_node):
    server.run(one_node)
    server.free()
    free = server.memory()
    for seed in (2, 3, 4):
        kind(one_node, "Video")["seed"] = seed
        server.run(one_node)
        server.free()
    assert server.memory() < free * 1.1


def test_files_are_written_only_to_output_and_temp(server, steps):
    watched = [server.base / name for name in ("models", "input", "custom_nodes")]
    watched += [ROOT / name for name in ("latentsync", "nodes", "web")]

    def files() -> set[Path]:
        return {path for folder in watched for path in folder.rglob("*") if "__pycache__" not in path.parts}

    before = files()
    server.run(steps)
    assert files() <= before
    assert [path.name for path in (server.base / "temp").iterdir()]
    assert not list(server.base.rglob("*.part"))


def test_process_settings_stay(server, steps):
    """No memory limit, no working directory, no variables are changed by a run."""
    process = Path(f"/proc/{server.process.pid}")

    def settings() -> tuple:
        return process.joinpath("cwd").readlink(), process.joinpath("limits").read_text()

    before = settings()
    server.run(steps)
    assert settings() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("Sampler", {"sampler": "no such"}), "sampler is 'no such'"),
        (("LoadModel", {"model": "no_such.pt"}), "no_such.pt"),
        (("SampleClip", {"clip": "nobody"}), "clip is 'nobody'"),
        (("TrackFace", {"face": "tallest"}), "face is 'tallest'"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_wrong_choices_end_in_a_sentence(server, steps, change, words):
    """The server does not check the choices of V3 nodes."""
    kind(steps, change[0]).update(change[1])
    run = server.wait(server.queue(steps))
    assert run.status == "execution_error"
    said = run.messages["execution_error"]["exception_message"].strip()
    assert words in said and "\n" not in said
