"""A real ComfyUI in a process of its own, spoken to as the page in the browser does."""

import base64
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMFYUI = os.environ.get("COMFYUI_PATH")
PYTHON = os.environ.get("COMFYUI_PYTHON", sys.executable)
PACK = "latentsync-nodes"
TEXT_EVENT = 3  # the kind of binary message that carries the line shown on a node


class Server:
    """ComfyUI on a free port, with folders of its own; the pack, and `packs`, are links among its custom nodes."""

    def __init__(self, base: Path, *flags: str, packs: Iterable[Path] = ()):
        self.base = base
        self.log_path = base / "log.txt"
        for name in ("custom_nodes", "models", "input", "output"):
            (base / name).mkdir(parents=True)
        for name, place in {PACK: ROOT, **{pack.name: pack for pack in packs}}.items():
            (base / "custom_nodes" / name).symlink_to(place, target_is_directory=True)
        self.port = free_port()
        self.client = uuid.uuid4().hex
        command = [PYTHON, "main.py", "--cpu", "--port", str(self.port), "--base-directory", str(base)]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*command, "--disable-api-nodes", *(flags or ["--cache-classic"])], cwd=COMFYUI, stdout=log, stderr=log
            )
        self._wait_until_up()
        self.events = Events(self.port, self.client)

    def _wait_until_up(self, seconds: float = 900) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended with {self.process.returncode}:\n{self.log}")
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.5)
        raise TimeoutError(f"ComfyUI is not up:\n{self.log}")

    def close(self) -> None:
        self.events.close()
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def get(self, path: str):
        """The answer, as JSON where it is that, else as bytes."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            content, kind = answer.read(), answer.headers.get_content_type()
        return json.loads(content) if kind == "application/json" else content

    def post(self, path: str, data: dict):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(data).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} is refused: {error.read().decode()}") from error
        return json.loads(content) if content else None

    def queue(self, prompt: dict) -> str:
        return self.post("/prompt", {"prompt": prompt, "client_id": self.client})["prompt_id"]

    def wait(self, prompt_id: str, seconds: float = 300) -> "Run":
        """The run once it is over, however it ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return Run(history[prompt_id])
            time.sleep(0.1)
        raise TimeoutError(f"still running after {seconds} s: {self.events.last}\n{self.log[-2000:]}")

    def run(self, prompt: dict, seconds: float = 300) -> "Run":
        run = self.wait(self.queue(prompt), seconds)
        assert run.status == "execution_success", f"{run.status}: {run.error}\n{self.log[-3000:]}"
        return run

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def free(self) -> None:
        """Forget all results and unload all models; a run that goes on is cancelled first."""
        while self.get("/queue")["queue_running"]:
            self.post("/queue", {"clear": True})
            self.interrupt()
            time.sleep(0.5)
        # Not with unload_models, which this implies: of two flags at once the server may overlook the second.
        self.post("/free", {"free_memory": True})
        time.sleep(1.5)

    def memory(self, name: str = "VmRSS") -> int:
        """The process's memory in bytes; VmHWM is the most it ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{name}:")[1].split()[0]) * 1024


class Run:
    """What the history says of a run: its end, its outputs, and the nodes that came from the cache."""

    def __init__(self, entry: dict):
        self.outputs = entry["outputs"]
        self.messages = {kind: data for kind, data in entry["status"]["messages"]}
        self.cached = set(self.messages.get("execution_cached", {}).get("nodes", []))
        ends = ("execution_success", "execution_error", "execution_interrupted")
        self.status = next(end for end in ends if end in self.messages)

    @property
    def error(self) -> str:
        said = self.messages.get("execution_error", {})
        return f"{said.get('node_type')}: {said.get('exception_message')} {''.join(said.get('traceback', []))}"


class Events:
    """Listens to the server's WebSocket; keeps the lines shown on nodes, in the order they came."""

    def __init__(self, port: int, client: str):
        self.lines: list[str] = []
        self.socket = socket.create_connection(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET /ws?clientId={client} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket"]
        lines += ["Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        self.stream = self.socket.makefile("rb")
        while self.stream.readline().strip():
            pass
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    @property
    def last(self) -> str:
        return self.lines[-1] if self.lines else ""

    def wait_for(self, text: str, seconds: float = 300) -> None:
        """Until a line shown on a node has this text; lines from before do not count after `lines.clear()`."""
        end = time.monotonic() + seconds
        while not any(text in line for line in self.lines):
            if time.monotonic() > end:
                raise TimeoutError(f"no line with {text!r} among {self.lines[-20:]}")
            time.sleep(0.02)

    def _listen(self) -> None:
        message, kind = b"", 0
        try:
            while True:
                first, second = self.stream.read(2)
                length = second & 127
                if length > 125:
                    size, code = (2, ">H") if length == 126 else (8, ">Q")
                    length = struct.unpack(code, self.stream.read(size))[0]
                kind = first & 15 or kind
                message += self.stream.read(length)
                if first & 128:
                    if kind == 2 and struct.unpack(">I", message[:4])[0] == TEXT_EVENT:
                        skip = 8 + struct.unpack(">I", message[4:8])[0]
                        self.lines.append(message[skip:].decode())
                    message = b""
        except (OSError, ValueError):
            return  # closed

    def close(self) -> None:
        self.socket.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
