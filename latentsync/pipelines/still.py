"""The mouth of a result in the pauses of the voice, held still."""

from collections.abc import Iterable, Iterator

import torch

from ..audio.pauses import Pauses
from ..face.track import FaceTrack

LOOK = 20  # frames of a pause among which the one is found whose mouth is held
# Where the mouth is in a crop, and how much of that a slightly open one darkens.
ROWS, COLUMNS, DARKEST = (0.5, 0.85), (0.33, 0.67), 0.05


class StillMouth:
    """Lays one crop of a pause over the others, so that the mouth rests; it moves with the head, as crops do.

    That is the crop with the most closed mouth among the first with nothing of the speech beside the pause.
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
                    ready += _laid(waiting, _most_closed(waiting))
                    rest, waiting = None, []
                if not rests:
                    ready.append(crop)
                elif rest is not None:
                    ready += _laid([(crop, shares[number])], rest)
                else:
                    waiting.append((crop, shares[number]))
                    if sum(share == 0 for _, share in waiting) == LOOK:
                        rest = _most_closed(waiting)
                        ready += _laid(waiting, rest)
                        waiting = []
                number += 1
            if ready:
                yield torch.stack(ready)
        if waiting:
            yield torch.stack(_laid(waiting, _most_closed(waiting)))


def _most_closed(crops: list[tuple[torch.Tensor, float]]) -> torch.Tensor | None:
    """Of those that have no share of speech the one whose mouth has the least dark in it."""
    found = [crop for crop, share in crops if share == 0]
    if not found:
        return None
    (top, bottom), (left, right) = ([round(len(found[0]) * edge) for edge in edges] for edges in (ROWS, COLUMNS))
    mouths = torch.stack([crop[top:bottom, left:right].mean(-1).flatten() for crop in found])
    size = max(1, round(DARKEST * mouths.shape[1]))
    return found[int(mouths.sort(1).values[:, :size].mean(1).argmax())]


def _laid(crops: list[tuple[torch.Tensor, float]], rest: torch.Tensor | None) -> list[torch.Tensor]:
    return [crop if rest is None else torch.lerp(rest, crop, float(share)) for crop, share in crops]
