"""SyncNet v2 against the published program's numbers, and what its scores must obey."""

import golden_data
import pytest
import torch

from latentsync.audio.syncnet import mfcc_windows
from latentsync.nets.syncnet_v2 import SyncNetV2, offset_and_confidence, sync_distances


def test_features_and_scores_are_the_published_ones():
    golden, net = golden_data.tensors("syncnet_v2"), SyncNetV2.from_state_dict(golden_data.state_dict(SyncNetV2()))
    windows = mfcc_windows(golden["mfcc"])[: len(golden["aud"])]
    with torch.inference_mode():
        lips = net.lips(golden_data.normals(15, (2, 3, 5, 224, 224), 60) + 128)
        audio = net.audio(windows)
        assert (net.audio(windows[:1]) - audio[:1]).abs().max() <= 1e-3
    assert (lips - golden["lip_check"]).norm() <= 1e-5 * golden["lip_check"].norm()
    assert (audio - golden["aud"]).norm() <= 1e-5 * golden["aud"].norm()

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
    assert score.offset == offset and score.confidence > 3


def test_perfect_sync_is_at_no_distance_and_strangers_are_not_trusted():
    lips, other = torch.randn(2, 200, 64, generator=torch.Generator().manual_seed(2))
    assert offset_and_confidence(sync_distances(lips, lips, shift=0)).min_distance < 1e-4
    assert offset_and_confidence(sync_distances(lips, other)).confidence < 1


def test_sound_beyond_the_clip_is_zeros():
    lips = torch.tensor([[3.0, 4.0]])
    assert torch.allclose(sync_distances(lips, lips, shift=2), torch.tensor([[5.0, 5, 0, 5, 5]]), atol=1e-5)


def test_bad_features_are_refused():
    for frames in (2, 0):
        with pytest.raises(ValueError, match="n from 1 up"):
            sync_distances(torch.zeros(3 if frames else 0, 4), torch.zeros(frames, 4))
    with pytest.raises(ValueError, match="NaN or infinite"):
        offset_and_confidence(torch.full((4, 31), float("nan")))
