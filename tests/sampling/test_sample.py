from dataclasses import replace

import pytest
import tiny
import torch
from golden_data import json_of, tensors

from latentsync.audio.whisper import AudioFeatures
from latentsync.face.masks import keep_mask
from latentsync.frames import as_uint8
from latentsync.models.load import LipSyncModel
from latentsync.sampling.preview import preview
from latentsync.sampling.sample import plan, sync, synced_window, windows
from latentsync.sampling.schedulers import make_sampler
from latentsync.settings import SAMPLERS, Settings


def make_model(motion=True, resolution=64) -> LipSyncModel:
    from latentsync.nets.unet import UNet

    nets = [UNet(tiny.unet_config(motion)), tiny.vae(), tiny.audio_encoder()]
    for net in nets:
        net.load_state_dict(tiny.weights(net))
        net.eval().requires_grad_(False)
    return LipSyncModel(*nets, resolution=resolution, source="golden")


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def clip():
    """Crops and audio features of 21 frames."""
    rng = torch.Generator().manual_seed(3)
    crops = torch.rand(21, 64, 64, 3, generator=rng)
    return crops, AudioFeatures(torch.randn(50, 5, 32, generator=rng), 25.0, 21)


FAST = Settings(steps=2, window=8, guidance=1.0)


def whole(*args, **kwargs) -> torch.Tensor:
    return torch.cat(list(sync(*args, **kwargs)))


def test_frames_are_the_published_ones():
    golden, facts = tensors("denoise"), json_of("denoise")
    model = make_model(resolution=facts["resolution"])
    faces = golden["faces"].float() / 127.5 - 1
    settings = Settings(steps=facts["steps"], guidance=facts["guidance_scale"], window=facts["window"])
    out = []
    for first, end in windows(0, len(faces), facts["window"], 0):
        out.append(synced_window(model, faces[first:end], golden["audio"][first:end], golden["noise"], settings))
    assert (torch.cat(out) - golden["frames"]).abs().max() <= 2e-4


def test_ddim_takes_the_published_steps():
    assert make_sampler("ddim", 4).timesteps.tolist() == tensors("denoise")["timesteps"].tolist()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 20, 500])
def test_every_sampler_takes_different_steps_that_exist(sampler, steps):
    taken = make_sampler(sampler, steps).timesteps.tolist()
    assert len(set(taken)) == len(taken) == steps and max(taken) < 1000 and min(taken) >= 0


@pytest.mark.parametrize("count, window, overlap", [(1, 16, 0), (15, 16, 4), (16, 16, 4), (40, 16, 0), (41, 16, 15)])
def test_windows_cover_every_frame_in_order(count, window, overlap):
    spans = windows(5, 5 + count, window, overlap)
    assert spans[0][0] == 5 and spans[-1][1] == 5 + count
    assert sorted({i for a, b in spans for i in range(a, b)}) == list(range(5, 5 + count))
    assert all(0 < b - a <= window for a, b in spans)
    assert all(c - a > 0 and b - c >= overlap for (a, b), (c, _) in zip(spans[:-1], spans[1:], strict=True))
    if overlap and count >= window:
        assert all(b - a == window for a, b in spans)


@pytest.mark.parametrize("overlap", [0, 3])
def test_streamed_equals_whole_and_resumed(model, clip, overlap):
    """A reader that gives no more than it is asked for, and a run that starts in the middle, change no bit."""
    crops, audio = clip
    settings = Settings(steps=2, window=8, overlap=overlap, guidance=1.5)
    expected = whole(model, crops, audio, settings)
    assert expected.shape == crops.shape and expected.min() >= 0 and expected.max() <= 1

    class Reader:
        def __len__(self):
            return len(crops)

        def __getitem__(self, indices):
            assert len(indices) <= settings.window
            return crops[indices].clone()

    assert torch.equal(whole(model, Reader(), audio, settings), expected)
    for start in (1, 8, 13, 20):
        assert torch.equal(whole(model, crops, audio, settings, start=start), expected[start:])
    assert list(sync(model, crops, audio, settings, start=21)) == []


