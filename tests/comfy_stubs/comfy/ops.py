"""Stand-in for `comfy.ops`: layers that leave their weights uninitialised and can cast them to the input at use."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F

from .model_management import cast_to

# What each layer does with weights that were cast for this call.
FORWARD = {
    "Linear": lambda layer, x, weight, bias: F.linear(x, weight, bias),
    "Conv1d": lambda layer, x, weight, bias: layer._conv_forward(x, weight, bias),
    "Conv2d": lambda layer, x, weight, bias: layer._conv_forward(x, weight, bias),
    "Conv3d": lambda layer, x, weight, bias: layer._conv_forward(x, weight, bias),
    "GroupNorm": lambda layer, x, weight, bias: F.group_norm(x, layer.num_groups, weight, bias, layer.eps),
    "LayerNorm": lambda layer, x, weight, bias: F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps),
}


def _cast_parameters(layer, x):
    """Weight and bias of the layer in the dtype and on the device of x, patched by the layer's functions."""

    def ready(parameter, functions):
        if parameter is None:
            return None
        parameter = cast_to(parameter, x.dtype, x.device, copy=len(functions) > 0)
        for function in functions:
            parameter = function(parameter)
        return parameter

    return ready(layer.weight, layer.weight_function), ready(layer.bias, layer.bias_function)


class CastWeightBiasOp:
    comfy_cast_weights = False
    weight_function = []
    bias_function = []


def _layer(name: str) -> type:
    base = getattr(torch.nn, name)

    def reset_parameters(self):
        return None

    def forward(self, x):
        if self.comfy_cast_weights or self.weight_function or self.bias_function:
            return FORWARD[name](self, x, *_cast_parameters(self, x))
        return base.forward(self, x)

    return type(name, (base, CastWeightBiasOp), {"reset_parameters": reset_parameters, "forward": forward})


_PLAIN = {name: _layer(name) for name in FORWARD}
_CAST = {name: type(name, (layer,), {"comfy_cast_weights": True}) for name, layer in _PLAIN.items()}
disable_weight_init = SimpleNamespace(**_PLAIN)
manual_cast = SimpleNamespace(**_CAST)


def pick_operations(
    weight_dtype,
    compute_dtype,
    load_device=None,
    disable_fast_fp8=False,
    fp8_optimizations=False,
    scaled_fp8=None,
):
    return disable_weight_init if compute_dtype is None or weight_dtype == compute_dtype else manual_cast
