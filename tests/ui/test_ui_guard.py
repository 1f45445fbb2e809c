"""What stands before gradio, with a small application behind it."""

import asyncio
import json
import types

import pytest

from latentsync.ui.folder import GB, FolderFull
from latentsync.ui.guard import FORM, MOST_JSON, POLICY, Guard, Hosts, too_large
from latentsync.ui.visitors import Presence

LIMIT = 1000
HERE = "127.0.0.1:7860"
JSON = "application/json"
JOIN = "/gradio_api/queue/join"
UPLOAD = "/gradio_api/upload"


@pytest.fixture
def ask(folder):
    """(status, headers, body) of a request; the application behind says what it got."""
    visits = types.SimpleNamespace(folder=folder, presence=Presence(), queue=types.SimpleNamespace(full=""))

    def ask(path="/", body=None, kind=None, length=None, host=HERE, hosts=None, method=None, **more):
        messages = []
        headers = [] if host is None else [(b"host", host.encode())]
        headers += [(b"content-type", kind.encode())] if kind else []
        if length is not None or body:
            headers.append((b"content-length", str(len(body) if length is None else length).encode()))
        for name, values in more.items():
            values = [values] if isinstance(values, str) else values
            headers += [(name.replace("_", "-").encode(), value.encode()) for value in values]
        method, body = method or ("GET" if body is None else "POST"), body or b""
        halves = [(body[: len(body) // 2], True), (body[len(body) // 2 :], False)]

        async def receive():
            half, more_body = halves.pop(0)
            return {"type": "http.request", "body": half, "more_body": more_body}

        async def send(message):
            messages.append(message)

        async def application(scope, receive, send):
            ask.there = set(visits.presence._waiting)
            got, more = b"", True
            while more:
                message = await receive()
                got, more = got + message["body"], message["more_body"]
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": got})

        path, _, query = path.partition("?")
        scope = {"type": "http", "path": path, "method": method, "headers": headers, "query_string": query.encode()}
        guard = Guard(application, visits, LIMIT, hosts or Hosts("127.0.0.1"), {"lip_sync", "show_faces", 0, 1})
        asyncio.run(guard(scope, receive, send))
        return messages[0]["status"], dict(messages[0]["headers"]), messages[1]["body"]

    ask.visits = visits
    return ask


def sentence(answer, status):
    assert answer[0] == status
    detail = json.loads(answer[2])["detail"]
    return detail[0]["message"] if status == 422 else detail


def test_files_of_the_folder_pass_and_no_others(ask, folder, tmp_path):
    inside = folder.new_file("a b.mp4")
    inside.write_bytes(b"x")
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(b"x")
    for route in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/prefix/gradio_api/file="):
        assert ask(f"{route}{inside}")[0] == ask(f"{route}{inside}", method="HEAD")[0] == 200
        names = [outside, "/etc/passwd", f"{folder.path}/../outside.mp4", "pyproject.toml", "http://example.org/x", ""]
        names += [f"{folder.path}/%2e%2e/outside.mp4", f"{folder.path}/..%2foutside.mp4", "x\0y"]
        for name in names:
            assert "only files that were uploaded or made on this page" in sentence(ask(f"{route}{name}"), 403)
    assert "other servers" in sentence(ask("/gradio_api/proxy=http://example.org/x"), 403)


def test_an_upload_says_how_long_it_is_and_has_room(ask, folder):
    form = "Multipart/Form-Data; boundary=x"
    assert too_large(2 * GB, GB) == "the file is 2 GB, and this page takes up to 1 GB: cut or compress it first"
    assert sentence(ask(UPLOAD, b"", form, length=2 * GB), 413) == too_large(2 * GB, LIMIT)
    assert ask(UPLOAD, b"x" * 500, form)[2] == b"x" * 500
    assert ask(UPLOAD, b"x", form, length=LIMIT + FORM)[0] == 200
    assert ask(UPLOAD, b"x", form, length=LIMIT + FORM + 1)[0] == 413
    for unknown in ("", "-1", "1e3"):
        assert "send it with a Content-Length" in sentence(ask(UPLOAD, b"x", form, length=unknown), 411)
    assert ask(UPLOAD, b"x", form, transfer_encoding="chunked")[0] == 411
    folder.quota = 999
    assert ask(UPLOAD, b"x", form, length=999)[0] == ask(UPLOAD, b"x", form, length=999)[0] == 200
    assert "this page keeps at most" in sentence(ask(UPLOAD, b"x", form, length=1000), 507)
    with folder.room(1), pytest.raises(FolderFull), folder.room(999):
        pass


@pytest.mark.parametrize(
    "kind",
    ["application/x+json", "application/vnd.api+json", "text/json", "text/plain", "application/jsonp", "json", "", " ",
     "application/x-www-form-urlencoded", "application/octet-stream", ";application/json", "application/json,text/json",
     "multipart/form-data; boundary=x", "multipart/mixed; boundary=x", "application/json\tx", "*/*"],
)  # fmt: skip
def test_other_types_are_not_taken(ask, kind):
    for path in (JOIN, "/gradio_api/call/lip_sync", "/gradio_api/component_server", "/gradio_api/process_recording"):
        assert "is not taken: send application/json, or an upload" in sentence(ask(path, b'{"data": []}', kind), 415)


@pytest.mark.parametrize(
    "kind", [JSON, "Application/JSON", "application/json;charset=utf-16", " application/json ; x=y"]
)
def test_only_uploads_may_be_named(ask, folder, kind):
    inside = folder.new_file("x.mp4")
    coded = "utf-16" if "utf-16" in kind else "utf-8"  # gradio guesses it as json.loads does

    def press(data, path=JOIN):
        return ask(path, json.dumps(data).encode(coded), kind)

    record = {"path": str(inside), "url": f"http://127.0.0.1:7860/gradio_api/file={inside}", "orig_name": "a/b.mp4"}
    fine = {"data": [record, {"video": record}, 20, None, "index:1", str(inside)]}
    assert json.loads(press(fine)[2]) == fine
    for path in ("http://example.org/x.mp4", "file:///etc/passwd", "ftp://x/y"):
        says = sentence(press({"data": [None, {"value": [{"path": path}]}]}), 422)
        assert says.startswith(f"{path} is an address: upload the file itself")
        assert "is an address" in sentence(press({"data": [{"url": path}]}), 422)
    for path in ("/etc/passwd", f"{folder.path}/../x", "../x", "x.mp4", ""):
        assert sentence(press({"data": [{"path": path}]}), 422) == f"{path} was not uploaded on this page: upload it"
    # As text, by name (gradio's /call/v2), outside of "data", and in a list.
    for sly in ({"data": ["/etc/passwd"]}, {"video": "/etc/passwd"}, {"event_data": [["a\\b"]]}, [{"path": "x"}], "/x"):
        assert "was not uploaded" in sentence(press(sly, "/gradio_api/call/v2/lip_sync"), 422)


@pytest.mark.parametrize(
    "body, status",
    [(b"", 400), (b"{", 400), (b"1" * 5000, 400), (b"[" * 100_000, 400), (b"[" * 800 + b"]" * 800, 400),
     (b'"' + b"x" * (MOST_JSON - 2) + b'"', 200), (b'"' + b"x" * (MOST_JSON - 1) + b'"', 413)],
)  # fmt: skip
def test_requests_that_are_none(ask, body, status):
    assert ask(JOIN, body, f"{JSON}; charset=utf-8")[0] == status


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "post", "PROPFIND"])
def test_methods_that_gradio_has_not(ask, method):
    assert "this page knows no" in sentence(ask(JOIN, b"{}", JSON, method=method), 405)


GOOD = [HERE, "localhost:7860", "LOCALHOST", "localhost:8888", "[::1]:7860", "127.0.0.1"]
REBOUND = ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.org", "127.0.0.1@evil.org",
           "evil.example@127.0.0.1", "192.168.1.5:7860", "127.0.0.1:7860:80", "127.0.0.1:", "", None, "[::2]", "0x7f.1",
           "localhost/evil", "localhost evil", "::1"]  # fmt: skip


