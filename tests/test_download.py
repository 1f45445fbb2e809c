"""Downloads against a server on this machine that resumes, ignores ranges, breaks off, redirects or lies."""

import hashlib
import io
import json
import re
import shutil
import threading
import zipfile
from collections import namedtuple
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from latentsync import download as download_module
from latentsync import registry, transfer
from latentsync.download import download, tree

UNET = "/ByteDance/LatentSync-1.6/resolve/main/latentsync_unet.pt"


def content(name: str, size: int) -> bytes:
    seed = hashlib.sha256(name.encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Server(ThreadingHTTPServer):
    """`files` by path; `headers` adds to answers; `redirects` leads elsewhere; `cut` breaks off after so many bytes."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.redirects: dict[str, str] = {}
        self.ranges = True
        self.cut: int | None = None
        self.requests: list[tuple[str, str | None]] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in (headers | self.server.headers.get(self.path, {})).items():
            self.send_header(key, value)
        self.end_headers()
        body = body if self.server.cut is None else body[: self.server.cut]
        self.server.sent += len(body)
        self.wfile.write(body)

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        if self.path in self.server.redirects:
            return self.answer(302, {"Location": self.server.redirects[self.path], "Content-Length": "0"})
        if self.path not in self.server.files:
            return self.answer(404, {"Content-Length": "0"})
        body = self.server.files[self.path]
        if not (wanted and self.server.ranges):
            return self.answer(200, {"Content-Length": str(len(body))}, body)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
        if start >= len(body):
            return self.answer(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
        ranged = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
        return self.answer(206, ranged | {"Content-Length": str(len(body) - start)}, body[start:])


@pytest.fixture
def server(monkeypatch):
    """A mirror with every published file, small; the registry states their sizes and checksums where it did before."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    rows = []
    for row in registry.WEIGHTS:
        if row.members:
            data = archive(row.members)
        else:
            data = content(row.address(), 3000 + 10 * len(rows))
        path = row.address("").removeprefix("https:/")
        server.files[path] = data
        facts = {"size": row.size and len(data), "sha256": row.sha256 and sha256(data), "about": None}
        rows.append(replace(row, url=row.url and server.url + path, **facts))
    monkeypatch.setattr(registry, "WEIGHTS", tuple(rows))
    monkeypatch.setattr(download_module, "WEIGHTS", tuple(rows))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def archive(members) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as zipped:
        for name in (*members, "genderage.onnx"):
            zipped.writestr(f"buffalo_l/{name}", content(name, 500))
    return memory.getvalue()


def unet_file(folder):
    return folder / "latentsync_unet.pt"


def test_default_is_what_run_needs_and_a_second_run_asks_nobody(server, tmp_path):
    seen = []
    fetched = download(tmp_path, progress=lambda done, total, name: seen.append((name, done, total)))
    names = [path.relative_to(tmp_path).as_posix() for path in fetched]
    vae = ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"]
    assert names == ["latentsync_unet.pt", "whisper/tiny.pt", *vae, "auxiliary/face_detection_yunet_2023mar.onnx"]
    assert unet_file(tmp_path).read_bytes() == server.files[UNET]
    sidecar = json.loads((tmp_path / "latentsync.json").read_text())
    assert (sidecar["version"], sidecar["resolution"]) == ("1.6", 512)
    size = len(server.files[UNET])
    assert [entry for entry in seen if entry[0] == "latentsync_unet.pt"][-1] == ("latentsync_unet.pt", size, size)
    before = len(server.requests)
    assert download(tmp_path) == []
    assert len(server.requests) == before
    assert not list(tmp_path.rglob("*.part"))


def test_only_and_version_choose(server, tmp_path):
    fetched = download(tmp_path, "1.5", ["unet", "gfpgan"])
    assert [path.name for path in fetched] == ["latentsync_unet.pt", "GFPGANv1.4.pth", "GFPGANv1.3.pth"]
    assert unet_file(tmp_path).read_bytes() == server.files[UNET.replace("1.6", "1.5")]
    assert json.loads((tmp_path / "latentsync.json").read_text())["resolution"] == 256
    with pytest.raises(ValueError, match="1.7.*choose one of 1.5, 1.6"):
        download(tmp_path, "1.7")
    with pytest.raises(ValueError, match="'unett'.*unet, syncnet, whisper"):
        download(tmp_path, only=["unett"])


def test_resume_asks_only_for_the_rest(server, tmp_path):
    (tmp_path / "latentsync_unet.pt.part").write_bytes(server.files[UNET][:1000])
    download(tmp_path, only=["unet"])
    assert server.requests == [(UNET, "bytes=1000-")]
    assert server.sent == len(server.files[UNET]) - 1000
    assert unet_file(tmp_path).read_bytes() == server.files[UNET]


def test_server_without_ranges_starts_over(server, tmp_path):
    server.ranges = False
    (tmp_path / "latentsync_unet.pt.part").write_bytes(b"x" * 1000)
    download(tmp_path, only=["unet"])
    assert server.sent == len(server.files[UNET])
    assert unet_file(tmp_path).read_bytes() == server.files[UNET]


@pytest.mark.parametrize("extra, sent", [(0, 0), (5, None)])
def test_part_as_long_as_the_file_or_longer(server, tmp_path, extra, sent):
    data = server.files[UNET]
    (tmp_path / "latentsync_unet.pt.part").write_bytes(data + b"x" * extra)
    download(tmp_path, only=["unet"])
    assert unet_file(tmp_path).read_bytes() == data
    assert server.sent == (len(data) if sent is None else sent)


def test_broken_connection_is_taken_up_again(server, tmp_path):
    server.cut = 1000
    download(tmp_path, only=["unet"])
    assert unet_file(tmp_path).read_bytes() == server.files[UNET]
    assert server.sent == len(server.files[UNET])
    assert [wanted for _, wanted in server.requests] == [None, "bytes=1000-", "bytes=2000-"]


def test_connection_that_brings_nothing_keeps_the_part(server, tmp_path):
    (tmp_path / "latentsync_unet.pt.part").write_bytes(server.files[UNET][:1000])
    server.cut = 0
    with pytest.raises(ConnectionError, match="cut after 1,000 of 3,000 bytes.*put the file at"):
        download(tmp_path, only=["unet"])
    assert (tmp_path / "latentsync_unet.pt.part").stat().st_size == 1000
    assert not unet_file(tmp_path).exists()


def test_interruption_keeps_the_part_and_the_next_run_goes_on(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "CHUNK", 1024)

    def interrupt(done, total, name):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(tmp_path, only=["unet"], progress=interrupt)
    kept = (tmp_path / "latentsync_unet.pt.part").stat().st_size
    assert 0 < kept < len(server.files[UNET])
    assert not unet_file(tmp_path).exists()
    assert "(unfinished)" in tree(tmp_path)
    download(tmp_path, only=["unet"])
    assert server.requests[-1] == (UNET, f"bytes={kept}-")
    assert unet_file(tmp_path).read_bytes() == server.files[UNET]


def redirect(server, data: bytes, etag: str, size: int) -> None:
    """Answers as the hub does: facts on the redirect, the file at another address without them."""
    server.files["/storage/1"] = data
    server.redirects[UNET] = "/storage/1"
    server.headers[UNET] = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(size)}


