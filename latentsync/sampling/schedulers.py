"""Diffusion samplers: diffusers' schedulers with the noise schedule that LatentSync was trained on."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ..errors import InputError

# Stable Diffusion's training schedule. `leading` spacing with offset 1 puts 4 steps at t = 751, 501, 251, 1.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "prediction_type": "epsilon",
}


def make_sampler(name: str, steps: int) -> Any:
    """A fresh diffusers scheduler with its `steps` time steps set; "ddim" is the published sampler.

    One is made for each window, because multi-step samplers remember earlier steps. Its numbers stay on the CPU, and
    its `step` takes a time step as a number: nothing waits for the device that the latents are on.
    """
    try:
        import diffusers
    except ImportError as error:
        raise InputError('the samplers need the diffusers package: pip install "diffusers<0.36"') from error
    if name == "ddim":
        sampler = diffusers.DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False)
    elif name == "dpm++":
        sampler = diffusers.DPMSolverMultistepScheduler(**SCHEDULE, algorithm_type="dpmsolver++")
    elif name == "unipc":
        sampler = diffusers.UniPCMultistepScheduler(**SCHEDULE)
        for name in ("multistep_uni_p_bh_update", "multistep_uni_c_bh_update"):
            setattr(sampler, name, partial(_weighted_sum, sampler, getattr(sampler, name)))
    elif name == "euler":
        sampler = diffusers.EulerDiscreteScheduler(**SCHEDULE)
    else:
        raise ValueError(f"there is no sampler {name!r}")
    sampler.set_timesteps(steps)
    if name != "ddim":
        sampler.set_begin_index(0)  # else the first step looks for its number among the time steps
    return sampler


def _weighted_sum(
    sampler: Any, update: Callable[..., torch.Tensor], *, order: int, **tensors: torch.Tensor
) -> torch.Tensor:
    """An update of UniPC, which is linear in `tensors` and the earlier outputs, as a sum with weights from the CPU.

    Diffusers solves for the weights where the latents are, and a GPU is waited for twice in every step.
    """
    given = [*tensors.values(), *(output for output in sampler.model_outputs if output is not None)]
    weights = _weights(sampler, update, order, list(tensors), len(given))
    return sum(weight * tensor for weight, tensor in zip(weights, given, strict=True) if weight)


def _weights(
    sampler: Any, update: Callable[..., torch.Tensor], order: int, names: list[str], count: int
) -> list[float]:
    """Those of the tensors called `names` and of the earlier outputs, `count` in all, in an update of UniPC."""
    outputs, units = sampler.model_outputs, iter(torch.eye(count)[:, None])
    tensors = {name: next(units) for name in names}
    sampler.model_outputs = [None if output is None else next(units) for output in outputs]
    try:
        return update(**tensors, order=order)[0].tolist()
    finally:
        sampler.model_outputs = outputs
