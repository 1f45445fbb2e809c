"""Says what the node pack still needs; ComfyUI-Manager runs it after it has installed requirements.txt.

    python install.py                        what is missing among the packages, and the line that installs it
    python install.py --models               fetch the models, for which the packages must be there
    python install.py --models --folder DIR  ... into DIR instead of ComfyUI's models/latentsync

It installs nothing itself.
"""

import argparse
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement  # ComfyUI's transformers bring it
from packaging.specifiers import SpecifierSet
from packaging.version import Version

# Not resolved: where the pack is a link, ComfyUI is where the link lies.
PACK = Path(__file__).absolute().parent

# Packages of one and the same module: a second one beside the first would break it.
OPENCV = (
    "opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"
)  # fmt: skip

SAFE_TORCH = "2.6"  # as in latentsync.models.state_dict, which needs torch to be imported


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 1 only where models were asked for and cannot be had here. 0 where the network is missing: whoever
    installs a node pack takes anything else for a broken one, and the next call goes on.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", action="store_true", help="fetch the models")
    parser.add_argument("--folder", type=Path, help="where to; ComfyUI's models/latentsync when the pack lies in one")
    parser.add_argument("--version", default="1.6", help="of the model: 1.6 (512 pixels) or 1.5 (256 pixels)")
    given = parser.parse_args(arguments)
    lacking = list(missing(PACK / "requirements.txt"))
    for requirement, found in lacking:
        print(f"LatentSync needs {requirement}, and {f'{found} is installed' if found else 'it is not installed'}.")
    if lacking:
        lines = " ".join(f'"{requirement}"' for requirement, _ in lacking)
        print(f'Install what is missing with: "{sys.executable}" -m pip install {lines}')
    if varieties := [name for name in OPENCV if _version(name)]:
        try:
            import cv2  # noqa: F401
        except ImportError as error:  # two of them over each other, or a system without libGL
            names = " ".join(varieties)
            print(
                f"import cv2 fails ({error}): `pip uninstall {names}`, then `pip install opencv-python-headless`, "
                "which needs no libraries of a display."
            )
    if (torch := _version("torch")) and Version(torch) < Version(SAFE_TORCH):
        print(
            f"torch {torch} cannot keep a .pt file from running code (CVE-2025-32434), so that LatentSync reads only "
            f".safetensors with it: update ComfyUI's torch to {SAFE_TORCH} or later."
        )
    return fetch(given.folder or models_folder(), given.version) if given.models else 0


def missing(requirements: Path) -> Iterator[tuple[str, str | None]]:
    """(line, installed version or None) of each line of requirements.txt that is not met.

    An upper bound is for pip, which would else update what others need: a newer version that is there is left alone.
    """
    for line in requirements.read_text(encoding="utf-8").splitlines():
        if not (line := line.split("#")[0].strip()):
            continue
        requirement = Requirement(line)
        lower = SpecifierSet(",".join(str(part) for part in requirement.specifier if part.operator != "<"))
        names = OPENCV if requirement.name in OPENCV else (requirement.name,)
        found = [number for name in names if (number := _version(name))]
        if not any(lower.contains(number, prereleases=True) for number in found):
            yield line, found[0] if found else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def models_folder() -> Path | None:
    """ComfyUI's folder for these models, if the pack lies in ComfyUI/custom_nodes."""
    models = PACK.parent.parent / "models"
    return models / "latentsync" if PACK.parent.name == "custom_nodes" and models.is_dir() else None


def fetch(folder: Path | None, model_version: str) -> int:
    if folder is None:
        print(f"{PACK} lies in no ComfyUI: say with --folder where the models are to go.")
        return 1
    try:
        from latentsync.models.download import download

        fetched = download(folder, model_version)
    except (OSError, ImportError, ValueError) as error:
        print(f"The models were not fetched: {error}")
        return 0 if isinstance(error, OSError) or isinstance(error.__cause__, OSError) else 1
    print(f"{len(fetched)} files fetched into {folder}" if fetched else f"{folder} has all models.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
