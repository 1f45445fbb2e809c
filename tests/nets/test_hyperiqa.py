"""hyperIQA against the published program's scores, and what its scores must obey."""

import golden_data
import pytest
import torch
import torch.nn.functional as F

from latentsync.nets.hyperiqa import HyperIQA


@pytest.fixture(scope="module")
def net():
    return HyperIQA.from_state_dict(golden_data.state_dict(HyperIQA()))


def test_scores_are_the_published_ones_for_every_picture_by_itself_and_at_its_centre(net):
    golden = golden_data.tensors("hyperiqa")
    pictures = golden["pictures"].float() / 255
    with torch.inference_mode():
        assert (net(pictures) - golden["scores"]).abs().max() <= 1e-5
        bordered = F.pad(pictures[1:], (10, 11, 40, 39), value=1.0)
        assert (net(bordered.flip(0)) - golden["scores"][1:].flip(0)).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.zeros(1, 3, 224, 200), r"\(1, 3, 224, 200\).*from 224 up"),
        (torch.zeros(1, 224, 224, 3), r"give \(n, 3, h, w\)"),
    ],
)
def test_bad_pictures_are_refused(net, given, words):
    with pytest.raises(ValueError, match=words):
        net(given)
