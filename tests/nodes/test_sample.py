"""The sampler node: what the library gives, with progress, previews and cancelling."""

import numpy as np
import pytest
import torch
from heads import SIDE, STEPS, crops_of, track_of


@pytest.fixture
def features(pack, model):
    wave = torch.randn(16_000, generator=torch.Generator().manual_seed(1)) / 10
    return pack.latentsync.audio.whisper.encode_audio(model.loaded_audio_encoder(), wave, 16_000, 25.0)


def sampled(pack, model, features, crops, **changes):
    inputs = {"steps": STEPS, "guidance": 1.5, "seed": 7, "sampler": "ddim", "window": 4, "overlap": 1}
    inputs |= {"guidance_start": 0.0, "guidance_end": 1.0} | changes
    return pack.run("LatentSyncSampler", model=model, crops=crops, features=features, **inputs)[0]


@pytest.mark.parametrize("changes", [{}, {"deep_cache": 2}])
def test_result_is_the_librarys_bit_for_bit(pack, model, features, changes):
    crops = crops_of(6)
    settings = pack.latentsync.sampling.sample.Settings(steps=STEPS, seed=7, window=4, overlap=1, **changes)
    plain = pack.latentsync.models.embedded.load_embedded("cpu", torch.float32)
    expected = torch.cat(list(pack.latentsync.sampling.sample.sync(plain, crops, features, settings)))
    result = sampled(pack, model, features, crops, **changes)
    assert torch.equal(result, expected)
    assert not torch.equal(result, crops)


def test_quality_stands_for_the_widgets_it_names(pack, model, features):
    crops = crops_of(4)
    result = sampled(pack, model, features, crops, quality="fast", steps=3, sampler="euler")
    library = pack.latentsync
    settings = library.settings.Settings(seed=7, window=4, overlap=1, **library.settings.QUALITIES["fast"])
    plain = library.models.embedded.load_embedded("cpu", torch.float32)
    assert torch.equal(result, torch.cat(list(library.sampling.sample.sync(plain, crops, features, settings))))
    custom = sampled(pack, model, features, crops, quality="custom", sampler="euler")
    assert torch.equal(custom, sampled(pack, model, features, crops, sampler="euler"))
    with pytest.raises(ValueError, match="quality is 'best': choose one of custom, published, balanced, fast"):
        sampled(pack, model, features, crops, quality="best")


def test_crops_are_not_changed_and_come_back_where_there_is_no_face(pack, model, features):
    crops = crops_of(6)
    before = crops.clone()
    track = track_of(pack, [0, 0, 1, 1, 1, 0], cuts=[3])
    result = sampled(pack, model, features, crops, track=track)
    assert torch.equal(crops, before)
    hidden = torch.tensor([0, 1, 5])
    assert torch.equal(result[hidden], crops[hidden])
    assert not torch.equal(result[2], crops[2])
    nowhere = sampled(pack, model, features, crops[:3], track=track_of(pack, [0, 0, 0]))
    assert torch.equal(nowhere, crops[:3])
    # Over the cut there are two runs, each as if it were alone.
    alone = sampled(pack, model, features, crops, track=track_of(pack, [0, 0, 0, 1, 1, 0]))
    assert torch.equal(result[3:5], alone[3:5])


def test_rgba_and_half_crops_give_the_same(pack, model, features):
    crops = crops_of(2).half()
    with_alpha = torch.cat([crops, torch.ones_like(crops[..., :1])], dim=-1)
    expected = sampled(pack, model, features, crops.float())
    assert torch.equal(sampled(pack, model, features, with_alpha), expected)


def test_a_mask_is_what_is_repainted(pack, model, features):
    crops, mask = crops_of(2), torch.zeros(1, 64, 64)
    mask[:, 40:50, 20:30] = 1
    result = sampled(pack, model, features, crops, mask=mask)
    changed = (result - crops).abs().amax(-1) > 1e-6
    assert changed[:, 82:98, 42:58].all() and not changed[:, :70].any() and not changed[:, :, 70:].any()
    usual = sampled(pack, model, features, crops)
    published = 1 - pack.latentsync.face.masks.keep_mask(256)
    assert torch.equal(sampled(pack, model, features, crops, mask=published), usual)


def test_progress_counts_every_step_and_shows_the_face(pack, model, features, monkeypatch):
    seen = []
    monkeypatch.setattr(pack.nodes.runtime.Progress, "__call__", lambda self, *args: seen.append(args))
    crops = crops_of(6)
    result = sampled(pack, model, features, crops, steps=5)
    assert [args[1] for args in seen] == list(range(11))  # two windows of 4 frames, one shared, of five steps each
    assert {args[:1] + args[2:3] for args in seen} == {("syncing", 10)}
    pictures = {args[1]: torch.from_numpy(np.array(args[3])) / 255 for args in seen if args[3] is not None}
    # The middle frame of the window at each fourth step, and the last one that was finished.
    assert list(pictures) == [4, 6, 9]
    kept = (pack.latentsync.face.masks.keep_mask(SIDE)[0] == 1)[:, :, None]
    for step, frame in ((4, 2), (9, 4)):
        assert ((pictures[step] - crops[frame]).abs() * kept).max() < 0.6 / 255
        assert (pictures[step] - result[frame]).abs().mean() < (crops[frame] - result[frame]).abs().mean() / 2
    assert torch.allclose(pictures[6], result[1], atol=0.6 / 255)


def test_cancel_ends_the_run_between_two_layers(pack, model, features, monkeypatch):
    from comfy import model_management

    forward, calls = type(model.model.unet).forward, []

    def cancelled(net, *args):
        calls.append(1)
        model_management.interrupt_current_processing()
        return forward(net, *args)

    monkeypatch.setattr(type(model.model.unet), "forward", cancelled)
    with pytest.raises(model_management.InterruptProcessingException):
        sampled(pack, model, features, crops_of(4))
    assert len(calls) == 1


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"sampler": "euler_ancestral"}, "choose one of ddim"),
        ({"overlap": 4}, "give 0 to 3"),
        ({"guidance_start": 0.9, "guidance_end": 0.1}, "two rising fractions"),
        ({"crops": torch.rand(2, 64, 64, 3)}, "64 x 64 pixels and the model works at 128"),
        ({"crops": torch.rand(3, SIDE, SIDE, 3)}, "the track covers 2 frames and there are 3 crops"),
        ({"mask": torch.zeros(1, 64, 64)}, "the mask leaves 0.0% of the crop to repaint"),
    ],
)
def test_what_does_not_fit_is_refused(pack, model, features, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        sampled(pack, model, features, **{"crops": crops_of(2), "track": track_of(pack, [1, 1])} | change)
