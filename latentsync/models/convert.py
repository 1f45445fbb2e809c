"""PyTorch weight files to safetensors: no code in them, faster to map, and with room for what they are."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import FileError, InputError
from ..files import make_folder, refuse_inputs, replacing
from .folders import read_sidecar
from .state_dict import read_checkpoint


def convert(src: str | Path, dst: str | Path, *, half: bool = False, force: bool = False) -> Path:
    """Writes the weights of `src` as the safetensors file `dst` and returns its path.

    Every tensor keeps its name and bits; with `half` floating-point tensors become float16. What surrounded them
    (global_step, Whisper's dims) goes into the metadata as JSON, with version and resolution where `latentsync.json`
    beside a U-Net states them. Tensors that share memory are written out once each.
    """
    src, dst = Path(src), Path(dst)
    if dst.suffix != ".safetensors":
        raise InputError(f"the output is {dst.name!r}: give a name that ends in .safetensors")
    refuse_inputs(dst, [src])
    if dst.exists() and not force:
        raise FileError(f"{dst} is there already: choose another name, or overwrite it with force (--force)")
    state, metadata = read_checkpoint(src)
    if "conv_in.weight" in state:
        sidecar = read_sidecar(src.parent)
        metadata = {key: str(sidecar[key]) for key in ("version", "resolution") if key in sidecar} | metadata
    if half:
        state = {key: _halved(key, value) for key, value in state.items()}
    make_folder(dst.parent)
    try:
        with replacing(dst) as part:
            part.touch()  # the library's own files are for their owner alone, whatever the umask says
            mode = part.stat().st_mode
            save_file(_separate(state), part, {"format": "pt"} | metadata)
            part.chmod(mode)
    except KeyError as error:
        raise InputError(f"{src} has tensors of the type {error}, which .safetensors files cannot hold") from error
    except SafetensorError as error:
        raise FileError(f"cannot write {dst} ({error}): free some space or choose another folder") from error
    return dst


def _halved(key: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    result = tensor.to(torch.float16)
    if not torch.isfinite(result).all():
        raise InputError(f"{key} has values that float16 cannot hold (limit 65504): convert without half")
    return result


def _separate(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, contiguous and none of them in another's memory, which the format demands."""
    seen: set[int] = set()
    result = {}
    for key, tensor in state.items():
        memory = tensor.untyped_storage().data_ptr()
        alone = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes and memory not in seen
        result[key] = tensor if alone else tensor.clone(memory_format=torch.contiguous_format)
        seen.add(memory)
    return result
