"""The training loop: what a resumed run, more processes or an accident may and may not change."""

import logging
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy import Numbers, ToyTask, configured

from latentsync.train.checkpoint import Ema, complete_states
from latentsync.train.config import OptimizerConfig
from latentsync.train.loop import Log, check_finite, learning_rate, mean_metrics, read_log, sample_numbers, train

pytest.importorskip("accelerate")
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def nothing_to_look_at(request, monkeypatch):
    """Drawing takes longer than all else here."""
    if "log" not in request.node.name:
        monkeypatch.setattr(Log, "draw", lambda self: None)
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


def run(config, resume=None, progress=None, **task) -> Path:
    return train(ToyTask(config, **task), config, resume, progress)


def losses(folder) -> list[tuple]:
    lines = read_log(Path(folder) / "log.jsonl")
    return [(line["step"], line["loss"], line["half"], line["gradient_norm"]) for line in lines if "loss" in line]


def weights(state: Path, name: str = "toy.pt") -> dict[str, torch.Tensor]:
    return torch.load(state / name, weights_only=True)["state_dict"]


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def close(one: Path, other: Path, end: Path, end_of_other: Path) -> None:
    """Two runs that differ by no more than rounding: their logs, and the weights at their ends."""
    for line, line_of_other in zip(losses(one), losses(other), strict=True):
        assert line == pytest.approx(line_of_other, rel=1e-5)
    for name, tensor in weights(end).items():
        torch.testing.assert_close(tensor, weights(end_of_other)[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("workers", "accumulate"), [(0, 2), (2, 1)])
def test_a_resumed_run_goes_on_as_if_nothing_had_happened(tmp_path, workers, accumulate):
    settings = {"workers": workers, "accumulate": accumulate, "ema": 0.9}
    end = run(configured(tmp_path / "whole", **settings))
    assert run(configured(tmp_path / "two", max_steps=3, **settings)) == tmp_path / "two" / "step-00000003"
    torch.rand(7)  # the generators need not be where they were
    end_of_two = run(configured(tmp_path / "two", max_steps=5, **settings), "auto")
    assert losses(tmp_path / "two") == losses(tmp_path / "whole") and len(losses(tmp_path / "two")) == 5
    assert all(same(weights(end, name), weights(end_of_two, name)) for name in ("toy.pt", "ema/toy.pt"))
    assert not same(weights(end), weights(end, "ema/toy.pt"))


def test_progress_and_samples_go_on_where_they_were(tmp_path):
    config, seen = configured(tmp_path, max_steps=3, accumulate=2), []
    task = ToyTask(config)
    train(task, config, progress=lambda *state: seen.append(state))
    assert task.seen == list(range(12)) and task.warnings == [1, 2, 3]
    run(configured(tmp_path, max_steps=5, accumulate=2), "auto", lambda *state: seen.append(state))
    assert [state[1:3] for state in seen] == [(0, 3), (1, 3), (2, 3), (3, 3), (3, 5), (4, 5), (5, 5)]
    assert all(state[0] == "training" and (len(state) == 3 or state[3].startswith("loss ")) for state in seen)


def test_an_interrupted_run_saves_between_two_steps_and_goes_on(tmp_path):
    class Impatient(ToyTask):
        def loss(self, net, batch):
            if 4 in batch["seed"]:
                signal.raise_signal(signal.SIGINT)
            return super().loss(net, batch)

    config = configured(tmp_path / "a", workers=1)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="step 3, saved in .*step-00000003.*--resume auto"):
        train(Impatient(config), config)
    assert signal.getsignal(signal.SIGINT) is before
    run(config, "auto")
    run(configured(tmp_path / "whole"))
    assert losses(tmp_path / "a") == losses(tmp_path / "whole")


def test_processes_share_out_the_batch_of_one():
    def step(processes: int, batch_size: int) -> list[int]:
        shares = [next(sample_numbers(24, batch_size, process, processes)) for process in range(processes)]
        return [n for share in shares for n in share]

    assert step(1, 12) == step(2, 6) == step(4, 3) == list(range(24, 36))
    shares = [sample_numbers(0, 2, process, 3) for process in range(3)]
    assert sorted(n for _ in range(4) for share in shares for n in next(share)) == list(range(24))


