"""The commands download and convert."""

import argparse

from ..pipelines.options import CHECKPOINTS


def add_download(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("download", help="fetch the published weights")
    parser.set_defaults(command=download, goes_on=True)
    parser.add_argument("--checkpoints", default=CHECKPOINTS, help="folder to put them in")
    parser.add_argument("--version", choices=("1.5", "1.6"), default="1.6", help="1.5 works at 256, 1.6 at 512")
    parser.add_argument("--only", help="groups of files, with commas between; --list names them")
    parser.add_argument("--list", action="store_true", help="print every file with its purpose, size and licence")
    parser.add_argument("--force", action="store_true", help="replace files of another version or size")
    return parser


def add_convert(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("convert", help="rewrite a .pt checkpoint as .safetensors")
    parser.set_defaults(command=convert)
    parser.add_argument("source", help="the .pt, .pth or .safetensors file")
    parser.add_argument("target", help="the .safetensors file to write")
    parser.add_argument("--half", action="store_true", help="store float16: half the size")
    parser.add_argument("--force", action="store_true", help="overwrite the target")
    return parser


def download(arguments: argparse.Namespace) -> None:
    from ..models.download import download, listing, tree
    from ..progress import Bar

    if arguments.list:
        print(listing())
        return
    only = [name.strip() for name in arguments.only.split(",")] if arguments.only else None
    with Bar(unit="B") as bar:
        shown = {"progress": lambda done, total, name: bar(name, done, total)}
        download(arguments.checkpoints, arguments.version, only, force=arguments.force, **shown)
    print(tree(arguments.checkpoints))


def convert(arguments: argparse.Namespace) -> None:
    from ..models.convert import convert

    print(convert(arguments.source, arguments.target, half=arguments.half, force=arguments.force))
