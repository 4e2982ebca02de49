"""How fast the Kafka adapter appends, sends and polls, compared with bare aiokafka.

    python bench/kafka_adapter.py [--bootstrap HOST:PORT] [--records 60000] [--rounds 3]

Owns the two measured sides. Both use the same broker. Without `--bootstrap` it starts a broker of
its own (see infra/kafka). Rounds alternate, so that both sides meet the same noise. The best round
of each is printed, and all of them with `--all`.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer  # the yardstick

from infra.kafka.kafka import KafkaProcess
from mesh.adapters.kafka import KafkaBroker
from mesh.ports import OutRecord, TopicPartition, TopicSpec

VALUE = bytes(500)
HEADERS = (("ce_id", b"0123456789abcdef"), ("ce_type", b"com.github.issues.opened"))
PARTITIONS = 16


async def measure_append(broker: KafkaBroker, n: int, *, batch: int, under_way: int) -> float:
    """Records/s to one partition, with `batch` decisions a call and `under_way` calls at once."""
    log = TopicPartition("log", 0)
    records = [OutRecord("log", b"issue-triage:octo/repo#12", VALUE, HEADERS)] * batch
    waiting: set[asyncio.Task[Any]] = set()
    begun = time.perf_counter()
    for _ in range(n // batch):
        if len(waiting) >= under_way:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        waiting.add(asyncio.create_task(broker.append(log, None, records, [])))
    await asyncio.gather(*waiting)
    return n / (time.perf_counter() - begun)


async def latencies(one: Callable[[], Awaitable[object]], n: int = 1500) -> tuple[float, float]:
    """The p50 and p99 of calls one after the other, in milliseconds."""
    taken = []
    for _ in range(n):
        begun = time.perf_counter()
        await one()
        taken.append((time.perf_counter() - begun) * 1000)
    cuts = statistics.quantiles(taken, n=100)
    return cuts[49], cuts[98]


async def measure_send(broker: KafkaBroker, n: int, batch: int = 1000) -> float:
    begun = time.perf_counter()
    for first in range(0, n, batch):
        keys = range(first, first + batch)
        await broker.send([OutRecord("tasks", b"task-%d" % key, VALUE, HEADERS) for key in keys])
    return n / (time.perf_counter() - begun)


async def measure_poll(broker: KafkaBroker, n: int) -> float:
    reader = await broker.reader()
    reader.assign({TopicPartition("tasks", p): 0 for p in range(PARTITIONS)})
    got, begun = 0, time.perf_counter()
    while got < n:
        got += len(await reader.poll(max_records=5000, timeout_s=1.0))
    taken = time.perf_counter() - begun
    await reader.close()
    return n / taken


async def bare_send(producer: AIOKafkaProducer, n: int, batch: int = 1000) -> float:
    """Call `send` for each record, and gather each thousand.

    The adapter would do this if it had no batches of its own.
    """
    begun = time.perf_counter()
    headers = list(HEADERS)
    for first in range(0, n, batch):
        await asyncio.gather(
            *[
                await producer.send("tasks", VALUE, b"task-%d" % key, headers=headers)
                for key in range(first, first + batch)
            ]
        )
    return n / (time.perf_counter() - begun)


async def bare_append(producer: AIOKafkaProducer, n: int, batch: int) -> float:
    begun = time.perf_counter()
    headers = list(HEADERS)
    for _ in range(n // batch):
        await asyncio.gather(
            *[await producer.send("log", VALUE, b"issue-triage:octo/repo#12", 0, headers=headers) for _ in range(batch)]
        )
    return n / (time.perf_counter() - begun)


async def bare_poll(bootstrap: str, n: int) -> float:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition("tasks", p) for p in range(PARTITIONS)])
    for p in range(PARTITIONS):
        consumer.seek(TopicPartition("tasks", p), 0)
    got, begun = 0, time.perf_counter()
    while got < n:
        got += sum(map(len, (await consumer.getmany(timeout_ms=1000, max_records=5000)).values()))
    taken = time.perf_counter() - begun
    await consumer.stop()
    return n / taken


async def run(bootstrap: str, n: int, rounds: int, *, show_all: bool) -> None:
    broker = await KafkaBroker.open(bootstrap, client_id="bench")
    await broker.create_topics([TopicSpec("log", PARTITIONS), TopicSpec("tasks", PARTITIONS)])
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    record = [OutRecord("log", b"k", VALUE, HEADERS)]
    rates: dict[str, Callable[[], Awaitable[float]]] = {
        "append, 100 a call, 1 under way": lambda: measure_append(broker, n, batch=100, under_way=1),
        "append, 100 a call, 8 under way": lambda: measure_append(broker, n, batch=100, under_way=8),
        "append, 1,000 a call, 2 under way": lambda: measure_append(broker, n, batch=1000, under_way=2),
        "append, 1 a call, 200 under way": lambda: measure_append(broker, n // 4, batch=1, under_way=200),
        "bare: send to one partition, gather 100": lambda: bare_append(producer, n, 100),
        "bare: send to one partition, gather 1,000": lambda: bare_append(producer, n, 1000),
        "send, 1,000 a call, 16 partitions": lambda: measure_send(broker, n),
        "bare: send, gather 1,000, 16 partitions": lambda: bare_send(producer, n),
        "poll of up to 5,000": lambda: measure_poll(broker, n),
        "bare: getmany of up to 5,000": lambda: bare_poll(bootstrap, n),
    }
    seen: dict[str, list[float]] = {name: [] for name in rates}
    for _ in range(rounds):
        for name, measured in rates.items():
            seen[name].append(await measured())
    for name, found in seen.items():
        print(f"{name:44} {max(found):>9,.0f} records/s", [f"{rate:,.0f}" for rate in found] if show_all else "")
    waits: dict[str, Callable[[], Awaitable[object]]] = {
        "one append to its acknowledgement": lambda: broker.append(TopicPartition("log", 0), None, record, []),
        "one send to its acknowledgement": lambda: broker.send(record),
        "bare: one send_and_wait": lambda: producer.send_and_wait("log", VALUE, b"k", 0, headers=list(HEADERS)),
    }
    for name, one in waits.items():
        p50, p99 = await latencies(one)
        print(f"{name:44} p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    await producer.stop()
    await broker.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap")
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--uvloop", action="store_true")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        bootstrap = given.bootstrap
        if bootstrap is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            kafka = KafkaProcess(Path(folder)).start()
            stack.callback(kafka.stop)
            bootstrap = kafka.bootstrap
        work = run(bootstrap, given.records, given.rounds, show_all=given.all)
        if given.uvloop:
            import uvloop  # noqa: PLC0415 - optional

            uvloop.run(work)
        else:
            asyncio.run(work)


if __name__ == "__main__":
    main()
