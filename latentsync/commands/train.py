"""The command `train` of the command line."""

import argparse

from ..errors import InputError

TASKS = ("syncnet", "unet", "vae", "audio_encoder")


def task_of(name: str) -> tuple[type, type]:
    """What can be trained under this name: the dataclass of its configuration, and the task built from one."""
    if name == "syncnet":
        from ..train.syncnet import SyncNetTask, SyncNetTraining

        return SyncNetTraining, SyncNetTask
    if name == "unet":
        from ..train.unet import UNetTask, UNetTraining

        return UNetTraining, UNetTask
    if name == "vae":
        from ..drawn.train.vae import VAETask, VAETraining

        return VAETraining, VAETask
    if name == "audio_encoder":
        from ..drawn.train.audio_encoder import AudioEncoderTask, AudioEncoderTraining

        return AudioEncoderTraining, AudioEncoderTask
    raise InputError(f"{name!r} cannot be trained: choose one of {', '.join(TASKS)}")


def add_train(commands) -> argparse.ArgumentParser:
    """Add the command to the subparsers of argparse; imports nothing heavy."""
    parser = commands.add_parser(
        "train",
        help="train the U-Net, SyncNet, VAE or audio encoder",
        usage="%(prog)s WHAT --config PRESET_OR_FILE [--resume auto | --dry_run] [key=value ...]",
        epilog="key=value replaces a value of the configuration: run.max_steps=2000 data.clips=my/clips. On several "
        "GPUs: accelerate launch -m latentsync train ...",
    )
    less_memory = "a smaller run.batch_size with more run.accumulate, or run.gradient_checkpointing=true"
    # Whatever argparse has no place for: it takes free words only in one piece.
    parser.set_defaults(command=train, replacements=[], less_memory=less_memory)
    parser.add_argument("words", nargs="+", metavar="WHAT", help="one of " + ", ".join(TASKS))
    parser.add_argument("--config", required=True, help="a preset, or a YAML file; an unknown name lists the presets")
    parser.add_argument(
        "--resume", help="checkpoint or run folder to go on from; auto is the last checkpoint in run.output, if any"
    )
    parser.add_argument("--show", action="store_true", help="print the whole configuration and exit")
    parser.add_argument(
        "--dry_run", action="store_true", help="prepare everything, read one sample and report what training would do"
    )
    return parser


def train(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from ..train.config import load_config, to_yaml

    words = [*arguments.words, *arguments.replacements]
    config_type, task_type = task_of(" ".join(word for word in words if "=" not in word))
    config = load_config(config_type, arguments.config, [word for word in words if "=" in word])
    if arguments.show:
        print(to_yaml(config), end="")
        return

    from ..progress import Bar
    from ..train.loop import dry_run
    from ..train.loop import train as run

    if arguments.dry_run:
        print(dry_run(task_type(config), config, arguments.resume))
        return
    with Bar(unit="step") as bar:
        saved = run(task_type(config), config, arguments.resume, bar)
    print(f"saved in {saved}")
