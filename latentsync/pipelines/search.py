"""The faces of a run that are looked for beside the nets: frames are finished before the search has come to the end."""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np

from ..face.track import TRACK_FIELDS, FaceTrack, Runs
from ..frames import Frames
from ..media import VideoReader
from ..progress import Progress
from ..threads import Ahead, check

LOOKING = "looking for the face"  # the phase
LEAD = 2  # stretches of the track that are found before they are asked for


class TrackSearch:
    """Finds the tracks of a result bit by bit, while its frames are made.

    Args:
        begin: starts the search, which gives the source's tracks in stretches and tells how far it is.
        order: the source's frame of each frame of the result.
        shares: of each track, how much of the synced face a frame of the result shows at most.

    Attributes:
        tracks: of the result's frames; a face is in none that the search has not come to.
        state: what it said last: phase, frames done, frames in all.
        ended: whether the track is complete.
    """

    def __init__(
        self,
        begin: Callable[[Progress], Generator[Sequence[FaceTrack], None, None]],
        order: Sequence[int],
        resolution: int,
        shares: Sequence[np.ndarray],
    ):
        self._begin, self._order, self._shares = begin, list(order), shares
        self._needed = np.maximum.accumulate(self._order) + 1  # source frames, for a frame and those before it
        self.tracks, self._sources = (
            [_unknown(length, resolution) for _ in shares] for length in (len(order), int(self._needed[-1]))
        )
        self._length, self._turn = len(order), threading.Lock()
        self._known = self._found = 0  # frames of the result, and of the source
        self.state: tuple[str, float, int] = (LOOKING, 0, int(self._needed[-1]))

    @property
    def ended(self) -> bool:
        return self._known == self._length

    @contextmanager
    def going_on(self) -> Iterator[list[Runs]]:
        """The search in a thread for the time of the block, anew where it has not ended before.

        Gives what `FaceTrack.runs` of each track does, once the faces are found as far as it is asked for.
        """
        if self.ended:
            yield [track.runs for track in self.tracks]
            return
        self._known = self._found = 0
        with Ahead(self._begin(self._say), LEAD, check) as stretches:

            def runs(track: FaceTrack, stop: int) -> list[tuple[int, int]]:
                with self._turn:  # those who ask are in threads
                    while self._known < stop:
                        self._add(next(stretches))
                return track.runs(stop)

            yield [partial(runs, track) for track in self.tracks]

    def _say(self, *state) -> None:
        self.state = state

    def _add(self, stretches: Sequence[FaceTrack]) -> None:
        end = self._found + len(stretches[0])
        known = int(np.searchsorted(self._needed, end, side="right"))
        first = max(0, self._known - 1)  # whether the next frame is a cut depends on the one before it
        for track, source, stretch, shares in zip(self.tracks, self._sources, stretches, self._shares, strict=True):
            for name in TRACK_FIELDS:
                getattr(source, name)[self._found : end] = getattr(stretch, name)
            taken = source.take(self._order[first:known]).faded(shares[first:known])
            for name in TRACK_FIELDS:
                getattr(track, name)[self._known : known] = getattr(taken, name)[self._known - first :]
        self._found, self._known = end, known


@contextmanager
def apart(frames: Frames) -> Iterator[Frames]:
    """`frames` for a thread that is elsewhere in them than another one."""
    if isinstance(frames, VideoReader):
        with frames.twin() as twin:
            yield twin
    else:
        yield frames


def _unknown(count: int, resolution: int) -> FaceTrack:
    matrices, (weight, score) = np.zeros((count, 2, 3), np.float32), np.zeros((2, count), np.float32)
    return FaceTrack(matrices, weight, score, np.zeros(count, bool), resolution)
