"""The command convert_workflow."""

import argparse


def add_convert_workflow(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("convert_workflow", help="put our nodes into a workflow of ComfyUI-LatentSyncWrapper")
    parser.set_defaults(command=convert)
    parser.add_argument("source", help="the workflow's .json, as the editor or for the API")
    parser.add_argument("target", help="the .json to write")
    return parser


def convert(arguments: argparse.Namespace) -> None:
    from ..wrapper_workflow import convert_workflow

    print(convert_workflow(arguments.source, arguments.target))
