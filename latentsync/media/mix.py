"""Several audio tracks heard together."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from fractions import Fraction
from itertools import zip_longest

import av
import numpy as np

from ..threads import check
from .audio import AudioReader
from .source import PathLike

BLOCK = 1 << 16  # samples that are added up at a time


class MixedAudio(AbstractContextManager):
    """The first audio tracks of several files added up, as long as the longest; what `EncodedTrack` asks of a reader.

    Each keeps its loudness; where the loudest moment of all together would clip, all are quieter by as much. The rate
    is the highest of theirs. It is mono if all are, else stereo, with what is not stereo in the middle.
    """

    def __init__(self, paths: Sequence[PathLike]):
        with ExitStack() as opened:
            self._readers = [opened.enter_context(AudioReader(path)) for path in paths]
            self._opened = opened.pop_all()
        self.path = " and ".join(reader.path for reader in self._readers)
        self.rate = max(reader.rate for reader in self._readers)
        self.channels = 1 if all(reader.channels == 1 for reader in self._readers) else 2
        self.layout = ("mono", "stereo")[self.channels - 1]

    def __iter__(self) -> Iterator[np.ndarray]:
        """(channels, n) float32 in [-1, 1]."""
        with MixedAudio([reader.path for reader in self._readers]) as same:
            loudest = max(float(np.abs(block).max()) for block in same._sums())
        for block in self._sums():
            yield block / np.float32(max(1.0, loudest))

    def _sums(self) -> Iterator[np.ndarray]:
        for blocks in zip_longest(*map(self._blocks, self._readers), fillvalue=np.zeros((1, 0), np.float32)):
            check()
            total = np.zeros((self.channels, max(block.shape[1] for block in blocks)), np.float32)
            for block in blocks:
                total[:, : block.shape[1]] += block  # mono in all channels
            yield total

    def _blocks(self, reader: AudioReader) -> Iterator[np.ndarray]:
        """A track, mono or stereo at the mix's rate, `BLOCK` samples at a time and what is left."""
        held, size = [], 0
        for chunk in _resampled(reader, self.rate):
            held.append(chunk)
            size += chunk.shape[1]
            while size >= BLOCK:
                whole = np.concatenate(held, axis=1)
                yield whole[:, :BLOCK]
                held, size = [whole[:, BLOCK:]], size - BLOCK
        if size:
            yield np.concatenate(held, axis=1)

    def close(self) -> None:
        self._opened.close()

    def __exit__(self, *_) -> None:
        self.close()


def _resampled(reader: AudioReader, rate: int) -> Iterator[np.ndarray]:
    layout, done = "stereo" if reader.channels == 2 else "mono", 0
    resampler = av.AudioResampler(format="flt", layout=layout, rate=rate)

    def taken(frame: av.AudioFrame | None) -> Iterator[np.ndarray]:
        for part in resampler.resample(frame):
            yield part.to_ndarray().reshape(part.samples, -1).T

    for chunk in reader:
        chunk = chunk if reader.channels == 2 else chunk.mean(0, keepdims=True)
        if reader.rate == rate:
            yield chunk
            continue
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(chunk.T).reshape(1, -1), format="flt", layout=layout)
        frame.rate, frame.pts, frame.time_base = reader.rate, done, Fraction(1, reader.rate)
        done += chunk.shape[1]
        yield from taken(frame)
    if done:
        yield from taken(None)
