"""Stand-in for `comfy.model_management`: which device and dtype, which nets are loaded, whether the run is cancelled.

The only device is the CPU, which computes in float32.
"""

import threading

import torch

OOM_EXCEPTION = torch.cuda.OutOfMemoryError
FREE_BYTES = 8 << 30
current_loaded_models = []


class InterruptProcessingException(Exception):
    """The run was cancelled. An `Exception`: whoever swallows all of them swallows the cancel too."""


_interrupted = threading.Event()


def interrupt_current_processing(value=True):
    _interrupted.set() if value else _interrupted.clear()


def throw_exception_if_processing_interrupted():
    if _interrupted.is_set():
        _interrupted.clear()
        raise InterruptProcessingException()


def get_torch_device():
    return torch.device("cpu")


def unet_offload_device():
    return torch.device("cpu")


def vae_offload_device():
    return torch.device("cpu")


def text_encoder_offload_device():
    return torch.device("cpu")


def unet_dtype(device=None, model_params=0, supported_dtypes=()):
    return torch.float32


def unet_manual_cast(weight_dtype, inference_device, supported_dtypes=()):
    """The dtype to compute in where it is not that of the weights, else None."""
    return None if weight_dtype == torch.float32 else torch.float32


def module_size(module):
    return sum(t.nelement() * t.element_size() for t in module.state_dict().values())


def get_free_memory(dev=None):
    return FREE_BYTES


def load_models_gpu(models, memory_required=0):
    """Load each net as far as the free memory goes; the newest comes first in the list of the loaded."""
    for model in models:
        model.partially_load(model.load_device, max(1, FREE_BYTES - memory_required))
        current_loaded_models[:] = [model, *(other for other in current_loaded_models if not other.is_clone(model))]


def free_memory(memory_required, device):
    """Unload all nets where more memory is asked for than there is."""
    if memory_required > FREE_BYTES:
        for model in current_loaded_models:
            model.detach()
        current_loaded_models.clear()


def unload_all_models():
    free_memory(1e30, get_torch_device())
