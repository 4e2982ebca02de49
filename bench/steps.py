"""How fast is the mesh on this machine, and how near to the bare log?

    python bench/steps.py [--broker sqlite|kafka] [--workflows 20000] [--singles 300] [--routes 1]
                          [--durability full|normal]

Three-step workflows with agents that do nothing, 500 bytes of JSON, every decision in the log
before its task is sent. Router and agents are processes of their own. It prints one line of JSON:

    workflows_per_s, steps_per_s   all events lie on the topic when the router starts, so thousands
                                   are in flight; from the first decision to the last outcome, by
                                   the broker's clock
    single_ms                      one workflow at a time, from before the publishing call to the
                                   outcome in hand: p50, p99
    answer_ms                      from before the answer is sent to the next task in hand: p50, p99
    memory_mb                      resident memory of each process at the end
    floor                          the bare shape of the same run (bench/floor.py): two processes,
                                   the same records, no rules, checks or envelopes
    ratio                          ours to the floor's, workflows a second

`--durability normal` spares SQLite the wait for the disk; `full` is the mesh's default.
`--routes 1000` loads that number of routes, all but one for events that never come.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from infra.kafka.kafka import KafkaProcess  # noqa: E402 - needs the path above
from mesh.codec.approvals import decode_request, encode_response  # noqa: E402 - as above
from mesh.codec.cloudevents import to_record  # noqa: E402 - as above
from mesh.core.topics import Topics  # noqa: E402 - as above
from mesh.ports import Broker, Reader, Record, TopicPartition  # noqa: E402 - as above
from mesh.settings import Settings, load_settings  # noqa: E402 - as above
from mesh.wiring import make_topics, open_broker, run  # noqa: E402 - as above

AGENTS = ("bench-one", "bench-two", "bench-three")
ROUTES = """\
route: bench
on: {type: bench.steps}
key: ${{ event.subject }}
steps:
  one:   {agent: bench-one, input: "${{ event.data }}"}
  two:   {needs: one, agent: bench-two, input: "${{ steps.one }}"}
  three: {needs: two, agent: bench-three, input: "${{ steps.two }}"}
---
route: bench-approval
on: {type: bench.approval}
key: ${{ event.subject }}
steps:
  ask:  {approval: {ask: "Go on?", payload: "${{ event.data }}", role: bench}}
  next: {needs: ask, agent: bench-one, input: "${{ steps.ask.payload }}"}
