"""Seams and flicker of a known size."""

import numpy as np
import pytest
import torch

from latentsync.evaluate import figures
from latentsync.evaluate import metrics as meters
from latentsync.evaluate.metrics import measured
from latentsync.evaluate.pictures import Flicker, flicker, seam
from latentsync.face.masks import face_mask

SIDE = 128


def skin(frames: int = 2, seed: int = 0) -> torch.Tensor:
    """Noise of 4 levels on a slope of half a level a pixel."""
    grain = torch.rand(frames, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(seed)) * 4
    return (100 + torch.arange(SIDE)[:, None, None] * 0.5 + grain) / 255


def pasted(softness: float) -> torch.Tensor:
    return skin() + face_mask(SIDE, feather=softness)[..., None] * 20 / 255


def test_a_hard_edge_is_as_large_as_the_colours_are_apart():
    flat = torch.full((1, SIDE, SIDE, 3), 0.4)
    assert seam(flat) == pytest.approx(0, abs=1e-4)
    hard = flat + (face_mask(SIDE, feather=0) > 0.5)[..., None] * 20 / 255
    assert seam(hard) == pytest.approx(20, abs=1e-3)


def test_texture_and_soft_edges_are_no_seam():
    assert abs(seam(skin())) < 0.1
    assert seam(pasted(0.0)) > 17 and seam(pasted(1.0)) < 1


def test_flicker_is_that_of_the_whole_clip(monkeypatch):
    made, true = (torch.rand(9, 8, 8, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    expected = figures.flicker(made, true, torch.ones(8, 8, dtype=torch.bool))[1]
    assert flicker(made, true) == pytest.approx(expected, rel=1e-5) and flicker(true, true) == 0
    for size in (1, 2, 4):
        monkeypatch.setattr(meters, "MOST_FRAMES", size)
        figure = measured(Flicker(), made, true)["flicker"]
        assert figure.value == pytest.approx(expected, rel=1e-5)
        assert np.isnan(figure.curve[0]) and np.isfinite(figure.curve[1:]).all() and len(figure.curve) == 8


def test_flicker_does_not_look_across_a_gap():
    dark, light = torch.zeros(4, 2, 2, 3), torch.ones(4, 2, 2, 3)
    meter = Flicker()
    meter.add([0, 1, 2, 3], dark, dark)
    meter.add([6, 7, 8, 9], light, dark)
    assert meter.figures()["flicker"].value == 0 and meter.numbers == [1, 2, 7, 8]
    with pytest.raises(ValueError, match="fewer than 3 frames in a row"):
        flicker(dark[:2], dark[:2])
