"""Weight files: read without running code from them, and recognised by their names."""

import json
import mmap
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import InputError
from ..files import reading
from ..limits import check_limit
from .folders import UNREADABLE

SAFE_TORCH = (2, 6)  # the first version whose restricted mode could not be evaded

# The entry of a saved dict that holds the tensors: training programs, OpenAI Whisper, VideoMAE, face restorers.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "params_ema", "params")
_PARALLEL = "module."  # what DistributedDataParallel puts before every name

_ENTRY_HEAD = 1 << 17  # bytes that the head of a zip archive's entry has at most, and a few more

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
        raise InputError(f"there is no weight file {path}: check the path or fetch it with the download command")
    with reading(path), path.open("rb"):  # refused by the system in words of ours, not of each reader
        pass
    if path.suffix == ".safetensors":
        with _opened(path) as file:
            state, metadata = {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})
        return _plain_tensors(state, path), metadata
    content = _unpickle(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not a dict of tensors: it is another kind of file")
    wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
    state = _plain_tensors(content[wrapper] if wrapper else content, path)
    if state and all(key.startswith(_PARALLEL) for key in state):
        state = {key.removeprefix(_PARALLEL): value for key, value in state.items()}
    others = {key: value for key, value in content.items() if key != wrapper} if wrapper else {}
    seen: set[int] = set()
    plain = {key: value for key, value in others.items() if isinstance(key, str) and _is_plain(value, seen)}
    return state, {key: json.dumps(value) for key, value in plain.items()}


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
        inputs = 13 if conv_in is None or conv_in.ndim < 2 else conv_in.shape[1]
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


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, *UNREADABLE) as error:
        raise InputError(f"{path} is not a safetensors file or is cut off ({error}): fetch it again") from error


def _plain_tensors(state: Mapping, path: Path) -> dict[str, Tensor]:
    """`state`, if it has nothing but names and tensors that lie in the file, of about the file's size."""
    foreign = [key for key, value in state.items() if not (_is_name(key) and _is_ordinary(value))]
    if foreign:
        names = ", ".join(ascii(key)[:80].strip("'") for key in foreign[:3])
        raise InputError(f"{path} holds other things than tensors ({names}): not a weight file")
    # Views with stride 0, and many names for one piece of memory: copied or cast they would be of any size.
    announced = sum(value.nbytes for value in state.values())
    check_limit("expansion", announced / path.stat().st_size, str(path))
    # Detached by PyTorch itself: a pickle may give a tensor attributes that hide its methods.
    return {key: Tensor.detach(value) for key, value in state.items()}


def _is_name(key: object) -> bool:
    return isinstance(key, str) and key.isprintable() and len(key) <= 500


def _is_ordinary(value: object) -> bool:
    """Whether a value is an ordinary tensor: neither sparse nor nested, quantized or without memory."""
    if not isinstance(value, Tensor) or value.is_nested or value.is_quantized:
        return False
    return value.layout == torch.strided and value.device.type == "cpu"


def _unpickle(path: Path) -> object:
    if tuple(int(number) for number in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        raise InputError(
            f"{path} is a pickle, which could run code when torch {torch.__version__} reads it (CVE-2025-32434): "
            "convert it to .safetensors on another machine, or update torch to 2.6 or later"
        )
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer, not the weights: fetch the file itself")
    if not head or head.lstrip().startswith((b"<", b"{")):
        raise InputError(f"{path} is {'a text file, not weights' if head else 'empty'}: fetch it again")
    zipped = head.startswith(b"PK")
    try:
        _refuse_bombs(path, zipped)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except InputError:
        raise
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is cut off or damaged ({path.stat().st_size:,} bytes): fetch it again") from error
    except pickle.UnpicklingError as error:
        reason = "it is not a PyTorch weight file: fetch it again"
        if "weights_only" in str(error) or "Unsupported" in str(error):
            reason = (
                "it holds Python objects, which can run code when read, so it is refused: convert it where it was made"
            )
        raise InputError(f"{path} was not read: {reason}") from error
    except UNREADABLE as error:
        if "you tried to allocate" in str(error):
            raise InputError(f"{path} asks for more memory than there is: free some, or fetch it again") from error
        raise InputError(f"{path} is damaged or not a PyTorch weight file: fetch it again") from error


def _refuse_bombs(path: Path, zipped: bool) -> None:
    """Refuse what lets a small file take any amount of memory while it is read."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        spans = [(0, len(content))]
        if zipped:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise InputError(f"{path} is compressed, which PyTorch's own files are not: fetch it again")
            pickles = [entry for entry in entries if entry.filename.lower().endswith(".pkl")]
            spans = [(e.header_offset, e.header_offset + e.file_size + _ENTRY_HEAD) for e in pickles]
        # The one harmless function that makes something large of a number; the restricted mode knows it by this line.
        if any(content.find(b"\nbytearray\n", *span) >= 0 for span in spans):
            raise InputError(f"{path} holds byte arrays, which weight files do not: fetch it again")


def _is_plain(value: object, seen: set[int], depth: int = 0) -> bool:
    """Whether a value can be written as JSON and read back the same.

    A list or dict in two places is not: written out, lists of one list of one list grow without bound.
    """
    if not isinstance(value, (dict, list)):
        return value is None or isinstance(value, (bool, int, float, str))
    if id(value) in seen or depth > 20 or (isinstance(value, dict) and not all(isinstance(key, str) for key in value)):
        return False
    seen.add(id(value))
    return all(_is_plain(entry, seen, depth + 1) for entry in (value.values() if isinstance(value, dict) else value))
