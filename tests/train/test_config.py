"""Configurations: every preset, what is refused and in which words, and the command line around them."""

from dataclasses import asdict

import pytest

from latentsync.commands.main import main
from latentsync.commands.train import TASKS, task_of
from latentsync.nets.syncnet import LATENT, PIXEL_ATTN, EncoderConfig, SyncNetConfig
from latentsync.train.config import (
    PRESETS,
    SyncNetTraining,
    UNetTraining,
    build,
    load_config,
    parse_yaml,
    plain,
    to_yaml,
)

PUBLISHED = {
    "stage1": (256, "none", (), (1, 0, 0, 0)),
    "stage2": (256, "all", ("motion_modules.", "attentions."), (1, 0.05, 0.1, 10)),
    "stage2_efficient": (256, "up", ("motion_modules.", "attn2."), (1, 0.05, 0.1, 0)),
    "stage1_512": (512, "none", (), (1, 0, 0, 0)),
    "stage2_512": (512, "all", ("motion_modules.", "attentions."), (1, 0.05, 0.1, 10)),
}
SYNCNETS = {"syncnet_16_pixel_attn": (PIXEL_ATTN, 48), "syncnet_16_latent": (LATENT, 64)}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_of_the_unet_are_the_published_ones(name):
    config, (resolution, motion, parts, losses) = load_config(UNetTraining, name), PUBLISHED[name]
    assert (config.data.resolution, config.motion, config.net.motion) == (resolution, motion, motion)
    assert config.trained_parts == parts and tuple(asdict(config.losses).values()) == losses
    assert (config.optimizer.learning_rate, config.optimizer.clip_norm, config.mixed_noise) == (1e-5, 1.0, 1.0)
    assert config.run.precision == "fp16" and config.run.gradient_checkpointing
    assert "GPU memory" in (PRESETS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.parametrize("name", SYNCNETS)
def test_presets_of_syncnet_are_the_shipped_tables(name):
    config, (shipped, channels) = load_config(SyncNetTraining, name), SYNCNETS[name]
    tables = ((channels, config.net.visual), (1, config.net.audio))
    assert SyncNetConfig(*(EncoderConfig.from_table(inputs, **asdict(table)) for inputs, table in tables)) == shipped
    assert config.run.batch_size * config.run.accumulate == 256


@pytest.mark.parametrize("name", [*PUBLISHED, *SYNCNETS])
def test_presets_say_everything(name):
    kind = UNetTraining if name in PUBLISHED else SyncNetTraining
    text = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")
    assert parse_yaml(text, name) == plain(asdict(load_config(kind, name)))


@pytest.mark.parametrize("kind", TASKS)
def test_a_configuration_comes_back_from_its_yaml(kind, tmp_path):
    kind, _ = task_of(kind)
    config = build(kind, {"run": {"max_steps": 7, "precision": "no"}, "optimizer": {"betas": [0.5, 0.6]}})
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert load_config(kind, tmp_path / "config.yaml") == config


def test_values_are_replaced_by_dotted_keys(tmp_path):
    (tmp_path / "c.yaml").write_text("run: {seed: 3}\n")
    replaced = ["optimizer.learning_rate=1e-4", "run.precision=no", "trained_parts=[a, b]", "run.ema=0.5", "start=null"]
    config = load_config(UNetTraining, tmp_path / "c.yaml", replaced)
    assert config.optimizer.learning_rate == 1e-4 and config.run.precision == "no" and config.run.seed == 3
    assert config.trained_parts == ("a", "b") and config.run.ema == 0.5 and config.start is None


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ("data.resolutoin=3", r"unknown key data\.resolutoin \(did you mean data\.resolution\?\): data has clips, res"),
        ("lr=3", "unknown key lr: the top level has run, data"),
        ("run.max_steps.x=3", "max_steps is 100000, which has no keys"),
        ("run.accumulate=0", "run.accumulate is 0: it should be greater than 0"),
        ("data.workers=yes", "data.workers is true: it should be a valid integer"),
        ("data.workers=2.5", "data.workers is 2.5: it should be a valid integer"),
        ("data.clips=3", "data.clips is 3: it should be a valid string"),
        ("run.gradient_checkpointing=1", "is 1: it should be a valid boolean"),
        ("run.precision=fp17", "run.precision is \"fp17\": it should be 'no', 'bf16' or 'fp16'"),
        ("data.resolution=96", "resolution is 96: it should be a multiple of 64"),
        ("data.resolution=1088", "resolution is 1088: it should be less than or equal to 1024"),
        ("data.resolution=0", "resolution is 0: it should be greater than or equal to 64"),
        ("run.ema=1.0", "run.ema is 1.0: it should be less than 1"),
        ("optimizer.betas=[0.9,1.0]", "betas.1 is 1.0: it should be less than 1"),
        ("audio_dropout=1.0", "audio_dropout is 1.0: it should be less than 1"),
        ("run.device=cpu", "run: precision is fp16 and device is cpu: give no or bf16"),
        ("run=3", "run is 3: it should be an object"),
        ("optimizer.learning_rate=1e-4x", 'optimizer.learning_rate is "1e-4x": it should be a valid number'),
        ("optimizer.learning_rate=.nan", "learning_rate is NaN: it should be a finite number"),
        (
            "optimizer.betas=[0.5,0.5,0.5]",
            "optimizer.betas is \\[0.5, 0.5, 0.5\\]: it should have at most 2 items, not 3",
        ),
        ("optimizer.betas=0.5", "optimizer.betas is 0.5: it should be a valid array"),
        ("optimizer.betas=[0.5]", "optimizer.betas.1 is missing: add it"),
        ("net.block_out_channels=[a]", 'net.block_out_channels.0 is "a": it should be a valid integer'),
        ("net.block_out_channels=[30]", "net: block_attention has 4 entries"),
        ("losses.mse=0", "losses: every weight is 0"),
        ("losses.trepa=1", "files.videomae is null: give the file"),
        ("data.cache=null data.cache_latents=true", "data: cache_latents is true and cache is null: give a folder"),
        ("validation.video=a.mp4", "validation: video is a.mp4 and audio is None: give both"),
        ("validation.syncnet_v2=a.model", "validation: syncnet_v2 judges whole pictures and whole is false"),
        ("mixed_noise=-1", "mixed_noise is -1: it should be greater than or equal to 0"),
        ("data.frames=25 losses.trepa=1 files.videomae=a", "data.frames is 25: give 16, which VideoMAE judges"),
        ("=3", "is not a replacement: give key=value"),
        ("run.seed=[", "is not YAML"),
    ],
)
def test_what_does_not_fit_is_named(replaced, message):
    with pytest.raises(ValueError, match=message) as error:
        load_config(UNetTraining, "stage1", replaced.split())
    assert "\n" not in str(error.value)


