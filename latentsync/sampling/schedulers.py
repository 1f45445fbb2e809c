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


def make_sampler(name: str, steps: int) -> Any:
    """A fresh diffusers scheduler with its `steps` time steps set; "ddim" is the published sampler.

    One is made for each window, because multi-step samplers remember earlier steps.
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
    elif name == "euler":
        sampler = diffusers.EulerDiscreteScheduler(**SCHEDULE)
    else:
        raise ValueError(f"there is no sampler {name!r}")
    sampler.set_timesteps(steps)
    return sampler
