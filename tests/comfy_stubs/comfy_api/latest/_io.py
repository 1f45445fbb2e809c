"""Stand-in for `comfy_api.latest.io`: sockets, widgets, schema and the base class of nodes."""

from collections import Counter
from dataclasses import dataclass
from enum import Enum


class FolderType(str, Enum):
    input = "input"
    output = "output"
    temp = "temp"


class UploadType(str, Enum):
    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"
    model = "file_upload"


class NumberDisplay(str, Enum):
    number = "number"
    slider = "slider"


class Hidden(str, Enum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"
    auth_token_comfy_org = "AUTH_TOKEN_COMFY_ORG"
    api_key_comfy_org = "API_KEY_COMFY_ORG"


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

    def __init__(
        self, id: str, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None
    ):  # fmt: skip
        self.id = id
        self.display_name = display_name
        self.optional = optional
        self.tooltip = tooltip
        self.lazy = lazy
        self.extra_dict = extra_dict or {}

    @property
    def io_type(self):
        return self.Parent.io_type

    def get_io_type(self):
        return self.io_type


class WidgetInput(Input):
    def __init__(
        self,
        id: str,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        default=None,
        socketless=None,
        widget_type=None,
        force_input=None,
        extra_dict=None,
    ):
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
        self.default = default
        self.socketless = socketless
        self.widget_type = widget_type
        self.force_input = force_input
        self.control_after_generate = None


class Output:
    Parent = None

    def __init__(self, id=None, display_name=None, tooltip=None, is_output_list=False):
        self.id = id
        self.display_name = display_name
        self.tooltip = tooltip
        self.is_output_list = is_output_list

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


class _BooleanInput(WidgetInput):
    def __init__(
        self,
        id: str,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        default=None,
        label_on=None,
        label_off=None,
        socketless=None,
        force_input=None,
    ):
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input)
        self.label_on, self.label_off = label_on, label_off


class _IntInput(WidgetInput):
    def __init__(
        self,
        id: str,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        default=None,
        min=None,
        max=None,
        step=None,
        control_after_generate=None,
        display_mode=None,
        socketless=None,
        force_input=None,
    ):
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input)
        self.min, self.max, self.step = min, max, step
        self.control_after_generate = control_after_generate
        self.display_mode = display_mode


class _FloatInput(WidgetInput):
    def __init__(
        self,
        id: str,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        default=None,
        min=None,
        max=None,
        step=None,
        round=None,
        display_mode=None,
        socketless=None,
        force_input=None,
    ):
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input)
        self.min, self.max, self.step, self.round = min, max, step, round
        self.display_mode = display_mode


class _StringInput(WidgetInput):
    def __init__(
        self,
        id: str,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        multiline=False,
        placeholder=None,
        default=None,
        dynamic_prompts=None,
        socketless=None,
        force_input=None,
    ):
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless, None, force_input)
        self.multiline, self.placeholder, self.dynamic_prompts = multiline, placeholder, dynamic_prompts


class _ComboInput(WidgetInput):
    def __init__(
        self,
        id: str,
        options=None,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        default=None,
        control_after_generate=None,
        upload=None,
        image_folder=None,
        remote=None,
        socketless=None,
    ):
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless)
        self.options = options
        self.control_after_generate = control_after_generate
        self.upload, self.image_folder, self.remote = upload, image_folder, remote


def _widget(io_type: str, base: type) -> type:
    parent = Custom(io_type)
    parent.Input = type("Input", (base,), {"Parent": parent})
    return parent


Boolean, Int = _widget("BOOLEAN", _BooleanInput), _widget("INT", _IntInput)
Float, String = _widget("FLOAT", _FloatInput), _widget("STRING", _StringInput)
Combo = _widget("COMBO", _ComboInput)
del Combo.Output  # its type would be the list of options: for what the pack gives out there is STRING


class MultiType:
    io_type = "COMFY_MULTITYPED_V3"

    class Input(Input):
        """An input for more than one type: "IMAGE,VIDEO"; `id` may be an input whose widget is then used."""

        def __init__(
            self, id, types, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None
        ):  # fmt: skip
            self.input_override = id if isinstance(id, Input) else None
            if self.input_override is not None:
                optional = id.optional or optional
                tooltip, display_name = id.tooltip or tooltip, id.display_name or display_name
                id = id.id
            super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
            self._io_types = types

        def get_io_type(self):
            names = [kind.io_type for kind in self._io_types]
            if self.input_override is not None:
                names.insert(0, self.input_override.get_io_type())
            return ",".join(dict.fromkeys(names))


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
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False

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
    def __init__(self, *args, ui=None, expand=None, block_execution=None):
        self.args = args
        self.ui = ui
        self.expand = expand
        self.block_execution = block_execution

    @property
    def result(self):
        return self.args or None

    def __getitem__(self, index):
        return self.args[index]


class ComfyNode:
    RELATIVE_PYTHON_MODULE = None
    SCHEMA = None
    hidden = None

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError

    @classmethod
    def execute(cls, **kwargs) -> NodeOutput:
        raise NotImplementedError

    @classmethod
    def validate_inputs(cls, **kwargs):
        raise NotImplementedError

    @classmethod
    def fingerprint_inputs(cls, **kwargs):
        raise NotImplementedError

    @classmethod
    def check_lazy_status(cls, **kwargs):
        return [name for name in kwargs if kwargs[name] is None]

    @classmethod
    def GET_BASE_CLASS(cls):
        return ComfyNode

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        schema = cls.define_schema()
        schema.finalize()
        schema.validate()
        cls.SCHEMA = schema
        return schema

    @classmethod
    def PREPARE_CLASS_CLONE(cls, hidden_inputs: dict):
        """The class that `execute` is given: it knows the hidden inputs."""
        return type(f"{cls.__name__}Clone", (cls,), {"hidden": HiddenHolder.from_dict(hidden_inputs)})
