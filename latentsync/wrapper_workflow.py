"""Workflows of ComfyUI-LatentSyncWrapper, with the nodes of this pack in them."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import read_text, refuse_inputs, replacing
from .settings import BlendSettings, RunSettings, Settings, TrackSettings, options

SEED_CONTROL = "control_after_generate"  # the editor's own widget, which it saves after the seed

#: What the modes of VideoLengthAdjuster mean for two widgets of Match Length to Audio.
MODES = {
    "audio_longer": {"normal": "stop", "loop_to_audio": "loop"},
    "audio_shorter": {"normal": "stop", "pingpong": "silent", "loop_to_audio": "stop"},
}


@dataclass(frozen=True)
class Replacement:
    """A node of ComfyUI-LatentSyncWrapper and ours. Both take images and audio, and give them in this order.

    Attributes:
        old, new: ids of the nodes.
        old_widgets: those of the old node, in the order in which files have their values.
        names: of our widgets that take the value of an old one: that one's name.
        defaults: our widgets in the order in which files have their values.
    """

    old: str
    new: str
    old_widgets: tuple[str, ...]
    names: dict[str, str]
    defaults: dict[str, Any]


def _defaults(settings: type, *names: str) -> dict[str, Any]:
    found = {item.name: item.default for item in options(settings)}
    return {name: found[name] for name in names}


REPLACEMENTS = {
    "LatentSyncNode": Replacement(
        "LatentSyncNode",
        "LatentSyncFrames",
        ("seed", SEED_CONTROL, "lips_expression", "inference_steps"),
        {"seed": "seed", SEED_CONTROL: SEED_CONTROL, "guidance": "lips_expression", "steps": "inference_steps"},
        {"fps": 25.0}  # that which the old node works at, whatever it is given
        | _defaults(Settings, "steps", "guidance", "seed")
        | {SEED_CONTROL: "fixed"}
        | _defaults(Settings, "sampler", "window", "overlap")
        | {"face": "largest", "index": 0, "x": 0.0, "y": 0.0}
        | _defaults(TrackSettings, "smoothing", "max_gap")
        | _defaults(RunSettings, "detect_every", "audio_longer", "audio_shorter")
        | _defaults(BlendSettings, "mask_smooth", "match_colour")
        | _defaults(Settings, "deep_cache")
        | {"quality": "custom"}
        | _defaults(TrackSettings, "max_yaw", "min_face")
        | _defaults(RunSettings, "silence")
        | _defaults(BlendSettings, "detail"),
    ),
    "VideoLengthAdjuster": Replacement(
        "VideoLengthAdjuster",
        "LatentSyncMatchLength",
        ("mode", "fps", "silent_padding_sec"),
        {"fps": "fps", "audio_longer": "mode", "audio_shorter": "mode", "silent_padding": "silent_padding_sec"},
        {"fps": 25.0, "audio_longer": "pingpong", "audio_shorter": "stop", "silent_padding": 0.5},
    ),
}


def convert_workflow(source: str | os.PathLike, target: str | os.PathLike) -> str:
    """Write the workflow `source` to `target` with our nodes in place of the wrapper's; what was done, in a line."""
    refuse_inputs(target, [source])
    try:
        workflow = json.loads(read_text(source))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is not JSON ({error!s:.200}): give a workflow that ComfyUI saved") from error
    found = [_convert(part) for part in _objects(workflow)]
    if not any(found):
        names = " or ".join(REPLACEMENTS)
        raise InputError(f"{source} has no {names}: give a workflow of ComfyUI-LatentSyncWrapper")
    with replacing(target) as part:
        Path(part).write_text(json.dumps(workflow, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return f"{target}: {sum(found)} node{'s' if sum(found) > 1 else ''} replaced"


def _objects(content: Any) -> Iterator[dict]:
    """Every object in a JSON document: nodes also lie in subgraphs and in group nodes."""
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _convert(node: dict) -> bool:
    """Replace a node in place; False where it is none of the wrapper's."""
    for kind, values in (("class_type", "inputs"), ("type", "widgets_values")):
        name, given = node.get(kind), node.get(values)
        if not isinstance(name, str) or name not in REPLACEMENTS or not isinstance(given, dict | list):
            continue
        this = REPLACEMENTS[name]
        # By position in the editor's files, whose oldest end early, and by name for the API and in some editors' files.
        old = dict(zip(this.old_widgets, given, strict=False)) if isinstance(given, list) else given
        new = {ours: _translated(ours, old[theirs]) for ours, theirs in this.names.items() if theirs in old}
        node[kind] = this.new
        if kind == "class_type":
            sockets = {socket: old[socket] for socket in ("images", "audio") if socket in old}
            node[values] = sockets | {key: value for key, value in (this.defaults | new).items() if key != SEED_CONTROL}
            return True
        node[values] = [*(this.defaults | new).values()]
        ours = {theirs: ours for ours, theirs in reversed(this.names.items())}
        for socket in node.get("inputs") or []:  # a widget that was made a socket
            socket |= {key: ours.get(socket[key], socket[key]) for key in ("name", "label") if key in socket}
            if "widget" in socket:
                socket["widget"] = {"name": socket["name"]}
        if isinstance(properties := node.get("properties"), dict):
            node["properties"] = properties | {"Node name for S&R": this.new}
        return True
    return False


def _translated(name: str, value: Any) -> Any:
    return MODES[name].get(value, value) if name in MODES and isinstance(value, str) else value
