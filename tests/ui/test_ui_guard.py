"""What stands before gradio, with a small application behind it."""

import asyncio
import json

import pytest

from latentsync.ui.guard import FORM, GB, MOST_JSON, POLICY, Guard, too_large

LIMIT = 1000


def ask(folder, path="/", method="GET", body=b"", kind=None, length=None):
    """(status, headers, body) of a request; the application behind says what it got."""
    messages, headers = [], []
    if kind:
        headers.append((b"content-type", kind.encode()))
    if length is not None or body:
        headers.append((b"content-length", str(len(body) if length is None else length).encode()))
    halves = [
        {"type": "http.request", "body": body[: len(body) // 2], "more_body": True},
        {"type": "http.request", "body": body[len(body) // 2 :], "more_body": False},
    ]

    async def receive():
        return halves.pop(0)

    async def send(message):
        messages.append(message)

    async def application(scope, receive, send):
        got, more = b"", True
        while more:
            message = await receive()
            got, more = got + message["body"], message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": got})

    scope = {"type": "http", "path": path, "method": method, "headers": headers}
    asyncio.run(Guard(application, folder, LIMIT)(scope, receive, send))
    return messages[0]["status"], dict(messages[0]["headers"]), messages[1]["body"]


def sentence(answer, status):
    assert answer[0] == status
    return json.loads(answer[2])["detail"]


def test_files_of_the_folder_pass_and_no_others(folder, tmp_path):
    inside = folder.new_file("a b.mp4")
    inside.write_bytes(b"x")
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(b"x")
    for route in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/prefix/gradio_api/file="):
        assert ask(folder, f"{route}{inside}")[0] == 200
        names = [outside, "/etc/passwd", f"{folder.path}/../outside.mp4", "pyproject.toml", "http://example.org/x", ""]
        names += [f"{folder.path}/%2e%2e/outside.mp4", f"{folder.path}/..%2foutside.mp4", "x\0y"]
        for name in names:
            assert "only files that were uploaded or made on this page" in sentence(ask(folder, f"{route}{name}"), 403)
    assert "other servers" in sentence(ask(folder, "/gradio_api/proxy=http://example.org/x"), 403)


def test_an_upload_that_says_it_is_too_large_is_not_read(folder):
    form = "multipart/form-data; boundary=x"
    assert too_large(2 * GB, GB) == "the file is 2 GB, and this page takes up to 1 GB: cut or compress it first"
    answer = ask(folder, "/gradio_api/upload", "POST", kind=form, length=2 * GB)
    assert sentence(answer, 413) == too_large(2 * GB, LIMIT)
    assert ask(folder, "/gradio_api/upload", "POST", b"x" * 500, form)[2] == b"x" * 500
    assert ask(folder, "/gradio_api/upload", "POST", b"x", form, length=LIMIT + FORM)[0] == 200


def test_only_uploads_may_be_named(folder):
    inside = folder.new_file("x.mp4")

    def press(data):
        return ask(folder, "/gradio_api/queue/join", "POST", json.dumps({"data": data}).encode(), "application/json")

    def says(answer):
        return sentence(answer, 422)[0]["message"]

    record = {"path": str(inside), "url": f"http://127.0.0.1:7860/gradio_api/file={inside}", "orig_name": "a/b.mp4"}
    fine = [record, {"video": record}, 20, None, "index:1", str(inside)]
    assert json.loads(press(fine)[2]) == {"data": fine}
    for path in ("http://example.org/x.mp4", "file:///etc/passwd", "ftp://x/y"):
        assert says(press([None, {"value": [{"path": path}]}])).startswith(f"{path} is an address: upload the file")
    for path in ("/etc/passwd", f"{folder.path}/../x", "../x", "x.mp4"):
        assert says(press([{"path": path}])) == f"{path} was not uploaded on this page: upload it"
    assert "/etc/passwd was not" in says(press(["/etc/passwd"])) and "not uploaded" in says(press([["a\\b"]]))


@pytest.mark.parametrize("body, status", [(b"{", 400), (b"[" * 100_000, 400), (b'"' + b"x" * MOST_JSON + b'"', 413)])
def test_requests_that_are_none(folder, body, status):
    assert sentence(ask(folder, "/gradio_api/queue/join", "POST", body, "application/json; charset=utf-8"), status)


def test_every_answer_tells_the_browser_to_ask_nobody_else(folder):
    for answer in (ask(folder), ask(folder, "/file=/etc/passwd")):
        assert answer[1][b"content-security-policy"] == POLICY.encode()
        assert answer[1][b"x-content-type-options"] == b"nosniff"
    assert "http:" not in POLICY and "https:" not in POLICY and "*" not in POLICY
