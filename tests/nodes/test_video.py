"""The streaming node: VIDEO in, VIDEO out."""

import io
import logging

import pytest
import torch
from heads import from_file, from_images

from latentsync.models.samples import find_sample

WIDGETS = {
    "steps": 1, "guidance": 1.0, "seed": 7, "sampler": "ddim", "window": 8, "overlap": 0, "face": "largest",
    "index": 0, "x": 0.0, "y": 0.0, "smoothing": 0.08, "max_gap": 0.5, "detect_every": 1, "audio_longer": "pingpong",
    "audio_shorter": "stop", "mask_smooth": 0.5, "match_colour": False, "crf": 16,
}  # fmt: skip
FRAMES = 12


@pytest.fixture
def sample():
    return find_sample("short clip")


@pytest.fixture
def detector(pack, sample):
    return pack.latentsync.face.track_file.read_track_file(sample.track)


@pytest.fixture
def clip(pack, sample, tmp_path):
    """The first frames of a sample as a file, with no track file beside it."""
    media = pack.latentsync.media
    path = tmp_path / "clip.mp4"
    with media.VideoReader(sample.video) as reader, media.VideoWriter(path, 25, 320, 320, crf=10) as writer:
        writer.write(reader[range(FRAMES)])
    return path


def voice(pack, sample, seconds=0.6, rate=16_000, channels=1):
    wave, _ = pack.latentsync.media.read_audio(sample.voices[0])
    return {"waveform": wave[:, : int(rate * seconds)].expand(channels, -1)[None], "sample_rate": rate}


def images_of(pack, path):
    with pack.latentsync.media.VideoReader(path) as reader:
        return reader[range(len(reader))].float() / 255


@pytest.fixture
def rendered(pack, monkeypatch):
    """The frames that the node hands to the encoder."""
    frames, writer = [], pack.nodes.video.VideoWriter

    class Recorder(writer):
        def write(self, window):
            frames.append(window.clone())
            super().write(window)

    monkeypatch.setattr(pack.nodes.video, "VideoWriter", Recorder)
    return frames


def test_frames_before_encoding_are_those_of_the_graph(pack, model, sample, detector, clip, rendered):
    images, audio = images_of(pack, clip), voice(pack, sample)
    before = images.clone()
    settings = {**WIDGETS, "overlap": 2, "steps": 2, "deep_cache": 2}
    pack.run("LatentSyncVideo", video=from_images(images), audio=audio, model=model, detector=detector, **settings)
    run = pack.run
    where = {name: WIDGETS[name] for name in ("face", "index", "x", "y", "smoothing", "max_gap", "detect_every")}
    track = run("LatentSyncTrackFace", images=images, detector=detector, model=model, fps=25.0, fade=0.2,
                resolution=256, **where).args[0]  # fmt: skip
    images, audio, track, count = run(
        "LatentSyncMatchLength", images=images, audio=audio, fps=25.0, track=track, audio_longer="pingpong",
        audio_shorter="stop",
    ).args  # fmt: skip
    features = run("LatentSyncEncodeAudio", model=model, audio=audio, fps=25.0, images=images, hard_cut=False).args[0]
    crops = run("LatentSyncCropFaces", images=images, track=track).args[0]
    how = {name: settings[name] for name in ("steps", "guidance", "seed", "sampler", "window", "overlap", "deep_cache")}
    crops = run("LatentSyncSampler", model=model, crops=crops, features=features, track=track, guidance_start=0.0,
                guidance_end=1.0, **how).args[0]  # fmt: skip
    blended = run("LatentSyncBlendFaces", images=images, track=track, crops=crops, mask_smooth=0.5,
                  match_colour=False).args[0]  # fmt: skip
    assert count == 15 and torch.equal(torch.cat(rendered), blended)
    assert torch.equal(before, images_of(pack, clip))


def test_a_file_keeps_its_size_rate_and_gets_the_whole_sound(pack, model, sample, detector, clip, comfy_folders):
    audio = voice(pack, sample, 0.4, rate=8000, channels=2)
    out = pack.run("LatentSyncVideo", video=from_file(clip), audio=audio, model=model, detector=detector, **WIDGETS)
    path = out.args[0].get_stream_source()
    with pack.latentsync.media.VideoReader(path) as reader:
        assert (len(reader), reader.fps, reader.height, reader.width) == (10, 25, 320, 320)
        changed = (reader[range(10)].float() - 255 * images_of(pack, clip)[:10]).abs().mean((0, 3))
    assert changed[:60].mean() < 3 and changed.max() > 15  # the wall is kept, the mouth is not
    wave, rate = pack.latentsync.media.read_audio(path)
    assert rate == 8000 and len(wave) == 2 and abs(wave.shape[1] - 3200) <= 1024
    assert [str(p) for p in comfy_folders.temp.iterdir()] == [path]


