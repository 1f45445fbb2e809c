"""The clips that come along, and the node that loads them."""

import pytest
import torch

from latentsync.drawn.heads.samples import draw_sample
from latentsync.face.track_file import read_track_file
from latentsync.media import VideoReader, read_audio
from latentsync.models import samples


@pytest.mark.parametrize("name", samples.VOICES)
def test_a_sample_is_complete(pack, comfy_folders, name):
    out = pack.run("LatentSyncSampleClip", clip=name, copy_to_input=False).args
    video, audio, audio_2, detector, images, fps = out
    assert (images.dtype, fps) == (torch.float32, 25.0) and 0 <= images.min() and images.max() <= 1
    assert video.get_dimensions() == (images.shape[2], images.shape[1])
    assert (detector.frames, detector.width, detector.height) == (len(images), images.shape[2], images.shape[1])
    seen = [detector(images[i].numpy(), i) for i in range(len(images))]
    assert {len(faces) for faces in seen} == {2 if name == "two speakers" else 1}
    assert audio["waveform"].ndim == 3 and audio["sample_rate"] == 16_000
    assert torch.equal(audio["waveform"], audio_2["waveform"]) == (name != "two speakers")
    assert not any(comfy_folders.input.iterdir()) and not comfy_folders.temp.exists()


def test_nodes_and_library_know_the_same_samples(pack):
    assert pack.nodes.sample_clip.CLIPS == tuple(samples.VOICES)


def test_a_copy_can_be_loaded_by_other_nodes(pack, comfy_folders):
    for _ in range(2):  # an older copy is replaced
        pack.run("LatentSyncSampleClip", clip="two speakers", copy_to_input=True)
    names = {path.name for path in comfy_folders.input.iterdir()}
    voices = {"two_speakers_1.flac", "two_speakers_2.flac"}
    assert names == {"two_speakers.mp4", "two_speakers.faces.json"} | voices
    assert "two_speakers.faces.json" in pack.nodes.folders.track_files()
    with pytest.raises(ValueError, match="clip is 'mine': choose one of talking head"):
        pack.run("LatentSyncSampleClip", clip="mine", copy_to_input=False)


def test_two_speakers_speak_one_after_the_other():
    left, right = (read_audio(path)[0][0] for path in samples.find_sample("two speakers").voices)
    middle = len(left) // 2
    for first, second in ((left, right), (right.flip(0), left.flip(0))):
        assert first[: middle - 800].std() > 20 * first[middle + 800 :].std()
        assert second[: middle - 800].std() < 0.01


def test_the_files_are_what_the_script_draws():
    """The short clip only: it is the quickest."""
    drawing, sample = draw_sample("short clip"), samples.find_sample("short clip")
    with VideoReader(sample.video) as reader:
        assert len(reader) == len(drawing.source.frames) == 40
        error = (reader[range(40)].float() - drawing.source.frames.float()).square().mean()
    assert error < 10  # 38 dB
    wave, rate = read_audio(sample.voices[0])
    assert rate == 16_000 and torch.allclose(wave[0], drawing.truth[0].waveform, atol=1e-4)
    track = read_track_file(sample.track)
    for i, detection in enumerate(drawing.faces):
        assert track(drawing.source.frames[i].numpy(), i)[0].box == pytest.approx(detection.faces[0].box, abs=0.01)
