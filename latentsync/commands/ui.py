"""The command ui: lip sync on a page in the browser. What it needs is imported when it runs."""

import argparse
import math
import os
import socket
import time
from contextlib import ExitStack, closing

from ..errors import FileError, InputError
from ..limits import raised_limits, set_limits
from ..pipelines.options import DetectorOptions, ModelOptions, add_table

HOUR = 3600.0  # seconds between two looks for old files
LONGEST = 600  # seconds of a clip, if --limit seconds=N does not say otherwise


def add_ui(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("ui", help="lip sync on a page in the browser")
    parser.set_defaults(command=serve)
    parser.epilog = f"A clip may have {LONGEST} seconds; --limit seconds=N changes that."
    add = parser.add_argument_group("page").add_argument
    add("--port", type=int, default=7860, help="where the page is; 0 takes a free one")
    add("--host", default="127.0.0.1", help="this machine's address to listen on; 0.0.0.0 lets others in")
    add("--open", action="store_true", help="open the browser")
    add("--enable_sr", action="store_true", help="show the settings of face restoration and of larger results")
    add("--max_upload", type=float, default=1.0, help="GB of the largest file that is taken")
    add("--folder", help="where uploads and results are kept while the page runs (default: the system's temp folder)")
    add("--max_folder", type=float, default=20.0, help="GB of all files that are kept at once")
    add("--max_queue", type=int, default=16, help="runs that may wait, counting the one at work")
    add("--allow_host", nargs="+", default=[], metavar="NAME",
        help="names by which browsers reach the page, where it is not the name or address of this machine")  # fmt: skip
    add_table(
        parser, (("model", ModelOptions, ("checkpoints", "device", "dtype", "compile")), ("model", DetectorOptions, ()))
    )
    return parser


def serve(arguments: argparse.Namespace) -> None:
    from ..ui.folder import GB, Folder
    from ..ui.models import ModelCache
    from ..ui.page import build_page, launch, needed_gradio
    from ..ui.visitors import Sessions

    gradio = needed_gradio()
    if not 0 < arguments.max_upload < math.inf:
        raise InputError(f"max_upload is {arguments.max_upload}: give the GB of the largest file that is taken")
    if not arguments.max_upload <= arguments.max_folder < math.inf:
        raise InputError(
            f"max_folder is {arguments.max_folder}: give GB, at least the {arguments.max_upload} of one file"
        )
    if arguments.max_queue < 1:
        raise InputError(f"max_queue is {arguments.max_queue}: let 1 run or more wait")
    port = free_port(arguments.host, arguments.port)
    limit = round(arguments.max_upload * GB)
    nets = ModelCache(arguments)
    with ExitStack() as closed:
        closed.callback(set_limits, raised_limits())
        set_limits({"seconds": LONGEST, **raised_limits()})
        folder = closed.enter_context(closing(Folder(arguments.folder, round(arguments.max_folder * GB))))
        visits = closed.enter_context(closing(Sessions(nets, folder, arguments.enable_sr, arguments.max_queue)))
        # Our own process: gradio takes its folders from here only. From the second one it serves files too.
        os.environ.update(GRADIO_TEMP_DIR=str(folder.path), GRADIO_EXAMPLES_CACHE=str(folder.path / "examples"))
        page = build_page(gradio, visits, limit)
        server = {"server_name": arguments.host, "server_port": port, "inbrowser": arguments.open}
        address = launch(gradio, page, visits, limit, arguments.allow_host, **server)
        print(f"the page is at {address} and ends with Ctrl-C", flush=True)
        try:
            while True:
                time.sleep(HOUR)
                folder.sweep()
        except KeyboardInterrupt:
            page.close(verbose=False)


def free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0, if a server can listen there."""
    if not 0 <= port < 2**16:
        raise InputError(f"port is {port}: give 1 to 65535, or 0 for a free one")
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            return probe.getsockname()[1]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FileError(f"cannot listen at {host}, port {port} ({reason}): give another --port or --host") from error