def test_a_file_in_memory_gives_the_frames_of_the_file(pack, model, sample, detector, clip, rendered, comfy_folders):
    audio = voice(pack, sample, 0.3)
    for video in (from_file(clip), from_file(io.BytesIO(clip.read_bytes()))):
        pack.run("LatentSyncVideo", video=video, audio=audio, model=model, detector=detector, **WIDGETS)
    frames = torch.cat(rendered)
    assert len(frames) == 16 and torch.equal(frames[:8], frames[8:])
    assert {p.suffix for p in comfy_folders.temp.iterdir()} == {".mp4"}


def test_a_part_of_a_file_stays_a_part(pack, model, sample, detector, clip, rendered):
    """Newer versions of ComfyUI cut videos without writing them anew: the file is whole, the VIDEO is not."""
    video_type = type(from_file(clip))

    class Cut(video_type):
        def get_duration(self):
            return 5 / 25

        def get_components(self):
            return from_images(images_of(pack, clip)[:5]).get_components()

    settings = {**WIDGETS, "audio_longer": "stop"}
    pack.run("LatentSyncVideo", video=Cut(str(clip)), audio=voice(pack, sample), model=model, detector=detector,
             **settings)  # fmt: skip
    assert len(torch.cat(rendered)) == 5


def test_a_track_file_beside_the_video_is_used_and_said(pack, model, sample, clip, caplog, monkeypatch):
    beside = clip.with_name("clip.faces.json")
    beside.write_bytes(sample.track.read_bytes())
    phases = []
    monkeypatch.setattr(pack.nodes.runtime.Progress, "_say", lambda self, text: phases.append(text))
    with caplog.at_level(logging.INFO):
        pack.run("LatentSyncVideo", video=from_file(clip), audio=voice(pack, sample, 0.3), model=model, **WIDGETS)
    assert str(beside) in caplog.text
    assert phases[0].startswith("reading the face from clip.faces.json") and phases[-1].startswith("syncing")


def test_without_a_detector_it_is_said_what_to_get(pack, model, sample, clip, comfy_folders, monkeypatch):
    monkeypatch.setenv("HOME", str(comfy_folders.base))
    with pytest.raises(FileNotFoundError, match="no face detector's model found"):
        pack.run("LatentSyncVideo", video=from_file(clip), audio=voice(pack, sample, 0.3), model=model, **WIDGETS)


@pytest.mark.parametrize("phase", ["detection", "hearing", "sampling", "encoding"])
def test_cancelled_in_any_phase_it_ends_and_leaves_nothing(
    pack, model, sample, detector, clip, comfy_folders, monkeypatch, phase
):
    from comfy import model_management

    def cancel(*_):
        model_management.interrupt_current_processing(True)

    class Seeing:
        def __call__(self, frame, index):
            if phase == "detection" and index == 3:
                cancel()
            return detector(frame, index)

    if phase == "encoding":
        monkeypatch.setattr(pack.nodes.video.VideoWriter, "write", cancel)
    elif phase != "detection":
        net = model.audio_encoder if phase == "hearing" else model.model.unet
        net.register_forward_pre_hook(cancel)
    with pytest.raises(model_management.InterruptProcessingException):
        pack.run("LatentSyncVideo", video=from_file(clip), audio=voice(pack, sample), model=model, detector=Seeing(),
                 **WIDGETS)  # fmt: skip
    assert not comfy_folders.temp.exists() or not any(comfy_folders.temp.iterdir())


@pytest.mark.parametrize(
    "widget, value, sentence",
    [("face", "smallest", "face is 'smallest': choose one of"), ("sampler", "magic", "sampler is 'magic'"),
     ("overlap", 8, "overlap is 8: give 0 to 7"), ("audio_longer", "shrink", "audio_longer is 'shrink'")],
)  # fmt: skip
def test_a_wrong_widget_is_refused_before_any_work(pack, sample, clip, widget, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        pack.run("LatentSyncVideo", video=from_file(clip), audio=voice(pack, sample), model=None,
                 **{**WIDGETS, widget: value})  # fmt: skip


def test_nothing_is_left_when_the_clip_has_no_face(pack, model, sample, clip, comfy_folders):
    with pytest.raises(ValueError, match="no frame of the clip's 12"):
        pack.run("LatentSyncVideo", video=from_file(clip), audio=voice(pack, sample), model=model,
                 detector=lambda frame, index: [], **WIDGETS)  # fmt: skip
    assert not comfy_folders.temp.exists() or not any(comfy_folders.temp.iterdir())