"""
DATA = {"text": "x" * 480}
WAIT_S = 300.0


def idle_routes(count: int) -> str:
    """Make `count` routes whose events never come in the benchmark."""
    return "".join(
        f"---\nroute: idle-{n}\non: {{type: bench.idle.{n}}}\nsteps: {{a: {{agent: bench-one, input: 1}}}}\n"
        for n in range(count)
    )


class Bench:
    """A mesh of two processes in a folder of its own."""

    def __init__(
        self, url: str, folder: Path, prefix: str, routes: str = ROUTES, *, durability: str | None = None
    ) -> None:
        self.durability = durability  # None: the mesh's default
        self.url, self.folder, self.prefix, self.topics = url, folder, prefix, Topics(prefix)
        (folder / "routes").mkdir()
        (folder / "routes" / "bench.yaml").write_text(routes)
        (folder / "approvers.yaml").write_text("bench: [bench@example.org]\n")

    def settings(self) -> Settings:
        return load_settings(
            broker=self.url, topic_prefix=self.prefix, data_dir=self.folder / "data", durability=self.durability
        )

    @contextmanager
    def process(self, name: str, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MESH_BROKER": self.url,
            "MESH_TOPIC_PREFIX": self.prefix,
            "MESH_DATA_DIR": str(self.folder / "data"),
            "MESH_ROUTES": str(self.folder / "routes"),
            "MESH_APPROVERS": str(self.folder / "approvers.yaml"),
            "MESH_HEARTBEAT_FILE": str(self.folder / f"heartbeat-{name}"),
            "MESH_INSTANCE": name,
            "MESH_DURABILITY": self.durability or "full",
        }
        # a folder in which each process leaves a cProfile of itself
        profile = os.environ.get("BENCH_PROFILE")
        runner = ["-m", "cProfile", "-o", f"{profile}/{name}.prof"] if profile else []
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *runner, "-m", "mesh", *command], env=env, cwd=ROOT, stdout=log, stderr=log
            )
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(WAIT_S)

    async def broker(self) -> Broker:
        return await open_broker(self.url, client_id="bench", settings=self.settings())

    async def follow(self, broker: Broker, topic: str) -> Reader:
        """Open a reader of what comes to a topic from now on."""
        reader = await broker.reader()
        partitions = [TopicPartition(topic, p) for p in range((await broker.topics())[topic].partitions)]
        reader.assign(await broker.end_offsets(partitions))
        return reader


def event(number: int, kind: str = "bench.steps", data: Any = DATA) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"{kind}-{number}",
        "source": "/bench",
        "type": kind,
        "subject": str(number),
        "data": data,
    }


async def wait_records(reader: Reader, count: int) -> list[Record]:
    records: list[Record] = []
    end = time.monotonic() + WAIT_S
    while len(records) < count:
        records.extend(await reader.poll(max_records=5_000, timeout_s=1.0))
        if time.monotonic() > end:
            raise TimeoutError(f"{len(records)} of {count} records")
    return records


async def throughput(bench: Bench, workflows: int, stack: ExitStack) -> tuple[dict[str, float], dict[str, int]]:
    """Measure all workflows at once. Leaves router and agents running."""
    took_s, pids = await all_at_once(bench, [event(n) for n in range(workflows)], stack)
    return {"workflows_per_s": round(workflows / took_s), "steps_per_s": round(3 * workflows / took_s)}, pids


async def all_at_once(bench: Bench, events: Sequence[dict[str, Any]], stack: ExitStack) -> tuple[float, dict[str, int]]:
    """Seconds from the first decision to the last outcome, by the broker's clock.

    Returns the processes too, which go on.
    """
    broker, workflows = await bench.broker(), len(events)
    await make_topics(broker, bench.settings(), AGENTS)
    topics = bench.topics
    for first in range(0, workflows, 1_000):
        batch = events[first : first + 1_000]
        await broker.send([to_record(e, topic=topics.events, key=e["subject"].encode()) for e in batch])
    outcomes = await bench.follow(broker, topics.outcomes)
    agents = stack.enter_context(bench.process("agents", "agent", "bench.idle_agents"))
    cards = await bench.follow(broker, topics.agents)
    await wait_records(cards, len(AGENTS))
    router = stack.enter_context(bench.process("router", "router"))
    records = await wait_records(outcomes, workflows)
    log = await broker.reader()
    partitions = [TopicPartition(topics.log, p) for p in range(bench.settings().partitions)]
    log.assign(dict.fromkeys(partitions, 1))  # 0 is the owner's claim
    first_at = min(record.timestamp_ms for record in await wait_records(log, min(1_000, workflows)))
    await log.close()
    took_s = (max(record.timestamp_ms for record in records) - first_at) / 1000
    await broker.close()
    return took_s, {"router": router.pid, "agents": agents.pid}


async def singles(bench: Bench, count: int) -> dict[str, float]:
    """Measure workflows one at a time."""
    broker = await bench.broker()
    outcomes = await bench.follow(broker, bench.topics.outcomes)
    taken: list[float] = []
    for n in range(count + 20):
        record = to_record(event(10_000_000 + n), topic=bench.topics.events, key=b"k")
        start = time.perf_counter()
        await broker.send([record])
        await wait_records(outcomes, 1)
        taken.append(time.perf_counter() - start)
    await broker.close()
    return quantiles(taken[20:])  # the first ones warm up


async def answers(bench: Bench, count: int) -> dict[str, float]:
    """Measure the time from an answer to the next task."""
    broker = await bench.broker()
    topics = bench.topics
    requests, tasks = await bench.follow(broker, topics.requests), await bench.follow(broker, topics.tasks("bench-one"))
    taken: list[float] = []
    for n in range(count + 20):
        await broker.send([to_record(event(n, "bench.approval"), topic=topics.events, key=b"k")])
        [request] = await wait_records(requests, 1)
        answer = encode_response(
            topics=topics,
            approval_id=decode_request(request).approval_id,
            decision="approve",
            by="bench@example.org",
            answer_id=f"answer-{n}",
            at_ms=0,
        )
        start = time.perf_counter()
        await broker.send([answer])
        await wait_records(tasks, 1)
        taken.append(time.perf_counter() - start)
    await broker.close()
    return quantiles(taken[20:])


def quantiles(taken_s: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(taken_s, n=100, method="inclusive")
    return {"p50": round(cuts[49] * 1000, 2), "p99": round(cuts[98] * 1000, 2)}


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


async def measure(url: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    bench = Bench(
        url, folder, f"b{os.getpid()}.", ROUTES + idle_routes(arguments.routes - 1), durability=arguments.durability
    )
    with ExitStack() as stack:
        rates, pids = await throughput(bench, arguments.workflows, stack)
        result: dict[str, Any] = dict(rates)
        if arguments.singles:
            result["single_ms"] = await singles(bench, arguments.singles)
            result["answer_ms"] = await answers(bench, arguments.singles)
        result["memory_mb"] = {name: resident_mb(pid) for name, pid in pids.items()}
    return result


def floor(arguments: argparse.Namespace, where: str) -> dict[str, Any]:
    """Measure the bare shape on the same broker, in the same run."""
    command = [sys.executable, str(ROOT / "bench" / "floor.py"), arguments.broker, where]
    counts = [str(arguments.workflows), str(arguments.singles)]
    env = {**os.environ, "MESH_DURABILITY": arguments.durability}
    done = subprocess.run([*command, *counts], capture_output=True, check=True, timeout=WAIT_S, env=env)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--broker", choices=("sqlite", "kafka"), default="sqlite")
    parser.add_argument("--workflows", type=int, default=20_000)
    parser.add_argument("--singles", type=int, default=300)
    parser.add_argument("--routes", type=int, default=1)
    parser.add_argument("--durability", choices=("full", "normal"), default="full")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    with on_broker(arguments.broker) as (url, folder):

        async def all_of_it() -> None:
            found.update(await measure(url, folder, arguments))

        run(all_of_it())
        if arguments.singles:
            where = url.removeprefix("kafka://") if arguments.broker == "kafka" else str(folder / "floor.db")
            found["floor"] = floor(arguments, where)
            found["ratio"] = round(found["workflows_per_s"] / found["floor"]["workflows_per_s"], 3)
    print(
        json.dumps(
            {"broker": arguments.broker, "durability": arguments.durability, "workflows": arguments.workflows, **found}
        )
    )


@contextmanager
def on_broker(kind: str) -> Iterator[tuple[str, Path]]:
    """The URL of an empty broker of this kind, and a folder. Both are removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        url = f"sqlite://{folder}/mesh.db"
        if kind == "kafka":
            kafka = KafkaProcess(folder / "kafka").start()
            stack.callback(kafka.stop)
            url = f"kafka://{kafka.bootstrap}"
        yield url, folder


if __name__ == "__main__":
    main()
