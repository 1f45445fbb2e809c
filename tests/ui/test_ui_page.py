"""The page as a browser and a program see it: gradio's own server on a free port, and a real model."""

import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import gradio
import gradio_client
import httpx
import pytest
import small_page
from embedded_weights import packaged
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from media_clips import encode_audio, read_all, stream_seconds, tone

from latentsync.commands.ui import free_port
from latentsync.ui.folder import Folder
from latentsync.ui.models import ModelCache
from latentsync.ui.page import build_page, launch
from latentsync.ui.visitors import Sessions
from latentsync.ui.work import Result

LIMIT = 300_000  # bytes, a little more than the files of the sample clip
QUICK = {"inference_steps": 1, "guidance_scale": 1}


@contextmanager
def serving(parent, **options):
    """(address, visits) of a page with the embedded model."""
    folder = Folder(parent)
    visits = Sessions(ModelCache(small_page.options()), folder, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder.path))
        patch.setenv("GRADIO_EXAMPLES_CACHE", str(folder.path / "examples"))
        page = build_page(gradio, visits, LIMIT)
        server = {"server_name": "127.0.0.1", "server_port": free_port("127.0.0.1", 0), "inbrowser": False}
        yield launch(gradio, page, visits, LIMIT, **server).rstrip("/"), visits
        page.close(verbose=False)
    visits.close()
    folder.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("page")) as page:
        yield page


def connected(served):
    patient = {"timeout": 120}
    return gradio_client.Client(served[0], verbose=False, analytics_enabled=False, httpx_kwargs=patient)


@pytest.fixture
def client(served):
    client = connected(served)
    yield client
    client.close()


@pytest.fixture
def voice(tmp_path):
    encode_audio(tmp_path / "voice.wav", "pcm_s16le", tone(0.24, 16000), 16000)
    return tmp_path / "voice.wav"


@pytest.fixture
def sample(client):
    """Paths of the sample clip on the server."""
    return [result["video"] if isinstance(result, dict) else result for result in client.predict(api_name="/sample")]


def video_file(path):
    """A video for a program to send: gradio 5 has it in a record of its own."""
    file = handle_file(str(path))
    return {"video": file} if gradio.__version__.startswith("5.") else file


def press(served, video, **given):
    """The answer to a request as a program sends it that knows no rules."""
    _, visits = served
    data = [video, None, *small_page.values(visits, **given)]
    return httpx.post(f"{served[0]}/gradio_api/call/lip_sync", json={"data": data}, timeout=60)


def test_the_page_says_what_it_works_with(served):
    page = httpx.get(served[0], timeout=60)
    assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
    assert "No checkpoint here" in page.text and "python -m latentsync download" in page.text
    assert '"analytics_enabled":false' in page.text.replace(" ", "")


def test_programs_call_settings_by_the_names_of_run(client, served):
    endpoint = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/lip_sync"]
    names = [parameter["parameter_name"] for parameter in endpoint["parameters"]]
    assert names == ["video", "audio", *(control.name for control in served[1].controls)]


@packaged
def test_a_run_with_the_embedded_model(client, sample, voice):
    """Progress is told, and the result has the new sound's length, with a player beside it."""
    files = {"video": video_file(sample[0]), "audio": handle_file(str(voice))}
    job = client.submit(**files, **QUICK, api_name="/lip_sync")
    status, player, download = job.result(300)[:3]
    # Which phases are caught depends on when the page looks.
    assert any("<progress" in str(output[0]) for output in job.outputs())
    assert "6 frames at 25 per second, the face is in 6 of them" in status
    assert player["value"].startswith('<latentsync-player before="gradio_api/file=')
    result = download["value"]
    assert read_all(result).shape == (6, 320, 320, 3) and abs(stream_seconds(result, "audio") - 0.24) < 0.05


@packaged
def test_a_visitor_cancels_his_own_run_and_nobody_elses(served, client, sample, voice):
    other, visits = connected(served), served[1]
    files = {"video": video_file(sample[0]), "audio": handle_file(str(voice))}
    before = small_page.everything(visits.folder.path)
    first = client.submit(**files, inference_steps=100, api_name="/lip_sync")
    wait_for(lambda: "of 6 frames" in said(first))
    second = other.submit(**files, **QUICK, api_name="/lip_sync")
    wait_for(lambda: "Waiting: one run is ahead of yours" in said(second))
    other.predict(api_name="/cancel")
    assert "Cancelled" in second.result(60)[0] and not first.done()
    client.predict(api_name="/cancel")
    assert "Cancelled" in first.result(60)[0]
    left = small_page.everything(visits.folder.path) - before
    assert not [path for path in left if "lipsync" in path or path.endswith(".part")]
    other.close()


def said(job) -> str:
    """All that the page said so far."""
    return "".join(str(output[0]) for output in job.outputs())


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_text_named_mp4_is_refused_in_a_sentence(client, served, voice, tmp_path):
    (tmp_path / "text.mp4").write_bytes(b"this is not a video\n" * 100)
    files = {"video": video_file(tmp_path / "text.mp4"), "audio": handle_file(str(voice))}
    with pytest.raises(AppError) as error:
        client.predict(**files, api_name="/lip_sync")
    assert str(error.value) == "text.mp4 is not readable as video: it is damaged, incomplete or not a media file"


