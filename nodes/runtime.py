"""What the nodes need of ComfyUI while they run: progress, cancelling, the device, temporary files."""

import logging
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.utils
import folder_paths
import torch
from PIL import Image
from torch import nn
from torch.utils.hooks import RemovableHandle

from ..latentsync.errors import InputError
from ..latentsync.files import replacing
from .base import LESS_MEMORY
from .inputs import sound

logger = logging.getLogger(__name__)

TEXT_EVERY = 0.25  # seconds between two lines on the node
PREVIEW_SIDE = 512  # pixels


class Progress:
    """ComfyUI's progress bar, which is where a run can be cancelled, and a line on the node that names the phase.

    Without a server (tests, other hosts of nodes) there is only the bar.
    """

    def __init__(self, node_id: str | None = None):
        self.node_id = node_id
        self.bar = comfy.utils.ProgressBar(1)
        self.phase, self.said = "", 0.0

    def __call__(self, phase: str, done: float, total: int | None, preview: Image.Image | None = None) -> None:
        check_interrupted()
        shown = ("JPEG", preview, PREVIEW_SIDE) if preview is not None else None
        self.bar.update_absolute(min(done, total or done), max(1, total or done), shown)
        now = time.monotonic()
        if phase != self.phase or now - self.said >= TEXT_EVERY:
            self.phase, self.said = phase, now
            self._say(f"{phase} {int(done)}/{total}" if total else phase)

    def _say(self, text: str) -> None:
        try:
            from server import PromptServer
        except ImportError:
            return
        server = getattr(PromptServer, "instance", None)
        if server is not None and self.node_id is not None and hasattr(server, "send_progress_text"):
            server.send_progress_text(text, self.node_id)


def progress(cls: Any) -> Progress:
    """The progress of a node, from within its `execute`; its schema asks for `io.Hidden.unique_id`."""
    hidden = getattr(cls, "hidden", None)
    return Progress(getattr(hidden, "unique_id", None))


def check_interrupted() -> None:
    """Raises ComfyUI's interrupt if the user cancelled the run."""
    mm.throw_exception_if_processing_interrupted()


@contextmanager
def on_device(net: nn.Module, memory_required: int) -> Iterator[None]:
    """`net` on the device in the block and on the CPU after it, as ComfyUI does it with upscale models.

    ComfyUI makes room for the weights and `memory_required` bytes beside them.
    """
    device = mm.get_torch_device()
    mm.free_memory(mm.module_size(net) + memory_required, device)
    hooks = make_interruptible(net)
    try:
        nn.Module.to(net, device)  # diffusers' own `to` logs about casts
        yield
    finally:
        for hook in hooks:
            hook.remove()
        nn.Module.to(net, "cpu")


def make_interruptible(net: nn.Module) -> list[RemovableHandle]:
    """Look for the user's cancel before every convolution: one step of a large net on a CPU takes many seconds.

    Returns the hooks that do it.
    """
    layers = [module for module in net.modules() if isinstance(module, (nn.Conv1d, nn.Conv2d))]
    return [layer.register_forward_pre_hook(lambda *_: check_interrupted()) for layer in layers]


def check_room(count: int, height: int, width: int) -> None:
    """Refuse, before the work, a result of so many IMAGE frames that the computer's memory cannot hold."""
    needed, free = count * height * width * 3 * 4, mm.get_free_memory(torch.device("cpu"))
    if needed > free:
        raise InputError(
            f"{count} frames of {width} x {height} pixels take {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB "
            f"are free: {LESS_MEMORY}"
        )


def temp_file(suffix: str) -> Path:
    """A name that nobody has yet, in ComfyUI's temporary folder, which is made if need be."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"latentsync_{uuid.uuid4().hex[:12]}{suffix}"


def audio_file(audio: Mapping) -> Path:
    """An AUDIO as a new temporary WAV file; float samples become 32-bit float, integers stay as they are."""
    from scipy.io import wavfile

    wave, rate = sound(audio)
    if wave.dtype not in (torch.uint8, torch.int16, torch.int32, torch.float32):
        wave = wave.to(torch.float32)
    path = temp_file(".wav")
    with replacing(path) as part:
        wavfile.write(part, rate, wave.T.contiguous().numpy())
    return path
