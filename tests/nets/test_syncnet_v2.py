"""SyncNet v2 against the published program's numbers and names, and what its scores must obey."""

import golden_data
import pytest
import torch

from latentsync.audio.syncnet import mfcc_windows
from latentsync.nets.syncnet_v2 import SyncNetV2, offset_and_confidence, sync_distances


@pytest.fixture(scope="module")
def net():
    return SyncNetV2.from_state_dict(golden_data.state_dict(SyncNetV2()))


@pytest.fixture(scope="module")
def golden():
    return golden_data.tensors("syncnet_v2")


def test_lips_are_the_published_ones(net, golden):
    with torch.inference_mode():
        lips = net.lips(golden_data.normals(15, (2, 3, 5, 224, 224), 60) + 128)
    assert (lips - golden["lip_check"]).norm() <= 1e-5 * golden["lip_check"].norm()


def test_sound_is_the_published_one(net, golden):
    windows = mfcc_windows(golden["mfcc"])[: len(golden["aud"])]
    with torch.inference_mode():
        audio = net.audio(windows)
        assert (net.audio(windows[:1]) - audio[:1]).abs().max() <= 1e-3
    assert (audio - golden["aud"]).norm() <= 1e-5 * golden["aud"].norm()


def test_scores_are_the_published_ones(golden):
    distances = sync_distances(golden["lip"], golden["aud"])
    assert torch.allclose(distances.mean(dim=0), golden["mean_dists"], rtol=1e-5)
    score = offset_and_confidence(distances)
    assert score.offset == golden["offset"]
    assert score.confidence == pytest.approx(float(golden["confidence"]), abs=1e-3)
    assert score.min_distance == pytest.approx(float(golden["min_dist"]), rel=1e-5)


@pytest.mark.parametrize("offset", [-15, -4, 0, 1, 15])
def test_late_lips_have_a_positive_offset(offset):
    features = torch.randn(80, 64, generator=torch.Generator().manual_seed(1))
    lips, audio = features[15:65], features[15 + offset : 65 + offset]  # lips i are audio i - offset
    score = offset_and_confidence(sync_distances(lips, audio))
    assert score.offset == offset
    assert score.confidence > 3


def test_perfect_sync_is_at_no_distance_and_strangers_are_not_trusted():
    generator = torch.Generator().manual_seed(2)
    lips, other = torch.randn(2, 200, 64, generator=generator)
    assert offset_and_confidence(sync_distances(lips, lips, shift=0)).min_distance < 1e-4
    assert offset_and_confidence(sync_distances(lips, other)).confidence < 1


def test_sound_beyond_the_clip_is_zeros():
    lips = torch.tensor([[3.0, 4.0]])
    assert torch.allclose(sync_distances(lips, lips, shift=2), torch.tensor([[5.0, 5, 0, 5, 5]]), atol=1e-5)


def test_bad_inputs_are_refused(net):
    with pytest.raises(ValueError, match=r"\(1, 3, 5, 112, 112\): give \(b, 3, 5, 224, 224\)"):
        net.lips(torch.zeros(1, 3, 5, 112, 112))
    with pytest.raises(ValueError, match=r"\(1, 13, 20\): give \(b, 1, 13, 20\)"):
        net.audio(torch.zeros(1, 13, 20))
    for lips, audio in ((torch.zeros(3, 4), torch.zeros(2, 4)), (torch.zeros(0, 4), torch.zeros(0, 4))):
        with pytest.raises(ValueError, match="n from 1 up"):
            sync_distances(lips, audio)
    with pytest.raises(ValueError, match="shift is -1"):
        sync_distances(torch.zeros(3, 4), torch.zeros(3, 4), shift=-1)
    with pytest.raises(ValueError, match=r"\(4, 30\)"):
        offset_and_confidence(torch.zeros(4, 30))
    with pytest.raises(ValueError, match="NaN or infinite"):
        offset_and_confidence(torch.full((4, 31), float("nan")))
