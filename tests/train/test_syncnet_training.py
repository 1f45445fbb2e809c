"""Training of StableSyncNet: from samples to a file that loads."""

import json
import math
from dataclasses import replace

import pytest
import torch
from stand_ins import write_clip
from torch.utils.data import default_collate

from latentsync.evaluate.sync_score import load_syncnet
from latentsync.models.state_dict import read_checkpoint
from latentsync.nets.syncnet import EncoderConfig, StableSyncNet, SyncNetConfig
from latentsync.train.config import DataConfig, EncoderTable, OptimizerConfig, RunConfig, SyncNetTables, SyncNetTraining
from latentsync.train.loop import Log, read_log, train
from latentsync.train.syncnet import SyncNetTask, contrast_loss, guide_loss

TABLES = SyncNetTables(
    visual=EncoderTable((32, 32, 64), ((2, 4), 4, 4), (0, 0, 0), 0.1),
    audio=EncoderTable((32, 32, 64), ((5, 4), 4, (4, 3)), (0, 0, 0), 0.1),
)


class Drawn:
    """Sample n: pictures that are bright where the sound is loud, or, for odd n, where another one was."""

    def __getitem__(self, n: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(n)
        loud = float(torch.rand(1, generator=generator) > 0.5)
        seen = loud if n % 2 == 0 else 1 - loud
        return {
            "frames": 0.3 * torch.randn(48, 32, 64, generator=generator) + 2 * seen - 1,
            "mel": 0.3 * torch.randn(1, 80, 52, generator=generator) + 2 * loud - 1,
            "target": torch.tensor(1.0 if n % 2 == 0 else 0.0),
            "seed": torch.tensor(n),
        }


def configured(folder, **changes) -> SyncNetTraining:
    run = {"max_steps": 2, "batch_size": 8, "log_every": 1, "device": "cpu"} | changes.pop("run", {})
    values = {"data": DataConfig(resolution=64, workers=0), "optimizer": OptimizerConfig(learning_rate=1e-3)}
    values |= {"net": TABLES, "validation_samples": 6}
    return SyncNetTraining(RunConfig(output=str(folder), **run), **values | changes)


def make_task(folder, **changes) -> SyncNetTask:
    return SyncNetTask(configured(folder, **changes), Drawn(), held_out=Drawn())


def batch(count: int = 8) -> dict[str, torch.Tensor]:
    return default_collate([Drawn()[n] for n in range(count)])


def test_it_learns_and_what_is_saved_judges_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(Log, "draw", lambda self: None)  # takes long
    run = {"max_steps": 12, "gradient_checkpointing": True, "validate_every": 12}
    task = make_task(tmp_path, run=run, optimizer=OptimizerConfig(learning_rate=3e-3))
    state, sample = train(task, task.config), batch(1)
    lines = read_log(tmp_path / "log.jsonl")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert sum(losses[-5:]) / 5 < sum(losses[:5]) / 5 - 0.1
    assert {"validation_loss", "validation_accuracy"} <= lines[-1].keys()
    content = torch.load(state / "stable_syncnet.pt", weights_only=True)
    _, about = read_checkpoint(state / "stable_syncnet.safetensors")
    assert content["global_step"] == 12 and json.loads(about["tables"]) == content["tables"]
    task.net.eval()
    for name in ("stable_syncnet.pt", "stable_syncnet.safetensors"):
        net, side = load_syncnet(state / name)
        assert net.config == task.net.config and side == 64 and not any(p.requires_grad for p in net.parameters())
        with torch.inference_mode():
            pairs = zip(*(n(sample["frames"], sample["mel"]) for n in (net, task.net)), strict=True)
            assert all(torch.equal(one, other) for one, other in pairs)


def test_published_files_load_without_tables(tmp_path):
    visual = EncoderConfig.from_table(48, (64,) * 8, ((1, 2), 2, 2, 2, 2, 2, 2, 2), (0,) * 8)
    audio = EncoderConfig.from_table(1, (64,) * 7, ((2, 1), 2, 2, 1, 2, 2, (2, 3)), (0,) * 7)
    config = SyncNetConfig(visual, audio)
    torch.save({"state_dict": StableSyncNet(config).state_dict()}, tmp_path / "published.pt")
    net, side = load_syncnet(tmp_path / "published.pt")
    assert net.config == config and side == 256 and not net.training
    torch.save({"conv_in.weight": torch.zeros(3, 3)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="other.pt looks like an unknown model"):
        load_syncnet(tmp_path / "other.pt")


def test_a_net_of_25_frames_hears_80_columns_and_says_so_in_its_file(tmp_path):
    tables = SyncNetTables(EncoderTable((32, 64), ((4, 8), 8), (0, 0)), EncoderTable((32, 64), (8, 10), (0, 0)))
    task = make_task(tmp_path, data=DataConfig(resolution=64, frames=25), net=tables)
    for path in task.save(task.net.state_dict(), tmp_path, 1):
        net, _ = load_syncnet(path)
        assert net.config == task.net.config and net.config.frames == 25
        assert net(torch.zeros(1, 75, 32, 64), torch.zeros(1, 1, 80, 80))[0].shape == (1, 64)


def test_training_starts_fresh_by_the_seed_or_from_weights(tmp_path):
    one, other, key = make_task(tmp_path), make_task(tmp_path), "visual_encoder.conv_in.weight"
    assert torch.equal(one.net.state_dict()[key], other.net.state_dict()[key])
    path, _ = one.save({k: t + 1 for k, t in one.net.state_dict().items()}, tmp_path, 1)
    started = make_task(tmp_path, start=str(path))
    assert torch.equal(started.net.state_dict()[key], one.net.state_dict()[key] + 1)
    deeper = replace(TABLES, visual=EncoderTable((32, 64, 64), ((2, 4), 4, 4), (0, 0, 0)))
    with pytest.raises(ValueError, match="SyncNet that starts from .*of the wrong shape"):
        make_task(tmp_path, start=str(path), net=deeper)
    with pytest.raises(ValueError, match="does not fit crops of 128 pixels in pixel space"):  # before clips are read
        SyncNetTask(configured(tmp_path, data=DataConfig(resolution=128)))


def test_metrics_count_what_is_on_the_right_side(tmp_path):
    task = make_task(tmp_path)

    def judge(frames, mel):
        fits = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])
        return fits, torch.tensor([[1.0, 0.0]] * 3)  # cosines 1, 0.6 and 0.8

    metrics = task.loss(judge, {"frames": None, "mel": None, "target": torch.tensor([1.0, 0.0, 1.0])})
    assert metrics["accuracy"].item() == pytest.approx(2 / 3)
    assert metrics["loss"].item() == pytest.approx(-(math.log(0.4) + math.log(0.8)) / 3, abs=1e-3)
    task.net.eval()
    with torch.no_grad():
        whole = task.validate(task.net, tmp_path, 1)
        task.config = replace(task.config, run=replace(task.config.run, batch_size=4))
        assert task.validate(task.net, tmp_path, 1) == pytest.approx(whole, rel=1e-5)  # 4 + 2 samples weigh as 6


