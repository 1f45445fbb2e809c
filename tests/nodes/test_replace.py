"""Nodes of ComfyUI-LatentSyncWrapper, which ours take the place of."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import comfy_api.latest
import pytest
import torch
from comfy_api.latest import io

WIDGETS = json.loads((Path(__file__).parent / "widgets.json").read_text(encoding="utf-8"))
REQUIRED = {"LatentSyncNode": ("seed", "lips_expression", "inference_steps"),
            "VideoLengthAdjuster": ("mode", "fps", "silent_padding_sec")}  # fmt: skip


@pytest.fixture
def registered(pack, monkeypatch) -> dict:
    """What a newer ComfyUI is told when the pack is loaded, by the old node."""
    told = {}

    async def register(item):
        told[item.old_node_id] = item

    api = SimpleNamespace(node_replacement=SimpleNamespace(register=register))
    monkeypatch.setattr(io, "NodeReplace", lambda **given: SimpleNamespace(**given), raising=False)
    monkeypatch.setattr(comfy_api.latest, "ComfyAPI", lambda: api, raising=False)
    asyncio.run(pack.nodes.extension.LatentSyncExtension().on_load())
    return told


def test_all_widgets_of_our_nodes_get_a_value(pack, registered):
    """Those of the old node's own name, and for the rest what a new node has."""
    for old, item in registered.items():
        schema = pack.node(item.new_node_id).GET_SCHEMA()
        table = pack.latentsync.wrapper_workflow.REPLACEMENTS[old].defaults
        assert [name for name in table if name != "control_after_generate"] == WIDGETS[item.new_node_id]
        given = {pair["new_id"]: pair for pair in item.input_mapping}
        assert {put.id for put in schema.inputs if not put.optional} <= set(given)
        sources = {pair["old_id"] for pair in item.input_mapping if "old_id" in pair}
        assert sources == {"images", "audio", *REQUIRED[old]} and set(REQUIRED[old]) <= set(item.old_widget_ids)
        defaults = {put.id: put.default for put in schema.inputs if isinstance(put, io.WidgetInput)}
        assert all(pair.get("set_value", defaults[name]) == defaults[name] for name, pair in given.items()
                   if name in defaults)  # fmt: skip


def test_a_core_that_cannot_replace_nodes_is_told_nothing(pack, monkeypatch):
    monkeypatch.delattr(io, "NodeReplace", raising=False)
    asyncio.run(pack.nodes.extension.LatentSyncExtension().on_load())


@pytest.mark.parametrize(
    ("mode", "seconds", "frames"), [("normal", 1, 5), ("pingpong", 0.04, 5), ("loop_to_audio", 1, 25)]
)
def test_match_length_knows_the_modes_of_the_old_node(pack, mode, seconds, frames):
    audio = {"waveform": torch.zeros(1, 1, int(16_000 * seconds)), "sample_rate": 16_000}
    given = {"images": torch.rand(5, 8, 8, 3), "audio": audio, "fps": 25.0}
    assert pack.run("LatentSyncMatchLength", **given, audio_longer=mode, audio_shorter=mode)[3] == frames