@pytest.mark.parametrize("host, status", [*((host, 200) for host in GOOD), *((host, 403) for host in REBOUND)])
def test_a_page_of_this_machine_is_called_by_its_name(ask, host, status):
    for answer in (ask("/", host=host), ask(JOIN, b"{}", JSON, host=host)):
        assert answer[0] == status and (status == 200 or "start it with --allow_host" in sentence(answer, 403))


def test_other_pages_are_called_as_they_were_started(ask, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Studio.lan")
    everywhere, one, named = Hosts("0.0.0.0"), Hosts("192.168.1.5"), Hosts("127.0.0.1", ["Sync.Example"])
    known = {
        "192.168.1.5:7860": (everywhere, one), "10.0.0.1": (everywhere,), "[fe80::1]:7860": (everywhere,),
        "studio.lan": (everywhere, one), "studio.local:7860": (everywhere, one), "localhost": (everywhere, one, named),
        "sync.example": (named,), "evil.example": (), "192.168.1.5.evil.example": (),
    }  # fmt: skip
    for host, good in known.items():
        for hosts in (everywhere, one, named):
            assert ask("/", host=host, hosts=hosts)[0] == (200 if hosts in good else 403)
    # A server in front calls the page by an address of its own, and the browser tells where it is.
    assert ask(JOIN, b"{}", JSON, hosts=named, origin="https://sync.example")[0] == 200
    assert ask(JOIN, b"{}", JSON, hosts=named, origin="https://sync.example.evil")[0] == 403


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"origin": f"http://{HERE}"}, 200),
        ({"origin": f"HTTP://{HERE}", "sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "none"}, 200),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:3000"}, 403),  # another program of this machine
        ({"origin": "http://localhost:7860"}, 403),
        ({"origin": "http://127.0.0.1:78601"}, 403),
        ({"origin": f"http://evil.example@{HERE}"}, 403),
        ({"origin": f"http://{HERE}.evil.example"}, 403),
        ({"origin": [f"http://{HERE}", "http://evil.example"]}, 400),
        ({"host": None}, 403),
        ({"content_type": "text/plain"}, 400),  # beside the right one
        ({"content_length": "7"}, 400),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors"}, 403),
    ],
)
def test_other_sites_cannot_press_buttons_or_upload(ask, headers, status):
    for path, kind in ((JOIN, JSON), (UPLOAD, "multipart/form-data; boundary=x")):
        assert ask(path, b"{}", kind, **headers)[0] == status


