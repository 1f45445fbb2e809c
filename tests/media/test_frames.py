"""Sequences of frames: how a clip is stretched, and how pictures change their type."""

import pytest
import torch

from latentsync.frames import FrameView, SharedFrames, as_float, as_uint8, batches, end_map, for_net, skip_frames
from latentsync.media.browser import fitted_size


@pytest.mark.parametrize(
    "count, mode, repeat_turns, expected",
    [
        (3, "pingpong", False, [0, 1, 2, 1, 0, 1, 2, 1]),
        (3, "pingpong", True, [0, 1, 2, 2, 1, 0, 0, 1]),
        (3, "loop", False, [0, 1, 2, 0, 1, 2, 0, 1]),
        (3, "hold", False, [0, 1, 2, 2, 2, 2, 2, 2]),
        (3, "stop", False, [0, 1, 2]),
        (9, "stop", False, [0, 1, 2, 3, 4, 5, 6, 7]),
        (1, "pingpong", False, [0] * 8),
    ],
)
def test_a_clip_is_stretched_to_eight_frames(count, mode, repeat_turns, expected):
    assert end_map(count, 8, mode, repeat_turns) == expected


def test_bad_modes_and_empty_clips_are_named():
    with pytest.raises(ValueError, match="'bounce': choose one of pingpong, loop, hold, stop"):
        end_map(3, 8, "bounce")
    with pytest.raises(ValueError, match="no frames"):
        end_map(0, 8, "loop")


def test_levels_survive_and_are_rounded_and_clipped():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(-1, -1, -1, 3)
    assert torch.equal(as_uint8(as_float(levels)), levels)
    values = torch.tensor([-0.1, 0.49 / 255, 0.51 / 255, 254.6 / 255, 1.1])
    assert as_uint8(values).tolist() == [0, 0, 1, 255, 255]
    seen = for_net(levels)
    assert seen.shape == (1, 3, 16, 16) and (seen.min(), seen.max()) == (-1, 1)


def test_windows_views_and_batches():
    frames = torch.arange(10).reshape(10, 1, 1, 1)
    assert batches(7, 3) == [[0, 1, 2], [3, 4, 5], [6]] and batches(0, 3) == []
    view = FrameView(frames, [4, 4, 1])
    assert len(view) == 3 and view[[2, 0]].flatten().tolist() == [1, 4]
    for count in (0, 3, 4, 5, 10):
        left = [window.flatten().tolist() for window in skip_frames(frames.split(4), count)]
        assert sum(left, []) == list(range(count, 10)) and all(left)


@pytest.mark.parametrize(
    "size, expected",
    [((720, 1280), (720, 1280)), ((721, 1281), (720, 1280)), ((2560, 1280), (1280, 640)), ((1, 99), (2, 100))],
)
def test_videos_that_are_only_looked_at_are_small_and_even(size, expected):
    assert fitted_size(*size) == expected


def test_frames_read_together_are_handed_on_without_a_copy():
    shared = SharedFrames(torch.arange(8.0).reshape(8, 1, 1, 1), start=1)
    first, second = shared.read([0, 1, 2, 3]), shared.read([2, 3, 4, 5])
    again = shared.read([1, 2])  # by another thread
    assert again.data_ptr() == first[1:].data_ptr() and shared.read([3, 4]).flatten().tolist() == [3, 4]
    one, across = shared[[1, 2]], shared[[3, 4]]
    assert one.flatten().tolist() == [1, 2] and one.data_ptr() == first[1:].data_ptr()
    assert across.flatten().tolist() == [3, 4]
    # What is not kept, or no more, is read again.
    assert shared[[5]].data_ptr() == second[3:].data_ptr() and shared[[0, 5, 6]].flatten().tolist() == [0, 5, 6]
