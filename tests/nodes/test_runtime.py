"""ComfyUI's values at the border, its folders, its progress bar."""

import logging
import wave
from types import MappingProxyType, SimpleNamespace

import pytest
import torch
from heads import crops_of, track_of
from scipy.io import wavfile


def tone(rate: int, seconds: float = 0.5) -> torch.Tensor:
    """(samples,): 200 Hz at half of full scale."""
    return torch.sin(torch.arange(int(rate * seconds)) * (2 * torch.pi * 200 / rate)) / 2


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_any_rate_is_heard_alike(pack, rate):
    heard = pack.nodes.inputs.mono_16k({"waveform": tone(rate)[None, None], "sample_rate": rate})
    assert heard.dtype == torch.float32 and len(heard) == 8_000
    assert torch.allclose(heard[400:-400], tone(16_000)[400:-400], atol=5e-3)


def test_any_form_of_audio_is_heard_alike(pack):
    heard, mono = pack.nodes.inputs.mono_16k, tone(16_000)
    integers = (mono * 32768).round().to(torch.int16)
    for waveform in (mono[None, None], mono[None], mono, mono[None, None].double(), integers.expand(1, 2, -1)):
        result = heard(MappingProxyType({"waveform": waveform, "sample_rate": 16_000}))
        assert torch.allclose(result, mono, atol=1e-4)


def test_of_a_batch_the_first_is_heard_and_that_is_said(pack, caplog):
    with caplog.at_level(logging.WARNING):
        batch = torch.stack([tone(16_000)[None], torch.zeros(1, 8_000)])
        assert torch.equal(pack.nodes.inputs.mono_16k({"waveform": batch, "sample_rate": 16_000}), tone(16_000))
    assert "batch of 2" in caplog.text


@pytest.mark.parametrize(
    "audio, sentence",
    [
        (None, "there is no audio"),
        (torch.zeros(1, 1, 10), "not an AUDIO"),
        ({"waveform": torch.zeros(1, 1, 0), "sample_rate": 16_000}, "not empty"),
        ({"waveform": torch.zeros(0, 1, 9), "sample_rate": 16_000}, "not empty"),
        ({"waveform": torch.zeros(1, 1, 9), "sample_rate": 0}, "sample rate is 0"),
        ({"waveform": torch.full((1, 1, 9), torch.nan), "sample_rate": 16_000}, "NaN"),
    ],
)
def test_what_is_no_audio_is_refused(pack, audio, sentence):
    with pytest.raises(ValueError, match=sentence):
        pack.nodes.inputs.mono_16k(audio)


def test_audio_files_keep_channels_rate_and_samples(pack, comfy_folders):
    stereo = torch.stack([tone(44_100), -tone(44_100)])
    path = pack.nodes.runtime.audio_file({"waveform": stereo[None], "sample_rate": 44_100})
    assert path.parent == comfy_folders.temp and path != pack.nodes.runtime.temp_file(".wav")
    rate, samples = wavfile.read(path)
    assert rate == 44_100 and torch.equal(torch.from_numpy(samples.T.copy()), stereo)
    integers = (stereo * 32767).to(torch.int16)
    with wave.open(str(pack.nodes.runtime.audio_file({"waveform": integers[None], "sample_rate": 8_000}))) as file:
        assert file.getparams()[:4] == (2, 2, 8_000, 22_050)


def test_pictures_take_every_image_and_change_none(pack):
    pictures = pack.nodes.inputs.pictures
    image = torch.rand(2, 4, 6, 3)
    assert pictures(image).data_ptr() == image.data_ptr()
    rgba = torch.cat([image, torch.zeros(2, 4, 6, 1)], dim=-1)
    assert torch.equal(pictures(rgba), image)
    assert pictures(image.half()).dtype == torch.float32
    assert pictures(image[0]).shape == (1, 4, 6, 3)
    assert pictures(image[..., :1]).shape == (2, 4, 6, 3)
    for wrong in (None, image[..., :2], image[:0]):
        with pytest.raises(ValueError, match="connect"):
            pictures(wrong)


def test_windows_are_gathered_in_order_and_counted(pack):
    frames = torch.rand(5, 2, 2, 3)
    gathered = pack.nodes.inputs.concat_windows
    assert torch.equal(gathered(iter(frames.split(2)), 5), frames)
    for count in (4, 6):
        with pytest.raises(ValueError, match="frames"):
            gathered(iter(frames.split(2)), count)


