"""The page under many visitors, half of whom vanish at random moments (Linux).

    python benchmarks/page_load.py [--minutes 3] [--visitors 40]

Starts the page in a process of its own, with the embedded model, and sends it the sample clip at one step. Prints the
page's memory at the start, after the first third of the time and in the last one, and what became of the visitors.
Exits with 1 if the memory is not flat, a visitor was neither served nor told why not, or a file is left.
"""

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from latentsync.models.samples import find_sample
from latentsync.ui.controls import run_options, shown_controls
from latentsync.ui.models import SAMPLE

API = "/gradio_api"
QUICK = {"inference_steps": 1, "guidance_scale": 1}
QUEUE = 8  # visitors in the line; there is always one to be told that it is full
FLAT = 1.1  # times as much memory in the last third as in the first


class Load:
    """Visitors of the page at `address` until `end`, a time of `time.monotonic`; `count` says what became of them."""

    def __init__(self, client: httpx.AsyncClient, end: float):
        self.client, self.end, self.count = client, end, Counter()
        options = {control.name: run_options()[control.name].default for control in shown_controls(restoration=False)}
        self.settings = list((options | QUICK).values())

    async def come_and_go(self, number: int) -> None:
        """One visitor after the other; those of even numbers vanish within half a minute, wherever they are then."""
        chance = random.Random(number)
        while time.monotonic() < self.end:
            vanishes = number % 2 == 0
            try:
                visit = self.visit(f"visitor{number}x{chance.getrandbits(40)}")
                self.count[await asyncio.wait_for(visit, chance.uniform(0, 30) if vanishes else 1200)] += 1
            except asyncio.TimeoutError:
                self.count["vanished" if vanishes else "neither served nor told"] += 1
            except httpx.HTTPError as error:
                self.count[f"neither served nor told ({type(error).__name__})"] += 1
            await asyncio.sleep(chance.uniform(0, 5))

    async def visit(self, session: str) -> str:
        """As a browser does it: upload two files, press Run, watch, fetch the result."""
        sample = find_sample(SAMPLE)
        there = asyncio.create_task(self.listen(f"{API}/heartbeat/{session}"))
        try:
            files = []
            for path in (sample.video, sample.voices[0]):
                answer = await self.client.post(f"{API}/upload", files={"files": (path.name, path.read_bytes())})
                if answer.status_code != 200:
                    return told(answer.json()["detail"])
                files.append({"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}})
            call = {"data": [*files, *self.settings], "fn_index": self.run, "session_hash": session}
            answer = await self.client.post(f"{API}/queue/join", json=call)
            if answer.status_code != 200:
                return told(answer.json()["detail"])
            message = await self.listen(f"{API}/queue/data", "process_completed", session_hash=session)
            if not message["success"]:
                return told(message["output"]["error"])
            path = message["output"]["data"][2]["value"]["path"]
            result = await self.client.get(f"{API}/file={path}")
            return "served" if result.content[4:8] == b"ftyp" else "error: no result"
        finally:
            there.cancel()

    async def listen(self, path: str, until: str = "", **query: str) -> dict:
        """The message `until` of a stream of events, or all for as long as the stream is open."""
        async with self.client.stream("GET", path, params=query) as events:
            async for line in events.aiter_lines():
                if until and until in line:
                    return json.loads(line.removeprefix("data: "))
        raise httpx.RemoteProtocolError("the events ended")

    async def all_visitors(self, visitors: int) -> None:
        config = (await self.client.get("/config")).json()
        self.run = next(call["id"] for call in config["dependencies"] if call["api_name"] == "lip_sync")
        await asyncio.gather(*(self.come_and_go(number) for number in range(visitors)))


def told(sentence: str) -> str:
    """A refusal, before or after the line; all that a visitor may be told here is that there is no room."""
    return f"told: {sentence}" if "try again later" in sentence else f"error: {sentence}"


def memory(pid: int) -> float:
    """MB that a process has in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def measured(address: str, pid: int, minutes: float, visitors: int) -> tuple[Counter, list[float]]:
    """What became of the visitors, and the memory at the start, at most in the first third, and in the last."""
    begin, seen = time.monotonic(), [(0.0, memory(pid))]
    # A browser has a connection of its own for everything that it waits for.
    async with httpx.AsyncClient(base_url=address, timeout=None, limits=httpx.Limits(max_connections=None)) as client:
        load = Load(client, begin + 60 * minutes)
        work = asyncio.create_task(load.all_visitors(visitors))
        while not work.done():
            await asyncio.wait([work], timeout=1)
            with suppress(FileNotFoundError):
                seen.append((time.monotonic() - begin, memory(pid)))
        await work
    third = seen[-1][0] / 3
    first, last = ([mb for at, mb in seen if low <= at <= high] for low, high in ((0, third), (2 * third, 3 * third)))
    return load.count, [seen[0][1], max(first), max(last)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--visitors", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", "latentsync", "ui", "--port=0", f"--folder={kept}", "--checkpoints=embedded"]
        command += ["--device=cpu", f"--max_queue={QUEUE}"]
        page = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            address = re.search(r"http://\S+", page.stdout.readline())[0].rstrip("/")
            count, mbs = asyncio.run(measured(address, page.pid, arguments.minutes, arguments.visitors))
            files = [path for path in Path(kept).rglob("*") if path.is_file()]
            unfinished = [path for path in files if path.suffix == ".part" or path.name.startswith("tmp")]
            size = sum(path.stat().st_size for path in files) / 2**20
        finally:
            page.terminate()
            page.wait(120)
        left = list(Path(kept).iterdir())
        log.seek(0)
        faults = Counter(re.findall(r"^Traceback.*\n(?:[ \t].*\n|\n)*(.+)", log.read(), re.MULTILINE))
    print("memory in MB: {:.0f} at the start, at most {:.0f} in the first third, {:.0f} in the last".format(*mbs))
    for what, number in sorted(count.items()):
        print(f"{number} {what}")
    print(
        f"{size:.0f} MB in {len(files)} files while it ran, {len(unfinished)} unfinished; {len(left)} left at the end"
    )
    for fault, number in faults.items():
        print(f"{number} times in the page's log: {fault}")
    good = all(what.startswith(("served", "told", "vanished")) for what in count) and count["served"] > 0
    return int(not good or bool(faults or unfinished or left) or mbs[2] > FLAT * mbs[1])


if __name__ == "__main__":
    sys.exit(main())
