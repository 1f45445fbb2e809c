"""A small executor of prompts, with ComfyUI's rules for checks, order and caching; saved workflows as prompts."""

from collections.abc import Iterator
from typing import Any

import torch
from comfy import model_management
from comfy_api.internal import first_real_override, make_locked_method_func
from comfy_api.latest import io

Prompt = dict[str, dict]
NOTES = {"Note", "MarkdownNote"}
BYPASSED = 4
AFTER_GENERATE = {"fixed", "increment", "decrement", "randomize"}


def is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


class Graph:
    """Runs prompts on node classes and keeps what they gave, as ComfyUI does between two runs.

    Attributes:
        ran: ids of the nodes that the last run executed, in order; what is missing came from the cache.
    """

    def __init__(self, classes: dict[str, type]):
        self.classes = classes
        self.schemas = {name: node.GET_SCHEMA() for name, node in classes.items()}
        self.kept: dict[tuple, tuple] = {}
        self.ran: list[str] = []

    def run(self, prompt: Prompt) -> dict[str, tuple]:
        """Outputs by node id."""
        for node_id, node in prompt.items():
            self._check(node_id, node, prompt)
        self.ran, results, keys = [], {}, {}
        for node_id in self._order(prompt):
            keys[node_id] = key = self._key(node_id, prompt, keys)
            if key not in self.kept:
                self.kept[key] = self._execute(node_id, prompt[node_id], results)
                self.ran.append(node_id)
            results[node_id] = self.kept[key]
        self.kept = {key: self.kept[key] for key in keys.values()}
        return results

    def _order(self, prompt: Prompt) -> list[str]:
        """Nodes that an output node needs, each after what it needs itself."""
        order: list[str] = []

        def visit(node_id: str) -> None:
            if node_id not in order:
                for value in filter(is_link, prompt[node_id]["inputs"].values()):
                    visit(value[0])
                order.append(node_id)

        for node_id, node in prompt.items():
            if self.schemas[node["class_type"]].is_output_node:
                visit(node_id)
        assert order, "Prompt has no outputs"
        return order

    def _check(self, node_id: str, node: dict, prompt: Prompt) -> None:
        """What the server refuses before it runs anything: unknown nodes, missing inputs, wrong types, numbers out
        of range. Choices are not among it."""
        schema, given = self.schemas[node["class_type"]], node["inputs"]
        where = f"{schema.node_id} ({node_id})"
        for put in schema.inputs or []:
            if put.id not in given:
                assert put.optional, f"{where}: required input {put.id!r} is missing"
                continue
            value, kinds = given[put.id], set(put.get_io_type().split(","))
            if is_link(value):
                source = self.schemas[prompt[value[0]]["class_type"]].outputs[value[1]].io_type
                assert "*" in kinds or source in kinds, f"{where}: {put.id!r} is {kinds}, not {source}"
            elif kinds & {"INT", "FLOAT"}:
                assert put.min is None or value >= put.min, f"{where}: {put.id!r} is {value}, below {put.min}"
                assert put.max is None or value <= put.max, f"{where}: {put.id!r} is {value}, above {put.max}"
        unknown = set(given) - {put.id for put in schema.inputs or []}
        assert not unknown, f"{where}: no such inputs: {sorted(unknown)}"

    def _key(self, node_id: str, prompt: Prompt, keys: dict[str, tuple]) -> tuple:
        """What the outputs depend on: the node, its widgets, its fingerprint and the keys of what it is linked to."""
        node = prompt[node_id]
        cls, schema = self.classes[node["class_type"]], self.schemas[node["class_type"]]
        fingerprint = None
        if first_real_override(cls, "fingerprint_inputs") is not None:
            widgets = {name: None if is_link(value) else value for name, value in node["inputs"].items()}
            fingerprint = repr(cls.fingerprint_inputs(**widgets))
        inputs = [
            (name, (keys[value[0]], value[1]) if is_link(value) else repr(value))
            for name, value in sorted(node["inputs"].items())
        ]
        named = io.Hidden.unique_id in (schema.hidden or [])
        return node["class_type"], fingerprint, node_id if named else None, tuple(inputs)

    def _execute(self, node_id: str, node: dict, results: dict[str, tuple]) -> tuple:
        cls, schema = self.classes[node["class_type"]], self.schemas[node["class_type"]]
        inputs = {name: results[v[0]][v[1]] if is_link(v) else v for name, v in node["inputs"].items()}
        clone = cls.PREPARE_CLASS_CLONE({hidden: node_id for hidden in schema.hidden or [] if "ID" in hidden.value})
        model_management.throw_exception_if_processing_interrupted()
        with torch.inference_mode():
            return make_locked_method_func(cls, "execute", clone)(**inputs).args


def to_api(workflow: dict, schemas: dict[str, Any]) -> Prompt:
    """The prompt of a saved workflow (version 0.4, without subgraphs); `schemas` are those of every node in it, by id.

    Notes are left out, and so are bypassed nodes, which nothing active may be linked to.
    """
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES or node["mode"] == BYPASSED:
            continue
        linked = {put["name"]: links[put["link"]] for put in node.get("inputs", []) if put.get("link") is not None}
        inputs = dict(widget_values(node, schemas[node["type"]])) | linked
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
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
