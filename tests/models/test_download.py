"""Downloads by the real client of the hub, from a server on this machine that speaks like the hub and its storage."""

import hashlib
import io
import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections import namedtuple
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from latentsync.errors import InputError
from latentsync.limits import set_limits
from latentsync.models import download as download_module
from latentsync.models import registry
from latentsync.models.download import Expected, download, tree
from latentsync.models.load import load_model

UNET = "/ByteDance/LatentSync-1.6/resolve/main/latentsync_unet.pt"
OLD_UNET = UNET.replace("1.6", "1.5")
I3D = "/ByteDance/LatentSync-1.5/resolve/main/auxiliary/i3d_torchscript.pt"


def content(name: str, size: int) -> bytes:
    seed = hashlib.sha256(name.encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def archive(members, compression=zipfile.ZIP_STORED, zeros: int = 0) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as zipped:
        for name in (*members, "../../genderage.onnx"):
            zipped.writestr(f"buffalo_l/../{name}", bytes(zeros) or content(name, 500))
    return memory.getvalue()


class Server(ThreadingHTTPServer):
    """`files` by path; `stated` are a path's facts (size, sha256), with which it leads to the storage, another host."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url, self.storage = (f"http://{host}:{self.server_port}" for host in ("127.0.0.1", "localhost"))
        self.files: dict[str, bytes] = {}
        self.stated: dict[str, tuple[int, str]] = {}
        self.moved: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.ranges, self.endless, self.cut = True, False, None
        self.asked, self.gate = threading.Event(), threading.Event()  # the first GET has come; replies may go
        self.gate.set()
        self.gets: list[tuple[str, str | None, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers) -> None:
        headers = {"Content-Length": str(len(body))} | {k.replace("_", "-"): v for k, v in headers.items()}
        if self.server.endless and self.command == "GET":
            del headers["Content-Length"]
            body += bytes(10**6)
        self.send_response(status)
        for key, value in (headers | self.server.headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: self.server.cut])

    def do_HEAD(self) -> None:
        if place := self.server.moved.get(self.path):
            return self.answer(307, Location=place)
        body = self.server.files.get(self.path)
        if body is None:
            return self.answer(404)
        if self.path in self.server.stated:
            size, tag = self.server.stated[self.path]
            linked = {"X_Linked_Size": str(size), "X_Linked_Etag": f'"{tag}"', "X_Repo_Commit": "c" * 40}
            return self.answer(302, Location=self.server.storage + self.path, **linked)
        return self.answer(200, body, ETag='"' + "a" * 40 + '"', X_Repo_Commit="c" * 40)

    def do_GET(self) -> None:
        if self.path in self.server.stated and not self.headers["Host"].startswith("localhost"):
            return self.do_HEAD()
        wanted, body = self.headers["Range"], self.server.files.get(self.path)
        if body is None:
            return self.answer(404)
        self.server.gets.append((self.path, wanted, self.headers["Authorization"]))
        self.server.asked.set()
        self.server.gate.wait()
        if not (wanted and self.server.ranges):
            return self.answer(200, body)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
        return self.answer(206, body[start:]) if start < len(body) else self.answer(416)


@pytest.fixture
def server(monkeypatch):
    """A mirror with every published file, small; the registry knows their sizes and checksums where it did before."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    rows = []
    for row in registry.WEIGHTS:
        data = archive(row.members) if row.members else content(row.address(), 3000 + 10 * len(rows))
        path = row.address("").removeprefix("https:/")
        server.files[path] = data
        facts = {"size": row.size and len(data), "sha256": row.sha256 and sha256(data), "about": None}
        rows.append(replace(row, url=row.url and server.url + path, **facts))
    for module in (registry, download_module):
        monkeypatch.setattr(module, "WEIGHTS", tuple(rows))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(download_module, "CHUNK", 1000)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def files(folder) -> list[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if path.name != ".download.lock")


def sidecar(folder) -> dict:
    return json.loads((folder / "latentsync.json").read_text())


def test_default_is_what_run_needs_and_a_second_run_asks_nobody(server, tmp_path):
    seen = []
    fetched = download(tmp_path, progress=lambda done, total, name: seen.append((name, done, total)))
    names = [path.relative_to(tmp_path).as_posix() for path in fetched]
    vae = ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"]
    assert names == ["latentsync_unet.pt", "whisper/tiny.pt", *vae, "auxiliary/face_detection_yunet_2023mar.onnx"]
    assert files(tmp_path) == sorted(["latentsync.json", *names])
    assert (tmp_path / "latentsync_unet.pt").read_bytes() == server.files[UNET]
    assert (sidecar(tmp_path)["version"], sidecar(tmp_path)["resolution"]) == ("1.6", 512)
    assert [s[1:] for s in seen if s[0] == "latentsync_unet.pt"] == [(1000, 3000), (2000, 3000), (3000, 3000)]
    del server.gets[:]
    server.files.clear()
    assert download(tmp_path) == [] and not server.gets


def test_groups_and_versions(server, tmp_path):
    fetched = download(tmp_path, "1.5", ["unet", "gfpgan", "sd15"])
    unet = "stable-diffusion-v1-5/unet/diffusion_pytorch_model.safetensors"
    targets = ["latentsync_unet.pt", unet, "GFPGAN/GFPGANv1.4.pth", "GFPGAN/GFPGANv1.3.pth"]
    assert [path.relative_to(tmp_path).as_posix() for path in fetched] == targets
    assert sidecar(tmp_path)["resolution"] == 256
    with pytest.raises(ValueError, match="1.7.*choose one of 1.5, 1.6"):
        download(tmp_path, "1.7")
    with pytest.raises(ValueError, match="'unett'.*unet, syncnet, sd15"):
        download(tmp_path, only=["unett"])
    with pytest.raises(ValueError, match="has LatentSync 1.5.*--checkpoints.*--force"):
        download(tmp_path, "1.6", ["unet"])
    assert (tmp_path / "latentsync_unet.pt").read_bytes() == server.files[OLD_UNET]
    download(tmp_path, "1.6", ["unet"], force=True)
    assert (tmp_path / "latentsync_unet.pt").read_bytes() == server.files[UNET]
    assert sidecar(tmp_path)["version"] == "1.6"


def test_broken_connection_is_taken_up_again(server, tmp_path):
    server.cut = 1400
    download(tmp_path, only=["unet"])
    assert (tmp_path / "latentsync_unet.pt").read_bytes() == server.files[UNET]
    assert [asked for _, asked, _ in server.gets] == [None, "bytes=1000-", "bytes=2000-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_cancelled_download_goes_on_next_time(server, tmp_path, ranges):
    def cancel(done, total, name):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(tmp_path, only=["unet"], progress=cancel)
    assert files(tmp_path) == ["latentsync_unet.pt.1.6.part"] and "(unfinished)" in tree(tmp_path)
    server.ranges = ranges
    download(tmp_path, only=["unet"])
    assert server.gets[1][1] == "bytes=1000-"
    assert (tmp_path / "latentsync_unet.pt").read_bytes() == server.files[UNET]


def test_failed_version_leaves_no_sidecar_and_is_not_continued_as_the_other(server, tmp_path):
    (tmp_path / "latentsync_unet.pt.1.5.part").write_bytes(server.files[OLD_UNET][:1000])
    server.cut = 0
    with pytest.raises(InputError, match=rf"could not be read \(IncompleteRead.*put the file at {tmp_path}"):
        download(tmp_path, "1.5", ["unet"])
    assert files(tmp_path) == ["latentsync_unet.pt.1.5.part"]
    server.cut = None
    download(tmp_path, "1.6", ["unet"])
    assert (tmp_path / "latentsync_unet.pt").read_bytes() == server.files[UNET]
    assert (tmp_path / "latentsync_unet.pt.1.5.part").stat().st_size == 1000


def test_storage_elsewhere_is_checked_by_the_hub_and_gets_no_token(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    data = server.files[UNET]
    server.stated[UNET] = (len(data), sha256(b"other"))
    with pytest.raises(ValueError, match=f"{sha256(data)}, expected {sha256(b'other')}"):
        download(tmp_path, only=["unet"])
    assert files(tmp_path) == []
    server.stated[UNET] = (len(data), sha256(data))
    download(tmp_path, only=["unet", "yunet"])
    assert [token for _, _, token in server.gets] == [None, None, "Bearer hf_secret"]
    assert files(tmp_path)[-1] == "latentsync_unet.pt"


def test_pinned_file_is_checked_by_the_pin_unless_the_hub_says_otherwise(server, tmp_path, caplog):
    part = tmp_path / "latentsync_unet.pt.1.5.part"
    part.write_bytes(server.files[OLD_UNET][:1000])
    data = server.files[OLD_UNET] = content("new", 2500)
    server.ranges = False
    with pytest.raises(ValueError, match="has 2,500 bytes, expected 3,020"):
        download(tmp_path, "1.5", ["unet"])
    assert files(tmp_path) == [part.name]
    server.ranges = True
    with pytest.raises(ValueError, match="gave 2,500 bytes, expected 3,020: the file was removed"):
        download(tmp_path, "1.5", ["unet"])
    assert files(tmp_path) == []
    server.files[OLD_UNET] = content("new", 3020)
    with pytest.raises(ValueError, match="SHA-256"):
        download(tmp_path, "1.5", ["unet"])
    assert files(tmp_path) == []
    server.files[OLD_UNET], server.stated[OLD_UNET] = data, (2500, sha256(data))
    with caplog.at_level(logging.WARNING):
        download(tmp_path, "1.5", ["unet"])
    [line] = caplog.messages
    assert line.startswith(f"latentsync_unet.pt: the hub has SHA-256 {sha256(data)}, known was ")
    assert (tmp_path / "latentsync_unet.pt").read_bytes() == data
    assert download(tmp_path, "1.5", ["unet"]) == []


def test_another_program_is_refused_whatever_the_hub_says(server, tmp_path):
    server.files[I3D] = b"import os"
    server.stated[I3D] = (9, sha256(b"import os"))
    with pytest.raises(ValueError, match="another program than the known one"):
        download(tmp_path, only=["auxiliary"])
    assert I3D not in [path for path, *_ in server.gets] and not (tmp_path / "auxiliary/i3d_torchscript.pt").exists()


def test_endless_reply_is_stopped_at_the_size(server, tmp_path):
    server.endless = True
    with pytest.raises(ValueError, match="more than 3,000 bytes"):
        download(tmp_path, only=["unet"], progress=lambda done, *_: done <= 3000 or pytest.fail("went on"))
    assert files(tmp_path) == []


@pytest.mark.parametrize("endless", [True, False])
def test_a_reply_far_above_the_known_size_is_not_taken(server, tmp_path, monkeypatch, endless):
    monkeypatch.setattr(download_module, "hub_states", lambda url: Expected())
    for about, most in ((1_000, 1 << 20), (300_000, 1_200_000)):
        rows = [replace(row, size=None, sha256=None, about=about) for row in registry.WEIGHTS]
        monkeypatch.setattr(registry, "WEIGHTS", tuple(rows))
        server.endless, server.files[UNET] = endless, bytes(most + 1)
        with pytest.raises(InputError, match=f"more than {most:,} bytes" if endless else "far more than the known"):
            download(tmp_path, only=["unet"], progress=lambda done, *_, m=most: done <= m or pytest.fail("went on"))
        assert files(tmp_path) == []
    server.endless, server.files[UNET] = False, bytes(most)
    assert download(tmp_path, only=["unet"])
    set_limits({"download": 1000})
    with pytest.raises(InputError, match="far more"):
        download(tmp_path, only=["syncnet"])


@pytest.fixture(autouse=True)
def default_limits():
    yield
    set_limits({})


def test_what_nobody_states_is_kept_and_asked_for_the_next_time(server, tmp_path, caplog):
    config = "/stabilityai/sd-vae-ft-mse/resolve/main/config.json"
    download(tmp_path, only=["vae", "insightface", "unet"])
    kept = sidecar(tmp_path)["files"]
    assert kept["vae/config.json"]["sha256"] == sha256(server.files[config])
    assert (kept["latentsync_unet.pt"]["size"], kept["latentsync_unet.pt"]["version"]) == (3000, "1.6")
    zipped = next(path for path in server.files if path.endswith("buffalo_l.zip"))
    for path, target in ((config, "vae/config.json"), (zipped, "insightface/models/buffalo_l/det_10g.onnx")):
        (tmp_path / target).unlink()
        server.files[path] = server.files[path][:-1] + b"?"
        with pytest.raises(InputError, match="SHA-256 .* expected .*--force takes what was published anew"):
            download(tmp_path, only=["vae", "insightface"])
        assert not (tmp_path / target).exists()
        if path == config:
            assert download(tmp_path, only=["vae"], force=True) == [tmp_path / target]
    # A file that was written to since: kept, as it may be the user's, and said.
    unet = tmp_path / "latentsync_unet.pt"
    unet.write_bytes(b"?" + unet.read_bytes()[1:])
    os.utime(unet, (1, 1))
    assert download(tmp_path, only=["unet"]) == [] and f"{unet} is not what was downloaded" in caplog.text
    assert download(tmp_path, only=["unet"], force=True) == [unet]
    os.utime(unet, (1, 1))  # copied
    caplog.clear()
    assert download(tmp_path, only=["unet"], force=True) == [] and not caplog.text


@pytest.mark.parametrize("kept", [3000, {"size": 3000}, {"size": "x", "sha256": []}, [], None])
def test_what_a_sidecar_says_of_files_may_be_old_or_nonsense(server, tmp_path, kept):
    (tmp_path / "latentsync_unet.pt").write_bytes(server.files[UNET])
    (tmp_path / "latentsync.json").write_text(json.dumps({"version": "1.6", "files": {"latentsync_unet.pt": kept}}))
    assert download(tmp_path, only=["unet"]) == []
    (tmp_path / "latentsync_unet.pt").unlink()
    assert len(download(tmp_path, only=["unet"])) == 1


def test_a_file_in_place_of_the_folder(server, tmp_path):
    clip = tmp_path / "small.mp4"
    clip.write_bytes(b"clip")
    for ask in (partial(download, clip), partial(tree, clip), partial(load_model, clip)):
        with pytest.raises(InputError, match=r"small.mp4 is a file: give the folder .*\(--checkpoints\)$"):
            ask()
    assert clip.read_bytes() == b"clip"


def test_refusals_name_the_address_and_the_place(server, tmp_path, monkeypatch):
    target = re.escape(str(tmp_path / "latentsync_unet.pt"))
    server.headers["Content-Type"] = "text/html; charset=utf-8"
    with pytest.raises(InputError, match=f"{UNET} answered with a web page.*put the file at {target}"):
        download(tmp_path, only=["unet"])
    server.files.clear()
    with pytest.raises(InputError, match=f"{server.url}{UNET} could not be read .*404.*{target}"):
        download(tmp_path, only=["unet"])
    with pytest.raises(InputError, match="small.pt answered 404 Not Found"):
        download(tmp_path, only=["whisper-small"])
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=f"127.0.0.1:9.*HF_ENDPOINT.*put the file at {target}"):
        download(tmp_path, only=["unet"])
    assert files(tmp_path) == []


def test_a_repository_that_moved_is_followed_and_offline_nothing_is_asked(server, tmp_path, monkeypatch):
    server.moved[UNET] = "/New/name.pt"
    server.files["/New/name.pt"] = server.files.pop(UNET)
    server.stated["/New/name.pt"] = 3000, sha256(server.files["/New/name.pt"])
    assert download_module.hub_states(server.url + UNET) == Expected(*server.stated["/New/name.pt"])
    for place in (UNET, f"//localhost:{server.server_port}/New/name.pt"):  # to itself; to another host
        server.moved[UNET] = place
        assert download_module.hub_states(server.url + UNET) == Expected()
    monkeypatch.setattr(download_module.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=f"{UNET} was not asked for .HF_HUB_OFFLINE is set.*put the file at"):
        download(tmp_path, only=["unet"])


@pytest.mark.parametrize("number", ["many", "-1", "9" * 5000])
def test_a_length_that_is_no_number_is_taken_as_not_stated(server, tmp_path, number):
    server.headers |= {"X-Linked-Size": number}
    assert download_module.hub_states(server.url + UNET).size == len(server.files[UNET])
    server.headers |= {"Content-Length": number}
    assert download_module.hub_states(server.url + UNET).size in (None, len(server.files[UNET]))


def test_file_of_the_user_is_not_overwritten(server, tmp_path):
    (tmp_path / "latentsync_unet.pt").write_bytes(b"my own training")
    with pytest.raises(ValueError, match="has 15 bytes and the file at .* 3,000: move it away"):
        download(tmp_path, only=["unet"])
    assert (tmp_path / "latentsync_unet.pt").read_bytes() == b"my own training"
    data = server.files.pop(UNET)
    assert download(tmp_path, only=["unet"]) == []
    server.files[UNET] = data
    download(tmp_path, only=["unet"], force=True)
    assert (tmp_path / "latentsync_unet.pt").read_bytes() == data
    (tmp_path / "latentsync_unet.pt").rename(tmp_path / "latentsync_unet.safetensors")
    assert download(tmp_path, only=["unet"]) == []


def damaged_archive(damage: str) -> bytes:
    members = () if damage == "no member" else ("det_10g.onnx", "2d106det.onnx", "w600k_r50.onnx")
    compression = {"zlib": zipfile.ZIP_DEFLATED, "lzma": zipfile.ZIP_LZMA, "bomb": zipfile.ZIP_BZIP2}.get(damage, 0)
    data = bytearray(archive(members, compression, 10**6 if damage == "bomb" else 0))
    directory = data.index(b"PK\1\2")
    if damage == "no zip":
        return b"nothing"
    if damage == "encrypted":
        data[directory + 8] |= 1
    if damage == "offset":
        data[directory + 42 : directory + 46] = b"\xff" * 4
    if damage in ("zlib", "lzma"):
        data[70:90] = b"\xff" * 20
    return bytes(data)


@pytest.mark.parametrize("damage", ["no zip", "no member", "zlib", "encrypted", "offset", "lzma", "bomb"])
def test_bad_archive_is_removed_and_a_good_one_gives_its_three_models(server, tmp_path, damage):
    path = next(path for path in server.files if path.endswith("buffalo_l.zip"))
    good = server.files[path]
    server.files[path] = damaged_archive(damage)
    words = "has [0-9.]* bytes of content" if damage == "bomb" else "gave no archive with det_10g.onnx, "
    with pytest.raises(InputError, match=f"buffalo_l.zip {words}"):
        download(tmp_path, only=["insightface"])
    assert files(tmp_path) == []
    server.files[path] = good
    models = tmp_path / "insightface/models/buffalo_l"
    assert download(tmp_path, only=["insightface"]) == [models] and download(tmp_path, only=["insightface"]) == []
    assert sorted(p.name for p in models.iterdir()) == ["2d106det.onnx", "det_10g.onnx", "w600k_r50.onnx"]
    assert (models / "det_10g.onnx").read_bytes() == content("det_10g.onnx", 500)


OTHER_PROCESS = """
import pickle, sys
from latentsync.models import download, registry
registry.WEIGHTS = download.WEIGHTS = pickle.load(sys.stdin.buffer)
say = lambda done, total, name: print(name, flush=True)
download.download(sys.argv[1], only=["unet", "insightface"], progress=say)
"""


def test_two_processes_that_fetch_into_one_folder_both_succeed(server, tmp_path):
    server.gate.clear()
    command = [sys.executable, "-c", OTHER_PROCESS, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = []
    for _ in range(2):
        process = subprocess.Popen(command, env=environment, **pipes)
        processes.append(process)
        process.stdin.write(pickle.dumps(registry.WEIGHTS))
        process.stdin.close()
        server.asked.wait()
    assert processes[1].stdout.readline() == b"(waiting for another download)\n"
    server.gate.set()
    for process in processes:
        process.stdout.read()
        assert process.wait() == 0
    assert len(server.gets) == 2 and (tmp_path / "latentsync_unet.pt").read_bytes() == server.files[UNET]
    assert len(files(tmp_path)) == 5 and not list(tmp_path.rglob("*.part"))


def test_second_download_waits_for_the_first_and_can_be_cancelled(server, tmp_path):
    server.gate.clear()
    first = threading.Thread(target=download, args=(tmp_path,), kwargs={"only": ["unet"]})
    first.start()
    server.asked.wait()

    def cancel(done, total, name):
        raise KeyboardInterrupt(name)

    with pytest.raises(KeyboardInterrupt, match="waiting for another download"):
        download(tmp_path, only=["unet"], progress=cancel)
    server.gate.set()
    assert download(tmp_path, only=["unet"]) == []
    first.join()
    assert len(server.gets) == 1 and (tmp_path / "latentsync_unet.pt").read_bytes() == server.files[UNET]


def test_full_disk_is_found_before_the_first_byte(server, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "WEIGHTS", tuple(replace(row, about=5_000_000_000) for row in registry.WEIGHTS))
    usage = namedtuple("usage", "total used free")
    free = [5_000_000_000, 1_200_000_000]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9_000_000_000, 0, free.pop()))
    with pytest.raises(InputError, match="1.20GB of free space .* needs 5.00GB"):
        download(tmp_path, only=["unet"])
    assert server.gets == []
    assert len(download(tmp_path, only=["unet"])) == 1


def test_tree_shows_sizes_gaps_and_terms(server, tmp_path):
    download(tmp_path, only=["unet", "codeformer"])
    text = tree(tmp_path)
    assert "(U-Net 1.6, 512 pixels)" in text and ".download.lock" not in text
    assert re.search(r"├── latentsync_unet\.pt  3\.00kB", text)
    assert "└── CodeFormer/\n    └── codeformer.pth  3." in text
    assert "missing for `run`: whisper, vae, yunet" in text
    assert f"--checkpoints {tmp_path} --only whisper,vae,yunet" in text
    assert "CodeFormer/codeformer.pth: S-Lab, non-commercial (not for commercial use)" in text


def test_registry_is_consistent():
    rows = registry.WEIGHTS
    assert len({(row.target, row.version) for row in rows}) == len(rows)
    assert all(re.fullmatch(r"https://[^ ]+", row.address()) for row in rows)
    assert all(re.fullmatch(r"[0-9a-f]{64}", row.sha256) for row in rows if row.sha256)
    assert all(row.bytes_hint for row in rows)
    assert {row.group for row in rows if not row.commercial} == {"insightface", "codeformer", "auxiliary"}
    assert all(row.sha256 for row in rows if row.program or row.group == "auxiliary" or row.version == "1.5")
    assert not any(row.sha256 or row.size for row in rows if row.version == "1.6")
    for version in registry.RESOLUTIONS:
        targets = [row.target for row in registry.select(version, registry.GROUPS)]
        assert len(targets) == len(set(targets)) and "latentsync_unet.pt" in targets
    tiny = next(row for row in rows if row.group == "whisper")
    assert tiny.address("http://mirror/") == "http://mirror/ByteDance/LatentSync-1.6/resolve/main/whisper/tiny.pt"
