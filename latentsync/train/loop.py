"""The training loop, one for everything that is trained; on one or many GPUs, and on the CPU."""

import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..errors import InputError
from ..files import make_folder, replacing
from ..limits import raised_limits, set_limits
from .checkpoint import Ema, Training, find_state, read_state, write_state
from .config import OptimizerConfig, RunConfig
from .init_weights import count_parameters
from .memory import estimate_memory
from .task import Task, evaluating

logger = logging.getLogger(__name__)

MAX_SKIPPED = 100  # steps in a row that float16 may overflow in; the scale has long reached its end by then
WAY_OUT = (
    "go on from the last checkpoint (--resume auto) with a lower optimizer.learning_rate, or with run.precision=bf16 "
    "instead of fp16"
)
Progress = Callable[..., None]  # (what is done, steps done, steps in all, note)


def train(task: Task, config: Any, resume: str | Path | None = None, progress: Progress | None = None) -> Path:
    """Train `task.net` for `config.run.max_steps` steps; returns the folder of the last checkpoint.

    Under `accelerate launch` every process calls this, and the net, the gradients or the weights are shared out as it
    was told. Seeds the random generators of the process.

    Args:
        config: has `run`, `data` and `optimizer`; see `config.py`.
        resume: a checkpoint, a run's folder, or "auto": the last checkpoint in `run.output`, or a new run without one.
        progress: called by the main process before the first step and after every one.

    Raises:
        InputError: the loss or the gradient became NaN or infinite. The checkpoints are from before.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with a checkpoint saved; says where. A second one does not wait.
    """
    run = config.run
    found = find_state(config, resume)
    training = _prepare(task, config)
    accelerator = training.accelerator
    # Data that caches features makes them where the nets are, once for all processes, before workers read them.
    if hasattr(task.data, "fill"):
        if accelerator.is_main_process:
            task.data.fill(progress)
        accelerator.wait_for_everyone()
    step, sample = read_state(training, found) if found else (0, 0)
    samples_per_step = run.batch_size * accelerator.num_processes * run.accumulate
    saved, stop, skipped, began = found, False, 0, time.perf_counter()
    recent: list[dict[str, float]] = []  # metrics of the steps since the last line of the log
    with (
        closing(_batches(training, sample)) as batches,
        Log(Path(run.output), step) if accelerator.is_main_process else nullcontext() as log,
        interruptible() as asked_to_stop,
    ):
        if progress and log:
            progress("training", step, run.max_steps)
        while step < run.max_steps and not stop:
            step, sample = step + 1, sample + samples_per_step
            metrics, stop = _take_step(training, batches, step, asked_to_stop)
            if accelerator.optimizer_step_was_skipped:  # float16 overflowed: the scaler lowers its scale instead
                skipped += 1
                if skipped > MAX_SKIPPED:
                    raise InputError(f"the gradient was not finite in {skipped} steps up to {step}: {WAY_OUT}")
            else:
                skipped = 0
                if training.ema is not None:
                    training.ema.update(accelerator.unwrap_model(training.net))

            last = stop or step == run.max_steps
            recent.append(metrics)
            if step % run.log_every == 0 or last:
                pace = samples_per_step * len(recent) / (time.perf_counter() - began)
                means, recent = mean_metrics(recent) | {"samples_per_second": pace}, []
                if log:
                    log.write(step, means)
                    if warning := task.warning(means, step):
                        logger.warning("step %d: %s", step, warning)
            if run.validate_every and (step % run.validate_every == 0 or step == run.max_steps):
                _validate(training, log, step)
            if step % run.save_every == 0 or last:
                saved = write_state(training, step, sample)
                if log:
                    log.draw()
            if not recent:
                began = time.perf_counter()  # after validating and saving, which say nothing about the pace
            if progress and log:
                progress("training", step, run.max_steps, f"loss {metrics['loss']:.4f}")
    if stop and step < run.max_steps:
        raise KeyboardInterrupt(f"stopped after step {step}, saved in {saved}: go on with --resume auto")
    accelerator.end_training()
    return saved


def _take_step(training: Training, batches: Iterator, step: int, asked: threading.Event) -> tuple[dict, bool]:
    """Step number `step` of the optimizer: its metrics, and whether one of the processes was asked to stop."""
    accelerator, net, optimizer, config = training.accelerator, training.net, training.optimizer, training.config
    rate = learning_rate(step - 1, config.optimizer, config.run.max_steps)
    for group in optimizer.param_groups:
        group["lr"] = rate
    parts, half = [], config.run.precision == "fp16"
    for _ in range(config.run.accumulate):
        # Scales the loss, and makes all but the last optimizer.step and zero_grad do nothing.
        with accelerator.accumulate(net):
            batch = next(batches)
            with accelerator.autocast():
                parts.append(training.task.loss(net, batch))
            accelerator.backward(parts[-1]["loss"])
            if accelerator.sync_gradients:
                # Means over batches and processes; and all of these stop if one of them was asked to.
                rows = [[*part.values(), torch.tensor(float(asked.is_set()))] for part in parts]
                rows = [torch.stack([value.detach().float().to(accelerator.device) for value in row]) for row in rows]
                *means, stop = accelerator.reduce(torch.stack(rows).mean(dim=0), reduction="mean").tolist()
                metrics = dict(zip(parts[0], means, strict=True))
                check_finite(metrics, step, half)
                norm = accelerator.clip_grad_norm_(net.parameters(), config.optimizer.clip_norm or math.inf)
                metrics["gradient_norm"] = float(norm)
                check_finite(metrics, step, half)
            optimizer.step()
            optimizer.zero_grad()
    return metrics | {"learning_rate": rate}, stop > 0


