"""A small executor of API-format prompts, with ComfyUI's rules for order, lists and caching."""

from typing import Any

import torch
from comfy import model_management
from comfy_api.internal import first_real_override, make_locked_method_func
from comfy_api.latest import io

Prompt = dict[str, dict]


def is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


class Graph:
    """Runs prompts on node classes and keeps what they gave, as ComfyUI does between two runs.

    Attributes:
        ran: ids of the nodes that the last run executed, in order; what is missing came from the cache.
        ui: what each node last showed, by id.
    """

    def __init__(self, classes: dict[str, type]):
        self.classes = classes
        self.schemas = {name: node.GET_SCHEMA() for name, node in classes.items()}
        self.kept: dict[tuple, list[list]] = {}
        self.ran: list[str] = []
        self.ui: dict[str, list[dict]] = {}

    def run(self, prompt: Prompt) -> dict[str, list[list]]:
        """Outputs by node id: for each output a list with an item per call of the node."""
        for node_id, node in prompt.items():
            self._check(node_id, node, prompt)
        self.ran, results, needed = [], {}, {}
        for node_id in self.order(prompt):
            needed[node_id] = key = self._key(node_id, prompt, needed)
            if key not in self.kept:
                self.kept[key] = self._execute(node_id, prompt[node_id], results)
                self.ran.append(node_id)
            results[node_id] = self.kept[key]
        self.kept = {key: self.kept[key] for key in needed.values()}
        return results

    def order(self, prompt: Prompt) -> list[str]:
        """Nodes that an output node needs, each after what it needs itself."""
        order: list[str] = []

        def visit(node_id: str) -> None:
            if node_id not in order:
                for value in prompt[node_id]["inputs"].values():
                    if is_link(value):
                        visit(value[0])
                order.append(node_id)

        for node_id, node in prompt.items():
            if self.schemas[node["class_type"]].is_output_node:
                visit(node_id)
        if not order:
            raise ValueError("Prompt has no outputs")
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
                assert "*" in kinds | {source} or source in kinds, f"{where}: {put.id!r} is {kinds}, not {source}"
            elif kinds & {"INT", "FLOAT"}:
                least, most = getattr(put, "min", None), getattr(put, "max", None)
                assert least is None or value >= least, f"{where}: {put.id!r} is {value}, below {least}"
                assert most is None or value <= most, f"{where}: {put.id!r} is {value}, above {most}"
        unknown = set(given) - {put.id for put in schema.inputs or []}
        assert not unknown, f"{where}: no such inputs: {sorted(unknown)}"

    def _key(self, node_id: str, prompt: Prompt, known: dict[str, tuple]) -> tuple:
        """What the outputs depend on: the node, its widgets, its fingerprint and the keys of what it is linked to."""
        node = prompt[node_id]
        cls, schema = self.classes[node["class_type"]], self.schemas[node["class_type"]]
        widgets = {name: None if is_link(value) else value for name, value in node["inputs"].items()}
        fingerprint = None
        if first_real_override(cls, "fingerprint_inputs") is not None:
            fingerprint = repr(cls.fingerprint_inputs(**widgets))
        named = io.Hidden.unique_id in (schema.hidden or [])
        inputs = [
            (name, (known[value[0]], value[1]) if is_link(value) else repr(value))
            for name, value in sorted(node["inputs"].items())
        ]
        return node["class_type"], fingerprint, node_id if named else None, tuple(inputs)

    def _execute(self, node_id: str, node: dict, results: dict[str, list[list]]) -> list[list]:
        cls, schema = self.classes[node["class_type"]], self.schemas[node["class_type"]]
        inputs = {
            name: results[value[0]][value[1]] if is_link(value) else [value] for name, value in node["inputs"].items()
        }
        clone = cls.PREPARE_CLASS_CLONE({hidden: node_id for hidden in schema.hidden or [] if "ID" in hidden.value})
        execute = make_locked_method_func(cls, "execute", clone)
        calls, self.ui[node_id] = [], []
        for i in range(max((len(items) for items in inputs.values()), default=1)):
            model_management.throw_exception_if_processing_interrupted()
            with torch.inference_mode():
                calls.append(execute(**{name: items[min(i, len(items) - 1)] for name, items in inputs.items()}))
            shown = calls[-1].ui
            if shown is not None:
                self.ui[node_id].append(shown if isinstance(shown, dict) else shown.as_dict())
        return [[call.args[i] for call in calls] for i in range(len(schema.outputs or []))]
