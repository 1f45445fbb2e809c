"""Where the frames of a video file are: one pass over its packets, without decoding them."""

import logging
import math
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ..errors import InputError
from ..limits import check_limit, limit
from ..progress import Progress, no_progress
from .source import PathLike, all_packets, moving_pictures, open_source, packets, video_stream

log = logging.getLogger(__name__)

STANDARD_RATES = [Fraction(n, 1001) for n in (24000, 30000, 60000)] + [Fraction(n) for n in (24, 25, 30, 50, 60)]
DEFAULT_RATE = Fraction(25)
# No camera of a talking face is faster; a file that says so has broken time stamps.
MIN_RATE, MAX_RATE = Fraction(1, 1000), 240
UNSURE_SECONDS = Fraction(1, 4)  # by which sound may end earlier than the file says
PACKETS_AT_ONCE, FRAMES_AT_ONCE = 500, 25  # read, and decoded, between two reports of progress

# Formats whose frames paint over the one before, though every packet is marked as a key frame.
CANVAS_CODECS = {"gif", "apng"}


@dataclass(frozen=True)
class FrameIndex:
    """The frames of a video in the order in which they are shown.

    Attributes:
        stamps: when each frame comes on screen, in units of `time_base`, ascending.
        keys: stamps at which decoding may start, ascending. Some may be of frames that are not shown.
        time_base: seconds in one unit.
        end: when the last frame leaves the screen, in units of `time_base`.
        rate: frames per second; of a variable-rate file, that of its commonest interval.
        constant: whether frame i is on screen at i / rate.
        places: for a file without time stamps, the number of the frame in each packet (None: no frame);
            such a file has the frame numbers for stamps.
        lost: frames that the file announces after its last one: it has been cut off.
    """

    stamps: list[int]
    keys: list[int]
    time_base: Fraction
    end: int
    rate: Fraction
    constant: bool
    places: list[int | None] | None = None
    lost: int = 0

    def find(self, stamp: int | None) -> int | None:
        """The number of the frame with this stamp, or None."""
        number = len(self.stamps) if stamp is None else bisect_left(self.stamps, stamp)
        return number if number < len(self.stamps) and self.stamps[number] == stamp else None

    def key_before(self, number: int) -> int | None:
        """The last stamp at which decoding may start to reach frame `number`."""
        place = bisect_right(self.keys, self.stamps[number])
        return self.keys[place - 1] if place else None

    def starts(self, number: int) -> Iterator[int | None]:
        """Stamps to start decoding from, the best one first, then ever earlier; None is the start of the file."""
        place, step = bisect_right(self.keys, self.stamps[number]) - 1, 1
        while place > 0:
            yield self.keys[place]
            place, step = place - step, step * 2
        yield None

    def count_at(self, fps: Fraction) -> int:
        """How many output frames there are at `fps`."""
        return max(1, round((self.end - self.stamps[0]) * self.time_base * fps))

    def shown_at(self, i: int, fps: Fraction) -> int:
        """The number of the source frame that is on screen in the middle of output frame `i` at `fps`.

        The middle, so that jitter of less than half a frame changes nothing. FFmpeg's `fps` filter agrees.
        """
        per_unit = fps * self.time_base
        middle = -(-(2 * i + 1) * per_unit.denominator // (2 * per_unit.numerator))  # rounded up
        return max(0, bisect_left(self.stamps, self.stamps[0] + middle) - 1)


def scan(path: PathLike, progress: Progress = no_progress) -> FrameIndex:
    """Index the first video stream of a file; what `progress` raises ends it."""
    with open_source(path, "video") as container:
        index = _scan_packets(container, moving_pictures(container, path), path, progress)
    if index is None:
        index = _scan_frames(path, progress)
    if not index.stamps:
        raise InputError(f"{path} has no video frames: it is empty or damaged")
    times = np.asarray([*index.stamps, index.end], dtype=np.float64) * float(index.time_base)
    check_limit("gap", float(np.diff(times).max()), os.fspath(path))
    check_limit("seconds", float(times[-1] - times[0]), os.fspath(path))
    return index


def _watched(
    found: Iterator[Packet], stream: VideoStream, path: PathLike, progress: Progress, every: int
) -> Iterator[Packet]:
    """Packets as they are `found`; those of `stream` are counted."""
    count, most = 0, limit("frames")
    for number, packet in enumerate(found):
        if number % every == every - 1:
            progress("reading the index", count, max(count, stream.frames))
        if packet.stream is stream:
            if count > most:
                check_limit("frames", count, os.fspath(path))
            count += packet.size > 0
        yield packet


def _scan_packets(
    container: InputContainer, stream: VideoStream, path: PathLike, progress: Progress
) -> FrameIndex | None:
    """The index by the time stamps of the packets, or None where they do not give the order shown."""
    # AVI stores when to decode a packet, not when to show it: with B-frames that is another order.
    if container.format.name == "avi" and stream.codec_context.has_b_frames:
        return None
    damage: list[str] = []
    stamps, keys, last, last_duration, latest = set(), set(), None, 0, Fraction(0)
    for packet in _watched(all_packets(container, damage.append), stream, path, progress, PACKETS_AT_ONCE):
        if packet.size == 0:
            continue
        if packet.stream is not stream:
            if packet.pts is not None:
                latest = max(latest, (packet.pts + (packet.duration or 0)) * packet.time_base)
            continue
        if packet.pts is None:
            return None
        if packet.is_keyframe:
            keys.add(packet.pts)
        # VP8 has packets that only serve as reference; bit 4 of the frame header says so (RFC 6386, section 9.1).
        hidden = stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10
        if packet.is_discard or hidden:
            continue
        stamps.add(packet.pts)
        if last is None or packet.pts > last:
            last, last_duration = packet.pts, packet.duration or 0
    if not stamps:
        return FrameIndex([], [], stream.time_base, 0, DEFAULT_RATE, True)
    if stream.codec_context.name in CANVAS_CODECS:
        keys = {min(keys)} if keys else keys
    stamps, keys = sorted(stamps), sorted(keys)
    rate, constant = frame_rate(stamps, stream.time_base, _named_rates(stream), path)
    interval = 1 / (rate * stream.time_base)
    end = stamps[-1] + (last_duration or round(interval))
    lost = max(0, math.floor(_missing(container, stream, end, latest) / interval + Fraction(1, 4)))
    if damage and not lost:
        log.warning("%s ends early: it is damaged (%s)", path, damage[0])
    return FrameIndex(stamps, keys, stream.time_base, end, rate, constant, lost=lost)


def _missing(container: InputContainer, stream: VideoStream, end: int, latest: Fraction) -> Fraction:
    """How much longer the pictures are by the file's header than to their `end`, in the stream's units.

    0 where the header does not say, or FFmpeg guesses. `latest` is when the other streams end, in seconds.
    """
    start, name = stream.start_time or 0, container.format.name
    if name == "avi":
        return Fraction(start + stream.frames - end)
    if name.startswith("mov") and stream.duration:
        return Fraction(start + stream.duration - end)
    if name.startswith("matroska") and container.duration:
        # The length is that of all streams: where another one reaches it, nobody knows about this one.
        whole = Fraction(container.duration + (container.start_time or 0), av.time_base)
        missing = whole - max(latest, end * stream.time_base)
        return missing / stream.time_base if missing > UNSURE_SECONDS or not latest else Fraction(0)
    return Fraction(0)


def _named_rates(stream: VideoStream) -> list[Fraction]:
    """The frame rates that the file names, the likelier one first."""
    return [rate for rate in (stream.guessed_rate, stream.average_rate) if rate and MIN_RATE <= rate <= MAX_RATE]


def _scan_frames(path: PathLike, progress: Progress) -> FrameIndex:
    """The index of a file whose packets have no time stamps to go by (raw H.264, some AVI): decode it once.

    The packet's number serves as its stamp; the decoder hands it on to the frame.
    """
    log.info("%s has no usable time stamps: counting its frames by decoding them", path)
    order, keys, count = [], [], 0
    with open_source(path, "video") as container:
        stream = video_stream(container)
        stream.thread_type = "AUTO"
        rate = next(iter(_named_rates(stream)), DEFAULT_RATE)
        for packet in _watched(packets(container, stream), stream, path, progress, FRAMES_AT_ONCE):
            if packet.size:
                packet.pts, packet.dts = count, None
                if packet.is_keyframe:
                    keys.append(count)
                count += 1
            order += [frame.pts for frame in decoded(packet) if frame.pts is not None]
    places: list[int | None] = [None] * count
    order = [place for place in dict.fromkeys(order) if 0 <= place < count]
    for number, place in enumerate(order):
        places[place] = number
    stamps = list(range(len(order)))
    known = sorted(places[key] for key in keys if places[key] is not None)
    return FrameIndex(stamps, known, 1 / rate, len(order), rate, True, places)


def decoded(packet: Packet) -> list[av.VideoFrame]:
    """The frames that come out of the decoder for this packet; none where it is damaged."""
    try:
        return [frame for frame in packet.decode() if not frame.is_corrupt]
    except av.error.FFmpegError:
        return []


def frame_rate(
    stamps: list[int], time_base: Fraction, hints: list[Fraction], path: PathLike = "the video"
) -> tuple[Fraction, bool]:
    """The rate of frames with these time stamps, and whether it is constant.

    It is constant if no frame is further than a quarter of an interval from its place; time bases of whole
    milliseconds and the jitter of cameras stay below that, a dropped frame does not. `hints` are the rates
    that the file names, the likelier one first. Without a constant rate it is that of the commonest interval,
    moved to a hint or a standard rate within 1 %.
    """
    if len(stamps) < 2:
        return (hints[0] if hints else DEFAULT_RATE), True
    times = np.asarray(stamps, dtype=np.float64) - stamps[0]
    average = (len(stamps) - 1) / ((stamps[-1] - stamps[0]) * time_base)
    if average < MIN_RATE:
        raise InputError(f"{path} has a frame every {float(1 / average):.4g} seconds: at most 1000 are taken")
    for rate in [*hints, average.limit_denominator(1001)]:
        interval = float(1 / (rate * time_base))
        if np.abs(times - np.arange(len(times)) * interval).max() < interval / 4:
            return rate, True
    usual = 1 / (Fraction(median(np.diff(times).tolist())) * time_base)
    if usual > MAX_RATE:
        usual = min(average, Fraction(MAX_RATE))
    nearest = min([*hints, *STANDARD_RATES], key=lambda rate: abs(rate - usual))
    return (nearest if abs(nearest - usual) < usual / 100 else usual.limit_denominator(1001)), False