def test_progress_shows_bar_picture_and_phase(pack, monkeypatch):
    import comfy.utils
    import server

    bar, lines = [], []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda *args, **_: bar.append(args))
    host = SimpleNamespace(send_progress_text=lambda text, node: lines.append((text, node)))
    monkeypatch.setattr(server.PromptServer, "instance", host, raising=False)
    clock = SimpleNamespace(monotonic=lambda: 100.0)
    monkeypatch.setattr(pack.nodes.runtime, "time", clock)
    report = pack.nodes.runtime.progress(SimpleNamespace(hidden=SimpleNamespace(unique_id="7")))
    report("looking for the face", 0, 3)
    report("looking for the face", 3, 3)
    report("syncing", 5, None, "picture")
    clock.monotonic = lambda: 100.3
    report("syncing", 6, 6)
    assert [values[:2] for values in bar] == [(0, 3), (3, 3), (5, 5), (6, 6)]
    assert bar[2][2][:2] == ("JPEG", "picture")
    # The second came too soon after the first.
    assert lines == [("looking for the face 0/3", "7"), ("syncing", "7"), ("syncing 6/6", "7")]


@pytest.mark.parametrize(
    "node", ["CropFaces", "Sampler", "RestoreFaces", "BlendFaces", "Quality", "Preview", "DownloadModels"]
)
def test_a_run_is_cancelled_where_progress_is_told_and_leaves_nothing(pack, comfy_folders, monkeypatch, node):
    """Inside of nets and loops see the tests of each node."""
    from comfy import model_management

    crops, silence = crops_of(17), {"waveform": torch.zeros(1, 1, 16_000), "sample_rate": 16_000}
    model = pack.nodes.model_patcher.load_managed_model("embedded (small)", "fp32")
    features = SimpleNamespace(states=torch.zeros(1))
    inputs = {
        "CropFaces": {"images": crops, "track": track_of(pack, [1] * 17)},
        "Sampler": {"model": model, "crops": crops, "features": features, "steps": 1},
        "RestoreFaces": {"crops": crops, "restorer": pack.latentsync.restore.restorers.Sharpen(), "strength": 1.0,
                         "region": "face", "fidelity": 0.5, "temporal": 0.5},
        "BlendFaces": {"images": crops, "crops": crops, "track": track_of(pack, [1] * 17), "mask_smooth": 0.5,
                       "match_colour": False},
        "Quality": {"crops": crops, "audio": silence, "fps": 25.0},
        "Preview": {"after": crops, "audio": silence, "fps": 25.0},
        "DownloadModels": {"version": "1.6", "detector": True, "restorers": False, "syncnet": False},
    }  # fmt: skip
    if node == "DownloadModels":
        monkeypatch.setattr(pack.nodes.load, "download", lambda *_, progress: progress(1, None, "latentsync_unet.pt"))
    model_management.interrupt_current_processing()
    with pytest.raises(model_management.InterruptProcessingException):
        pack.run(f"LatentSync{node}", **inputs[node])
    assert not comfy_folders.temp.exists() or not any(comfy_folders.temp.iterdir())


def test_unets_are_listed_and_other_weights_are_not(pack, comfy_folders):
    folder = pack.nodes.folders.models_folder()
    assert folder == comfy_folders.models / "latentsync"
    shown = ["1.5/latentsync_unet.safetensors", "checkpoint-500.pt", "latentsync_unet.pt"]
    hidden = ["whisper/tiny.pt", "vae/diffusion_pytorch_model.safetensors", "stable_syncnet.pt", "latentsync.json"]
    for name in (*shown, *hidden, "latentsync_unet.pt.part", "GFPGAN/GFPGANv1.4.pth"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert [name.replace("\\", "/") for name in pack.nodes.folders.model_files()] == shown


def test_a_folder_of_extra_model_paths_comes_first(pack, tmp_path):
    import folder_paths

    folder_paths.add_model_folder_path("latentsync", str(tmp_path / "elsewhere"))
    assert pack.nodes.folders.models_folder() == tmp_path / "elsewhere"
    paths, extensions = folder_paths.folder_names_and_paths["latentsync"]
    assert len(paths) == 2 and ".safetensors" in extensions


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "^there is not enough memory for this: give fewer or smaller frames"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "^there is not enough memory for this"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "^CUDA out of memory$"),  # ComfyUI unloads models then
        (RuntimeError("a bug"), "^a bug$"),
    ],
)
def test_a_full_memory_is_said_in_a_sentence(pack, monkeypatch, error, sentence):
    def full(*_):
        raise error

    monkeypatch.setattr(pack.nodes.sample_clip, "as_float", full)
    with pytest.raises(MemoryError if "there is" in sentence else type(error), match=sentence):
        pack.run("LatentSyncSampleClip", clip="short clip", copy_to_input=False)
