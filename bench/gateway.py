"""How many events a second `mesh gateway` takes, one a request and in batches, and how soon.

    python bench/gateway.py [--events 20000] [--connections 64] [--batch 50] [--broker URL]

Owns a gateway as a process of its own, and bare HTTP/1.1 connections: a client library would use
more CPU than the gateway. Each request is answered before its connection sends the next one.
"""

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson

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
        writer.write(one)
        head = await reader.readuntil(b"\r\n\r\n")
        found = _LENGTH.search(head)
        await reader.readexactly(int(found[1]) if found else 0)
        if b" 202 " not in head[:20]:
            raise SystemExit(f"not taken: {head!r}")
        took.append(time.perf_counter() - began)
    writer.close()


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
                before = cpu_s(process.pid)
                said = asyncio.run(measure(port, given.events, given.connections, batch, batch * 10**6))
                spent = (cpu_s(process.pid) - before) / given.events
                print(f"{said}; {spent * 1e6:.0f} µs of CPU an event")
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
