"""A task so small that training it shows the loop; run as a program, it is what several processes train."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from latentsync.train.config import DataConfig, OptimizerConfig, RunConfig
from latentsync.train.loop import train
from latentsync.train.task import Task


@dataclass(frozen=True)
class ToyTraining:
    fixed: ClassVar[tuple[str, ...]] = ("net",)

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    net: int = 8


class Numbers:
    """Sample n: four random numbers, and a fifth that a net can tell from them."""

    def __getitem__(self, n: int) -> dict[str, torch.Tensor]:
        x = torch.randn(4, generator=torch.Generator().manual_seed(n))
        return {"x": x, "y": x.sum()[None], "seed": torch.tensor(n)}


class ToyTask(Task):
    def __init__(self, config: ToyTraining, dropout: float = 0.5):
        self.config = config
        with torch.random.fork_rng():
            torch.manual_seed(config.run.seed)
            self.net = nn.Sequential(nn.Linear(4, config.net), nn.Dropout(dropout), nn.Linear(config.net, 1))
        self.data = Numbers()
        self.seen: list[int] = []
        self.warnings: list[int] = []
        self.validated: list[float] = []

    def loss(self, net, batch):
        self.seen += batch["seed"].tolist()
        loss = (net(batch["x"]) - batch["y"]).square().mean()
        return {"loss": loss, "half": loss / 2}

    def save(self, state_dict, folder: Path, step: int):
        torch.save({"global_step": step, "state_dict": dict(state_dict)}, folder / "toy.pt")
        return [folder / "toy.pt"]

    def validate(self, net, folder, step):
        assert not net.training
        torch.rand(3)  # draws that training must not miss
        self.validated.append(net[0].weight.sum().item())
        return {"error": float(step)}

    def warning(self, metrics, step):
        self.warnings.append(step)
        return None


def configured(folder, **run) -> ToyTraining:
    data = DataConfig(workers=run.pop("workers", 0))
    optimizer = run.pop("optimizer", OptimizerConfig(learning_rate=0.01))
    net = run.pop("net", 8)
    run = {"max_steps": 5, "batch_size": 2, "log_every": 1, "device": "cpu"} | run
    return ToyTraining(RunConfig(output=str(folder), **run), data, optimizer, net)


if __name__ == "__main__":
    config = configured(sys.argv[1], batch_size=int(sys.argv[2]), max_steps=2)
    train(ToyTask(config, dropout=0.0), config)