def test_a_link_leads_to_the_page(ask):
    assert ask("/", sec_fetch_site="cross-site", sec_fetch_mode="navigate")[0] == 200
    assert ask("/gradio_api/info", sec_fetch_site="cross-site", sec_fetch_mode="no-cors")[0] == 403


def test_a_long_line_is_told_before_the_work(ask):
    ask.visits.queue.full = "9 runs are waiting"
    begins = [(JOIN, {"fn_index": 0}), (JOIN, {"fn_index": 1}), ("/gradio_api/call/lip_sync", {"data": []}),
              ("/gradio_api/call/v2/show_faces/", {})]  # fmt: skip
    for path, content in begins:
        assert sentence(ask(path, json.dumps(content).encode(), JSON), 429) == "9 runs are waiting"
    for content in ({"fn_index": 2}, {"fn_index": [0]}, [0], {}):
        assert ask(JOIN, json.dumps(content).encode(), JSON)[0] == 200


@pytest.mark.parametrize(
    "path, names",
    [("/gradio_api/queue/data?session_hash=abc", {"abc"}), ("/gradio_api/heartbeat/abc", {"abc"}),
     ("/gradio_api/call/lip_sync/abc/", {"abc"}), ("/gradio_api/queue/data", set()), ("/", set())],
)  # fmt: skip
def test_who_waits_for_news_is_there(ask, path, names):
    assert ask(path)[0] == 200 and ask.there == names
    assert not ask.visits.presence._waiting


def test_websockets_are_closed(folder):
    sent = []

    async def send(message):
        sent.append(message["type"])

    asyncio.run(Guard(None, None, LIMIT, None, ())({"type": "websocket"}, None, send))
    assert sent == ["websocket.close"]


def test_every_answer_tells_the_browser_to_ask_nobody_else(ask):
    for answer in (ask(), ask("/file=/etc/passwd"), ask(host="evil.example")):
        assert answer[1][b"content-security-policy"] == POLICY.encode()
        assert answer[1][b"x-content-type-options"] == b"nosniff"
    assert "http:" not in POLICY and "https:" not in POLICY and "*" not in POLICY
