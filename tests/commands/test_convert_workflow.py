"""Workflows of ComfyUI-LatentSyncWrapper."""

import json

import pytest

from latentsync.commands.main import main
from latentsync.wrapper_workflow import REPLACEMENTS

ADJUSTED = {"images": ["40", 0], "audio": ["37", 0], "fps": 30.0, "silent_padding_sec": 1.5}


def editor(kind: str, values: list, *names: str) -> dict:
    sockets = [{"name": name, "type": name.upper(), "link": 70 + n} for n, name in enumerate(names)]
    return {"id": 5, "type": kind, "inputs": sockets, "properties": {"ver": "1"}, "widgets_values": values}


def converted(tmp_path, workflow) -> dict:
    source, target = tmp_path / "old.json", tmp_path / "new.json"
    source.write_text(json.dumps(workflow), encoding="utf-8")
    assert main(["convert_workflow", str(source), str(target)]) == 0
    return json.loads(target.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("mode", "longer", "shorter"),
    [("normal", "stop", "stop"), ("pingpong", "pingpong", "silent"), ("loop_to_audio", "loop", "stop")],
)
def test_modes_become_two_widgets_in_both_kinds_of_file(tmp_path, mode, longer, shorter):
    prompt = {"5": {"class_type": "VideoLengthAdjuster", "inputs": ADJUSTED | {"mode": mode}, "_meta": {"title": "A"}}}
    node = converted(tmp_path, prompt)["5"]
    given = {"fps": 30.0, "audio_longer": longer, "audio_shorter": shorter, "silent_padding": 1.5}
    assert node["inputs"] == {"images": ["40", 0], "audio": ["37", 0]} | given
    assert (node["class_type"], node["_meta"]) == ("LatentSyncMatchLength", {"title": "A"})
    (node,) = converted(tmp_path, {"nodes": [editor("VideoLengthAdjuster", [mode, 30.0, 1.5])]})["nodes"]
    assert node["type"] == "LatentSyncMatchLength" and node["widgets_values"] == list(given.values())


@pytest.mark.parametrize(
    ("saved", "steps", "guidance"), [([1331, "randomize", 2.2, 30], 30, 2.2), ([1331, "randomize"], 20, 1.5)]
)
def test_values_and_links_stay_wherever_the_node_lies(tmp_path, saved, steps, guidance):
    """In a subgraph; with a widget that was made a socket; and with the values of an older version, which are fewer."""
    node = editor("LatentSyncNode", saved, "images", "audio", "inference_steps")
    node["inputs"][2]["widget"] = {"name": "inference_steps"}
    other = editor("VHS_LoadVideo", ["LatentSyncNode"], "vae")
    workflow = {"nodes": [other], "definitions": {"subgraphs": [{"nodes": [node]}]}, "links": [[70, 1, 0, 5, 0, "X"]]}
    new = converted(tmp_path, workflow)
    assert new["nodes"] == [other] and new["links"] == workflow["links"]
    (node,) = new["definitions"]["subgraphs"][0]["nodes"]
    assert [(put["name"], put["link"]) for put in node["inputs"]] == [("images", 70), ("audio", 71), ("steps", 72)]
    assert node["inputs"][2]["widget"] == {"name": "steps"}
    assert node["properties"] == {"ver": "1", "Node name for S&R": "LatentSyncFrames"}
    widgets = dict(zip(REPLACEMENTS["LatentSyncNode"].defaults, node["widgets_values"], strict=True))
    assert (widgets["seed"], widgets["control_after_generate"]) == (1331, "randomize")
    assert (widgets["steps"], widgets["guidance"], widgets["fps"]) == (steps, guidance, 25.0)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("not JSON", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"nodes": [{"type": ["LatentSyncNode"], "widgets_values": 3}]}', "has no LatentSyncNode or VideoLengthAdj"),
    ],
)
def test_what_is_no_such_workflow_is_refused_and_nothing_written(tmp_path, capsys, content, sentence):
    source = tmp_path / "old.json"
    source.write_text(content, encoding="utf-8")
    assert main(["convert_workflow", str(source), str(tmp_path / "new.json")]) == 2
    assert sentence in capsys.readouterr().err
    assert main(["convert_workflow", str(source), str(source)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