def test_shared_frames_are_cross_faded_evenly(model, clip, monkeypatch):
    """Windows 0..7, 5..12, 10..17 and 13..20 of 0, 0.2, 0.4 and 0.6: the shares rise evenly."""
    calls = iter([0.0, 0.2, 0.4, 0.6])

    def flat(model, pictures, *_):
        return torch.full_like(pictures, next(calls) * 2 - 1)

    monkeypatch.setattr("latentsync.sampling.sample.synced_window", flat)
    out = whole(model, *clip, Settings(steps=1, window=8, overlap=3))[:, 0, 0, 0]
    ramp = [0] * 5 + [0.05, 0.1, 0.15] + [0.2] * 2 + [0.25, 0.3, 0.35]
    ramp += [0.4 + 0.2 * k / 6 for k in range(1, 6)] + [0.6] * 3
    assert torch.allclose(out, torch.tensor(ramp), atol=1e-6)


def test_frames_outside_the_runs_pass_and_no_window_crosses_a_cut(model, clip):
    crops, audio = clip
    out = whole(model, crops, audio, FAST, runs=lambda _: [(2, 6), (6, 9), (15, 21)])
    for a, b in ((0, 2), (9, 15)):
        assert torch.equal(out[a:b], crops[a:b])

    class Later:
        def __getitem__(self, indices):
            return audio[[i + 6 for i in indices]]

    alone = whole(model, crops[6:9], Later(), FAST)
    assert torch.equal(out[6:9], alone)


@pytest.mark.parametrize(
    "order, kept, encoded",
    [
        ([*range(8), *range(8)[::-1], *range(5)], 64, 8),  # played back and forth; the last window is a short one
        ([*range(10), *range(8)[::-1]], 64, 16),  # the second window has frames that are new
        ([0] * 16, 64, 8),
        ([*range(16)] * 2, 15, 32),  # those that were seen the longest ago are gone
        ([*range(16), *range(16)[::-1]], 8, 24),
    ],
)
def test_a_window_of_frames_seen_before_is_not_encoded_again(model, clip, monkeypatch, order, kept, encoded):
    crops, states = clip[0][order], clip[1].states
    audio = AudioFeatures(states, 25.0, len(order))
    monkeypatch.setattr("latentsync.sampling.sample.PIXELS_KEPT", kept * 64**2)
    expected = whole(model, crops, audio, FAST)
    seen = []
    hook = model.vae.encoder.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    out = whole(model, crops, audio, FAST, source=order.__getitem__)
    hook.remove()
    assert torch.equal(out, expected)
    assert sum(seen) == 2 * encoded  # each crop with and without its mask


@pytest.mark.parametrize(
    "overlap, asked", [(0, [8, 10, 18, 22, 25, 33, 41, 46]), (3, [16, 18, 22, 30, 33, 41, 46, 46, 46])]
)
def test_no_more_is_asked_of_the_runs_than_the_next_two_windows_depend_on(overlap, asked):
    """What is known of a run that goes on ends where it was asked for."""
    runs, before = [(2, 14), (14, 17), (25, 46)], []

    def known(stop):
        before.append(stop)
        return [(start, min(end, stop)) for start, end in runs if start < stop]

    spans = list(plan(46, known, 0, 8, overlap))
    assert spans == list(plan(46, lambda _: runs, 0, 8, overlap))
    given = [(first, end) for first, end, _, in_run in spans if in_run]
    assert given == [span for run in runs for span in windows(*run, 8, overlap)]
    assert before == asked


def test_crops_may_be_uint8(model, clip):
    crops, audio = (clip[0][:4] * 255).round().to(torch.uint8), clip[1]
    out = whole(model, crops, audio, FAST, runs=lambda _: [(1, 3)])
    assert torch.equal(out, whole(model, crops.float() / 255, audio, FAST, runs=lambda _: [(1, 3)]))
    assert torch.equal(out[0], crops[0].float() / 255)


def test_kept_pixels_are_those_of_the_crop(model, clip):
    crops, audio = clip
    out = whole(model, crops, audio, FAST)
    kept = keep_mask(64)[0] == 1
    assert (out - crops)[:, kept].abs().max() < 1e-6
    assert (out - crops)[:, ~kept].abs().mean() > 0.02