def test_checksum_on_the_redirect_is_used(server, tmp_path):
    data = server.files[UNET]
    redirect(server, data, sha256(data), len(data))
    (tmp_path / "latentsync_unet.pt.part").write_bytes(data[:10])
    download(tmp_path, only=["unet"])
    assert unet_file(tmp_path).read_bytes() == data
    assert server.requests[-1] == ("/storage/1", "bytes=10-")


def test_wrong_checksum_names_both_and_leaves_nothing(server, tmp_path):
    data = server.files[UNET]
    redirect(server, data, sha256(b"other"), len(data))
    with pytest.raises(ValueError, match=f"{sha256(data)}, expected {sha256(b'other')}"):
        download(tmp_path, only=["unet"])
    assert not list(tmp_path.glob("latentsync_unet*"))


def test_git_hash_of_a_small_file_is_not_taken_for_a_checksum(server, tmp_path):
    path = "/stabilityai/sd-vae-ft-mse/resolve/main/config.json"
    server.headers[path] = {"X-Linked-Etag": '"' + "a" * 40 + '"'}
    download(tmp_path, only=["vae"])
    assert (tmp_path / "vae" / "config.json").read_bytes() == server.files[path]


def test_checksum_and_size_of_the_registry(server, tmp_path):
    server.files["/ByteDance/LatentSync-1.6/resolve/main/whisper/tiny.pt"] = b"not whisper"
    with pytest.raises(ValueError, match="SHA-256"):
        download(tmp_path, only=["whisper"])
    path = "/opencv/face_detection_yunet/resolve/main/face_detection_yunet_2023mar.onnx"
    expected = len(server.files[path])
    server.files[path] += b"x"
    with pytest.raises(ValueError, match=f"{expected + 1:,} bytes, expected {expected:,}"):
        download(tmp_path, only=["yunet"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_refusals_name_the_address_and_the_place(server, tmp_path, monkeypatch):
    del server.files[UNET]
    with pytest.raises(ConnectionError) as refused:
        download(tmp_path, only=["unet"])
    assert server.url + UNET in str(refused.value) and "404" in str(refused.value)
    assert str(unet_file(tmp_path)) in str(refused.value)
    server.files[UNET] = b"<html>log in</html>"
    server.headers[UNET] = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(ConnectionError, match="web page"):
        download(tmp_path, only=["unet"])
    server.redirects[UNET] = "file:///etc/hostname"
    with pytest.raises(ConnectionError, match="not an http address"):
        download(tmp_path, only=["unet"])
    server.redirects[UNET] = UNET
    with pytest.raises(ConnectionError, match="redirects"):
        download(tmp_path, only=["unet"])
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="127.0.0.1:9.*HF_ENDPOINT.*put the file at"):
        download(tmp_path, only=["unet"])
    assert not unet_file(tmp_path).exists()


def test_other_version_needs_force(server, tmp_path):
    download(tmp_path, "1.6", ["unet"])
    with pytest.raises(ValueError, match="has LatentSync 1.6.*--checkpoints.*--force"):
        download(tmp_path, "1.5", ["unet"])
    assert unet_file(tmp_path).read_bytes() == server.files[UNET]
    download(tmp_path, "1.5", ["unet"], force=True)
    assert unet_file(tmp_path).read_bytes() == server.files[UNET.replace("1.6", "1.5")]
    assert json.loads((tmp_path / "latentsync.json").read_text())["version"] == "1.5"


def test_unfinished_file_is_not_continued_with_another_version(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    server.cut = 500
    with pytest.raises(ConnectionError):
        download(tmp_path, "1.6", ["unet"])
    server.cut = None
    with pytest.raises(ValueError, match="has LatentSync 1.6"):
        download(tmp_path, "1.5", ["unet"])
    download(tmp_path, "1.5", ["unet"], force=True)
    assert unet_file(tmp_path).read_bytes() == server.files[UNET.replace("1.6", "1.5")]


def test_file_of_the_user_is_not_overwritten(server, tmp_path):
    unet_file(tmp_path).write_bytes(b"my own training")
    with pytest.raises(ValueError, match="has 15 bytes and the file at .* 3,000: move it away"):
        download(tmp_path, only=["unet"])
    assert unet_file(tmp_path).read_bytes() == b"my own training"
    del server.files[UNET]
    assert download(tmp_path, only=["unet"]) == []
    server.files[UNET] = content("new", 3000)
    download(tmp_path, only=["unet"], force=True)
    assert unet_file(tmp_path).read_bytes() == server.files[UNET]


def test_converted_file_counts(server, tmp_path):
    (tmp_path / "latentsync_unet.safetensors").write_bytes(b"converted")
    assert download(tmp_path, only=["unet"]) == []
    assert server.requests == []


def test_archive_gives_its_three_models(server, tmp_path):
    assert download(tmp_path, only=["insightface"]) == [tmp_path / "insightface/models/buffalo_l"]
    models = tmp_path / "insightface/models/buffalo_l"
    assert sorted(path.name for path in models.iterdir()) == ["2d106det.onnx", "det_10g.onnx", "w600k_r50.onnx"]
    assert (models / "det_10g.onnx").read_bytes() == content("det_10g.onnx", 500)
    assert download(tmp_path, only=["insightface"]) == []
    assert not list(tmp_path.rglob("*.part"))


def test_full_disk_is_found_before_anything_is_asked(server, tmp_path, monkeypatch):
    rows = tuple(replace(row, about=5_000_000_000) for row in registry.WEIGHTS)
    monkeypatch.setattr(registry, "WEIGHTS", rows)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9_000_000_000, 0, 1_200_000_000))
    with pytest.raises(OSError, match="1.2 GB of free space .* needs 5.0 GB"):
        download(tmp_path / "new", only=["unet"])
    assert server.requests == [] and not (tmp_path / "new").exists()


