"""How long `mesh approvals` takes with many open approvals: a whole process, start to end.

    python bench/inbox.py [--open 100000] [--rounds 30] [--broker sqlite://PATH | kafka://HOST:PORT]

Owns the topic that it fills (under a prefix of its own) and the stopwatch around each process. A
cold start is a new process with a cache that is there, and a few approvals that are new since. The
first start has no cache, and reads the topic from its beginning.
"""

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mesh.codec.open_approvals import OPEN_PARTITIONS, encode_shown, placed
from mesh.core.events import ApprovalRequested
from mesh.core.open_approvals import ShowApproval
from mesh.core.topics import Topics
from mesh.ports import TopicSpec
from mesh.settings import load_settings
from mesh.wiring import open_broker

PREFIX = "bench-inbox."
TOPICS = Topics(PREFIX)
NEW = 10  # approvals between two starts
PORTION = 2_000
COMMANDS = {
    "list": ["approvals"],
    "list in JSON": ["approvals", "--json", "--limit", "50"],
    "--mine": ["approvals", "--mine", "--by", "ana"],
    "--due 4h": ["approvals", "--due", "4h"],
    "show ID": ["approvals", "show", "pay:7/0af76519/review"],
    "--if 'payload.amount < 100'": ["approvals", "--if", "payload.amount < 100"],
}


def shown(number: int, now_ms: int) -> ShowApproval:
    """One of many approvals: a payload of about half a kilobyte, and a deadline of its own."""
    workflow_id = f"pay:{number}"
    event = ApprovalRequested(
        step="review",
        approval_id=f"{workflow_id}/0af76519/review",
        question=f"Pay {number} EUR?",
        payload={"amount": number, "account": f"account {number}", "about": "what it is for, " * 25},
        digest="sha256:" + "0" * 64,
        role=("finance", "legal", "maintainer")[number % 3],
        on_expiry="reject",
        traceparent="",
        reason="needs precheck: succeeded",
        deadline_at_ms=now_ms + (number * 7_919) % 1_000_000 * 1_000,
    )
    return ShowApproval(
        workflow_id=workflow_id, approval_id=event.approval_id, part="request", value=event, at_ms=now_ms - number
    )


async def fill(url: str, numbers: range, *, create: bool) -> None:
    broker = await open_broker(url, client_id="bench", settings=load_settings(broker=url))
    try:
        if create:
            await broker.create_topics(
                [TopicSpec(TOPICS.open_approvals, OPEN_PARTITIONS, config={"cleanup.policy": "compact"})]
            )
        now_ms = int(time.time() * 1000)
        for start in range(numbers.start, numbers.stop, PORTION):
            some = range(start, min(start + PORTION, numbers.stop))
            records = [placed(encode_shown(shown(n, now_ms), topics=TOPICS), n) for n in some]
            assert not await broker.send(records)
    finally:
        await broker.close()


def timed(arguments: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor: on a busy machine the first says little."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "mesh.cli", *arguments], env=env, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--broker", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = given.broker or f"sqlite://{folder}/mesh.db"
        roles = Path(folder) / "approvers.yaml"
        roles.write_text("finance: [ana]\n")
        env = {**os.environ, "MESH_BROKER": url, "MESH_TOPIC_PREFIX": PREFIX, "MESH_DATA_DIR": f"{folder}/data"}
        env["MESH_APPROVERS"] = str(roles)
        asyncio.run(fill(url, range(given.open), create=True))
        print(f"{given.open:,} open approvals on {url.partition(':')[0]}")
        taken_s, used_s = timed(["approvals"], env)
        print(f"{'without a cache':<30} {taken_s:6.2f} s, {used_s:.2f} s of the processor", flush=True)
        [cache] = Path(folder, "data").glob("inbox-*.sqlite")
        print(f"{'the cache':<30} {cache.stat().st_size / 1e6:6.0f} MB")
        top = given.open
        for name, arguments in COMMANDS.items():
            taken, used = list[float](), list[float]()
            for _ in range(given.rounds):
                asyncio.run(fill(url, range(top, top + NEW), create=False))
                top += NEW
                clock_s, processor_s = timed(arguments, env)
                taken.append(clock_s)
                used.append(processor_s)
            ends = f"p50 {statistics.median(taken):5.2f} s   p95 {p95(taken):5.2f} s"
            print(f"{name:<30} {ends}   of the processor {statistics.median(used):5.2f} s", flush=True)


def p95(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]


if __name__ == "__main__":
    main()
