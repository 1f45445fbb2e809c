"""What restores a face: GFPGAN, CodeFormer and RestoreFormer as spandrel builds them, and a filter without weights.

The nets take portraits that are aligned as those of the FFHQ data set: 512 x 512 pixels, the eyes 126 apart.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..errors import InputError
from ..models.folders import UNREADABLE
from ..models.state_dict import load_state_dict, recognise

log = logging.getLogger(__name__)

# The nets made for faces take and give [-1, 1]; what each is called with beside the picture. GFPGAN's noise stays the
# one stored in its weights, so that two runs agree.
_FACE_NETS = {"GFPGAN": {"return_rgb": False, "randomize_noise": False}, "CodeFormer": {}, "RestoreFormer": {}}
_CODEFORMER_KEY = "idx_pred_layer.1.weight"


class Restorer(Protocol):
    """Adds detail to portraits (n, 512, 512, 3) float32 RGB in [0, 1] on the CPU, FFHQ-aligned.

    The result is a new tensor of the same kind, whose values may lie a little outside [0, 1].
    """

    name: str

    def __call__(self, faces: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Sharpen:
    """A filter that sharpens fine detail and soft edges without halos. It needs no weights and invents nothing.

    Detail is the brightness less its guided filter (He, Sun and Tang, Guided image filtering, 2010), and no pixel
    becomes brighter or darker than those around it.
    """

    gain: float = 2.0  # by how much detail is made stronger; 0 changes nothing
    radius: int = 5  # pixels of a portrait over which detail is told from shape
    edge: float = 0.1  # contrast, of 0..1, above which something is an edge and not a detail
    name: str = "sharpen (built in)"

    def __call__(self, faces: torch.Tensor) -> torch.Tensor:
        side, around = (2 * self.radius + 1,) * 2, np.ones((self.radius,) * 2, np.uint8)
        sharpened = []
        for face in faces.numpy():
            light = face.mean(-1)
            mean = cv2.blur(light, side)
            variance = np.maximum(cv2.blur(light * light, side) - mean * mean, 0)
            slope = variance / (variance + self.edge**2)
            shape = cv2.blur(slope, side) * light + cv2.blur((1 - slope) * mean, side)
            clear = np.clip(light + self.gain * (light - shape), cv2.erode(light, around), cv2.dilate(light, around))
            sharpened.append(torch.from_numpy(face + (clear - light)[..., None]))
        return torch.stack(sharpened)


@dataclass(frozen=True, eq=False)
class NetRestorer:
    """A net of spandrel's: one made for faces, or any upscaler, whose result is shrunk to the size of its input.

    It works where its weights lie.
    """

    descriptor: Any  # spandrel.ImageModelDescriptor, as ComfyUI's UPSCALE_MODEL is
    name: str  # shown to the user
    fidelity: float = 0.5  # of CodeFormer, 0 (best picture) to 1 (most like the input); the others ignore it
    path: Path | None = None  # the file it came from

    def __post_init__(self):
        if not 0 <= self.fidelity <= 1:
            raise InputError(f"fidelity is {self.fidelity}: give a number from 0 (best picture) to 1 (most alike)")
        channels = tuple(getattr(self.descriptor, f"{side}_channels", None) for side in ("input", "output"))
        if channels != (3, 3):
            raise InputError(
                f"{self.name} takes {channels[0]} and gives {channels[1]} channels: choose a restorer of RGB pictures"
            )

    @property
    def net(self) -> nn.Module:
        return self.descriptor.model

    @property
    def kind(self) -> str:
        """The architecture: GFPGAN, CodeFormer, RestoreFormer, ESRGAN, ..."""
        return str(self.descriptor.architecture.id)

    @property
    def portraits(self) -> bool:
        """Whether it was made for aligned portraits alone."""
        return self.kind in _FACE_NETS

    @torch.no_grad()
    def __call__(self, faces: torch.Tensor) -> torch.Tensor:
        weight = next(self.net.parameters())
        # Contiguous, because GFPGAN asks for a view of its features.
        pictures = faces.permute(0, 3, 1, 2).to(weight.device, weight.dtype).contiguous()
        if self.portraits:
            options = {"weight": self.fidelity} if self.kind == "CodeFormer" else _FACE_NETS[self.kind]
            restored = (self.net(pictures * 2 - 1, **options)[0] + 1) / 2
        else:
            restored = F.interpolate(self.descriptor(pictures).float(), pictures.shape[-2:], mode="area")
        return restored.to("cpu", torch.float32).permute(0, 2, 3, 1)


def load_restorer(
    path: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, fidelity: float = 0.5
) -> NetRestorer:
    """The restorer in a published file (GFPGANv1.3.pth, GFPGANv1.4.pth, codeformer.pth, RestoreFormer.pth, or their
    tensors as .safetensors), or in the file of any upscaler that spandrel knows.

    The nets made for faces overflow in float16; they take float32 and bfloat16.
    """
    path = Path(path)
    state = load_state_dict(path)
    descriptor = _described(state, path)
    if dtype == torch.float16 and not descriptor.supports_half:
        raise InputError(f"{path.name} does not work in float16: choose float32 or bfloat16")
    restorer = NetRestorer(descriptor, path.stem, fidelity, path)
    # To the module itself: a descriptor's own `to` refuses what it does not list.
    restorer.net.to(device, dtype).eval().requires_grad_(False)
    return restorer


def _described(state: dict[str, torch.Tensor], path: Path):
    """spandrel's ImageModelDescriptor of a state dict."""
    try:
        from spandrel import MAIN_REGISTRY, ImageModelDescriptor, ModelLoader, UnsupportedModelError
    except ImportError as error:
        raise InputError("face restoration needs the spandrel package: pip install spandrel") from error
    registry = MAIN_REGISTRY.copy()  # spandrel's own is the whole process's
    try:
        from spandrel_extra_arches import EXTRA_REGISTRY

        registry.add(*EXTRA_REGISTRY, ignore_duplicates=True)
    except ImportError:
        log.debug("spandrel_extra_arches is not installed: CodeFormer's files cannot be loaded")
    try:
        descriptor = ModelLoader(registry=registry).load_from_state_dict(dict(state))
    except UnsupportedModelError:
        if _CODEFORMER_KEY in state:
            raise InputError(
                f"{path} looks like CodeFormer, whose licence is for non-commercial use and which needs one more "
                "package: pip install spandrel_extra_arches"
            ) from None
        raise InputError(
            f"{path} looks like {recognise(state)}: give a file of GFPGAN, CodeFormer or RestoreFormer, or "
            "an upscaler's"
        ) from None
    except UNREADABLE as error:
        why = " ".join(str(error).split())[:200]  # it may list hundreds of tensors
        raise InputError(f"{path} is damaged or changed, its tensors do not fit ({why}): fetch it again") from error
    if not isinstance(descriptor, ImageModelDescriptor):
        raise InputError(f"{path} holds a net that needs a mask ({descriptor.architecture.id}): give a face restorer")
    return descriptor
