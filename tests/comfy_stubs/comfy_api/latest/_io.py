"""Stand-in for `comfy_api.latest.io`: sockets, widgets, schema and the base class of nodes."""

from collections import Counter
from dataclasses import dataclass
from enum import Enum


class FolderType(str, Enum):
    input = "input"
    output = "output"
    temp = "temp"


class UploadType(str, Enum):
    audio = "audio_upload"
    video = "video_upload"


class Hidden(str, Enum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


class HiddenHolder:
    """What a node asked for in `Schema.hidden`; None for what it did not."""

    def __init__(self, **values):
        self.__dict__.update(values)

    def __getattr__(self, key):
        return None

    @classmethod
    def from_dict(cls, d):
        return cls(**{Hidden(key).name: value for key, value in (d or {}).items()})


class Input:
    Parent = None

    def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None):
        self.id, self.display_name, self.optional, self.tooltip = id, display_name, optional, tooltip

    @property
    def io_type(self):
        return self.Parent.io_type

    def get_io_type(self):
        return self.io_type


class WidgetInput(Input):
    force_input = control_after_generate = None

    def __init__(self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None):
        super().__init__(id, display_name, optional, tooltip, lazy)
        self.default = default


class Output:
    Parent = None

    def __init__(self, id=None, display_name=None, tooltip=None):
        self.id, self.display_name, self.tooltip = id, display_name, tooltip

    @property
    def io_type(self):
        return self.Parent.io_type


def Custom(io_type: str) -> type:
    """A socket type with `Input` and `Output`; sockets of equal `io_type` fit each other."""
    parent = type("CustomComfyType", (), {"io_type": io_type})
    parent.Input = type("Input", (Input,), {"Parent": parent})
    parent.Output = type("Output", (Output,), {"Parent": parent})
    return parent


Image, Mask, Audio, Video, Latent = (Custom(name) for name in ("IMAGE", "MASK", "AUDIO", "VIDEO", "LATENT"))
Model, Clip, Vae, UpscaleModel = (Custom(name) for name in ("MODEL", "CLIP", "VAE", "UPSCALE_MODEL"))
AudioEncoder, AnyType = Custom("AUDIO_ENCODER"), Custom("*")


class _NumberInput(WidgetInput):
    def __init__(
        self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, min=None, max=None,
        step=None,
    ):  # fmt: skip
        super().__init__(id, display_name, optional, tooltip, lazy, default)
        self.min, self.max, self.step = min, max, step


class _IntInput(_NumberInput):
    def __init__(
        self, id, display_name=None, optional=False, tooltip=None, lazy=None, default=None, min=None, max=None,
        step=None, control_after_generate=None,
    ):  # fmt: skip
        super().__init__(id, display_name, optional, tooltip, lazy, default, min, max, step)
        self.control_after_generate = control_after_generate


class _StringInput(WidgetInput):
    def __init__(
        self, id, display_name=None, optional=False, tooltip=None, lazy=None, multiline=False, placeholder=None,
        default=None,
    ):  # fmt: skip
        super().__init__(id, display_name, optional, tooltip, lazy, default)


class _ComboInput(WidgetInput):
    def __init__(
        self, id, options=None, display_name=None, optional=False, tooltip=None, lazy=None, default=None,
        control_after_generate=None, upload=None,
    ):  # fmt: skip
        super().__init__(id, display_name, optional, tooltip, lazy, default)
        self.options = options


def _widget(io_type: str, base: type) -> type:
    parent = Custom(io_type)
    parent.Input = type("Input", (base,), {"Parent": parent})
    return parent


Boolean, Int = _widget("BOOLEAN", WidgetInput), _widget("INT", _IntInput)
Float, String = _widget("FLOAT", _NumberInput), _widget("STRING", _StringInput)
Combo = _widget("COMBO", _ComboInput)
del Combo.Output  # its type would be the list of options: for what the pack gives out there is STRING


class MultiType:
    io_type = "COMFY_MULTITYPED_V3"

    class Input(Input):
        """An input for more than one type: "IMAGE,VIDEO"."""

        def __init__(self, id, types, display_name=None, optional=False, tooltip=None, lazy=None):
            super().__init__(id, display_name, optional, tooltip, lazy)
            self._io_types = types

        def get_io_type(self):
            return ",".join(dict.fromkeys(kind.io_type for kind in self._io_types))


MultiType.Input.Parent = MultiType


@dataclass
class Schema:
    node_id: str
    display_name: str = None
    category: str = "sd"
    inputs: list = None
    outputs: list = None
    hidden: list = None
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False

    def validate(self):
        """Ids are unique among inputs, among outputs, and between them."""
        ids = [put.id for put in (self.inputs or []) + (self.outputs or [])]
        twice = [name for name, count in Counter(ids).items() if count > 1]
        if twice:
            raise ValueError(f"Ids must be unique, but {twice} are not.")

    def finalize(self):
        """Give outputs without an id one; an output node is told the prompt."""
        if self.is_output_node:
            self.hidden = list(dict.fromkeys([*(self.hidden or []), Hidden.prompt, Hidden.extra_pnginfo]))
        for i, output in enumerate(self.outputs or []):
            if output.id is None:
                output.id = f"_{i}_{output.io_type}_"


class NodeOutput:
    def __init__(self, *args, ui=None):
        self.args, self.ui = args, ui

    @property
    def result(self):
        return self.args or None

    def __getitem__(self, index):
        return self.args[index]


class ComfyNode:
    hidden = None

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        schema = cls.define_schema()
        schema.finalize()
        schema.validate()
        return schema

    @classmethod
    def PREPARE_CLASS_CLONE(cls, hidden_inputs: dict):
        """The class that `execute` is given: it knows the hidden inputs."""
        return type(f"{cls.__name__}Clone", (cls,), {"hidden": HiddenHolder.from_dict(hidden_inputs)})
