"""Stand-in for `comfy.utils`: the progress bar and the safe loader of weights."""

import safetensors.torch
import torch

from . import model_management

PROGRESS_BAR_HOOK = None


def set_progress_bar_global_hook(function):
    global PROGRESS_BAR_HOOK
    PROGRESS_BAR_HOOK = function


class ProgressBar:
    """Counts to `total`; each update is a point where a cancelled run ends, because the server's hook looks there."""

    def __init__(self, total, node_id=None):
        self.total = total
        self.current = 0
        self.hook = PROGRESS_BAR_HOOK
        self.node_id = node_id

    def update_absolute(self, value, total=None, preview=None):
        self.total = self.total if total is None else total
        self.current = min(value, self.total)
        model_management.throw_exception_if_processing_interrupted()
        if self.hook is not None:
            self.hook(self.current, self.total, preview, node_id=self.node_id)

    def update(self, value):
        self.update_absolute(self.current + value)


def load_torch_file(ckpt, safe_load=False, device=None, return_metadata=False):
    device = torch.device("cpu") if device is None else device
    metadata = None
    if ckpt.lower().endswith((".safetensors", ".sft")):
        with safetensors.safe_open(ckpt, framework="pt", device=device.type) as file:
            state = {key: file.get_tensor(key) for key in file.keys()}
            metadata = file.metadata() if return_metadata else None
    else:
        state = torch.load(ckpt, map_location=device, weights_only=True)
    return (state, metadata) if return_metadata else state
