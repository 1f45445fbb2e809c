"""Checkpoints of a run: everything that the next step depends on, in one folder that is there whole or not at all.

step-00001000/
    <weights in the published layout, as the task writes them>
    ema/                    the same of the averaged weights
    state/                  weights, optimizer, loss scale and random states to go on from
    config.yaml
    position.json           the step, the next sample, and name and size of every file
"""

import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import FileError, InputError
from ..files import publish
from ..nets.loading import check_state_dict
from .config import parse_yaml, plain, to_yaml
from .task import Task

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

logger = logging.getLogger(__name__)


class Ema:
    """An exponential moving average of the trained parameters of a net, in float32 and on their device.

    After n updates its decay is min(decay, (1 + n) / (10 + n)), so that the start is soon forgotten. torch's
    AveragedModel would copy the frozen weights too.
    """

    def __init__(self, net: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        trained = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
        self.average = {name: parameter.detach().float().clone() for name, parameter in trained.items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """To be called after every step of the optimizer."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, average in self.average.items():
            average.lerp_(net.get_parameter(name).float(), 1 - decay)

    @contextmanager
    def in_place(self, net: nn.Module) -> Iterator[None]:
        """In a `with` block `net` has the averaged weights."""
        trained = {name: net.get_parameter(name).data.clone() for name in self.average}
        net.load_state_dict(self.average, strict=False)
        try:
            yield
        finally:
            net.load_state_dict(trained, strict=False)

    def state_dict(self) -> dict[str, Tensor]:
        return self.average | {"updates": torch.tensor(self.updates)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if {*state} != {*self.average, "updates"}:
            raise InputError("the saved average of the weights is of other parameters than those trained now")
        self.updates = int(state["updates"])
        for name, average in self.average.items():
            average.copy_(state[name])


@dataclass
class Training:
    """What a run consists of; `net` may be wrapped for several GPUs."""

    accelerator: "Accelerator"
    net: nn.Module
    optimizer: "AcceleratedOptimizer"
    ema: Ema | None
    task: Task
    config: Any

    @property
    def sharded(self) -> bool:
        """Whether every process holds only a part of the weights (FSDP)."""
        return self.accelerator.distributed_type.value == "FSDP"


def write_state(training: Training, step: int, sample: int) -> Path:
    """Save a checkpoint after `step` steps, and delete all but the last `run.keep`; every process calls this.

    `sample` is the number of the sample that comes next. A failed write leaves nothing half behind.
    """
    accelerator, run = training.accelerator, training.config.run
    folder = Path(run.output) / f"step-{step:08d}"
    part = folder.with_name(folder.name + ".part")
    if accelerator.is_main_process:
        shutil.rmtree(part, ignore_errors=True)
        (part / "state").mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(part / "state"))
        weights = accelerator.get_state_dict(training.net)
        if accelerator.is_main_process:
            weights = _on_cpu(weights)
            training.task.save(weights, part, step)
            if not training.sharded:
                save_file(weights, part / "state" / "model.safetensors")
            if training.ema is not None:
                average = _on_cpu(training.ema.state_dict())
                save_file(average, part / "state" / "ema.safetensors")
                (part / "ema").mkdir()
                averaged = weights | {name: average[name] for name in training.ema.average}
                training.task.save(averaged, part / "ema", step)
            (part / "config.yaml").write_text(to_yaml(training.config), encoding="utf-8")
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            # Last, with the sizes of all files, those of other processes too: it says that the checkpoint is complete.
            files = [path for path in sorted(part.rglob("*")) if path.is_file()]
            sizes = {path.relative_to(part).as_posix(): path.stat().st_size for path in files}
            content = json.dumps({"step": step, "sample": sample, "files": sizes}, indent=1)
            (part / "position.json").write_text(content, encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            publish(part, folder)
            for old in complete_states(Path(run.output))[: -run.keep]:
                shutil.rmtree(old)
    finally:
        if accelerator.is_main_process:
            shutil.rmtree(part, ignore_errors=True)
    accelerator.wait_for_everyone()
    return folder


def read_state(training: Training, folder: Path) -> tuple[int, int]:
    """Go back to a checkpoint: weights, optimizer, loss scale, random states; every process calls this.

    Returns the steps that were done and the number of the next sample.
    """
    if not training.sharded:
        net = training.accelerator.unwrap_model(training.net)
        weights = load_file(folder / "state" / "model.safetensors")
        check_state_dict(net.state_dict(), weights, f"net that goes on from {folder}")
        net.load_state_dict(weights)
    average = folder / "state" / "ema.safetensors"
    if training.ema is not None and average.is_file():
        training.ema.load_state_dict(load_file(average))
    elif training.ema is not None:
        logger.warning("%s has no average of the weights: it starts anew here", folder)
    training.accelerator.load_state(str(folder / "state"))
    content = json.loads((folder / "position.json").read_text(encoding="utf-8"))
    return content["step"], content["sample"]


def find_state(config: Any, resume: str | Path | None) -> Path | None:
    """The checkpoint to go on from, of a net of the same shape; None for a new run.

    `resume` is a checkpoint, a run's folder, "auto" (the last checkpoint in `run.output`, if any) or None.
    """
    states = complete_states(Path(config.run.output))
    if resume is None and states:
        raise FileError(
            f"{config.run.output} has the checkpoints of an earlier run, the last of them {states[-1].name}: go on "
            "from it with --resume auto, or choose another run.output"
        )
    if resume is None or (resume == "auto" and not states):
        return None
    folder = states[-1] if resume == "auto" else Path(resume)
    if not is_complete(folder):
        inner = complete_states(folder)
        if not inner:
            raise FileError(f"{folder} is not a complete checkpoint: give a folder such as step-00001000")
        folder = inner[-1]
    file = folder / "config.yaml"
    saved, now = parse_yaml(file.read_text(encoding="utf-8"), str(file)), plain(asdict(config))
    if changed := [key for key in config.fixed if saved.get(key) != now[key]]:
        raise InputError(
            f"{folder} was made with another {', '.join(changed)}: give the same (see its config.yaml), or start a new "
            "run from its weights with start="
        )
    return folder


def complete_states(output: Path) -> list[Path]:
    """The checkpoints in a run's output folder, oldest first, without damaged ones."""
    found = [path for path in output.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name) and is_complete(path)]
    return sorted(found, key=lambda path: int(path.name[5:]))


def is_complete(folder: Path) -> bool:
    """Whether every file of a checkpoint is there in its full size."""
    try:
        content = json.loads((folder / "position.json").read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in content["files"].items())
    except (OSError, ValueError, KeyError):
        return False


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
