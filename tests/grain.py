"""A made-up restorer."""

import torch
import torch.nn.functional as F

from latentsync.face.align import FACE_SIDE


class Grain:
    """Its change is large, other in each frame, and hangs on the face alone."""

    name = "grain"

    def __call__(self, faces):
        return torch.stack([self._one(face) for face in faces])

    def _one(self, face):
        generator = torch.Generator().manual_seed(int(face.double().sum() * 1e6) % 2**31)
        coarse = torch.rand(1, 3, 64, 64, generator=generator) - 0.5
        return face + 0.4 * F.interpolate(coarse, FACE_SIDE)[0].permute(1, 2, 0)