def test_accumulated_batches_are_one_batch(tmp_path):
    small, large = tmp_path / "a", tmp_path / "b"
    ends = run(configured(small, accumulate=3), dropout=0.0), run(configured(large, batch_size=6), dropout=0.0)
    close(small, large, *ends)


def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"PYTHONPATH": f"{HERE.parents[1]}", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    command = [sys.executable, *launch, str(HERE / "toy.py"), str(tmp_path / "two"), "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    end, end_of_two = run(configured(tmp_path / "one", batch_size=4, max_steps=2), dropout=0.0), "two/step-00000002"
    close(tmp_path / "one", tmp_path / "two", end, tmp_path / end_of_two)
    assert len(list((tmp_path / end_of_two / "state").glob("random_states_*"))) == 2
    on = configured(tmp_path / "two", batch_size=4, max_steps=3)  # and one process goes on with it
    assert run(on, "auto", dropout=0.0) == tmp_path / "two" / "step-00000003"


class Poisoned(Numbers):
    def __getitem__(self, n):
        return super().__getitem__(n) | ({"y": torch.tensor([math.nan])} if n == 7 else {})


def test_a_loss_that_is_nan_stops_the_run_and_is_not_saved(tmp_path):
    task = ToyTask(configured(tmp_path, save_every=1))
    task.data = Poisoned()
    with pytest.raises(ValueError, match=r"step 4 \(loss nan, half nan\).*learning_rate") as error:
        train(task, task.config)
    assert "\n" not in str(error.value)
    states = complete_states(tmp_path)
    assert [state.name for state in states] == ["step-00000001", "step-00000002", "step-00000003"]
    assert all(tensor.isfinite().all() for tensor in weights(states[-1]).values())


def test_what_overflows_in_float16_is_left_out_of_the_log():
    """The loss scaler takes no step then, as in the published program."""
    check_finite({"loss": math.inf}, 3, half=True)
    with pytest.raises(ValueError):
        check_finite({"loss": math.inf}, 3, half=False)
    steps = [{"loss": 1.0, "sync": math.nan}, {"loss": math.inf, "sync": math.nan}, {"loss": 3.0, "sync": 2.0}]
    assert mean_metrics(steps) == {"loss": 2.0, "sync": 2.0}
    assert math.isnan(mean_metrics([{"loss": math.nan}])["loss"])


def test_a_gradient_that_is_nan_stops_the_run_before_it_reaches_the_weights(tmp_path):
    class Cliff(ToyTask):
        def loss(self, net, batch):
            return {"loss": (net(batch["x"]) * 0).sqrt().sum()}  # 0, with slope infinity

    task = Cliff(configured(tmp_path))
    with pytest.raises(ValueError, match=r"step 1 \(loss 0, gradient_norm nan\)"):
        train(task, task.config)
    assert all(parameter.isfinite().all() for parameter in task.net.parameters())
    assert not list(tmp_path.glob("step-*"))


def test_a_run_of_nothing_but_overflows_is_stopped(tmp_path, monkeypatch):
    from accelerate import Accelerator

    monkeypatch.setattr(Accelerator, "optimizer_step_was_skipped", True)
    with pytest.raises(ValueError, match="not finite in 101 steps up to 101"):
        run(configured(tmp_path, max_steps=102, save_every=100, ema=0.5))
    state = load_file(tmp_path / "step-00000100" / "state" / "ema.safetensors")
    assert state["updates"] == 0


def test_validation_sees_the_average_and_changes_no_later_step(tmp_path):
    run(configured(tmp_path / "plain", ema=0.5))
    validated = configured(tmp_path / "validated", ema=0.5, validate_every=2)
    task = ToyTask(validated)
    end = train(task, validated)
    assert losses(tmp_path / "plain") == losses(tmp_path / "validated")
    lines = read_log(tmp_path / "validated" / "log.jsonl")
    assert [line["step"] for line in lines if "validation_error" in line] == [2, 4, 5]
    assert task.validated[-1] == pytest.approx(float(weights(end, "ema/toy.pt")["0.weight"].sum()), rel=1e-5)
    assert task.validated[-1] != pytest.approx(float(weights(end)["0.weight"].sum()), rel=1e-5)


def test_only_the_last_states_stay_and_a_damaged_one_is_not_gone_on_from(tmp_path):
    config = configured(tmp_path, save_every=1, keep=2, max_steps=3)
    run(config)
    assert [state.name for state in complete_states(tmp_path)] == ["step-00000002", "step-00000003"]
    last = tmp_path / "step-00000003"
    shutil.copytree(last, tmp_path / "step-00000009.part")
    with (last / "state" / "optimizer.bin").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match="step-00000003 is not a complete checkpoint"):
        run(config, last)
    task = ToyTask(config)
    train(task, config, resume="auto")
    assert task.seen == [4, 5] and [step for step, *_ in losses(tmp_path)] == [1, 2, 3]
    (tmp_path / "step-00000002" / "config.yaml").unlink()
    assert complete_states(tmp_path) == [last]