def dry_run(task: Task, config: Any, resume: str | Path | None = None) -> str:
    """What `train` would do, after preparing all of it, if need be without a GPU, and reading one sample.

    Takes no step and writes nothing. A step that would fail is reported.
    """
    run, no_gpu = config.run, []
    found = find_state(config, resume)
    if run.precision == "fp16" and not _finds_gpu(run):
        no_gpu = ["there is no GPU here, which run.precision=fp16 needs: to train here, set run.precision=no"]
        config = replace(config, run=replace(run, precision="no"))
    accelerator = _prepare(task, config).accelerator
    if hasattr(task.data, "keep_in_memory"):
        task.data.keep_in_memory()
    sample = task.data[0]
    try:
        memory = estimate_memory(task, sample, replace(config, run=run)) or "unknown, as it depends on the batch"
    except (ValueError, RuntimeError) as error:
        memory = f"unknown, as a step fails: {error}"
    trained, everything = count_parameters(task.net)
    size, processes = run.batch_size, accelerator.num_processes
    return "\n".join(
        [
            f"trained parameters: {trained:,} of {everything:,}",
            f"starts from: {found or getattr(config, 'start', None) or 'fresh weights'}",
            "a sample: " + ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sample.items()),
            f"a step: {size * run.accumulate * processes} samples (batch_size {size}, accumulate {run.accumulate}, "
            f"processes {processes})",
            f"steps: {run.max_steps:,}, precision {run.precision}, on {accelerator.device}, saved in {run.output}",
            f"estimated GPU memory: {memory}",
            *no_gpu,
            "no step was taken and nothing was written",
        ]
    )


