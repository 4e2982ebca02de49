"""The floor: the mesh's bare shape, with nothing in it.

Owns a shape of its own, and must not import the mesh. It has two processes, a log, and three-step
workflows of 500 bytes. Every decision is a record in the log before its task is sent, as in the
mesh. But there are no rules, checks, envelopes, ids, retries or timers, and only one partition. The
difference to this is what the mesh costs.

    python bench/floor.py sqlite FILE WORKFLOWS SINGLES
    python bench/floor.py kafka BOOTSTRAP WORKFLOWS SINGLES

This process is the router and the driver. It starts the agent.
"""

import asyncio
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import orjson

STEPS = 3
DATA = "x" * 480
BATCH = 1_000


def decide(message: dict[str, Any]) -> dict[str, Any] | None:
    """The next task, or None at the end."""
    if message["s"] == STEPS:
        return None
    return {"w": message["w"], "s": message["s"] + 1, "d": message["d"]}


def summary(workflows: int, took_s: float, singles_s: list[float]) -> dict[str, Any]:
    cuts = statistics.quantiles(singles_s, n=100, method="inclusive")
    return {
        "workflows_per_s": round(workflows / took_s),
        "single_ms": {"p50": round(cuts[49] * 1000, 2), "p99": round(cuts[98] * 1000, 2)},
    }


# SQLite: the log and the tasks of a batch in one transaction; a datagram wakes the other side -----


class Tables:
    """Three tables, and a socket to be woken by."""

    def __init__(self, path: str, me: str, other: str) -> None:
        import apsw  # noqa: PLC0415 - only this floor needs it

        self.db = apsw.Connection(path)
        self.db.set_busy_timeout(10_000)
        durability = os.environ.get("MESH_DURABILITY", "full")
        self.db.execute(f"PRAGMA journal_mode=WAL; PRAGMA synchronous={durability}")
        for table in ("log", "tasks", "results"):
            self.db.execute(f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, value BLOB)")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with suppress(FileNotFoundError):
            Path(f"{path}.{me}").unlink()
        self.socket.bind(f"{path}.{me}")
        self.socket.setblocking(False)
        self.other = f"{path}.{other}"

    def nudge(self) -> None:
        with suppress(BlockingIOError, FileNotFoundError, ConnectionRefusedError):
            self.socket.sendto(b"!", self.other)

    def wait(self) -> None:
        select.select([self.socket], [], [], 0.25)
        with suppress(BlockingIOError):
            while True:
                self.socket.recv(16)

    def read(self, table: str, after: int) -> list[tuple[int, bytes]]:
        rows = self.db.execute(f"SELECT id, value FROM {table} WHERE id > ? ORDER BY id LIMIT {BATCH}", (after,))
        return cast("list[tuple[int, bytes]]", rows.fetchall())

    def write(self, **rows: list[tuple[bytes]]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        for table, values in rows.items():
            if values:
                self.db.executemany(f"INSERT INTO {table} (value) VALUES (?)", values)
        self.db.execute("COMMIT")
        self.nudge()


def sqlite_agent(path: str) -> None:
    tables, at = Tables(path, "agent", "router"), 0
    while True:
        rows = tables.read("tasks", at)
        if not rows:
            tables.wait()
            continue
        at = rows[-1][0]
        tables.write(results=[(orjson.dumps(orjson.loads(value)),) for _, value in rows])


def sqlite_router(path: str, workflows: int, singles: int) -> dict[str, Any]:
    tables = Tables(path, "router", "agent")
    position = 0

    def play(messages: list[dict[str, Any]], count: int) -> None:
        nonlocal position
        ended = 0
        while ended < count:
            log, tasks = [], []
            for message in messages:
                log.append((orjson.dumps({"at": position, "input": message}),))
                task = decide(message)
                if task is None:
                    ended += 1
                else:
                    tasks.append((orjson.dumps(task),))
            if log:
                tables.write(log=log, tasks=tasks)
            rows = tables.read("results", position)
            if not rows and ended < count:
                tables.wait()
            position = rows[-1][0] if rows else position
            messages = [orjson.loads(value) for _, value in rows]

    return timed(play, workflows, singles)


def timed(play: Callable[[list[dict[str, Any]], int], None], workflows: int, singles: int) -> dict[str, Any]:
    play([{"w": 0, "s": 0, "d": DATA}], 1)  # both sides are up
    start = time.perf_counter()
    play([{"w": n, "s": 0, "d": DATA} for n in range(workflows)], workflows)
    took = time.perf_counter() - start
    each: list[float] = []
    for n in range(singles):
        start = time.perf_counter()
        play([{"w": -n, "s": 0, "d": DATA}], 1)
        each.append(time.perf_counter() - start)
    return summary(workflows, took, each)


# Kafka: the acknowledgements of a batch awaited together ------------------------------------------


async def produce(producer: Any, topic: str, values: list[bytes]) -> None:
    waits = []
    batch = producer.create_batch()
    for value in values:
        if batch.append(key=None, value=value, timestamp=None) is None:
            waits.append(await producer.send_batch(batch, topic, partition=0))
            batch = producer.create_batch()
            batch.append(key=None, value=value, timestamp=None)
    if values:
        waits.append(await producer.send_batch(batch, topic, partition=0))
        await asyncio.gather(*waits)


async def kafka_parts(bootstrap: str, topic: str) -> tuple[Any, Any]:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # noqa: PLC0415 - only this floor needs it

    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, acks="all", max_batch_size=262_144
    )
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await producer.start()
    await consumer.start()
    at = TopicPartition(topic, 0)
    consumer.assign([at])
    await consumer.seek_to_beginning(at)
    return producer, consumer