def test_what_syncnet_cannot_be_is_named():
    with pytest.raises(ValueError, match="space is latent and vae is null: give the VAE"):
        build(SyncNetTraining, {"space": "latent"})
    with pytest.raises(ValueError, match="net.visual.downsample_factors is missing: add it"):
        build(SyncNetTraining, {"net": {"visual": {"block_out_channels": [32]}}})
    table = {"block_out_channels": [32, 64], "downsample_factors": [[2, 1], 2], "attn_blocks": [0, 0]}
    config = build(SyncNetTraining, {"net": {"visual": table, "audio": table}})
    assert config.net.visual.downsample_factors == ((2, 1), 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "nor a preset .*stage1"),
        ("- 1", "holds a list: give keys and values"),
        ("run: !!python/object/apply:os.getcwd []", "c.yaml is not YAML"),
    ],
)
def test_files_that_are_no_configuration(text, message, tmp_path):
    if text is not None:
        (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(UNetTraining, tmp_path / "c.yaml")


def test_the_command_line_takes_replacements_anywhere(capsys):
    command = "train run.max_steps=2 unet --config stage1 data.resolution=512 --show optimizer.betas=[0.1,0.2]"
    assert main(command.split()) == 0
    shown = build(UNetTraining, parse_yaml(capsys.readouterr().out, "shown"))
    assert (shown.run.max_steps, shown.data.resolution, shown.optimizer.betas) == (2, 512, (0.1, 0.2))


@pytest.mark.parametrize("words", ["hat", "unet hat"])
def test_what_is_trained_must_be_one_of_the_tasks(words, capsys):
    assert main([*f"train {words} --config stage1".split(), "run.seed=1"]) == 2
    assert f"{words!r} cannot be trained: choose one of syncnet, unet" in capsys.readouterr().err
