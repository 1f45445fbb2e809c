"""Stand-in for `comfy.ops`: layers that leave their weights uninitialised and cast them to the input at use."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F

# What each layer does with weights that were cast for this call.
FORWARD = {
    "Linear": lambda layer, x, weight, bias: F.linear(x, weight, bias),
    "Conv2d": lambda layer, x, weight, bias: layer._conv_forward(x, weight, bias),
    "GroupNorm": lambda layer, x, weight, bias: F.group_norm(x, layer.num_groups, weight, bias, layer.eps),
    "LayerNorm": lambda layer, x, weight, bias: F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps),
}


def _layer(name: str) -> type:
    def reset_parameters(self):
        return None

    def forward(self, x):
        weight, bias = (None if p is None else p.to(x.device, x.dtype) for p in (self.weight, self.bias))
        return FORWARD[name](self, x, weight, bias)

    members = {"comfy_cast_weights": True, "reset_parameters": reset_parameters, "forward": forward}
    return type(name, (getattr(torch.nn, name),), members)


manual_cast = SimpleNamespace(**{name: _layer(name) for name in FORWARD})
