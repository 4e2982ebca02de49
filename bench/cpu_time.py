"""Processor time of a workflow, in the router and in its agents, of one or more checkouts.

    python bench/cpu_time.py [--against CHECKOUT ...] [--rounds 6] [--workflows 5000]

Workflows a second depend on whatever else the machine does; processor time does much less, and its
minimum over rounds that alternate between the checkouts less still. Each checkout needs a `.venv`.
Owns the runs and the figures; the mesh that it measures is `bench/steps.py`'s, on SQLite. It prints
one line of JSON for each checkout, in microseconds a workflow:

    router, agents, both   minimum over the rounds; reading, deciding, writing, all threads
    ratio                  `both` to the first checkout's
"""

import argparse
import asyncio
import json
import subprocess
import sys
from contextlib import ExitStack
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = 500
REST_S = 1.5  # what the warm-up leaves to do, as a checkpoint, is done by then


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--against", type=Path, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--workflows", type=int, default=5_000)
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        measure(arguments.only, arguments.workflows)
        return
    roots = [*(root.resolve() for root in arguments.against), ROOT]
    found: dict[Path, list[dict[str, float]]] = {root: [] for root in roots}
    for number in range(arguments.rounds):
        # forwards and backwards, so that none always runs after the same one
        for root in roots if number % 2 == 0 else roots[::-1]:
            found[root].append(run(root, arguments.workflows))
    least = {root: {part: min(one[part] for one in runs) for part in runs[0]} for root, runs in found.items()}
    for root in roots:
        ratio = round(least[root]["both"] / least[roots[0]]["both"], 3)
        print(json.dumps({"checkout": str(root), **least[root], "ratio": ratio}))


def run(root: Path, workflows: int) -> dict[str, float]:
    command = [str(root / ".venv/bin/python"), __file__, "--only", str(root), "--workflows", str(workflows)]
    done = subprocess.run(command, capture_output=True, check=True, cwd=root)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(root: Path, workflows: int) -> None:
    """Measure one checkout, with its own code and its own `bench/steps.py`."""
    sys.path[:0] = [str(root), str(root / "bench")]
    steps = import_module("steps")
    with steps.on_broker("sqlite") as (url, folder):
        steps.run(_measured(steps, url, folder, workflows))


async def _measured(steps: ModuleType, url: str, folder: Path, workflows: int) -> None:
    # without waiting for the disk, as versions before this setting ran: such waits cost time, too
    more = {"durability": "normal"} if "durability" in signature(steps.Bench).parameters else {}
    bench = steps.Bench(url, folder, "b.", steps.ROUTES, **more)
    broker, topics = await bench.broker(), bench.topics
    await steps.make_topics(broker, bench.settings(), steps.AGENTS)
    outcomes = await bench.follow(broker, topics.outcomes)
    with ExitStack() as stack:
        agents = stack.enter_context(bench.process("agents", "agent", "bench.idle_agents"))
        await steps.wait_records(await bench.follow(broker, topics.agents), len(steps.AGENTS))
        router = stack.enter_context(bench.process("router", "router"))

        async def play(numbers: range) -> None:
            events = [steps.event(number) for number in numbers]
            # all in one transaction, so that each run finds them in the same batches
            await broker.send([steps.to_record(e, topic=topics.events, key=e["subject"].encode()) for e in events])
            await steps.wait_records(outcomes, len(numbers))

        await play(range(WARM_UP))
        await asyncio.sleep(REST_S)
        before = cpu_us(router.pid), cpu_us(agents.pid)
        await play(range(WARM_UP, WARM_UP + workflows))
        took = [(cpu_us(router.pid) - before[0]) / workflows, (cpu_us(agents.pid) - before[1]) / workflows]
    print(json.dumps({"router": round(took[0], 1), "agents": round(took[1], 1), "both": round(sum(took), 1)}))


def cpu_us(pid: int) -> float:
    """The processor time that a process has taken: all its threads, in microseconds."""
    taken = ((thread / "schedstat").read_text() for thread in Path(f"/proc/{pid}/task").iterdir())
    return sum(int(one.split()[0]) for one in taken) / 1000


if __name__ == "__main__":
    main()
