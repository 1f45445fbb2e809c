"""The mouth of a result in the pauses of the voice, held still."""

from collections.abc import Iterable, Iterator

import torch

from ..audio.pauses import Pauses
from ..face.track import FaceTrack

LOOK = 10  # frames of a pause among which the one is found whose mouth is held


class StillMouth:
    """Lays one crop of a pause over the others, so that the mouth rests; it moves with the head, as crops do.

    That is the crop which is the most like those around it among the first with nothing of the speech beside the pause.
    Where a pause goes on in another run of the track, another crop is found.
    """

    def __init__(self, pauses: Pauses, track: FaceTrack):
        self.pauses, self.track = pauses, track

    def first(self, start: int) -> int:
        """Where to begin so that the crops from `start` on come out as in a run from the beginning."""
        quiet = self.pauses.quiet
        while 0 < start < len(quiet) and quiet[start - 1] and quiet[start] and not self.track.begins(start):
            start -= 1
        return start

    def __call__(self, windows: Iterable[torch.Tensor], start: int) -> Iterator[torch.Tensor]:
        """Windows of crops (n, resolution, resolution, 3), together those of `windows`, from frame `start` on."""
        shares, rest, waiting, number = self.pauses.shares, None, [], start
        for window in windows:
            ready = []
            for crop in window:
                rests = self.pauses.quiet[number] and self.track.found[number]
                if not rests or self.track.begins(number):
                    ready += _laid(waiting, _typical(waiting))
                    rest, waiting = None, []
                if not rests:
                    ready.append(crop)
                elif rest is not None:
                    ready += _laid([(crop, shares[number])], rest)
                else:
                    waiting.append((crop, shares[number]))
                    if sum(share == 0 for _, share in waiting) == LOOK:
                        rest = _typical(waiting)
                        ready += _laid(waiting, rest)
                        waiting = []
                number += 1
            if ready:
                yield torch.stack(ready)
        if waiting:
            yield torch.stack(_laid(waiting, _typical(waiting)))


def _typical(crops: list[tuple[torch.Tensor, float]]) -> torch.Tensor | None:
    """The most like the others of those that have no share of speech; the mouth is in the lower half."""
    found = [crop for crop, share in crops if share == 0]
    if not found:
        return None
    mouths = torch.stack([crop[len(crop) // 2 :].flatten() for crop in found])
    return found[int(torch.cdist(mouths, mouths, p=1).sum(1).argmin())]


def _laid(crops: list[tuple[torch.Tensor, float]], rest: torch.Tensor | None) -> list[torch.Tensor]:
    return [crop if rest is None else torch.lerp(rest, crop, float(share)) for crop, share in crops]
