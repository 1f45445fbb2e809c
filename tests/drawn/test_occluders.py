"""Things before a drawn mouth: where they are, and that a lip sync leaves them."""

import sys
from pathlib import Path

import pytest
import torch
from embedded_weights import make_embedded

from latentsync.drawn.heads.clip import make_clip
from latentsync.drawn.heads.occluders import THINGS, cover
from latentsync.models.load import load_model

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from occlusion import measure  # noqa: E402


@pytest.mark.parametrize("thing", THINGS)
def test_a_thing_comes_stays_before_the_mouth_and_goes(thing):
    clip = make_clip(900_203, 0.8, 192)
    covered, masks = cover(clip, thing, 3)
    assert torch.equal(covered.frames[masks == 0], clip.frames[masks == 0])
    assert (covered.frames != clip.frames).any(-1)[masks == 1].float().mean() > 0.95
    eyes, nose = clip.landmarks[:, :2].mean(1), clip.landmarks[:, 2]
    mouths = (nose + 0.65 * (nose - eyes)).round().astype(int)
    over = [float(mask[y, x]) for mask, (x, y) in zip(masks, mouths, strict=True)]
    assert over[0] == over[-1] == 0 and min(over[6:-6]) == 1
    again, same = cover(make_clip(900_203, 0.8, 192), thing, 3)
    assert torch.equal(again.frames, covered.frames) and torch.equal(same, masks)


def test_a_lip_sync_leaves_the_thing_as_it_was(tmp_path):
    model = load_model(make_embedded(tmp_path / "embedded", resolution=128), device="cpu")
    levels, *_ = measure(model, "hand", 900_204, 0.6, 1)
    assert levels <= 1


def test_an_unknown_thing_is_refused():
    with pytest.raises(ValueError, match="thing is 'foot': choose one of hand, microphone, cup"):
        cover(make_clip(900_203, 0.2, 64), "foot")
