"""The small model that comes with this package: it knows drawn faces only, and needs no download."""

import logging
from pathlib import Path

import torch

from ..errors import FileError
from .load import NEEDED, LipSyncModel, load_model, missing_checkpoints

logger = logging.getLogger(__name__)

#: A checkpoints folder like any other, of 128 x 128 crops.
EMBEDDED = Path(__file__).parents[1] / "assets" / "embedded"


def embedded_folder() -> Path:
    """`EMBEDDED`, if its files are there."""
    if missing := missing_checkpoints(EMBEDDED):
        raise FileError(
            f"{EMBEDDED} lacks {', '.join(missing)}: the embedded model belongs to the package, install that again"
        )
    return EMBEDDED


def load_embedded(device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> LipSyncModel:
    """The embedded model; see `load_model` for device and dtype."""
    return load_model(embedded_folder(), device=device, dtype=dtype)


def is_embedded(model: LipSyncModel) -> bool:
    return EMBEDDED in Path(model.source).parents


def choose_folder(given: str | Path | None, default: str | Path) -> Path:
    """The checkpoints folder of a run: `given` ("embedded" is the embedded model's), else `default`, else the embedded
    model's, which the log then says.

    `default` is taken if it has any file of a model: one that is incomplete shall be complained about.
    """
    if given is not None:
        return embedded_folder() if str(given) == EMBEDDED.name else Path(given)
    if len(missing_checkpoints(default)) < len(NEEDED) or missing_checkpoints(EMBEDDED):
        return Path(default)
    logger.info(
        "no checkpoint in %s: using the embedded model, small and made for drawn faces; "
        "`python -m latentsync download` fetches the real one",
        default,
    )
    return EMBEDDED
