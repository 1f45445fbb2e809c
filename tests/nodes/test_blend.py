from dataclasses import replace

import pytest
import torch
from heads import FPS, head, track_face, unchanged

R = 128


@pytest.fixture
def made(pack):
    """Frames, their track, and crops of another colour."""
    source = head(pack, missing=(5, 6))
    source.track = track_face(pack, source)[0]
    source.crops = torch.rand(12, R, R, 3, generator=torch.Generator().manual_seed(3))
    return source


def blend(pack, made, **inputs):
    usual = {"images": made.images, "track": made.track, "crops": made.crops}
    return pack.run("LatentSyncBlendFaces", **{"mask_smooth": 0.5, "match_colour": False} | usual | inputs)[0]


@pytest.mark.parametrize("match_colour", [False, True])
def test_an_empty_mask_returns_the_frames_bit_for_bit(pack, made, match_colour):
    alpha = torch.cat([made.images, torch.rand(12, 160, 201, 1)], -1)
    for images in (made.images, alpha):
        out = blend(pack, made, images=images, mask=torch.zeros(1, R, R), match_colour=match_colour)
        assert torch.equal(out, images)


def test_pixels_outside_the_face_are_bit_identical_and_inputs_stay(pack, made):
    mask = torch.ones(1, R, R)
    with unchanged(made.images, made.crops, mask):
        out = blend(pack, made, mask=mask)
    assert torch.equal(out[5:7], made.images[5:7])  # no face
    corners = pack.latentsync.face.geometry.corners
    for i in (0, 11):
        low, high = (getattr(corners(made.track.track.matrices[i], R), end)(0) for end in ("min", "max"))
        rows, columns = torch.meshgrid(torch.arange(160), torch.arange(201), indexing="ij")
        outside = (columns < low[0] - 2) | (columns > high[0] + 2) | (rows < low[1] - 2) | (rows > high[1] + 2)
        assert outside.any() and torch.equal(out[i][outside], made.images[i][outside])
        assert not torch.equal(out[i], made.images[i])


def test_masks_of_other_sizes_and_one_for_each_frame(pack, made):
    mask = pack.run("LatentSyncFaceMask", track=made.track, shape="mouth", grow=0, feather=0.5)[0]
    usual = blend(pack, made)
    assert torch.equal(blend(pack, made, mask=mask), usual)
    assert torch.equal(blend(pack, made, mask=mask[0]), usual)
    large = torch.nn.functional.interpolate(mask[:, None], size=(300, 400), mode="bilinear")[:, 0]
    assert (blend(pack, made, mask=large) - usual).abs().mean() < 5e-3
    each = mask.repeat(12, 1, 1)
    each[3:] = 0
    out = blend(pack, made, mask=each)
    assert torch.equal(out[:3], usual[:3]) and torch.equal(out[3:], made.images[3:])
    with pytest.raises(ValueError, match="there are 5 blend masks for 12 frames"):
        blend(pack, made, mask=each[:5])


def test_inputs_of_different_clips_are_refused(pack, made):
    with pytest.raises(ValueError, match="12 images, 11 crops and a track of 12 frames"):
        blend(pack, made, crops=made.crops[1:])
    with pytest.raises(ValueError, match="of 12 frames.*|do not fit a track"):
        blend(pack, made, crops=torch.rand(12, 64, 64, 3))


def test_blending_can_be_cancelled(pack, made):
    import comfy.model_management as mm

    mm.interrupt_current_processing()
    with pytest.raises(mm.InterruptProcessingException):
        blend(pack, made)


def graph(pack, model, source, voice, steps, track_first, **match):
    """The frames of the step-by-step graph, with the face tracked before or after the frames are matched."""
    images, track = source.images, None
    match = {"audio_longer": "pingpong", "audio_shorter": "stop", "fps": FPS} | match
    if track_first:
        track = track_face(pack, source, model=model, max_gap=0.5, fade=0.2)[0]
    images, _, track, _ = pack.run("LatentSyncMatchLength", images=images, audio=voice, track=track, **match).args
    if not track_first:
        track = track_face(pack, source, images=images, model=model, max_gap=0.5, fade=0.2)[0]
    features = pack.run("LatentSyncEncodeAudio", model=model, audio=voice, fps=FPS, images=images, hard_cut=False)[0]
    crops = pack.run("LatentSyncCropFaces", images=images, track=track)[0]
    settings = pack.latentsync.sampling.sample.Settings(steps=steps, window=8, overlap=2)
    synced = pack.run("LatentSyncSampler", model=model, crops=crops, features=features, track=track, **vars(settings))
    inputs = {"track": track, "crops": synced[0], "mask_smooth": 0.5, "match_colour": True}
    return pack.run("LatentSyncBlendFaces", images=images, **inputs)[0]


@pytest.mark.parametrize(
    ("seconds", "track_first", "shorter"), [(0.72, True, "stop"), (0.3, False, "stop"), (0.33, True, "silent")]
)
def test_the_graph_gives_the_frames_of_a_run(pack, model, tmp_path, monkeypatch, seconds, track_first, shorter):
    library = pack.latentsync
    source = head(pack)
    wave = source.clip.waveform.repeat(2)[: round(seconds * source.clip.rate)]
    corpus = getattr(library, "drawn.heads.corpus")
    corpus.write_wav(tmp_path / "voice.wav", wave, source.clip.rate)
    corpus.write_clip(tmp_path / "clip.mp4", source.clip.frames, source.clip, preset="ultrafast")
    with library.media.VideoReader(tmp_path / "clip.mp4") as reader:
        source.images = library.frames.as_float(reader[range(len(reader))])
    samples, rate = library.media.read_audio(tmp_path / "voice.wav")

    made = []
    monkeypatch.setattr(library.pipelines.lip_sync, "write", lambda windows, *_: made.extend(windows))
    settings = library.pipelines.lip_sync.RunSettings(audio_shorter=shorter)
    sync = replace(settings.sync, steps=1, window=8, overlap=2)
    settings = replace(settings, sync=sync, blend=replace(settings.blend, match_colour=True))
    plain = library.models.embedded.load_embedded("cpu")
    paths = [tmp_path / name for name in ("clip.mp4", "voice.wav", "out.mp4")]
    library.pipelines.lip_sync.lip_sync(*paths, plain, source.detector, settings)

    voice = {"waveform": samples[None], "sample_rate": rate}
    frames = graph(pack, model, source, voice, 1, track_first, audio_shorter=shorter)
    assert torch.equal(library.frames.as_uint8(frames), torch.cat(made))