def _prepare(task: Task, config: Any) -> Training:
    """Net and optimizer on their devices, wrapped for however many processes there are."""
    try:
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs, set_seed
    except ImportError as error:
        raise InputError("training needs the accelerate package: pip install accelerate") from error
    run, settings = config.run, config.optimizer
    if run.precision == "fp16" and not _finds_gpu(run):
        raise InputError("run.precision is fp16, which needs a GPU, and there is none: choose no or bf16")
    accelerator = Accelerator(
        cpu=run.device == "cpu",
        mixed_precision=run.precision,
        gradient_accumulation_steps=run.accumulate,
        # The others wait while one process validates.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=2))],
    )
    # Checkpoints have the weights by our own names; accelerate's depend on the number of processes. It still writes
    # those of nets that are sharded.
    accelerator.register_save_state_pre_hook(lambda models, weights, folder: weights.clear())
    accelerator.register_load_state_pre_hook(lambda models, folder: models.clear())
    set_seed(run.seed, device_specific=True)
    net = task.net.train()
    if hasattr(net, "gradient_checkpointing"):  # our nets have a property for it, those of diffusers two methods
        net.gradient_checkpointing = run.gradient_checkpointing
    elif hasattr(net, "enable_gradient_checkpointing"):
        net.enable_gradient_checkpointing() if run.gradient_checkpointing else net.disable_gradient_checkpointing()
    elif run.gradient_checkpointing:
        raise InputError(
            f"run.gradient_checkpointing is true, which {type(net).__name__} does not support: set it to false"
        )
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError("no weight of the net is to be trained: give parts of names that occur in it")
    optimizer = torch.optim.AdamW(
        trained, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
    net, optimizer = accelerator.prepare(net, optimizer)
    task.to(accelerator.device)
    ema = Ema(accelerator.unwrap_model(net), run.ema) if run.ema else None
    training = Training(accelerator, net, optimizer, ema, task, config)
    if training.sharded and ema is not None:
        raise InputError(f"run.ema is {run.ema}, but FSDP spreads the weights over processes: set run.ema=null")
    return training


def _finds_gpu(run: RunConfig) -> bool:
    return run.device != "cpu" and (torch.cuda.is_available() or torch.backends.mps.is_available())


def _batches(training: Training, start: int) -> Generator[dict[str, Tensor], None, None]:
    """Batches of this process on its device, from sample number `start` on; its workers end when it is closed."""
    accelerator, config = training.accelerator, training.config
    processes = accelerator.num_processes
    loader = DataLoader(
        training.task.data,
        batch_sampler=sample_numbers(start, config.run.batch_size, accelerator.process_index, processes),
        num_workers=config.data.workers,
        worker_init_fn=partial(begin_worker, raised_limits()),
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator(),  # of its own, so that starting workers does not shift the net's dropout
    )
    for batch in loader:
        yield {name: tensor.to(accelerator.device, non_blocking=True) for name, tensor in batch.items()}


def sample_numbers(start: int, batch_size: int, process: int, processes: int) -> Iterator[list[int]]:
    """The numbers in every batch of one process, without end: the processes take batches in turn from `start` on."""
    while True:
        first = start + process * batch_size
        yield list(range(first, first + batch_size))
        start += processes * batch_size


def learning_rate(step: int, optimizer: OptimizerConfig, max_steps: int) -> float:
    """Of the step after `step` others: it rises in a straight line, then is constant or falls as half a cosine to 0."""
    if step < optimizer.warmup_steps:
        return optimizer.learning_rate * (step + 1) / optimizer.warmup_steps
    if optimizer.schedule == "constant":
        return optimizer.learning_rate
    done = (step - optimizer.warmup_steps) / max(1, max_steps - optimizer.warmup_steps)
    return optimizer.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def check_finite(metrics: Mapping[str, float], step: int, half: bool) -> None:
    """Stops before NaN reaches the weights; with float16 (`half`) the scaler skips the steps that overflow."""
    if not half and not all(map(math.isfinite, metrics.values())):
        listed = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        raise InputError(f"the loss or its gradient is not finite at step {step} ({listed}): {WAY_OUT}")


def mean_metrics(recent: list[dict[str, float]]) -> dict[str, float]:
    """Means of every metric over the steps in which it is finite; NaN where it never is."""
    finite = {name: [metrics[name] for metrics in recent if math.isfinite(metrics[name])] for name in recent[0]}
    return {name: sum(values) / len(values) if values else math.nan for name, values in finite.items()}


def _validate(training: Training, log: "Log | None", step: int) -> None:
    """Validates the net, with averaged weights where there are some; the others wait for the main process.

    Draws nothing from the generators of training, so that validating changes no later step.
    """
    accelerator, net = training.accelerator, training.accelerator.unwrap_model(training.net)
    if training.sharded:
        logger.warning("step %d: not validated: the weights are spread over processes", step)
        return
    if log is not None:
        folder = log.folder / "validation" / f"step-{step:08d}"
        make_folder(folder)
        averaged = training.ema.in_place(net) if training.ema else nullcontext()
        with averaged, evaluating(net), torch.random.fork_rng(), torch.no_grad():
            metrics = training.task.validate(net, folder, step)
        if not any(folder.iterdir()):
            folder.rmdir()
        log.write(step, {f"validation_{name}": value for name, value in metrics.items()})
        logger.info("step %d: validation %s", step, ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()) or "off")
    accelerator.wait_for_everyone()


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event, for a stop between two steps: inside one, weights would be half updated.

    A second one does not wait.
    """
    asked = threading.Event()

    def ask(number: int, frame) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        logger.info("finishing this step, then saving; press Ctrl-C again to stop without saving")

    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, ask) for number in signals}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def begin_worker(limits: Mapping[str, float], worker: int) -> None:
    """Ctrl-C in a terminal reaches the workers too, which the parent still needs for the step it is in."""
    set_limits(limits)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Log(AbstractContextManager):
    """Writes metrics into `folder`: a line of JSON in `log.jsonl`, and for TensorBoard where it is installed.

    A resumed run goes on in the same files, without what an earlier one wrote after `step`.
    """

    def __init__(self, folder: Path, step: int):
        make_folder(folder)
        self.folder, self.path, self.board = folder, folder / "log.jsonl", None
        kept = [line for line in read_log(self.path) if line["step"] <= step] if step else []
        with replacing(self.path) as part:
            part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info("nothing is written for TensorBoard, which is not installed: pip install tensorboard")
        else:
            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one line. NaN and infinity, which JSON does not know, become null."""
        line = {"step": step} | {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.board is not None:
            for name, value in metrics.items():
                self.board.add_scalar(name, value, step)

    def draw(self) -> Path:
        """`loss.png`: every metric over the steps, one chart below the other."""
        from matplotlib.figure import Figure  # not pyplot, which keeps figures and sets the whole process's backend

        lines = read_log(self.path)
        names = list(dict.fromkeys(name for line in lines for name in line if name != "step"))
        figure = Figure(figsize=(8, 1 + 2 * len(names)), layout="constrained")
        for row, name in enumerate(names, start=1):
            axes = figure.add_subplot(len(names), 1, row)
            known = [line for line in lines if line.get(name) is not None]
            marker = "." if len(known) < 50 else None
            axes.plot([line["step"] for line in known], [line[name] for line in known], marker=marker)
            axes.set_title(name, fontsize="small", loc="left")
            axes.grid(alpha=0.3)
        path = self.folder / "loss.png"
        with replacing(path) as part:
            figure.savefig(part, format="png", dpi=100)
        return path

    def __exit__(self, *_) -> None:
        if self.board is not None:
            self.board.close()


def read_log(path: Path) -> list[dict]:
    """The lines of a `log.jsonl`, without a last one that was cut off; [] where there is no file."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
