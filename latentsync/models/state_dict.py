"""Weight files: read without running code from them, and recognised by their names."""

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import InputError

# The entry of a saved dict that holds the tensors: training programs, OpenAI Whisper, VideoMAE, face restorers.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "params_ema", "params")
_PARALLEL = "module."  # what DistributedDataParallel puts before every name

# A key that only one kind of file has (as prefix), and what to call that file; the first match wins.
_KINDS = (
    ("model.diffusion_model.", "a whole Stable Diffusion checkpoint"),
    ("audio_encoder.conv_in.", "a StableSyncNet"),
    ("netcnnaud.", "a SyncNet v2"),
    ("encoder.positional_embedding", "an OpenAI Whisper model"),
    ("model.encoder.embed_positions.", "a Whisper model of the transformers package"),
    ("encoder.embed_positions.", "a Whisper model of the transformers package"),
    ("blocks.0.attn.qkv.", "a VideoMAE"),
    ("first_stage_model.", "a VAE"),
    ("encoder.conv_in.", "a VAE"),
    ("res.conv1.", "a hyperIQA model"),
    ("features.0.", "a VGG"),
    ("lora_", "a LoRA"),
)


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a weight file, on the CPU, and what else it says.

    Reads safetensors, and PyTorch files in the restricted mode that refuses code. A dict around the tensors
    ({"global_step", "state_dict"}, {"dims", "model_state_dict"}) is taken off; its other entries come back as the
    second result, in JSON, as safetensors metadata would hold them. So is the "module." that parallel training puts
    before every name. Tensors stay mapped to the file until used.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no weight file {path}: check the path or fetch it with the download command")
    if path.suffix == ".safetensors":
        with _opened(path) as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})
    content = _unpickle(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not a dict of tensors: it is another kind of file")
    wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
    state = dict(content[wrapper] if wrapper else content)
    if state and all(str(key).startswith(_PARALLEL) for key in state):
        state = {key.removeprefix(_PARALLEL): value for key, value in state.items()}
    if foreign := [str(key) for key, value in state.items() if not isinstance(value, Tensor)]:
        raise InputError(f"{path} holds other things than tensors ({', '.join(foreign[:3])}): not a weight file")
    others = {key: value for key, value in content.items() if key != wrapper} if wrapper else {}
    return state, {key: json.dumps(value) for key, value in others.items() if _is_plain(value)}


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weight file, on the CPU and in the file's dtypes; see `read_checkpoint`."""
    return read_checkpoint(path)[0]


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata in the head of a .safetensors file; {} for every other kind."""
    if Path(path).suffix != ".safetensors":
        return {}
    with _opened(Path(path)) as file:
        return dict(file.metadata() or {})


def recognise(state: Mapping[str, Tensor]) -> str:
    """What a state dict looks like, by its names: "a VAE", "a Stable Diffusion U-Net with 4 input channels", ...

    A U-Net that lacks some tensors is still one, so that loading can say which.
    """
    conv_in = state.get("conv_in.weight")
    parts = {key.partition(".")[0] for key in state}
    if parts >= {"down_blocks", "mid_block", "up_blocks"} or parts >= {"conv_in", "time_embedding"}:
        inputs = 13 if conv_in is None else conv_in.shape[1]
        return "a lip-sync U-Net" if inputs == 13 else f"a Stable Diffusion U-Net with {inputs} input channels"
    for prefix, kind in _KINDS:
        if any(key.startswith(prefix) for key in state):
            return kind
    return f"an unknown model ({len(state)} tensors such as {', '.join(list(state)[:3]) or 'none'})"


# Names of the attention layers in VAEs saved by diffusers before 0.14, such as the published sd-vae-ft-mse.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def current_vae_names(state: Mapping[str, Tensor], config: Mapping) -> dict[str, Tensor]:
    """The tensors of the VAE with diffusers' settings `config`, under the names that diffusers uses now."""
    state = {key.removeprefix("first_stage_model."): value for key, value in state.items()}
    if any(".mid.block_1." in key for key in state):  # of the original latent-diffusion code
        from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

        return convert_ldm_vae_checkpoint(state, config)
    old = re.compile(rf"(\.attentions\.\d+)\.({'|'.join(_OLD_ATTENTION)})\.")
    return {old.sub(lambda m: f"{m[1]}.{_OLD_ATTENTION[m[2]]}.", key): value for key, value in state.items()}


def _opened(path: Path):
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file or is cut off ({error}): fetch it again") from None


def _unpickle(path: Path) -> object:
    zipped = zipfile.is_zipfile(path)
    if not zipped:  # the first bytes may tell what it is instead
        with path.open("rb") as file:
            head = file.read(64)
        if head.startswith(b"PK"):
            raise InputError(f"{path} is cut off ({path.stat().st_size:,} bytes): fetch it again")
        if head.startswith(b"version https://git-lfs"):
            raise InputError(f"{path} is a Git LFS pointer, not the weights: fetch the file itself")
        if head.lstrip().startswith((b"<", b"{")):
            raise InputError(f"{path} is a text file, not weights: fetch it again")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        reason = "it is not a PyTorch weight file: fetch it again"
        if "weights_only" in str(error) or "Unsupported" in str(error):
            reason = (
                "it holds Python objects, which can run code when read, so it is refused: convert it where it was made"
            )
        raise InputError(f"{path} was not read: {reason}") from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged or not a PyTorch weight file: fetch it again") from error


def _is_plain(value: object) -> bool:
    """Whether a value can be written as JSON and read back the same."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(entry) for key, entry in value.items())
    if isinstance(value, list):
        return all(_is_plain(entry) for entry in value)
    return value is None or isinstance(value, (bool, int, float, str))
