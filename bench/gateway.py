"""How many events a second `mesh gateway` takes, how soon, and whether a kill loses one.

    python bench/gateway.py [--events 20000] [--connections 64] [--batch 50] [--broker URL]

Owns a gateway as a process of its own, and bare HTTP/1.1 connections that are kept: a client
library would use more CPU than the gateway. Each request is answered before its connection sends
the next one.

One event a request, and batches: the rate by the clock, and the CPU of gateway and client for each
event. The clock counts on a quiet machine with two cores alone; CPU counts on any. On SQLite the
gateway is then killed (SIGKILL) under load, and every event that it has answered with 202 must be
in the file.
"""

import argparse
import asyncio
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from mesh.adapters.sqlite import SqliteBroker
from mesh.codec.cloudevents import header
from mesh.core.topics import Topics
from mesh.ports import TopicPartition
from mesh.services.reading import read_up_to

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def request(events: list[dict[str, object]]) -> bytes:
    kind = "application/cloudevents-batch+json" if len(events) > 1 else "application/cloudevents+json"
    body = orjson.dumps(events if len(events) > 1 else events[0])
    head = f"POST /events HTTP/1.1\r\nhost: bench\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def event(number: int) -> dict[str, object]:
    data = {"customer": number % 1_000, "lines": ["one", "two", "three"], "text": "what is ordered, " * 10}
    return {"specversion": "1.0", "id": str(number), "source": "/bench", "type": "com.example.ordered", "data": data}


async def send(port: int, requests: list[bytes], took: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for one in requests:
        began = time.perf_counter()
        await answered(reader, writer, one)
        took.append(time.perf_counter() - began)
    writer.close()


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one: bytes) -> None:
    """Return when the request was answered with 202."""
    writer.write(one)
    head = await reader.readuntil(b"\r\n\r\n")
    found = _LENGTH.search(head)
    await reader.readexactly(int(found[1]) if found else 0)
    if b" 202 " not in head[:20]:
        raise SystemExit(f"not taken: {head!r}")


async def measure(port: int, events: int, connections: int, batch: int, first: int) -> str:
    portions = [
        request([event(number) for number in range(start, start + batch)])
        for start in range(first, first + events, batch)
    ]
    took: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(send(port, portions[number::connections], took) for number in range(connections)))
    rate = events / (time.perf_counter() - began)
    took.sort()
    p50, p95 = statistics.median(took), took[int(len(took) * 0.95)]
    return f"{batch:>4} a request: {rate:8.0f} events/s; a request p50 {p50 * 1e3:.1f} ms, p95 {p95 * 1e3:.1f} ms"


# The kill -----------------------------------------------------------------------------------------


async def send_until_killed(
    port: int, numbers: Iterator[int], taken: list[int], after: int, enough: asyncio.Event
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for number in numbers:
            await answered(reader, writer, request([event(number)]))
            taken.append(number)
            if len(taken) >= after:
                enough.set()
    except (asyncio.IncompleteReadError, OSError):
        return
    finally:
        writer.close()


async def kill(process: subprocess.Popen[bytes], port: int, connections: int, after: int, first: int) -> list[int]:
    """Kill the gateway once it has answered that number. Returns the numbers that got 202."""
    taken, numbers, enough = list[int](), itertools.count(first), asyncio.Event()
    sending = [asyncio.create_task(send_until_killed(port, numbers, taken, after, enough)) for _ in range(connections)]
    await enough.wait()
    process.kill()
    await asyncio.gather(*sending)
    return taken


async def stored(path: Path) -> set[int]:
    """The numbers of the events that the file holds."""
    broker = await SqliteBroker.open(path, client_id="bench")
    topic = Topics("mesh.").events
    count = (await broker.topics())[topic].partitions
    ends = await broker.end_offsets([TopicPartition(topic, number) for number in range(count)])
    reader, found = await broker.reader(), set[int]()
    reader.assign(dict.fromkeys(ends, 0))
    async for records in read_up_to(reader, ends):
        found |= {int(header(one, "ce_id") or -1) for one in records}
    await reader.close()
    await broker.close()
    return found


# The whole ----------------------------------------------------------------------------------------


def cpu_s(pid: int) -> float:
    """The CPU time of a process, in seconds (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--broker")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        broker = given.broker or f"sqlite://{folder}/mesh.db"
        env = {**os.environ, "MESH_BROKER": broker, "MESH_DATA_DIR": folder, "MESH_GATEWAY_ADDRESS": "127.0.0.1:0"}
        log = Path(folder) / "gateway.log"
        with log.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-m", "mesh", "gateway", "--json"], env=env, stderr=output)
        try:
            while (found := re.search(rb"http://127.0.0.1:(\d+)\"", log.read_bytes())) is None:
                time.sleep(0.05)
            port = int(found[1])
            asyncio.run(measure(port, 1_000, given.connections, 1, 10**9))  # to warm up
            for batch in (1, given.batch):
                before, client = cpu_s(process.pid), time.process_time()
                said = asyncio.run(measure(port, given.events, given.connections, batch, batch * 10**6))
                client = (time.process_time() - client) / given.events
                spent = (cpu_s(process.pid) - before) / given.events
                print(f"{said}; CPU an event: gateway {spent * 1e6:.0f} µs, client {client * 1e6:.0f} µs")
                print(f"     the gateway's core alone: {1 / spent:8.0f} events/s")
            if given.broker is None:
                taken = asyncio.run(kill(process, port, given.connections, min(given.events, 2_000), 2 * 10**9))
                lost = set(taken) - asyncio.run(stored(Path(folder) / "mesh.db"))
                print(f"killed under load: of {len(taken):,} events with 202, {len(lost)} are lost")
                if lost:
                    raise SystemExit(1)
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
