"""Stand-in for `comfy.model_management`: which device and dtype, which nets are loaded, whether the run is cancelled.

The only device is the CPU. Tests may set `SUPPORTED` (dtypes that the device computes in) and `free_bytes`.
"""

import threading

import torch

OOM_EXCEPTION = torch.cuda.OutOfMemoryError
SUPPORTED = [torch.float32]
DTYPES = [torch.float16, torch.bfloat16, torch.float32]
free_bytes = 8 << 30
current_loaded_models = []


class InterruptProcessingException(Exception):
    """The run was cancelled. An `Exception`: whoever swallows all of them swallows the cancel too."""


_interrupted = threading.Event()


def interrupt_current_processing(value=True):
    _interrupted.set() if value else _interrupted.clear()


def processing_interrupted():
    return _interrupted.is_set()


def throw_exception_if_processing_interrupted():
    if _interrupted.is_set():
        _interrupted.clear()
        raise InterruptProcessingException()


def get_torch_device():
    return torch.device("cpu")


def unet_offload_device():
    return torch.device("cpu")


def unet_inital_load_device(parameters, dtype):
    return torch.device("cpu")


def intermediate_device():
    return torch.device("cpu")


def vae_device():
    return torch.device("cpu")


def vae_offload_device():
    return torch.device("cpu")


def text_encoder_device():
    return torch.device("cpu")


def text_encoder_offload_device():
    return torch.device("cpu")


def is_device_cpu(device):
    return torch.device(device).type == "cpu"


def is_device_cuda(device):
    return torch.device(device).type == "cuda"


def cpu_mode():
    return True


def mps_mode():
    return False


def dtype_size(dtype):
    return torch.empty((), dtype=dtype).element_size()


def unet_dtype(device=None, model_params=0, supported_dtypes=DTYPES, weight_dtype=None):
    return next((dtype for dtype in supported_dtypes if dtype in SUPPORTED), torch.float32)


def unet_manual_cast(weight_dtype, inference_device, supported_dtypes=DTYPES):
    """The dtype to compute in where it is not that of the weights, else None."""
    if weight_dtype in SUPPORTED or weight_dtype == torch.float64:
        return None
    return next((dtype for dtype in supported_dtypes if dtype in SUPPORTED), torch.float32)


def vae_dtype(device=None, allowed_dtypes=()):
    return next((dtype for dtype in allowed_dtypes if dtype in SUPPORTED), torch.float32)


def should_use_fp16(device=None, model_params=0, prioritize_performance=True, manual_cast=False):
    return torch.float16 in SUPPORTED


def should_use_bf16(device=None, model_params=0, prioritize_performance=True, manual_cast=False):
    return torch.bfloat16 in SUPPORTED


def cast_to(weight, dtype=None, device=None, non_blocking=False, copy=False, stream=None):
    return weight.to(device=device, dtype=dtype, copy=copy)


def cast_to_device(tensor, device, dtype, copy=False):
    return cast_to(tensor, dtype, device, copy=copy)


def module_size(module):
    return sum(t.nelement() * t.element_size() for t in module.state_dict().values())


def extra_reserved_memory():
    return 400 << 20


def minimum_inference_memory():
    return (1 << 30) * 0.8 + extra_reserved_memory()


def get_free_memory(dev=None, torch_free_too=False):
    return (free_bytes, free_bytes) if torch_free_too else free_bytes


def get_total_memory(dev=None, torch_total_too=False):
    return (free_bytes, free_bytes) if torch_total_too else free_bytes


def load_models_gpu(
    models, memory_required=0, force_patch_weights=False, minimum_memory_required=None, force_full_load=False
):
    """Load each net as far as the free memory goes; the newest comes first in the list of the loaded."""
    for model in models:
        others = [other for other in current_loaded_models if not other.is_clone(model)]
        room = 0 if force_full_load else max(1, free_bytes - memory_required)
        model.partially_load(model.load_device, room or 1e32)
        current_loaded_models[:] = [model, *others]


def load_model_gpu(model):
    return load_models_gpu([model])


def loaded_models(only_currently_used=False):
    return list(current_loaded_models)


def free_memory(memory_required, device, keep_loaded=()):
    """Unload all nets of the device where more memory is asked for than there is."""
    if memory_required <= free_bytes:
        return []
    gone = [m for m in current_loaded_models if m.load_device == device and m not in keep_loaded]
    for model in gone:
        current_loaded_models.remove(model)
        model.detach()
    return gone


def unload_all_models():
    free_memory(1e30, get_torch_device())


def soft_empty_cache(force=False):
    """Nothing is cached on the CPU."""
