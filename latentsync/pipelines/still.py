"""The mouth of a result in the pauses of the voice, held still."""

import torch

from ..audio.pauses import Pauses
from ..face.track import FaceTrack


class StillMouth:
    """Holds the crop with which the mouth has come to rest in a pause; crops are given in order, window by window.

    It moves with the head, as crops do. Where a pause goes on in another run of the track the mouth rests there anew.
    """

    def __init__(self, pauses: Pauses, track: FaceTrack):
        self.pauses, self.track = pauses, track
        self._rests_at, self._rest = -1, None

    def first(self, start: int) -> int:
        """Where to begin so that the crops from `start` on come out as in a run from the beginning."""
        return min(start, self._resting(start)) if start < len(self.track) and self.pauses.quiet[start] else start

    def _resting(self, i: int) -> int:
        """The frame whose mouth is held in the pause that frame i lies in."""
        while i > 0 and self.pauses.quiet[i - 1] and not self.track.begins(i):
            i -= 1
        return i + self.pauses.fade - 1

    def __call__(self, crops: torch.Tensor, start: int) -> torch.Tensor:
        """Crops (n, resolution, resolution, 3) of the frames from `start` on, changed in place."""
        for i, crop in enumerate(crops, start):
            if not self.pauses.quiet[i] or not self.track.found[i]:
                self._rest = None
                continue
            if self._rest is None or self.track.begins(i):
                self._rests_at, self._rest = self._resting(i), None
            if i == self._rests_at:
                self._rest = crop.clone()
            elif self._rest is not None:
                crop.copy_(torch.lerp(self._rest, crop, float(self.pauses.leaving[i])))
        return crops
