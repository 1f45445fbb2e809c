"""What every node of the pack has: its words, and errors that can be acted on in ComfyUI."""

import json
import re
from collections.abc import Callable
from functools import cache, partial, wraps
from pathlib import Path

import comfy.model_management as mm
from comfy_api.latest import io

from ..latentsync.errors import InputError
from ..latentsync.sampling.sample import out_of_memory

ENGLISH = Path(__file__).parents[1] / "locales" / "en" / "nodeDefs.json"
FLAG = re.compile(r" \(--[^);]*\)")  # an error's hint to the command line
LESS_MEMORY = "give fewer or smaller frames, or take Lip Sync Video, whose memory does not grow with the clip"


def node(
    cls: type[io.ComfyNode] | None = None, /, *, advanced: tuple[str, ...] = (), search_aliases: tuple[str, ...] = ()
) -> Callable | type[io.ComfyNode]:
    """Class decorator of each node. Its description and tooltips stand once: in locales/en, and those of options in
    `latentsync.settings`, from where `inputs.widgets` has them.

    Args:
        advanced: the widgets that ComfyUI folds away, where it can.
        search_aliases: what else the node is found by, where ComfyUI asks.
    """
    if cls is None:
        return partial(node, advanced=advanced, search_aliases=search_aliases)
    cls.define_schema = classmethod(_completed(cls.define_schema.__func__, advanced, search_aliases))
    cls.execute = classmethod(_explaining(cls.execute.__func__))
    return cls


@cache
def _english() -> dict[str, dict]:
    return json.loads(ENGLISH.read_text(encoding="utf-8"))


def _completed(define_schema: Callable, advanced: tuple[str, ...], search_aliases: tuple[str, ...]) -> Callable:
    @wraps(define_schema)
    def defining(cls) -> io.Schema:
        schema = define_schema(cls)
        words = _english()[schema.node_id]
        schema.description = words["description"]
        for put in schema.inputs:
            put.tooltip = put.tooltip or words["inputs"][put.id]["tooltip"]
            # Set, not given as arguments: ComfyUI 0.3.64 knows neither of the two, and would drop the whole pack.
            put.advanced = put.id in advanced or None
        for number, put in enumerate(schema.outputs or []):
            put.tooltip = words["outputs"][str(number)]["tooltip"]
        schema.search_aliases = list(search_aliases)
        return schema

    return defining


def _explaining(execute: Callable) -> Callable:
    @wraps(execute)
    def explaining(cls, **values) -> io.NodeOutput:
        try:
            return execute(cls, **values)
        except InputError as error:
            error.args = (FLAG.sub("", str(error)),)
            raise
        except (MemoryError, RuntimeError) as error:
            # ComfyUI unloads models after its own exception for a full GPU.
            if isinstance(error, mm.OOM_EXCEPTION) or not out_of_memory(error):
                raise
            raise MemoryError(f"there is not enough memory for this: {LESS_MEMORY}") from error

    return explaining
