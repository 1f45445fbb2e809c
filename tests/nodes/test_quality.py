"""The quality node, with the embedded SyncNet and with another one."""

import pytest
import torch
from embedded_weights import packaged
from heads import FPS, drawn, head, track_face
from safetensors.torch import save_file
from small_nets import narrow_syncnet

FRAMES = 20


@pytest.fixture
def silence():
    return {"waveform": torch.zeros(1, 1, 16_000), "sample_rate": 16_000}


@pytest.fixture
def crops():
    return torch.rand(FRAMES, 64, 64, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def pixel_judge(comfy_folders):
    """A SyncNet in models/latentsync that sees pixels, so that no VAE is needed."""
    folder = comfy_folders.models / "latentsync"
    folder.mkdir(parents=True)
    net = narrow_syncnet(3, [[1, 2], 2, 2, 2, 2, 2, 2, 2])
    save_file(net.state_dict(), folder / "stable_syncnet.safetensors")
    return folder


class Other:
    """A model that is not the embedded one, as far as the node asks."""

    source = "/somewhere/latentsync_unet.pt"


def test_report_plot_and_figures(pack, pixel_judge, crops, silence):
    report, plot, confidence, offset = pack.run("LatentSyncQuality", crops=crops, audio=silence, fps=FPS).result
    assert plot.shape == (1, 480, 1280, 3) and plot.dtype == torch.float32 and 0 <= plot.min() < plot.max() <= 1
    assert 0 <= confidence <= 1 and isinstance(confidence, float) and -10 <= offset <= 10 and isinstance(offset, int)
    assert f"confidence {confidence:.2f}" in report and "stable_syncnet.safetensors" in report
    assert "unsteadiness" in report and "Note:" not in report


def test_the_reference_adds_likeness_and_must_fit(pack, pixel_judge, crops, silence):
    inputs = {"crops": crops, "audio": silence, "fps": FPS, "model": Other()}
    report = pack.run("LatentSyncQuality", reference=(crops + 0.1).clamp(0, 1), **inputs)[0]
    assert "PSNR" in report and "flicker" in report
    with pytest.raises(ValueError, match="the reference 5 frames"):
        pack.run("LatentSyncQuality", reference=crops[:5], **inputs)


def test_a_model_without_its_judge_says_how_to_get_it(pack, crops, silence):
    with pytest.raises(ValueError, match="lacks stable_syncnet.pt: run Download LatentSync Models with syncnet on$"):
        pack.run("LatentSyncQuality", crops=crops, audio=silence, fps=FPS, model=Other())


def test_a_clip_too_short_is_refused(pack, pixel_judge, crops, silence):
    with pytest.raises(ValueError, match="SyncNet judges 16"):
        pack.run("LatentSyncQuality", crops=crops[:9], audio=silence, fps=FPS)


@packaged
def test_the_embedded_judge_says_that_it_knows_drawn_faces_only(pack):
    source = head(pack)
    track = track_face(pack, source)[0].track
    frames = source.images[[min(i, len(drawn().frames) - 1) for i in range(16)]]
    matrices = track.take([min(i, len(track) - 1) for i in range(16)]).matrices
    crops = pack.latentsync.face.align.AlignedFaces(frames, matrices, [True] * 16, 128)[list(range(16))]
    report = pack.run("LatentSyncQuality", crops=crops, audio=source.audio, fps=FPS)[0]
    assert "the embedded SyncNet" in report and "knows drawn faces only" in report
    model = Other()
    model.source = str(pack.latentsync.models.embedded.EMBEDDED / "latentsync_unet.safetensors")
    assert "Note:" not in pack.run("LatentSyncQuality", crops=crops, audio=source.audio, fps=FPS, model=model)[0]
