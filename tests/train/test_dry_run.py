"""Training starts as documented: every preset, every command of the README, and what to do where a file is missing."""

import re
import shlex
from pathlib import Path

import pytest
from safetensors.torch import save_file
from stand_ins import make_stand_ins

from latentsync.commands.main import main
from latentsync.models.folders import write_sidecar
from latentsync.models.registry import select
from latentsync.train.config import SyncNetTraining, UNetTraining, load_config
from latentsync.train.files import find_file

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning", "ignore:.*deprecated:FutureWarning")

README = Path(__file__).parents[2] / "latentsync" / "train" / "README.md"
UNETS = ("stage1", "stage1_512", "stage2", "stage2_512", "stage2_efficient")
SYNCNETS = ("syncnet_16_pixel_attn", "syncnet_16_latent")
CLIPS = "data.clips=my/clips"


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stand_ins")
    make_stand_ins(folder)
    return folder


@pytest.fixture
def here(stand_ins, monkeypatch) -> Path:
    monkeypatch.chdir(stand_ins)
    return stand_ins


@pytest.fixture
def uncounted(monkeypatch) -> None:
    """Leaves out the memory of a step, which takes seconds to count."""
    monkeypatch.setattr("latentsync.train.loop.estimate_memory", lambda *_: None)


@pytest.fixture
def downloaded(monkeypatch) -> list[Path]:
    """The files that `download` commands would put somewhere; none is fetched."""
    files: list[Path] = []

    def download(folder, version, only, **_):
        files.extend(Path(folder) / row.target for row in select(version, only))

    monkeypatch.setattr("latentsync.models.download.download", download)
    return files


def files_of(preset: str) -> list[str]:
    """What a preset needs in the checkpoints folder."""
    config = load_config(SyncNetTraining if preset in SYNCNETS else UNetTraining, preset)
    named = [config.vae] if preset in SYNCNETS else vars(config.files).values()
    return [name for name in (config.start, *named) if name is not None]


@pytest.mark.parametrize("preset", [*UNETS, *SYNCNETS])
def test_every_preset_starts_and_writes_nothing(preset, here, uncounted, capsys):
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    assert main(["train", "syncnet" if preset in SYNCNETS else "unet", "--config", preset, CLIPS, "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before
    trained, everything = (int(n.replace(",", "")) for n in re.search(r"parameters: (\S+) of (\S+)", said).groups())
    assert (trained < everything) == preset.startswith("stage2") and "no step was taken" in said
    assert "estimated GPU memory: unknown" in said


def readme_commands() -> list[str]:
    section = README.read_text(encoding="utf-8").split("\n## train\n")[1].split("\n## ")[0]
    lines = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[0].splitlines()
    return [line for line in lines if not line.startswith("pip ")]


@pytest.mark.parametrize("line", readme_commands())
def test_the_commands_of_the_readme_are_understood(line, here, downloaded, capsys):
    program, options = line.split(" -m latentsync ")
    assert program in ("python", "accelerate launch")
    assert main([*shlex.split(options), *(["--show"] if options.startswith("train") else [])]) == 0
    assert downloaded or "max_steps: 100000" in capsys.readouterr().out


@pytest.mark.parametrize("preset", [*UNETS, *SYNCNETS])
@pytest.mark.parametrize("folder", ["checkpoints", "my models/latent sync"])
def test_a_missing_file_comes_with_the_command_that_gets_it(preset, folder, tmp_path, downloaded, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in files_of(preset):
        missing = name.replace("checkpoints", folder)
        with pytest.raises(ValueError, match=re.escape(str(Path(missing)))) as error:
            find_file(missing, 512 if preset.endswith("512") else 256)
        command = re.search("`(.*)`", str(error.value))[1]
        assert ("--version" in command) == ("latentsync_unet" in missing or "syncnet" in missing)
        if "latentsync_unet" in missing:
            assert f"--version {'1.6' if preset.endswith('512') else '1.5'}" in command
        assert main(shlex.split(command)[3:]) == 0
        assert Path(missing) in {*downloaded, *(file.parent for file in downloaded)}
        downloaded.clear()


def test_other_places_of_a_file_are_found(tmp_path):
    converted = tmp_path / "stable_syncnet.safetensors"
    save_file({}, converted)
    assert find_file(tmp_path / "stable_syncnet.pt", 256) == converted
    write_sidecar(tmp_path / "other", version="1.6")
    with pytest.raises(ValueError, match="--version 1.6 --only syncnet"):
        find_file(tmp_path / "other" / "stable_syncnet.pt", 256)
    with pytest.raises(ValueError, match=r"mine.pt: check the path"):
        find_file(tmp_path / "mine.pt", 256)
