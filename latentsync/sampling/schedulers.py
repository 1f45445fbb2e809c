"""Diffusion samplers: diffusers' schedulers with the noise schedule that LatentSync was trained on."""

from typing import Any

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
SAMPLERS = ("ddim", "dpm++", "unipc", "euler")
MOST_STEPS = SCHEDULE["num_train_timesteps"] // 2  # with leading spacing more would not begin at the noisiest step


def check_sampler(name: str, steps: int) -> None:
    """Refuse an unknown sampler and a number of steps outside 1..500 with a ValueError."""
    if name not in SAMPLERS:
        raise InputError(f"sampler is {name!r}: choose one of {', '.join(SAMPLERS)}")
    if not 1 <= steps <= MOST_STEPS:
        raise InputError(f"inference steps is {steps}: give a number from 1 to {MOST_STEPS}")


def make_sampler(name: str, steps: int) -> Any:
    """A fresh diffusers scheduler with its `steps` time steps set; "ddim" is the published sampler.

    One is made for each window, because multi-step samplers remember earlier steps.

    Raises:
        ValueError: see `check_sampler`.
    """
    check_sampler(name, steps)
    import diffusers

    if name == "ddim":
        sampler = diffusers.DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False)
    elif name == "dpm++":
        sampler = diffusers.DPMSolverMultistepScheduler(**SCHEDULE, algorithm_type="dpmsolver++")
    elif name == "unipc":
        sampler = diffusers.UniPCMultistepScheduler(**SCHEDULE)
    else:
        sampler = diffusers.EulerDiscreteScheduler(**SCHEDULE)
    sampler.set_timesteps(steps)
    return sampler