def test_audio_and_seed_decide_the_mouth(model, clip):
    crops, audio = clip
    silent = AudioFeatures(torch.zeros_like(audio.states), 25.0, 21)
    plain = whole(model, crops, audio, FAST)
    assert torch.equal(plain, whole(model, crops, audio, FAST))
    assert not torch.equal(plain, whole(model, crops, silent, FAST))
    assert not torch.equal(plain, whole(model, crops, audio, Settings(steps=2, window=8, guidance=1.0, seed=1)))


def test_guidance_on_part_of_the_steps(model, clip):
    """On in no step is off, on in all is on, and only guided steps cost a second pass."""
    crops, audio = clip
    passes = []
    hook = model.unet.register_forward_pre_hook(lambda _, args: passes.append(len(args[0])))

    def run(**kwargs):
        passes.clear()
        return whole(model, crops[:4], audio, Settings(steps=4, window=8, **kwargs)), list(passes)

    off, cost = run(guidance=1.0)
    assert cost == [1, 1, 1, 1]
    never, cost = run(guidance=2.0, guidance_start=0.5, guidance_end=0.5)
    assert cost == [1, 1, 1, 1] and torch.equal(never, off)
    part, cost = run(guidance=2.0, guidance_end=0.5)
    assert cost == [2, 2, 1, 1]
    always, cost = run(guidance=2.0)
    hook.remove()
    assert cost == [2, 2, 2, 2]
    assert not torch.equal(part, off) and not torch.equal(part, always)


@pytest.mark.parametrize("deep_cache", [0, 2])
def test_guidance_compares_with_silence_once(model, clip, deep_cache):
    """In the first step, for the middle frame; what it changes there is added in all steps where guidance is on."""
    still, audio = clip[0][:1].expand(4, -1, -1, -1), clip[1]
    seen = []
    hook = model.unet.register_forward_pre_hook(lambda _, args: seen.append((args[0], args[2])))

    def run(crops=still, steps=4, **kwargs):
        seen.clear()
        return whole(model, crops, audio, Settings(steps=steps, window=8, deep_cache=deep_cache, **kwargs))

    off, on, once = run(guidance=1.0), run(guidance=2.0), run(guidance=2.0, uncond="once")
    assert [sample.shape[2] for sample, _ in seen] == [4, 1, 4, 4, 4]
    (sample, _), (middle, silence) = seen[:2]
    assert torch.equal(middle, sample[:, :, 2:3]) and not silence.any()
    assert 0 < (once - on).abs().mean() < 0.9 * (off - on).abs().mean()
    late = run(guidance=2.0, guidance_start=0.75, uncond="once")
    assert 0 < (late - off).abs().mean() < (once - off).abs().mean()
    assert torch.equal(run(guidance=2.0, guidance_start=0.5, guidance_end=0.5, uncond="once"), off)
    assert torch.equal(run(guidance=1.0, uncond="once"), off) and len(seen) == 4
    # Of a single frame and in a single step both ways compute the same.
    single = {"crops": still[:1], "steps": 1, "guidance": 2.0}
    assert (run(**single, uncond="once") - run(**single)).abs().max() < 1e-5
    hook.remove()


