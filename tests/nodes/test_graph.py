"""One result three ways: node by node, by Lip Sync Video, and by the library."""

from dataclasses import replace

import pytest
import torch
from heads import FPS, from_file, from_images, head, track_face

HOW = {"steps": 1, "guidance": 1.5, "seed": 1247, "sampler": "ddim", "window": 8, "overlap": 2}
WHERE = {"face": "largest", "index": 0, "x": 0.0, "y": 0.0, "smoothing": 0.08, "max_gap": 0.5, "detect_every": 1}


def graph(pack, model, source, voice, match, how, track_first):
    """The frames of the step-by-step graph, with the face tracked before or after the frames are matched."""
    images, track = source.images, None
    if track_first:
        track = track_face(pack, source, model=model, fade=0.2, **WHERE)[0]
    images, _, track, _ = pack.run(
        "LatentSyncMatchLength", images=images, audio=voice, track=track, fps=FPS, **match
    ).args
    if not track_first:
        track = track_face(pack, source, images=images, model=model, fade=0.2, **WHERE)[0]
    features = pack.run("LatentSyncEncodeAudio", model=model, audio=voice, fps=FPS, images=images)[0]
    crops = pack.run("LatentSyncCropFaces", images=images, track=track)[0]
    crops = pack.run("LatentSyncSampler", model=model, crops=crops, features=features, track=track, **how)[0]
    inputs = {"track": track, "crops": crops, "mask_smooth": 0.5, "match_colour": True}
    return pack.run("LatentSyncBlendFaces", images=images, **inputs)[0]


@pytest.mark.parametrize(
    ("seconds", "track_first", "shorter", "more"),
    [(0.72, True, "stop", {}), (0.3, False, "stop", {"steps": 2, "deep_cache": 2}), (0.33, True, "silent", {})],
)
def test_graph_node_and_library_give_the_same_frames(
    pack, model, tmp_path, monkeypatch, rendered, seconds, track_first, shorter, more
):
    library, source = pack.latentsync, head(pack)
    wave = source.clip.waveform.repeat(2)[: round(seconds * source.clip.rate)]
    corpus = getattr(library, "drawn.heads.corpus")
    corpus.write_wav(tmp_path / "voice.wav", [wave], source.clip.rate)
    corpus.write_clip(tmp_path / "clip.mp4", source.clip.frames, source.clip, preset="ultrafast")
    with library.media.VideoReader(tmp_path / "clip.mp4") as reader:
        source.images = library.frames.as_float(reader[range(len(reader))])

    made, how = [], HOW | more
    monkeypatch.setattr(library.pipelines.lip_sync, "write", lambda windows, *_: made.extend(windows))
    settings = library.settings.RunSettings(sync=library.settings.Settings(**how), audio_shorter=shorter)
    settings = replace(settings, blend=replace(settings.blend, match_colour=True))
    plain = library.models.embedded.load_embedded("cpu")
    paths = [tmp_path / name for name in ("clip.mp4", "voice.wav", "out.mp4")]
    library.pipelines.lip_sync.lip_sync(*paths, plain, source.detector, settings)
    made = torch.cat([window.pictures for window in made])

    samples, rate = library.media.read_audio(tmp_path / "voice.wav")
    voice = {"waveform": samples[None], "sample_rate": rate}
    match = {"audio_longer": "pingpong", "audio_shorter": shorter}
    frames = graph(pack, model, source, voice, match, how, track_first)
    assert torch.equal(library.frames.as_uint8(frames), made)
    pack.run("LatentSyncVideo", video=from_file(paths[0]), audio=voice, model=model, detector=source.detector,
             mask_smooth=0.5, match_colour=True, crf=16, **WHERE, **match, **how)  # fmt: skip
    assert torch.equal(torch.cat(rendered), made)


class Halved:
    """The pack, whose nodes are given every picture in half precision, as ComfyUI's --fp16-intermediates does it."""

    def __init__(self, pack):
        self.pack = pack

    def run(self, node, **inputs):
        given = {name: value.half() if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
        return self.pack.run(node, **given)


def test_pictures_of_half_precision_give_about_the_same(pack, model):
    source, how = head(pack), {"steps": 1, "guidance": 1.0, "seed": 1, "sampler": "ddim", "window": 8, "overlap": 0}
    voice = {"waveform": source.audio["waveform"].repeat(1, 1, 2), "sample_rate": source.audio["sample_rate"]}
    images, match = source.images, {"audio_longer": "pingpong", "audio_shorter": "stop"}
    run = {"audio": voice, "model": model, "detector": source.detector, "fps": FPS} | how | WHERE | match
    run |= {"mask_smooth": 0.5, "match_colour": True}

    def made(pack):
        frames = graph(pack, model, source, voice, match, how, True)
        source.images = frames[: len(images)]
        track = track_face(pack, source, model=model)[0]
        crops = pack.run("LatentSyncCropFaces", images=source.images, track=track)[0]
        mask = pack.run("LatentSyncFaceMask", track=track, crops=crops, shape="mouth", grow=0, feather=0.5)[1]
        twice = torch.cat([crops, crops])
        plot = pack.run("LatentSyncQuality", crops=twice, reference=twice, audio=voice, fps=FPS)[1]
        pack.run("LatentSyncPreview", after=frames, before=frames, fps=FPS)
        source.images = images
        return frames, crops, mask, plot, pack.run("LatentSyncFrames", images=images, **run)[0]

    for half, full in zip(made(Halved(pack)), made(pack), strict=True):
        assert half.dtype == torch.float32 and (half - full).abs().mean() < 2e-3
    widgets = {name: value for name, value in run.items() if name != "fps"} | {"crf": 16}
    video = pack.run("LatentSyncVideo", video=from_images(images.half()), **widgets)[0]
    assert video.get_components().images.shape[1] == images.shape[1]
