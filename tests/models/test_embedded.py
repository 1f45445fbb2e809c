"""The model that comes with the package: how it is stored, when it is used, and whether it speaks."""

import logging

import pytest
import tiny
import torch
from drawn_clips import make_clip
from embedded_weights import make_embedded, packaged

from latentsync.audio.whisper import encode_audio
from latentsync.commands.main import main
from latentsync.drawn.demo import make_scene
from latentsync.drawn.heads.clip import make_clip as draw_clip
from latentsync.drawn.heads.corpus import align_clip
from latentsync.errors import InputError
from latentsync.evaluate.curves import best_lag, correlation
from latentsync.evaluate.image_metrics import psnr
from latentsync.evaluate.opening import measure_opening
from latentsync.face.detect import load_detector
from latentsync.face.masks import keep_mask
from latentsync.models import embedded
from latentsync.models.embedded import choose_folder, load_embedded
from latentsync.models.load import find_checkpoints, load_model, load_state_dict, load_vae
from latentsync.pipelines import lip_sync as program
from latentsync.sampling.sample import sync
from latentsync.settings import Settings

UNSEEN = 910_000  # a seed that nothing was trained on


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_embedded(tmp_path_factory.mktemp("assets") / "embedded")


@pytest.fixture
def installed(folder, monkeypatch):
    """A package that came with weights."""
    monkeypatch.setattr(embedded, "EMBEDDED", folder)
    return folder


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A package that came without them."""
    monkeypatch.setattr(embedded, "EMBEDDED", tmp_path / "package" / "embedded")
    return tmp_path / "package" / "embedded"


def test_half_precision_on_disk_is_single_precision_on_the_cpu(installed):
    model = load_embedded("cpu")
    assert model.resolution == 128 and model.source == str(installed / "latentsync_unet.safetensors")
    nets = (model.unet, model.vae, model.audio_encoder)
    assert {p.dtype for net in nets for p in net.parameters()} == {torch.float32}
    stored = load_state_dict(installed / "latentsync_unet.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}
    for name, value in model.unet.state_dict().items():
        assert torch.equal(value, stored[name].float()), name
    assert load_embedded("cpu", torch.bfloat16).dtype == torch.bfloat16


def test_a_package_without_weights_says_so(bare):
    for ask in (load_embedded, lambda: choose_folder("embedded", "checkpoints")):
        with pytest.raises(InputError, match="lacks unet, whisper, vae: .* belongs to the package"):
            ask()


def test_which_folder_a_run_takes(installed, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert choose_folder("embedded", tmp_path) == installed
    assert choose_folder(tmp_path / "mine", tmp_path) == tmp_path / "mine"
    complete = tiny.make_checkpoints(tmp_path / "complete", resolution=64)
    assert choose_folder(None, complete) == complete
    incomplete = tmp_path / "incomplete"
    (incomplete / "whisper").mkdir(parents=True)
    (incomplete / "whisper" / "tiny.pt").write_bytes(b"")
    assert choose_folder(None, incomplete) == incomplete
    assert not caplog.messages
    assert choose_folder(None, tmp_path / "nothing") == installed
    assert len(caplog.messages) == 1 and "using the embedded model" in caplog.messages[0]


def test_without_weights_anywhere_the_download_is_named(bare, tmp_path):
    assert choose_folder(None, tmp_path / "nothing") == tmp_path / "nothing"


def run_arguments(clip, *more: str) -> list[str]:
    argv = ["run", "--inference_steps=1", "--guidance_scale=1", "--device=cpu", "--detector=file", *more]
    files = {"video_path": clip.video, "audio_path": clip.audio, "detector_model": clip.track}
    return [
        *argv,
        *(f"--{key}={path}" for key, path in files.items()),
        f"--video_out_path={clip.video.parent / 'o.mp4'}",
    ]


@pytest.mark.parametrize("more, lines", [((), 1), (("--checkpoints=embedded",), 0)])
def test_run_without_checkpoints_uses_it_and_says_so(installed, tmp_path, monkeypatch, caplog, capsys, more, lines):
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(tmp_path)
    clip = make_clip(tmp_path, frames=6, seconds=0.24)
    assert main(run_arguments(clip, *more)) == 0
    assert "6 frames" in capsys.readouterr().out
    said = [line for line in caplog.messages if "embedded" in line]
    assert said == lines * [
        "no checkpoint in checkpoints: using the embedded model, small and made for drawn faces; "
        "`python -m latentsync download` fetches the real one"
    ]


def test_a_folder_that_is_given_must_have_everything(installed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    clip = make_clip(tmp_path, frames=6, seconds=0.24)
    assert main(run_arguments(clip, "--checkpoints=checkpoints")) == 2
    assert "checkpoints lacks unet, whisper, vae" in capsys.readouterr().err


@pytest.mark.parametrize("drawn, nets, warned", [(False, "embedded", 1), (True, "embedded", 0), (False, "own", 0)])
def test_a_real_face_is_warned_of_before_the_work(installed, tmp_path, caplog, drawn, nets, warned):
    model = load_embedded("cpu") if nets == "embedded" else load_model(tiny.make_checkpoints(tmp_path / "own"))
    clip = make_clip(tmp_path, frames=6, seconds=0.24)
    track = load_detector("file", model=clip.track)

    def detector(frame, index):
        return track.at(25.0)(frame, index)

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        program.lip_sync(clip.video, clip.audio, tmp_path / "o.mp4", model, track if drawn else detector, progress=stop)
    assert sum("the result will look wrong" in message for message in caplog.messages) == warned


@packaged
def test_the_packaged_model_is_small_and_works_at_128():
    size = sum(path.stat().st_size for path in embedded.EMBEDDED.rglob("*") if path.is_file())
    assert size <= 16 * 2**20 and load_embedded("cpu").resolution == 128


@packaged
def test_the_packaged_model_makes_an_unseen_head_say_unheard_words():
    model = load_embedded("cpu")
    scene = make_scene(UNSEEN, 1.92)
    crops, truth = (align_clip(clip, model.resolution) for clip in (scene.source, scene.truth))
    heard = encode_audio(model.audio_encoder, scene.truth.waveform, scene.truth.rate, scene.truth.fps)
    result = torch.cat(list(sync(model, crops, heard, Settings(steps=8))))
    opening, mask = measure_opening(result).numpy(), keep_mask(model.resolution)[0]
    assert correlation(opening, scene.truth.opening) > 0.7
    assert correlation(opening, scene.source.opening) < 0.5
    assert abs(best_lag(opening, scene.truth.opening)) <= 1
    assert psnr(result, truth, mask < 0.5) > 20
    assert (result - crops)[:, mask == 1].abs().max() < 0.5 / 255


@packaged
def test_the_packaged_syncnet_tells_sound_in_place_from_other_sound():
    from latentsync.evaluate.sync_score import SyncScorer, load_syncnet
    from latentsync.train.validate import sync_metrics

    paths = find_checkpoints(embedded.EMBEDDED)
    clip, vae, judge = draw_clip(UNSEEN), load_vae(paths.vae), SyncScorer(*load_syncnet(paths.syncnet))
    crops = align_clip(clip, 128)
    figures = sync_metrics(judge, vae, crops, clip.waveform)
    other = sync_metrics(judge, vae, crops, clip.waveform.roll(len(clip.waveform) // 2))
    assert figures["sync"] > 0.5 > other["sync"] and abs(figures["sync_offset"]) <= 1