def test_a_checkpoint_is_safe_from_a_power_cut(tmp_path, monkeypatch):
    fsync, on_the_drive = os.fsync, set()
    monkeypatch.setattr(os, "fsync", lambda file: on_the_drive.add(os.fstat(file).st_ino) or fsync(file))
    state = run(configured(tmp_path, max_steps=1))
    assert {path.stat().st_ino for path in state.rglob("*") if path.is_file()} <= on_the_drive


def test_what_a_further_run_may_change(tmp_path):
    config = configured(tmp_path, max_steps=1)
    assert run(config, "auto").name == "step-00000001"  # without a state: a new run
    with pytest.raises(ValueError, match="--resume auto"):
        run(config)
    with pytest.raises(ValueError, match="made with another net"):
        run(configured(tmp_path, net=4), "auto")
    run(configured(tmp_path, max_steps=2, optimizer=OptimizerConfig(learning_rate=0.5)), tmp_path)
    assert [line["learning_rate"] for line in read_log(tmp_path / "log.jsonl")] == [0.01, 0.5]


def test_the_average_of_the_weights_follows_its_formula():
    net = torch.nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(0.0)
    ema, average = Ema(net, 0.5), 0.0
    for step in range(1, 12):
        net.weight.data.fill_(float(step))
        ema.update(net)
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * step
        assert ema.average["weight"].item() == pytest.approx(average, rel=1e-6)
    with ema.in_place(net):
        assert net.weight.item() == pytest.approx(average, rel=1e-6)
    assert net.weight.item() == 11
    with pytest.raises(ValueError, match="other parameters"):
        ema.load_state_dict({"bias": torch.zeros(1)})


def test_the_learning_rate_rises_and_falls():
    settings = OptimizerConfig(learning_rate=1.0, warmup_steps=4, schedule="cosine")
    rates = [learning_rate(step, settings, 14) for step in range(15)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0] and rates[14] == pytest.approx(0, abs=1e-12)
    assert rates[9] == pytest.approx(0.5) and sorted(rates[4:], reverse=True) == rates[4:]
    assert learning_rate(10**6, OptimizerConfig(learning_rate=1.0), 5) == 1.0


def test_the_log_forgets_what_came_after_the_saved_state(tmp_path, monkeypatch, caplog):
    with Log(tmp_path, 0) as log:
        for step in range(1, 5):
            log.write(step, {"loss": 1 / step, "sync": math.nan})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO), Log(tmp_path, 2) as log:
        log.write(3, {"loss": 0.0})
        picture = log.draw()
    lines = read_log(tmp_path / "log.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3] and lines[1] == {"step": 2, "loss": 0.5, "sync": None}
    assert picture.read_bytes().startswith(b"\x89PNG") and "pip install tensorboard" in caplog.text


def test_what_cannot_be_trained_is_said_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    frozen = ToyTask(configured(tmp_path))
    frozen.net.requires_grad_(False)
    for task, message in (
        (ToyTask(configured(tmp_path, precision="fp16", device="auto")), "fp16, which needs a GPU"),
        (ToyTask(configured(tmp_path, gradient_checkpointing=True)), "checkpointing is true, which Sequential"),
        (frozen, "no weight"),
    ):
        with pytest.raises(ValueError, match=message):
            train(task, task.config)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ValueError, match="pip install accelerate"):
        train(frozen, frozen.config)
