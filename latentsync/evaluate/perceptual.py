"""The LPIPS distance, by torchvision's VGG 16."""

from pathlib import Path

import torch
from torch import nn

from ..errors import InputError
from ..models.state_dict import load_state_dict, recognise
from ..nets.loading import assign, check_state_dict


def load_lpips(path: str | Path | None) -> nn.Module:
    """The LPIPS distance (lpips.LPIPS with its VGG 16 heads, version 0.1), frozen, float32, on the CPU.

    `path` is torchvision's VGG 16, `vgg16-397923af.pth`, whose classifier is not used; None: random weights, to try it
    out. Nothing is ever downloaded.
    """
    try:
        import lpips
    except ImportError as error:
        raise InputError("the LPIPS loss needs the lpips package: pip install lpips") from error

    with torch.device("meta"):  # VGG's classifier, nine tenths of its weights, is never made
        net = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    heads = load_state_dict(Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth")
    assign(net.lins, {name.removeprefix("lin"): tensor for name, tensor in heads.items()})
    own = net.net.state_dict()
    if path is None:  # weights that keep the size of the signal from layer to layer
        vgg = {
            name: torch.zeros(t.shape) if t.ndim == 1 else nn.init.kaiming_normal_(torch.empty(t.shape))
            for name, t in own.items()
        }
    else:
        # lpips cuts VGG into slices, whose layers keep their numbers: slice3.10.weight is features.10.weight.
        names = {name: f"features.{name.split('.', 1)[1]}" for name in own}
        weights = load_state_dict(path)
        features = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier.")}
        try:
            check_state_dict({names[name]: tensor for name, tensor in own.items()}, features, "VGG 16")
        except ValueError as error:
            raise InputError(f"{path} looks like {recognise(weights)}: {error}") from error
        vgg = {name: features[source] for name, source in names.items()}
    assign(net.net, vgg, torch.float32)
    return net.eval().requires_grad_(False)
