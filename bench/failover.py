"""How long work stops when a router dies.

    python bench/failover.py [--broker kafka|sqlite]

Owns the processes of the run. Two routers share the partitions of a mesh while events come in
steadily. One is killed with SIGKILL. It prints one line of JSON: the latency of ordinary workflows,
and that of the slowest one, which is the failover as upstream sees it, in seconds.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from steps import AGENTS, Bench, event, wait_records

from infra.kafka.kafka import KafkaProcess
from mesh.codec.cloudevents import to_record
from mesh.codec.outcomes import decode_outcome
from mesh.wiring import make_topics, run

EVENTS = 400
EVERY_S = 0.05
KILL_AT = 100


async def measure(bench: Bench) -> dict[str, float]:
    broker = await bench.broker()
    await make_topics(broker, bench.settings(), AGENTS)
    outcomes = await bench.follow(broker, bench.topics.outcomes)
    cards = await bench.follow(broker, bench.topics.agents)
    sent: dict[str, float] = {}
    ended: dict[str, float] = {}

    async def collect() -> None:
        while len(ended) < EVENTS:
            for record in await outcomes.poll(max_records=1_000, timeout_s=0.5):
                ended.setdefault(decode_outcome(record).workflow_id, time.monotonic())

    with ExitStack() as stack:
        stack.enter_context(bench.process("agents", "agent", "bench.idle_agents"))
        victim = stack.enter_context(bench.process("victim", "router"))
        stack.enter_context(bench.process("heir", "router"))
        await wait_records(cards, len(AGENTS))
        # gives both time to take their shares; a benchmark may wait by the clock
        await asyncio.sleep(10)
        collecting = asyncio.create_task(collect())
        for n in range(EVENTS):
            if n == KILL_AT:
                os.kill(victim.pid, signal.SIGKILL)
            sent[f"bench:{n}"] = time.monotonic()
            await broker.send([to_record(event(n), topic=bench.topics.events, key=str(n).encode())])
            await asyncio.sleep(EVERY_S)
        await asyncio.wait_for(collecting, 120)
    await broker.close()
    latencies = sorted(ended[name] - at for name, at in sent.items())
    return {"median_s": round(statistics.median(latencies), 3), "failover_s": round(latencies[-1], 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--broker", choices=("sqlite", "kafka"), default="kafka")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        url = f"sqlite://{folder}/mesh.db"
        if arguments.broker == "kafka":
            kafka = KafkaProcess(folder / "kafka").start()
            stack.callback(kafka.stop)
            url = f"kafka://{kafka.bootstrap}"
        found: dict[str, float] = {}

        async def all_of_it() -> None:
            found.update(await measure(Bench(url, folder, f"f{os.getpid()}.")))

        run(all_of_it())
    print(json.dumps({"broker": arguments.broker, **found}))


if __name__ == "__main__":
    main()
