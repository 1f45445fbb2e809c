"""A page with small random nets and a drawn clip, whose face is in a track file."""

import argparse
from pathlib import Path

from latentsync.ui.folder import Folder
from latentsync.ui.models import ModelCache
from latentsync.ui.visitors import Sessions

QUICK = {"inference_steps": 1, "guidance_scale": 1, "window": 8}


def options(**changes) -> argparse.Namespace:
    """The options of the command `ui` that nets need."""
    usual = {
        "checkpoints": "embedded",
        "device": "cpu",
        "dtype": None,
        "compile": False,
        "detector": "auto",
        "detector_model": None,
    }
    return argparse.Namespace(**{**usual, **changes})


def nets(checkpoints: Path, track: Path) -> ModelCache:
    return ModelCache(options(checkpoints=str(checkpoints), detector="file", detector_model=str(track)))


def values(visits: Sessions, **changes) -> list[object]:
    """What the settings of a page send when some of them were changed."""
    given = {control.name: visits.options[control.name].default for control in visits.controls} | changes
    return [given[control.name] for control in visits.controls]


def upload(folder: Folder, path: Path) -> dict[str, str]:
    """The file as gradio would hand it over after an upload."""
    target = folder.new_file(path.name)
    target.write_bytes(path.read_bytes())
    return {"path": str(target), "orig_name": path.name}


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