async def kafka_agent(bootstrap: str, prefix: str) -> None:
    producer, consumer = await kafka_parts(bootstrap, prefix + "tasks")
    while True:
        got = await consumer.getmany(timeout_ms=1000, max_records=BATCH)
        values = [orjson.dumps(orjson.loads(record.value)) for records in got.values() for record in records]
        await produce(producer, prefix + "results", values)


async def kafka_router(bootstrap: str, prefix: str, workflows: int, singles: int) -> dict[str, Any]:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # noqa: PLC0415 - as above

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(prefix + name, 1, 1) for name in ("log", "tasks", "results")])
    await admin.close()
    agent = subprocess.Popen([sys.executable, __file__, "kafka-agent", bootstrap, prefix])
    producer, consumer = await kafka_parts(bootstrap, prefix + "results")
    effects, _ = await kafka_parts(bootstrap, prefix + "results")

    async def play(messages: list[dict[str, Any]], count: int) -> None:
        ended = 0
        while True:
            log, tasks = [], []
            for message in messages:
                log.append(orjson.dumps({"input": message}))
                task = decide(message)
                if task is None:
                    ended += 1
                else:
                    tasks.append(orjson.dumps(task))
            await produce(producer, prefix + "log", log)
            await produce(effects, prefix + "tasks", tasks)
            if ended >= count:
                return
            got = await consumer.getmany(timeout_ms=1000, max_records=BATCH)
            messages = [orjson.loads(record.value) for records in got.values() for record in records]

    try:
        await play([{"w": 0, "s": 0, "d": DATA}], 1)  # both sides are up
        start = time.perf_counter()
        await play([{"w": n, "s": 0, "d": DATA} for n in range(workflows)], workflows)
        took = time.perf_counter() - start
        each: list[float] = []
        for n in range(singles):
            start = time.perf_counter()
            await play([{"w": -n, "s": 0, "d": DATA}], 1)
            each.append(time.perf_counter() - start)
        return summary(workflows, took, each)
    finally:
        agent.kill()
        for part in (producer, consumer, effects, _):
            await part.stop()


def main() -> None:
    import uvloop  # noqa: PLC0415 - Kafka's floor alone has a loop

    kind, where, *rest = sys.argv[1:]
    match kind:
        case "sqlite-agent":
            sqlite_agent(where)
        case "kafka-agent":
            uvloop.run(kafka_agent(where, rest[0]))
        case "sqlite":
            agent = subprocess.Popen([sys.executable, __file__, "sqlite-agent", where])
            try:
                print(json.dumps(sqlite_router(where, *map(int, rest))))
            finally:
                agent.kill()
        case "kafka":
            print(json.dumps(uvloop.run(kafka_router(where, f"floor{os.getpid()}.", *map(int, rest)))))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
