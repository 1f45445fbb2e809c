"""Training samples: what is in them, that they follow from (seed, n) alone, and clips and caches that are not fit."""

import gc
import json
import logging
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import media_clips
import pytest
import tiny
import torch
from small_nets import golden
from stand_ins import write_clip
from torch.utils.data import DataLoader

from latentsync.audio.syncnet import mel_window, syncnet_mel
from latentsync.audio.whisper import encode_audio, resample, to_mono
from latentsync.face.masks import keep_mask
from latentsync.media import VideoReader, read_audio
from latentsync.models.load import encode_pictures
from latentsync.train.cache import FeatureCache, Mel, States, weights_sha256
from latentsync.train.clips import Clip, list_clips, read_sound
from latentsync.train.config import DataConfig
from latentsync.train.dataset import SyncNetClips, UNetClips

SIDE, FRAMES = 64, 60  # `write_clip` makes such clips


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three clips: two of the same name, and one that is larger and whose sound ends early."""
    root = tmp_path_factory.mktemp("clips")
    write_clip(root / "a" / "clip.mp4", 1)
    write_clip(root / "b" / "clip.mp4", 2, frames=50)
    write_clip(root / "large.mp4", 3, side=96, sound=0.5)
    return root


@pytest.fixture(scope="module")
def encoder():
    return golden(tiny.audio_encoder())


@pytest.fixture(scope="module")
def vae():
    return golden(tiny.vae())


@pytest.fixture(scope="module")
def filled(folder, encoder, vae, tmp_path_factory) -> DataConfig:
    """A configuration whose cache has everything."""
    data = config(folder, cache=str(tmp_path_factory.mktemp("cache")), cache_latents=True)
    UNetClips(data, encoder, vae).fill()
    return data


def config(clips, **values) -> DataConfig:
    return DataConfig(**{"clips": str(clips), "resolution": SIDE, "workers": 0} | values)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def whole(path: Path) -> torch.Tensor:
    """(n, 3, h, w) in [-1, 1]."""
    with VideoReader(path) as reader:
        return (reader[range(len(reader))].float() / 255 * 2 - 1).permute(0, 3, 1, 2)


def place_of(window: torch.Tensor, film: torch.Tensor) -> int:
    """Where the frames `window` stand in `film`: both have the frames first."""
    count = len(film) - len(window) + 1
    hits = [i for i in range(count) if torch.allclose(film[i : i + len(window)], window, atol=1e-6)]
    assert len(hits) == 1
    return hits[0]


def padded_sound(path: Path, frames: int) -> torch.Tensor:
    waveform, rate = read_audio(path)
    wave = resample(to_mono(waveform), rate)
    return torch.nn.functional.pad(wave, (0, max(0, frames * 640 - len(wave))))


def test_a_unet_sample_has_pictures_sound_and_a_reference_of_one_clip(folder, encoder):
    data, places = UNetClips(config(folder / "a"), encoder, seed=5), []
    (path,) = [clip.path for clip in data.clips]
    film, wave = whole(path), padded_sound(path, FRAMES)
    windows, mel = encode_audio(encoder, wave, 16000, 25), syncnet_mel(wave)
    shapes = {"audio": (16, *windows[[0]].shape[1:]), "mel": (1, 80, 52), "seed": ()}
    shapes |= dict.fromkeys(("pixels", "reference_pixels"), (3, 16, SIDE, SIDE))
    for n in range(12):
        sample = data[n]
        assert {key: tuple(value.shape) for key, value in sample.items()} == shapes
        assert all(value.dtype == (torch.int64 if key == "seed" else torch.float32) for key, value in sample.items())
        first, reference = (place_of(sample[k].transpose(0, 1), film) for k in ("pixels", "reference_pixels"))
        assert abs(first - reference) >= 16
        assert torch.equal(sample["audio"], windows[range(first, first + 16)])
        assert torch.equal(sample["mel"], mel_window(mel, first))
        places.append((first, reference))
    assert len(set(places)) > 8 and any(a < b for a, b in places) and any(a > b for a, b in places)


def test_every_place_of_a_clip_has_its_windows(folder, encoder):
    data = UNetClips(config(folder, frames=5), encoder)
    clip = next(clip for clip in data.clips if clip.side == 96)
    wave = padded_sound(clip.path, clip.frames)
    assert torch.equal(read_sound(clip), wave)  # whose sound ends early
    windows, mel = encode_audio(encoder, wave, 16000, 25), syncnet_mel(wave)
    for first in range(clip.frames - 5 + 1):
        assert torch.equal(data.read_audio(clip, first), windows[range(first, first + 5)])
        assert torch.equal(data.read_mel(clip, first), mel_window(mel, first, frames=5))
    sync = SyncNetClips(config(folder))
    for first in range(clip.frames - 16 + 1):
        assert torch.equal(sync.read_mel(clip, first), mel_window(mel, first))


def test_larger_clips_are_reduced_by_area(folder, encoder):
    data = UNetClips(config(folder), encoder)
    clip = next(clip for clip in data.clips if clip.side == 96)
    blocks = whole(clip.path)[:1, :, :3, :3]  # 3 x 3 pixels become 2 x 2
    weights = torch.tensor([[1, 0.5, 0], [0, 0.5, 1]]) / 1.5
    corner = weights @ blocks @ weights.T
    pictures = data.read_pictures(clip, 0)
    assert pictures.shape == (16, 3, SIDE, SIDE) and (pictures[:1, :, :2, :2] - corner).abs().max() < 1.1 / 127.5


def test_latents_are_those_of_the_pictures(folder, filled, encoder, vae):
    latent, pixel = UNetClips(filled, encoder, vae, seed=2), UNetClips(config(folder), encoder, seed=2)
    for n in range(4):
        a, b = latent[n], pixel[n]
        assert torch.equal(a["audio"], b["audio"]) and torch.equal(a["mel"], b["mel"])
        assert a["seed"] == b["seed"] and not any("pixels" in key for key in a)
        target, reference = b["pixels"].transpose(0, 1), b["reference_pixels"].transpose(0, 1)
        pictures = {"latents": target, "masked_latents": target * keep_mask(SIDE), "reference_latents": reference}
        for key, shown in pictures.items():
            with torch.no_grad():
                direct = encode_pictures(vae, shown)
            assert a[key].dtype == torch.float32
            assert torch.allclose(a[key].transpose(0, 1), direct, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("frames", [16, 25])
def test_syncnet_samples_are_in_and_out_of_sync_by_turns(folder, vae, frames):
    data = SyncNetClips(config(folder / "b", negative_distance=6, frames=frames), seed=1)
    (clip,) = data.clips
    film, mel = whole(clip.path)[:, :, SIDE // 2 :], syncnet_mel(padded_sound(clip.path, clip.frames))
    mels = torch.stack([mel_window(mel, i, frames=frames) for i in range(clip.frames - frames + 1)])
    distances = set()
    for n in range(16):
        sample = data[n]
        assert sample["frames"].shape == (3 * frames, SIDE // 2, SIDE) and sample["target"].dtype == torch.float32
        seen = place_of(sample["frames"].unflatten(0, (frames, 3)), film)
        heard = [i for i in range(len(mels)) if torch.equal(mels[i], sample["mel"])][0]
        assert sample["target"] == (seen == heard) == (n % 2 == 0)
        distances.add(abs(seen - heard))
    assert min(distances - {0}) >= 6 and len(distances) > 4
    latent = SyncNetClips(config(folder / "b", negative_distance=6), vae, seed=1)[3]["frames"]
    assert latent.shape == (16 * vae.config.latent_channels, SIDE // 8, SIDE // 8)


def test_samples_follow_from_seed_and_number_alone(folder, filled, encoder, vae):
    data = UNetClips(config(folder, cache=filled.cache), encoder, seed=9)
    first = [data[n] for n in range(8)]
    again = UNetClips(config(folder, cache=filled.cache), encoder, seed=9)
    assert all(same(again[n], first[n]) for n in reversed(range(8)))
    # Each pass takes every clip once, in an order of its own.
    taken = []
    again.sample = lambda clip, n, rng: taken.append(clip) or {}
    for n in range(30):
        again[n]
    passes = [tuple(taken[i : i + 3]) for i in range(0, 30, 3)]
    assert all(set(order) == set(data.clips) for order in passes) and len(set(passes)) > 3
    assert not same(UNetClips(config(folder), encoder, seed=10)[0], first[0])
    assert len({sample["seed"].item() for sample in first}) == 8
    assert data[10**12]["seed"].shape == ()
    with pytest.raises(IndexError, match="from 0 up"):
        data[-1]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_give_the_same_samples(filled, encoder, method):
    data = UNetClips(replace(filled, cache_latents=False), encoder, seed=4)
    alone = [data[n] for n in range(6)]  # leaves readers open, which a forked process must not use
    options = {"num_workers": 2, "multiprocessing_context": method, "timeout": 120}
    loader = DataLoader(data, None, sampler=range(6), **options)
    assert all(same(a, b) for a, b in zip(loader, alone, strict=True))


def test_a_forked_worker_may_collect_the_readers_that_it_inherits(folder):
    for keep in (True, False):
        gone = SyncNetClips(config(folder))
        gone[0]
        gone.itself = gone if keep else None  # then it goes when the worker collects garbage
        del gone
    data = SyncNetClips(config(folder))
    options = {"num_workers": 1, "multiprocessing_context": "fork", "timeout": 120}
    loader = DataLoader(data, None, sampler=range(3), worker_init_fn=lambda _: gc.collect(), **options)
    assert all(same(a, data[n]) for n, a in enumerate(loader))


def test_workers_get_little_and_no_nets(folder, filled, encoder, vae, tmp_path):
    data = UNetClips(filled, encoder, vae)
    data[0], data[1]
    assert len(pickle.dumps(data)) < 5000
    assert same(pickle.loads(pickle.dumps(data))[3], data[3])
    with pytest.raises(ValueError, match="data.workers is 2 .* set data.cache"):
        UNetClips(config(folder, workers=2), encoder)
    data = UNetClips(config(folder, cache=str(tmp_path)), encoder)
    with pytest.raises(RuntimeError, match=r"needs states .* call fill\(\)"):
        next(iter(DataLoader(data, None, sampler=range(2), num_workers=1, multiprocessing_context="fork")))
    with pytest.raises(RuntimeError, match="needs states"):
        pickle.loads(pickle.dumps(data))[0]


def test_fill_makes_everything_once_and_tells_how_far_it_is(filled, encoder, vae):
    files = {file: file.stat().st_mtime_ns for file in Path(filled.cache).rglob("*.*")}
    assert len(files) == 3 * 4 and all(file.suffix == ".safetensors" for file in files)
    again, heard = UNetClips(filled, encoder, vae), []
    again.fill(lambda *progress: heard.append(progress))
    again[0]
    assert heard == [("features", i, 3) for i in (1, 2, 3)]
    assert {file: file.stat().st_mtime_ns for file in Path(filled.cache).rglob("*.*")} == files


def test_caches_go_by_content_and_net_and_not_by_name(folder, encoder, tmp_path):
    cache, states = FeatureCache(tmp_path / "cache"), States(encoder)
    a, b = Clip(folder / "a" / "clip.mp4", 60, SIDE), Clip(folder / "b" / "clip.mp4", 50, SIDE)
    assert cache.path(states, a) != cache.path(states, b)
    assert not torch.equal(cache.read(Mel(), a, 0, 52), cache.read(Mel(), b, 0, 52))
    copy = replace(a, path=shutil.copy(a.path, tmp_path / "other name.mp4"))
    assert cache.path(states, copy) == cache.path(states, a)
    other = tiny.audio_encoder()
    other.load_state_dict(tiny.weights(other, seed=3))
    assert weights_sha256(other) != weights_sha256(encoder)
    assert cache.path(States(other), a) != cache.path(states, a)
    assert weights_sha256(encoder.bfloat16()) != weights_sha256(encoder.float()) == weights_sha256(encoder)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\xff" * len(b)])
def test_a_damaged_cache_file_is_made_again(folder, tmp_path, damage, caplog):
    data = SyncNetClips(config(folder, cache=str(tmp_path)))
    good = [data[n] for n in range(3)]
    files = sorted(tmp_path.rglob("*.safetensors"))
    before = [file.read_bytes() for file in files]
    for file, content in zip(files, before, strict=True):
        file.write_bytes(damage(content))
    with caplog.at_level(logging.WARNING):
        assert all(same(data[n], good[n]) for n in range(3))
    assert caplog.text.count("is made again") == 3
    assert [file.read_bytes() for file in files] == before


def test_unfit_clips_are_left_out_with_their_reasons(folder, encoder, tmp_path, caplog):
    shutil.copy(folder / "a" / "clip.mp4", tmp_path / "good.mp4")
    write_clip(tmp_path / "short.mp4", 4, frames=47)
    write_clip(tmp_path / "mute.mp4", 5, sound=None)
    write_clip(tmp_path / "film.mp4", 6, fps=24)
    write_clip(tmp_path / "small.mp4", 7, side=48)
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "good.mp4").read_bytes()[:3000])
    (tmp_path / "text.mov").write_text("no film")
    media_clips.write(tmp_path / "wide.mkv")
    (tmp_path / ".good.mp4").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "latentsync.train"):
        data = UNetClips(config(tmp_path), encoder)
    assert [clip.path.name for clip in data.clips] == ["good.mp4"]
    (report,) = [record.getMessage() for record in caplog.records]
    for part in (
        "7 of 8 clips left out: 2 unreadable (first: {}/broken.mp4 has no video frames",
        "1 shorter than 48 frames (first: {}/short.mp4: 47 frames)",
        "1 not at 25 frames/s (first: {}/film.mp4: 24 frames/s)",
        "1 smaller than 64 pixels (first: {}/small.mp4: 48 x 48)",
        "1 not square (first: {}/wide.mkv: 96 x 64)",
        "1 without sound (first: {}/mute.mp4 has no audio track",
    ):
        assert part.format(tmp_path) in report
    (tmp_path / "good.mp4").unlink()
    with pytest.raises(ValueError, match="no clip is left to train on: 7 of 7 clips left out: 2 unreadable"):
        UNetClips(config(tmp_path), encoder)


@pytest.mark.parametrize("limit", [{"frames": 25}, {"negative_distance": 34}, {"frames": 16, "encoder": True}])
def test_the_shortest_clips_that_are_fit(limit, folder, encoder):
    """A clip of 50 frames has two samples for SyncNet, or one and the distance, and three for the U-Net."""

    def make(more: int):
        values = {name: value + more for name, value in limit.items() if name != "encoder"}
        data = config(folder / "b", **values)
        return UNetClips(data, encoder) if "encoder" in limit else SyncNetClips(data)

    assert len(make(0).clips) == 1
    with pytest.raises(ValueError, match="1 shorter than"):
        make(1)


@pytest.mark.parametrize("ruin", ["removed", "cut", "replaced"])
def test_a_clip_that_breaks_later_is_reported_once_and_replaced(folder, tmp_path, ruin, caplog):
    clips = shutil.copytree(folder, tmp_path / "clips")
    data = SyncNetClips(config(clips, cache=str(tmp_path / "cache")))
    bad = clips / "large.mp4"
    other = pickle.loads(pickle.dumps(data))
    if ruin == "removed":
        bad.unlink()
    elif ruin == "cut":
        bad.write_bytes(bad.read_bytes()[:2000])
    else:
        write_clip(bad, 8, frames=40, side=96)
    with caplog.at_level(logging.WARNING, "latentsync.train"):
        data.fill()
        samples = [data[n] for n in range(6)]
    assert caplog.text.count("other clips take its place") == 1 and str(bad) in caplog.text
    assert all(same(other[n], samples[n]) for n in reversed(range(6)))  # whatever was found out before
    shutil.rmtree(clips)
    data = pickle.loads(pickle.dumps(data))  # without the readers, which keep their files
    data.cache.folder = tmp_path / "other"
    for read in (lambda: data[0], data.fill):
        with pytest.raises(ValueError, match="none of the 3 clips can be read any more"):
            read()


def test_lists_of_clips(folder, tmp_path):
    found = [folder / "a" / "clip.mp4", folder / "b" / "clip.mp4", folder / "large.mp4"]
    assert list_clips(folder) == found
    entries = [{"clip": "x.mp4", "dropped": None}, {"clip": "y.mp4", "dropped": "no_face"}, {"output": "z.mp4"}]
    entries += [{"clip": None, "fate": "dropped"}, {"clip": "clips/v.mp4", "fate": "kept"}]
    for text, names in (
        (f"{found[2]}\n\n  sub/two words.mp4 \n", [found[2], "sub/two words.mp4"]),
        ("\n".join(map(json.dumps, entries)), ["x.mp4", "z.mp4", "clips/v.mp4"]),
    ):
        (tmp_path / "list").write_text(text, encoding="utf-8")
        assert list_clips(tmp_path / "list") == [tmp_path / name for name in names]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no folder or list of clips .*list: check the path"),
        (b"\xff\xfe\x00", "is not a list of clips"),
        (b"\n", "lists no clip"),
        (b'{"clip": "x.mp4", "dropped": "short"}', "lists no clip"),
        (b"x.mp4\n{torn", "line 2 of .* is not JSON"),
        (b'{"source": "x.mp4"}', "line 1 of .* names no clip"),
    ],
)
def test_lists_that_are_none(content, message, tmp_path):
    if content is not None:
        (tmp_path / "list").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list_clips(tmp_path / "list")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no video file"):
        list_clips(tmp_path / "empty")
