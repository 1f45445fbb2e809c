"""The LPIPS distance, by torchvision's VGG 16."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models.state_dict import load_state_dict, recognise
from ..nets.loading import assign, check_state_dict


def load_lpips(path: str | Path | None = None, *, random_weights: bool = False) -> nn.Module:
    """The LPIPS distance (lpips.LPIPS with its VGG 16 heads, version 0.1), frozen, float32, on the CPU.

    Args:
        path: torchvision's VGG 16, `vgg16-397923af.pth`; its classifier is not used. Nothing is ever downloaded.
        random_weights: leave VGG at random weights instead, to try a training program out without the file.
    """
    if (path is None) != random_weights:
        raise InputError(
            f"LPIPS got the file {path} and random_weights={random_weights}: give either the path of "
            "vgg16-397923af.pth or random_weights=True"
        )
    try:
        import lpips
    except ImportError as error:
        raise InputError("the LPIPS loss needs the lpips package: pip install lpips") from error

    with torch.device("meta"):  # VGG's classifier, nine tenths of its weights, is never made
        net = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    heads = load_state_dict(Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth")
    assign(net.lins, {name.removeprefix("lin"): tensor for name, tensor in heads.items()})
    assign(net.net, _random_vgg(net.net) if path is None else _read_vgg(path, net.net), torch.float32)
    return net.eval().requires_grad_(False)


def _read_vgg(path: str | Path, slices: nn.Module) -> dict[str, Tensor]:
    """The weights in torchvision's file under the names of lpips, which cuts VGG into `slices`.

    The layers keep their numbers: slice3.10.weight is features.10.weight.
    """
    weights = load_state_dict(path)
    names = {name: f"features.{name.split('.', 1)[1]}" for name in slices.state_dict()}
    features = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier.")}
    try:
        check_state_dict({names[name]: t for name, t in slices.state_dict().items()}, features, "VGG 16")
    except ValueError as error:
        raise InputError(f"{path} looks like {recognise(weights)}: {error}") from error
    return {name: features[source] for name, source in names.items()}


def _random_vgg(slices: nn.Module) -> dict[str, Tensor]:
    """Weights that keep the size of the signal from layer to layer, and biases of zero."""
    shapes = {name: tensor.shape for name, tensor in slices.state_dict().items()}
    return {
        name: torch.zeros(shape) if len(shape) == 1 else nn.init.kaiming_normal_(torch.empty(shape))
        for name, shape in shapes.items()
    }
