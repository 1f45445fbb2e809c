"""Whole graphs on the stand-ins: what comes along as a workflow or as a prompt runs, and runs again from the cache."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from comfy import model_management
from graph import Graph, is_link, to_api

ROOT = Path(__file__).parents[2]
PROMPTS = sorted((Path(__file__).parent / "api").glob("*.json"))
WORKFLOWS = sorted(ROOT.glob("workflows/*.json"))


@pytest.fixture
def graph(pack) -> Graph:
    import core_nodes

    core = {node.GET_SCHEMA().node_id: node for node in core_nodes.NODES}
    return Graph(core | pack.classes)


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", PROMPTS, ids=lambda path: path.stem)
def test_prompts_run_without_touching_inputs_or_other_folders(graph, comfy_folders, monkeypatch, path):
    """ComfyUI hands the same tensors to several nodes and keeps them for the next run: none may be written to."""
    execute, before = graph._execute, {}

    def watched(node_id, node, results):
        outputs = execute(node_id, node, results)
        before[node_id] = digests(outputs)
        return outputs

    monkeypatch.setattr(graph, "_execute", watched)
    outputs = graph.run(read(path))
    assert {node_id: digests(values) for node_id, values in outputs.items()} == before
    assert sum(map(len, before.values())) > 0
    saved = list((comfy_folders.output / "latentsync").glob("*.mp4"))
    assert len(saved) == 1 and saved[0].stat().st_size > 10_000
    assert not list(comfy_folders.input.iterdir()) and not list(comfy_folders.models.rglob("*"))


def shortened(prompt: dict) -> dict:
    """The prompt with one denoising step, 16 frames of the sample and the words that they last for."""
    samples = [node_id for node_id, node in prompt.items() if node["class_type"] == "LatentSyncSampleClip"]
    cuts = {(sample, slot): f"{sample}.{slot}" for sample in samples for slot in (1, 2, 4)}
    for node in prompt.values():
        inputs = node["inputs"]
        cut = {name: [cuts[tuple(v)], 0] for name, v in inputs.items() if is_link(v) and tuple(v) in cuts}
        hurry = {"steps": 1, "audio_longer": "stop", "audio_shorter": "stop"}
        inputs |= cut | {name: value for name, value in hurry.items() if name in inputs}
    for (sample, slot), node_id in cuts.items():
        sound = {"audio": [sample, slot], "start_index": 0.5, "duration": 0.64}
        image = {"image": [sample, slot], "batch_index": 0, "length": 16}
        kind, inputs = ("ImageFromBatch", image) if slot == 4 else ("TrimAudioDuration", sound)
        prompt[node_id] = {"class_type": kind, "inputs": inputs}
    return prompt


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run(graph, comfy_folders, path):
    graph.run(shortened(to_api(read(path), graph.schemas)))
    assert list(comfy_folders.output.rglob("*.mp4"))


def test_a_second_run_comes_from_the_cache_and_a_new_seed_goes_on_from_the_sampler(graph, monkeypatch):
    """What runs again is a matter of keys and fingerprints: nothing has to be computed for it."""
    monkeypatch.setattr(graph, "_execute", lambda node_id, node, results: (None,) * 9)
    prompt = read(ROOT / "tests" / "nodes" / "api" / "step_by_step.json")
    graph.run(prompt)
    assert len(graph.ran) == len(prompt)
    graph.run(prompt)
    assert graph.ran == []
    sampler = next(key for key, node in prompt.items() if node["class_type"] == "LatentSyncSampler")
    prompt[sampler]["inputs"]["seed"] += 1
    graph.run(prompt)
    kinds = {prompt[node_id]["class_type"].removeprefix("LatentSync") for node_id in graph.ran}
    others = {"CreateVideo", "SaveVideo", "PreviewAny"}
    assert kinds == {"Sampler", "RestoreFaces", "FaceMask", "BlendFaces", "Quality", "Preview"} | others


def digests(values) -> list:
    """A number for each tensor found in outputs, in lists, dictionaries and plain data objects."""
    if isinstance(values, torch.Tensor):
        return [hash(values.contiguous().cpu().numpy().tobytes())]
    if isinstance(values, dict):
        values = list(values.values())
    elif hasattr(values, "__dataclass_fields__"):
        values = [getattr(values, name) for name in values.__dataclass_fields__]
    return [digest for value in values for digest in digests(value)] if isinstance(values, list | tuple) else []


@pytest.mark.parametrize("phase", ["looking for the face", "syncing"])
@pytest.mark.parametrize("name", ["step_by_step", "one_node"])
def test_a_cancelled_graph_ends_in_that_phase_and_leaves_no_file(graph, comfy_folders, monkeypatch, name, phase):
    from server import PromptServer

    lines = []

    def shown(text, node_id):
        lines.append(text)
        if text.startswith(phase):
            model_management.interrupt_current_processing()

    monkeypatch.setattr(PromptServer, "instance", SimpleNamespace(send_progress_text=shown), raising=False)
    with pytest.raises(model_management.InterruptProcessingException):
        graph.run(read(ROOT / "tests" / "nodes" / "api" / f"{name}.json"))
    assert lines[-1].startswith(phase)
    assert not [path for path in comfy_folders.base.rglob("*") if path.suffix in (".part", ".mp4", ".wav")]
