"""How fast the console is with many workflows, and what it costs the routers beside it.

    python bench/console.py [--workflows 100000] [--rounds 12] [--rate 1000] [--load-s 40]
                            [--played 3000] [--folder FOLDER]

Owns the stopwatch. The console is a process of its own and is asked over HTTP; the log
(`bench/console_log.py`) is on SQLite. Four parts, about three minutes on a machine with nothing
else to do:

    browser  somebody in Chromium filters the list, turns its pages to the end, and opens a workflow
    pages    how long each takes while nothing happens, and the console's processor time
    load     the same while a process appends decisions at the rate, and how long it takes from an
             append until an open tab shows it: the event, and the page that is fetched for it
    router   workflows a second, and the router's processor time of each, without a console, with
             one that has a tab open, and with one that is stopped (SIGSTOP)
"""

import argparse
import asyncio
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import apsw
import console_log
import httpx
import steps
from cpu_time import cpu_us

sys.path[:0] = [str(steps.ROOT / "tests")]

from chromium import Browser, chromium_path  # noqa: E402 - needs the path above

from mesh.codec.cloudevents import to_record  # noqa: E402 - as above
from mesh.core.ids import run_id, task_id  # noqa: E402 - as above
from mesh.settings import load_settings  # noqa: E402 - as above
from mesh.wiring import make_topics, open_broker  # noqa: E402 - as above

WHO = "olga@example.org"
OWN = {"sec-fetch-site": "same-origin"}
IDLE_S = 6.0
WAIT_S = 300.0
WARM_UP = 500


class Console:
    """`mesh console` in a process of its own, and a browser that is signed in there."""

    def __init__(self, broker_url: str, folder: Path, **more: str) -> None:
        self._log = folder / "console.log"
        environment = {
            **os.environ,
            "MESH_BROKER": broker_url,
            "MESH_DATA_DIR": str(folder / "data"),
            "MESH_APPROVERS": str(folder / "approvers.yaml"),
            "MESH_DURABILITY": "normal",
            "MESH_CONSOLE_ADDRESS": "127.0.0.1:0",
            "PYTHONPATH": str(steps.ROOT),
            **more,
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mesh", "console", "--dev-login", WHO], env=environment, stdout=log, stderr=log
            )

    async def sign_in(self) -> httpx.AsyncClient:
        """A client with a session, once the console has read the log."""
        end = time.monotonic() + WAIT_S
        link = await self.link(end)
        client = httpx.AsyncClient(base_url=link[1], timeout=WAIT_S, headers=OWN)
        assert (await client.post("/login", data={"code": link[2]})).status_code == 303
        while (await client.get("/health/ready")).status_code != 200:
            assert time.monotonic() < end, self._log.read_text()
            await asyncio.sleep(0.05)
        return client

    async def link(self, end: float) -> re.Match[str]:
        """The link to sign in: its address and its code."""
        while (link := re.search(r"(http://\S+)/login\?code=(\S+)", self._log.read_text())) is None:
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < end, self._log.read_text()
            await asyncio.sleep(0.05)
        return link

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(WAIT_S)


@contextmanager
def console_of(broker_url: str, folder: Path, **more: str) -> Iterator[Console]:
    console = Console(broker_url, folder, **more)
    try:
        yield console
    finally:
        console.close()


