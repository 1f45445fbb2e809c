"""Workflows as the editor saves them, turned into the API format that the server runs."""

from collections.abc import Iterator
from typing import Any

from comfy_api.latest import io

NOTES = {"Note", "MarkdownNote"}
MUTED, BYPASSED = 2, 4
AFTER_GENERATE = {"fixed", "increment", "decrement", "randomize"}


def to_api(workflow: dict, schemas: dict[str, Any]) -> dict[str, dict]:
    """The prompt of a saved workflow; notes, muted and bypassed nodes are left out.

    Args:
        workflow: version 0.4, without subgraphs.
        schemas: of every node in it, by id.

    A bypassed node hands its first input of an output's type on, like in the editor.
    """
    nodes = {node["id"]: node for node in workflow["nodes"] if node["type"] not in NOTES}
    links = {link[0]: (link[1], link[2]) for link in workflow["links"]}

    def source(link: int | None) -> list | None:
        if link is None:
            return None
        node_id, slot = links[link]
        node = nodes[node_id]
        if node["mode"] == MUTED:
            return None
        if node["mode"] == BYPASSED:
            kind = node["outputs"][slot]["type"]
            return next((source(put["link"]) for put in node["inputs"] if put["type"] == kind), None)
        return [str(node_id), slot]

    prompt = {}
    for node_id, node in nodes.items():
        if node["mode"] in (MUTED, BYPASSED):
            continue
        inputs = dict(widget_values(node, schemas[node["type"]]))
        linked = {put["name"]: source(put.get("link")) for put in node.get("inputs", [])}
        inputs |= {name: link for name, link in linked.items() if link is not None}
        prompt[str(node_id)] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def widget_values(node: dict, schema: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of each widget; saved by position, required inputs first, a seed followed by its next rule."""
    values = iter(node.get("widgets_values") or [])
    for put in sorted(schema.inputs or [], key=lambda put: put.optional):
        if not isinstance(put, io.WidgetInput) or put.force_input:
            continue
        # As in ComfyUI, a widget that came after the workflow was saved has its default.
        yield put.id, next(values, put.default)
        if getattr(put, "control_after_generate", None):
            rule = next(values)
            assert rule in AFTER_GENERATE, f"{node['type']}: {rule!r} stands where the rule after {put.id!r} belongs"