def test_tree_shows_sizes_gaps_and_terms(server, tmp_path):
    download(tmp_path, only=["unet", "codeformer"])
    text = tree(tmp_path)
    assert "(U-Net 1.6, 512 pixels)" in text
    assert re.search(r"├── latentsync_unet\.pt  3\.0 kB", text)
    assert "└── CodeFormer/\n    └── codeformer.pth  3." in text
    assert "missing for `run`: whisper, vae, yunet" in text
    assert f"--checkpoints {tmp_path} --only whisper,vae,yunet" in text
    assert "CodeFormer/codeformer.pth: S-Lab, non-commercial (not for commercial use)" in text


def test_registry_is_consistent():
    rows = registry.WEIGHTS
    assert len({(row.target, row.version) for row in rows}) == len(rows)
    assert all(re.fullmatch(r"https://[^ ]+", row.address()) for row in rows)
    assert all(re.fullmatch(r"[0-9a-f]{64}", row.sha256) for row in rows if row.sha256)
    assert {row.group for row in rows if not row.commercial} == {"insightface", "codeformer", "auxiliary"}
    for version in registry.RESOLUTIONS:
        targets = [row.target for row in registry.select(version, registry.GROUPS)]
        assert len(targets) == len(set(targets)) and "latentsync_unet.pt" in targets
    tiny = next(row for row in rows if row.group == "whisper")
    assert tiny.address("http://mirror/") == "http://mirror/ByteDance/LatentSync-1.6/resolve/main/whisper/tiny.pt"