def pages(count: int) -> dict[str, str]:
    """Each page once, with the filters that matter."""
    workflow = console_log.workflow
    stuck, asking = workflow(count // 20 // 2 * 20 + 14), workflow(count // 20 // 2 * 20 + 15)
    asked = task_id(asking, run_id(console_log.SOURCE, f"e{count // 20 // 2 * 20 + 15}"), "review")
    return {
        "overview": "/",
        "overview, 7 days": "/?span=7d",
        "approvals": "/approvals?for=all",
        "approvals of a role": "/approvals?for=all&role=legal&due=7d",
        "answered approvals": "/approvals?state=closed&for=all",
        "one approval": f"/approval?id={quote(asked, safe='')}",
        "edit it": f"/approval?id={quote(asked, safe='')}&edit=1",
        "workflows": "/workflows",
        "workflows with an incident": "/workflows?state=incident",
        "workflows of a route, ended": "/workflows?route=invoices&state=ended",
        "workflows at a step": "/workflows?step=review",
        "workflows, rare word": f"/workflows?q=%23{count - 7}",
        "workflows, common word": "/workflows?q=octo",
        "one workflow": f"/workflow?id={quote(stuck, safe='')}",
        "incidents": "/incidents",
        "dead letters": "/dead-letters",
        "agents": "/agents",
        "operations": "/operations",
    }


# A browser ----------------------------------------------------------------------------------------


def browse(link: str, count: int) -> None:
    """Filter, turn all pages, open one workflow: each by a click, until the page is there."""
    walls, seen = list[float](), set[str]()

    def timed(act: Callable[[], None]) -> None:
        begin = time.perf_counter()
        act()
        walls.append((time.perf_counter() - begin) * 1_000)

    with Browser() as page:
        page.go(link)
        page.press_to_leave("button", "Sign in")
        timed(lambda: page.press_to_leave("link", "Workflows"))
        page.wait_text(f"{count:,}")
        page.write("Route", "invoices")
        page.write("Part of an id", "#99", role="searchbox")
        timed(lambda: page.press_to_leave("button", "Filter"))
        while True:
            table = page.see("table")
            seen |= {one.name for one in page.find("link", within=table)}
            if not page.find("link", "Next page"):
                break
            timed(lambda: page.press_to_leave("link", "Next page"))
        fit = {number for number in range(1, count, len(console_log.ROUTES)) if str(number).startswith("99")}
        # an id has two parts, of which the first may be cut off: they are read with a space between
        assert {one.replace(" ", "") for one in seen} == {f"octo/repo#{number}" for number in fit}, sorted(seen)[:3]
        last = page.find("link", within=page.see("table"))[-1].name
        timed(lambda: page.press_to_leave("link", last, within=page.see("table")))
        page.see("heading", "Timeline")
    print(
        f"a browser, from a click to the page: p50 {statistics.median(walls):.0f} ms, max {max(walls):.0f} ms of {len(walls)}"
    )


# Pages --------------------------------------------------------------------------------------------


async def measure_pages(console: Console, client: httpx.AsyncClient, count: int, rounds: int) -> None:
    pid, begin = console.process.pid, time.perf_counter()
    before = cpu_us(pid)
    await asyncio.sleep(IDLE_S)
    rate = (cpu_us(pid) - before) / (time.perf_counter() - begin) / 1e6
    print(f"idle: {rate:.0%} of a core")
    print(f"{'page':<32} {'p50 ms':>8} {'p95 ms':>8} {'CPU ms':>8} {'KB':>6}")
    for name, path in pages(count).items():
        walls, size, before = [], 0, cpu_us(pid)
        for _ in range(rounds):
            took_ms, size = await page(client, path)
            walls.append(took_ms)
        cpu_ms = ((cpu_us(pid) - before) / 1_000 - rate * sum(walls)) / rounds
        print(f"{name:<32} {statistics.median(walls):>8.1f} {p95(walls):>8.1f} {cpu_ms:>8.1f} {size / 1_024:>6.0f}")


async def page(client: httpx.AsyncClient, path: str) -> tuple[float, int]:
    """How long it took, and its bytes."""
    begin = time.perf_counter()
    answer = await client.get(path)
    assert answer.status_code == 200, (path, answer.status_code, answer.text[:2_000])
    return (time.perf_counter() - begin) * 1_000, len(answer.content)


def p95(found: Sequence[float]) -> float:
    return sorted(found)[int(len(found) * 0.95)]


# Under load ---------------------------------------------------------------------------------------


class Tab:
    """A tab that shows the list of workflows, and what its script does there."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._news = asyncio.Event()
        self._offset = 0  # where the log was that the console told of last
        self.seen: list[tuple[int, int]] = []  # an end of the log, and when the page had it

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._fetch())

    async def _listen(self) -> None:
        async with self._client.stream("GET", "/live?topics=workflows") as stream:
            async for line in stream.aiter_lines():
                if (mark := re.fullmatch(r"id: \w+\.\d+\.\d+:(\d+)", line)) is not None:
                    self._offset = int(mark[1])
                elif line.startswith("data: "):
                    self._news.set()

    async def _fetch(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            told = self._offset + 1
            await page(self._client, "/workflows")
            self.seen.append((told, int(time.time() * 1_000)))


async def measure_load(client: httpx.AsyncClient, url: str, count: int, rate: int, seconds: float) -> None:
    tab = Tab(client)
    looking = asyncio.create_task(tab.run())
    command = [sys.executable, str(steps.ROOT / "bench" / "console_log.py"), url, str(count), str(rate), str(seconds)]
    load = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(steps.ROOT)}
    )
    writing = asyncio.create_task(load.communicate())
    walls: dict[str, list[float]] = {name: [] for name in pages(count)}
    while not writing.done():
        for name, path in pages(count).items():
            if not writing.done():
                walls[name].append((await page(client, path))[0])
    ends = [tuple(map(int, line.split())) for line in (await writing)[0].splitlines()]
    while not tab.seen or tab.seen[-1][0] < ends[-1][0]:
        if looking.done():
            await looking  # raises what has ended it
        await asyncio.sleep(0.05)
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking
    took_s = (ends[-1][1] - ends[0][1]) / 1_000
    print(f"\nunder {(ends[-1][0] - ends[0][0]) / took_s:,.0f} decisions/s for {took_s:.0f} s")
    for name, found in walls.items():
        print(f"{name:<32} {statistics.median(found):>8.1f} {p95(found):>8.1f}")
    every = [one for found in walls.values() for one in found]
    print(f"{'all pages':<32} {statistics.median(every):>8.1f} {p95(every):>8.1f}   of {len(every)}")
    late = [next(at_ms for told, at_ms in tab.seen if told >= end) - appended_ms for end, appended_ms in ends]
    print(
        f"from an append to its sight: p50 {statistics.median(late):.0f} ms, p95 {p95(late):.0f} ms, max {max(late)} ms"
    )


# Beside a router ----------------------------------------------------------------------------------


async def measure_router(played: int) -> None:
    """Forwards and backwards, so that none always runs on the fuller log."""
    found: dict[str, list[tuple[float, float]]] = {"none": [], "open": [], "stopped": []}
    with steps.on_broker("sqlite") as (url, folder), ExitStack() as stack:
        bench = steps.Bench(url, folder, "mesh.", durability="normal")
        broker = await bench.broker()
        await make_topics(broker, bench.settings(), steps.AGENTS)
        cards = await bench.follow(broker, bench.topics.agents)
        outcomes = await bench.follow(broker, bench.topics.outcomes)
        stack.enter_context(bench.process("agents", "agent", "bench.idle_agents"))
        await steps.wait_records(cards, len(steps.AGENTS))
        router = stack.enter_context(bench.process("router", "router"))
        begun = 0

        async def play(count: int) -> tuple[float, float]:
            """Workflows a second, and the router's microseconds of each."""
            nonlocal begun
            events = [steps.event(number) for number in range(begun, begun + count)]
            begun += count
            before, start = cpu_us(router.pid), time.perf_counter()
            await broker.send([to_record(e, topic=bench.topics.events, key=e["subject"].encode()) for e in events])
            await steps.wait_records(outcomes, count)
            return count / (time.perf_counter() - start), (cpu_us(router.pid) - before) / count

        await play(WARM_UP)
        for mode in (*found, *reversed(found)):
            found[mode].append(await _beside(mode, url, folder, lambda: play(played)))
        await broker.close()
    print(f"\n{'console':<10} {'workflows/s':>12} {'router µs each':>16}")
    for mode, runs in found.items():
        print(f"{mode:<10} {max(run[0] for run in runs):>12.0f} {min(run[1] for run in runs):>16.0f}")


async def _beside(
    mode: str, url: str, folder: Path, play: Callable[[], Awaitable[tuple[float, float]]]
) -> tuple[float, float]:
    """What `play` gives with the console in this mode."""
    if mode == "none":
        return await play()
    with console_of(url, folder) as console:
        async with aclosing(await console.sign_in()) as client:
            looking = asyncio.create_task(Tab(client).run())
            if mode == "stopped":
                _freeze(console.process.pid, Path(url.removeprefix("sqlite://")))
            try:
                return await play()
            finally:
                looking.cancel()
                console.process.send_signal(signal.SIGCONT)


def _freeze(pid: int, file: Path) -> None:
    """Stop it outside of a transaction, as an operator's debugger would do only by chance."""
    connection = apsw.Connection(str(file))
    connection.set_busy_timeout(2_000)
    try:
        while True:
            os.kill(pid, signal.SIGSTOP)
            try:
                connection.execute("BEGIN IMMEDIATE; ROLLBACK")
            except apsw.BusyError:
                os.kill(pid, signal.SIGCONT)
            else:
                return
    finally:
        connection.close()


async def run(folder: Path, given: argparse.Namespace) -> None:
    url, count = f"sqlite://{folder}/mesh.db", given.workflows
    if not (folder / "mesh.db").exists():
        begin = time.perf_counter()
        broker = await open_broker(url, client_id="bench", settings=load_settings(broker=url, durability="normal"))
        await console_log.fill(broker, count)
        await broker.close()
        print(f"log of {count:,} workflows in {time.perf_counter() - begin:.1f} s")
    (folder / "approvers.yaml").write_text(f"finance: [{WHO}]\nlegal: [{WHO}]\n")
    begin = time.perf_counter()
    with console_of(url, folder) as console:
        async with aclosing(await console.sign_in()) as client:
            print(f"read model in {time.perf_counter() - begin:.1f} s")
            if chromium_path() is not None:
                await asyncio.to_thread(browse, (await console.link(time.monotonic() + WAIT_S))[0], count)
            await measure_pages(console, client, count, given.rounds)
            if given.load_s:
                await measure_load(client, url, count, given.rate, given.load_s)
    if given.played:
        await measure_router(given.played)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workflows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=12, help="How often each page is asked for.")
    parser.add_argument("--rate", type=int, default=1_000, help="Decisions a second.")
    parser.add_argument("--load-s", type=float, default=40.0, help="How long; 0: not at all.")
    parser.add_argument("--played", type=int, default=3_000, help="Workflows of each run of a router; 0: none.")
    parser.add_argument("--folder", type=Path, help="Where the log is kept from one run to the next.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        folder = given.folder or Path(fresh)
        folder.mkdir(parents=True, exist_ok=True)
        asyncio.run(run(folder.absolute(), given))


if __name__ == "__main__":
    main()
