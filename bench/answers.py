"""How soon the next task follows a person's answer, of one or more checkouts.

    python bench/answers.py [--against CHECKOUT ...] [--rounds 5] [--answers 200]

Measures from the moment when the broker has acknowledged the answer to the moment when the task
that follows is read from its topic, on SQLite, with one router in a process of its own. Each
checkout needs a `.venv`. Rounds alternate between the checkouts, since the machine is never the
same for long. Owns the runs and the figures; the mesh that it measures is that of the checkout's
`bench/steps.py`. It prints one line of JSON for each checkout, in milliseconds:

    p50, p99   the least over the rounds
    ratio      `p50` to the first checkout's
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = 20
QUANTILES = ("p50", "p99")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--against", type=Path, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        measure(arguments.only, arguments.answers)
        return
    roots = [*(root.resolve() for root in arguments.against), ROOT]
    rounds: dict[Path, list[dict[str, float]]] = {root: [] for root in roots}
    for _ in range(arguments.rounds):
        for root in roots:
            rounds[root].append(one_round(root, arguments.answers))
    first: float | None = None
    for root, found in rounds.items():
        least = {name: min(one[name] for one in found) for name in QUANTILES}
        first = first or least["p50"]
        print(json.dumps({"checkout": root.name, **least, "ratio": round(least["p50"] / first, 3)}), flush=True)


def one_round(root: Path, count: int) -> dict[str, float]:
    """Measure a checkout in a process of its own, with its own packages."""
    command = [root / ".venv/bin/python", Path(__file__).resolve(), "--only", root, "--answers", str(count)]
    done = subprocess.run([*map(str, command)], cwd=root, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(root: Path, count: int) -> None:
    sys.path[:0] = [str(root), str(root / "bench")]
    steps = import_module("steps")
    with steps.on_broker("sqlite") as (url, folder), ExitStack() as stack:
        # without waiting for the disk, as versions before this setting ran
        more = {"durability": "normal"} if "durability" in signature(steps.Bench).parameters else {}
        bench = steps.Bench(url, folder, "answers.", **more)
        taken_s = asyncio.run(answered(steps, bench, count, stack))
    print(json.dumps(steps.quantiles(taken_s)))


async def answered(steps: Any, bench: Any, count: int, stack: ExitStack) -> list[float]:
    """Seconds from each acknowledged answer to its task."""
    from mesh.codec.approvals import decode_request, encode_response  # noqa: PLC0415 - the checkout's

    broker, topics = await bench.broker(), bench.topics
    await steps.make_topics(broker, bench.settings(), steps.AGENTS)
    requests, tasks = await bench.follow(broker, topics.requests), await bench.follow(broker, topics.tasks("bench-one"))
    stack.enter_context(bench.process("router", "router"))
    taken: list[float] = []
    for number in range(WARM_UP + count):
        event = steps.event(number, "bench.approval")
        await broker.send([steps.to_record(event, topic=topics.events, key=b"k")])
        [request] = await steps.wait_records(requests, 1)
        answer = encode_response(
            topics=topics,
            approval_id=decode_request(request).approval_id,
            decision="approve",
            by="bench@example.org",
            answer_id=f"answer-{number}",
            at_ms=0,
        )
        await broker.send([answer])
        acknowledged = time.perf_counter()
        await steps.wait_records(tasks, 1)
        taken.append(time.perf_counter() - acknowledged)
    await broker.close()
    return taken[WARM_UP:]


if __name__ == "__main__":
    main()