def cost_of_steps(model, run):
    """Clips that went through the middle and through the end of the U-Net while `run` ran, call by call."""
    middle, end = [], []
    hooks = [
        model.unet.mid_block.register_forward_pre_hook(lambda _, args: middle.append(len(args[0]))),
        model.unet.conv_out.register_forward_pre_hook(lambda _, args: end.append(len(args[0]))),
    ]
    out = run()
    for hook in hooks:
        hook.remove()
    return out, [n // 4 for n in middle], [n // 4 for n in end]


@pytest.mark.parametrize(
    "changes, middle, end",
    [
        ({"deep_cache": 0}, [2] * 7, [2] * 7),
        ({"deep_cache": 1}, [2] * 7, [2] * 7),
        ({"deep_cache": 3}, [2, 2, 2], [2] * 7),
        ({"deep_cache": 7}, [2], [2] * 7),
        ({"deep_cache": 6, "guidance": 1.0}, [1, 1], [1] * 7),
        # Guidance that begins needs both halves; one that ends leaves the half that goes on.
        ({"deep_cache": 5, "guidance_start": 0.3}, [1, 2, 2], [1, 1, 1, 2, 2, 2, 2]),
        ({"deep_cache": 5, "guidance_end": 0.3}, [2, 1], [2, 2, 2, 1, 1, 1, 1]),
    ],
)
def test_deep_cache_runs_the_middle_in_some_steps_only(model, clip, changes, middle, end):
    crops, audio = clip
    settings = Settings(**{"steps": 7, "window": 4} | changes)
    out, *cost = cost_of_steps(model, lambda: whole(model, crops[:8], audio, settings))
    assert cost == [middle * 2, end * 2]  # each window begins with a whole step
    plain = whole(model, crops[:8], audio, replace(settings, deep_cache=0))
    assert torch.equal(out, plain) == (settings.deep_cache < 2)
    assert (out - plain).abs().mean() < 0.05


def test_deep_cache_in_two_passes_keeps_both_halves(model, clip, monkeypatch):
    """Memory that runs out in a whole step, and one in between; the result is that of both halves together."""
    crops, audio = clip
    settings = Settings(steps=7, window=4, deep_cache=3)
    expected = whole(model, crops[:4], audio, settings)
    real = model.unet.forward
    for full in (0, 2):
        calls = []

        def forward(sample, *args, full=full, calls=calls):
            calls.append(len(sample))
            if len(sample) > 1 and len(calls) > full:
                raise torch.cuda.OutOfMemoryError
            return real(sample, *args)

        monkeypatch.setattr(model.unet, "forward", forward)
        out, middle, _ = cost_of_steps(model, lambda: whole(model, crops[:4], audio, settings))
        assert sum(middle) == 6 and calls == [2] * (full + 1) + [1] * (14 - 2 * full)
        assert (out - expected).abs().max() < 1e-4


def test_overshoots_are_left_to_what_comes_after_only_where_asked(model, clip):
    crops, audio = clip
    bright = crops * 0 + 1
    loose = whole(model, bright, audio, replace(FAST, clamp=False))
    assert loose.max() > 1 and torch.equal(loose.clamp(0, 1), whole(model, bright, audio, FAST))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_runs_and_they_agree_roughly(model, clip, sampler):
    crops, audio = clip
    settings = {"window": 4, "guidance": 1.0}
    reference = whole(model, crops[:4], audio, Settings(steps=30, **settings))
    repaint = keep_mask(64)[0] == 0
    for deep_cache in (0, 3):
        out = whole(model, crops[:4], audio, Settings(steps=20, sampler=sampler, deep_cache=deep_cache, **settings))
        assert (out - reference)[:, repaint].abs().mean() < 0.05


def test_fewer_frames_than_a_window_and_more_than_the_net_takes(model, clip, caplog):
    crops, audio = clip
    assert whole(model, crops[:1], audio, FAST).shape == (1, 64, 64, 3)
    many = torch.cat([crops, crops])[:30]
    long = AudioFeatures(torch.randn(70, 5, 32), 25.0, 30)
    out = whole(model, many, long, Settings(steps=1, window=30, guidance=1.0))
    assert "at most 24" in caplog.text
    assert torch.equal(out, whole(model, many, long, Settings(steps=1, window=24, guidance=1.0)))


def test_without_motion_modules_any_window_goes(clip):
    crops, audio = clip
    many = torch.cat([crops, crops])[:30]
    long = AudioFeatures(torch.randn(70, 5, 32), 25.0, 30)
    out = whole(make_model(motion=False), many, long, Settings(steps=1, window=30, guidance=1.0))
    assert out.shape == many.shape


def test_half_precision_is_close(clip):
    crops, audio = clip
    settings = Settings(steps=2, window=4, guidance=1.5)
    expected = whole(make_model(), crops[:4], audio, settings)
    for dtype in (torch.bfloat16, torch.float16):
        out = whole(make_model().to(dtype=dtype), crops[:4], audio, settings)
        assert out.dtype == torch.float32
        assert (out - expected).abs().mean() < 0.02


def test_nan_is_reported_with_its_frames(clip):
    crops, audio = clip
    broken = make_model()
    broken.unet.conv_out.bias.data[0] = float("nan")
    with pytest.raises(ValueError, match=r"frames 0\.\.7 \(float32, golden\): the checkpoint is damaged"):
        whole(broken, crops, audio, FAST)


def test_steps_are_reported_and_can_cancel(model, clip):
    crops, audio = clip
    seen = []

    class Cancel(Exception):
        pass

    def on_step(step, steps, latents):
        seen.append((step, steps, tuple(latents.shape)))
        if len(seen) == 3:
            raise Cancel

    with pytest.raises(Cancel):
        whole(model, crops, audio, FAST, on_step=on_step)
    assert seen == [(1, 2, (1, 4, 8, 8, 8)), (2, 2, (1, 4, 8, 8, 8)), (1, 2, (1, 4, 8, 8, 8))]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_steps_come_with_the_latents_as_the_net_takes_them_to_be_without_noise(model, clip, monkeypatch, sampler):
    """Of a net that is never wrong these are the same from the first step on, however noisy the sampler's still are."""
    clean = torch.randn(1, 4, 8, 8, 8, generator=torch.Generator().manual_seed(5))
    kept = make_sampler("ddim", 1).alphas_cumprod

    def denoise(self, noisy, t, audio, cache=None):
        return (noisy[:, :4] - kept[int(t)].sqrt() * clean) / (1 - kept[int(t)]).sqrt()

    monkeypatch.setattr(LipSyncModel, "denoise", denoise)
    crops, audio, seen = clip[0][:8], clip[1], []
    whole(model, crops, audio, replace(FAST, sampler=sampler, steps=5), on_step=lambda *state: seen.append(state[2]))
    assert len(seen) == 5 and all(torch.allclose(latents, clean, atol=1e-4) for latents in seen)


def test_a_preview_is_the_windows_middle_frame_as_it_would_come_out(model, clip):
    crops, audio, seen = clip[0][:8], clip[1], []
    whole(model, crops, audio, FAST, on_step=lambda *state: seen.append(state[2]))
    mask = keep_mask(64)
    shown = preview(model, seen[-1], crops[4], mask)
    expected = (model.decode(seen[-1][:, :, 4])[0] + 1) / 2
    expected = (expected * (1 - mask) + crops[4].movedim(-1, 0) * mask).movedim(0, -1)
    assert torch.equal(shown, as_uint8(expected))


def test_running_out_of_memory_makes_smaller_batches(model, clip, monkeypatch):
    crops, audio = clip
    expected = whole(model, crops[:8], audio, Settings(steps=1, window=8))
    real_decode, real_forward = model.vae.decode, model.unet.forward
    sizes = []

    def decode(latent):
        sizes.append(len(latent))
        if len(latent) > 2:
            raise torch.cuda.OutOfMemoryError
        return real_decode(latent)

    def forward(sample, *args):
        sizes.append(-len(sample))
        if len(sample) > 1:
            raise torch.cuda.OutOfMemoryError
        return real_forward(sample, *args)

    monkeypatch.setattr(model.vae, "decode", decode)
    monkeypatch.setattr(model.unet, "forward", forward)
    out = whole(model, crops[:8], audio, Settings(steps=1, window=8))
    assert sizes == [-2, -1, -1, 8, 4, 2, 2, 2, 2]
    assert (out - expected).abs().max() < 1e-4
    sizes.clear()
    list(sync(model, crops[:16], audio, Settings(steps=2, window=8)))
    assert sizes.count(-2) == 1 and max(sizes) == 8 and sizes.count(8) == 1  # what fits is found once a run


@pytest.mark.parametrize(
    "values, words",
    [
        ({"steps": 0}, "inference_steps is 0"),
        ({"steps": 501}, "inference_steps is 501: give a number from 1 to 500"),
        ({"window": 0}, "window is 0"),
        ({"deep_cache": -1}, "deep_cache is -1: give 0 or more"),
        ({"window": 8, "overlap": 8}, "overlap is 8: give 0 to 7"),
        ({"uncond": "never"}, "uncond is 'never': choose one of each, once"),
        ({"sampler": "magic"}, "sampler is 'magic': choose one of ddim"),
        ({"guidance_start": 0.8, "guidance_end": 0.2}, "two rising fractions"),
    ],
)
def test_settings_out_of_range_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        Settings(**values)


def test_default_settings_are_the_published_ones():
    settings = Settings()
    assert (settings.steps, settings.guidance, settings.window, settings.overlap) == (20, 1.5, 16, 0)
    assert settings.seed == 1247