@pytest.mark.parametrize("given", [{"inference_steps": 10_000}, {"crf": "much"}])
def test_a_wrong_setting_is_refused_in_a_sentence(client, sample, voice, given):
    with pytest.raises(AppError) as error:
        client.predict(video=video_file(sample[0]), audio=handle_file(str(voice)), **given, api_name="/lip_sync")
    assert str(error.value) and "Traceback" not in str(error.value) and "latentsync_ui" not in str(error.value)


def test_files_outside_the_folder_are_refused(served, tmp_path):
    address, visits = served
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    sly = ["/etc/passwd", "pyproject.toml", str(tmp_path / "secret.mp4"), f"{visits.folder.path}/../secret.mp4"]
    for path in sly:
        assert httpx.get(f"{address}/gradio_api/file={path}", timeout=60).status_code == 403
        answer = press(served, {"path": path, "meta": {"_type": "gradio.FileData"}})
        assert answer.status_code == 422 and f"{path} was not uploaded on this page" in answer.text
    for path in ("https://example.org/clip.mp4", "file:///etc/passwd"):
        answer = press(served, {"path": path, "meta": {"_type": "gradio.FileData"}})
        assert answer.status_code == 422 and "is an address: upload the file itself" in answer.text
    assert "was not uploaded" in press(served, "/etc/passwd").text


def test_uploads_are_taken_up_to_the_limit(served):
    address, visits = served

    def send(size):
        return httpx.post(f"{address}/gradio_api/upload", files={"files": ("big.mp4", b"x" * size)}, timeout=60)

    assert visits.folder.holds(send(LIMIT).json()[0])
    before = small_page.everything(visits.folder.path)
    answer = send(LIMIT + 1)
    assert answer.status_code == 413 and f"{LIMIT} bytes" in answer.text
    answer = send(LIMIT + 2**21)
    assert answer.status_code == 413 and "this page takes up to 0.286 MB" in answer.json()["detail"]
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as cut_off:
        form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n' + b"x" * 100_000
        head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 200000\r\n"
        cut_off.sendall(head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + form)
        wait_for(lambda: small_page.everything(visits.folder.path) != before)
    wait_for(lambda: small_page.everything(visits.folder.path) == before)


def test_a_line_of_visitors_some_of_whom_vanish(tmp_path, monkeypatch):
    """The ninth and tenth are told that the line is full; those who stay are served, and nothing else is left."""
    now, going = [0.0], threading.Event()

    def stand_in(job, nets, folder, request):
        while not going.wait(0.01):
            job.progress("syncing", 0, 12)
        result = shutil.copyfile(request.video, folder.new_file("result.mp4"))
        return Result(result, request.video, "12 frames")

    monkeypatch.setattr("latentsync.ui.visitors.speak", stand_in)
    with serving(tmp_path, most=8, clock=lambda: now[0]) as (address, visits), ThreadPoolExecutor() as browsers:
        api = f"{address}/gradio_api"

        def come(number):
            # Some give a name of their own, and wait under the event's all the same.
            session = {"session_hash": f"visitor{number}"} if number % 3 == 0 else {}
            return httpx.post(f"{api}/call/lip_sync", json={"data": data, **session}, timeout=60)

        def news(event, stays):
            with httpx.stream("GET", f"{api}/call/lip_sync/{event}", timeout=120) as answer:
                lines = answer.iter_lines()
                return next((line for line in lines if "complete" in line), "") if stays else next(lines)

        files = [str(path) for path in visits.sample()]
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in files] + small_page.values(visits)
        events = []
        for number in range(8):
            events.append(come(number).json()["event_id"])
            wait_for(lambda: len(visits.queue._jobs) == len(events))
        for number in (8, 9):
            answer = come(number)
            assert answer.status_code == 429 and answer.json()["detail"].startswith("8 runs are waiting")
        waiting = [browsers.submit(news, event, True) for event in events[:4]]
        for event in events[4:6]:  # the last two do not even look
            news(event, False)
        wait_for(lambda: set(visits.presence._waiting) == set(events[:4]))
        now[0] += 5
        wait_for(lambda: all(job.seen == now[0] for job in visits.queue._jobs[:4]))
        now[0] += 6
        wait_for(lambda: len(visits.queue._jobs) == 4)
        going.set()
        assert [browser.result(120) for browser in waiting] == ["event: complete"] * 4
        wait_for(lambda: not visits.presence._waiting)
        assert not visits._jobs and not visits.queue._jobs
        left = [path.rpartition("/")[2] for path in small_page.everything(visits.folder.path)]
        assert sorted(left).count("result.mp4") == 4 and len(left) == 4 + len(files) + 1  # its lock
    assert list(tmp_path.iterdir()) == []