def test_a_loss_that_sits_at_ln_2_is_warned_of_and_others_are_not(tmp_path):
    ln2, steps = math.log(2), range(10, 1000, 10)

    def warned(loss) -> list[int]:
        task = make_task(tmp_path, optimizer=OptimizerConfig(warmup_steps=100))
        return [step for step in steps if "learned nothing yet" in (task.warning({"loss": loss(step)}, step) or "")]

    wobbling = warned(lambda step: ln2 + (0.02 if step % 20 else -0.02))
    assert wobbling[0] == 110 + 300 and 1 < len(wobbling) < 4
    assert warned(lambda step: ln2 - 0.0049)
    for loss in (lambda step: ln2 - 0.0051, lambda step: ln2 + 0.0051, lambda step: ln2 - step / 10000):
        assert not warned(loss)


def test_it_trains_on_drawn_clips(tmp_path):
    write_clip(tmp_path / "clips" / "clip.mp4", 1, frames=40)
    data = DataConfig(clips=str(tmp_path / "clips"), resolution=64, workers=0)
    config = configured(tmp_path / "run", run={"batch_size": 2, "max_steps": 1}, data=data)
    assert train(SyncNetTask(config), config).name == "step-00000001"


def test_helping_losses_count_by_their_weights_and_the_guide_is_left_behind(tmp_path):
    task, plain = make_task(tmp_path, guide=0.5, contrast=0.25), make_task(tmp_path)
    plain.net.load_state_dict(task.net.syncnet.state_dict())
    task.net.eval()
    with torch.no_grad():
        metrics = task.loss(task.net, batch())
        assert metrics["contrast"] > 0 and metrics["guide"] > 0
        whole = metrics["sync"] + 0.5 * metrics["guide"] + 0.25 * metrics["contrast"]
        torch.testing.assert_close(metrics["loss"], whole)
        torch.testing.assert_close(plain.loss(plain.net.eval(), batch())["loss"], metrics["sync"])
        assert task.validate(task.net, tmp_path, 1).keys() == {"loss", "accuracy"}
    _, safe = task.save(task.net.state_dict(), tmp_path, 1)
    net, _ = load_syncnet(safe)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in task.net.syncnet.state_dict().items())


def test_the_guide_does_not_judge_pictures_of_another_place():
    mel = torch.randn(2, 1, 80, 52, generator=torch.Generator().manual_seed(3))
    coarse = torch.nn.functional.adaptive_avg_pool2d(mel, (8, 13)).flatten(1)
    right = (coarse - coarse.mean(1, keepdim=True)) / coarse.std(1, keepdim=True)
    wrong = right + torch.tensor([[0.0], [7.0]])
    assert float(guide_loss(wrong, right, mel, torch.tensor([1.0, 0.0]))) == pytest.approx(0, abs=1e-9)
    assert float(guide_loss(wrong, right, mel, torch.tensor([1.0, 1.0]))) == pytest.approx(49 / 2, rel=1e-5)


def test_contrast_asks_only_samples_in_sync_to_find_each_other():
    vision, swapped, target = torch.eye(3), torch.eye(3)[[1, 0, 2]], torch.tensor([1.0, 1.0, 0.0])
    found = float(contrast_loss(vision, vision, target))
    assert found == pytest.approx(math.log(1 + 2 * math.exp(-1 / 0.1)), abs=1e-6)
    assert float(contrast_loss(vision, swapped, target)) == pytest.approx(10 + found, rel=1e-4)
    assert float(contrast_loss(vision, swapped, torch.zeros(3))) == 0


@torch.no_grad()
def test_a_sparse_start_makes_what_does_not_belong_together_less_alike(tmp_path):
    alike = []
    for sparse in (0.0, 1.0):
        vision, audio = make_task(tmp_path, sparse=sparse).net.eval()(batch()["frames"], batch()["mel"])
        alike.append(float((vision @ audio.T).mean()))
    assert alike[1] < 0.5 * alike[0]
