"""Where a decision's time goes, in microseconds: the hot path's parts, without any I/O.

    python bench/decisions.py [--workflows 5000] [--rounds 1]

Owns the stopwatch around each part. It runs three-step workflows as in `bench/steps.py`, with four
decisions each (a start and three results). Each line is the time of one part for one decision, the
least of all rounds: on a machine that others use too, only the least of many says anything.
"""

import argparse
import gc
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mesh.codec.cloudevents import from_record, to_record
from mesh.codec.effects import EffectEncoder
from mesh.codec.inbox import decode_inbox, encode_inbox
from mesh.codec.log import decode_log_record, encode_decision
from mesh.codec.tasks import decode_result, decode_task, encode_result
from mesh.core.decide import decide
from mesh.core.effects import effects
from mesh.core.events import Cause, Decision
from mesh.core.inputs import EventMatched, Input
from mesh.core.matching import Match, RouteIndex
from mesh.core.replay import PartitionFold
from mesh.core.state import Directory, Workflow
from mesh.core.topics import Topics
from mesh.ports import OutRecord, Record
from mesh.routes.compiler import compile_route

ROUTE = {
    "route": "bench",
    "on": {"type": "bench.steps"},
    "key": "${{ event.subject }}",
    "steps": {
        "one": {"agent": "bench-one", "input": "${{ event.data }}"},
        "two": {"needs": "one", "agent": "bench-two", "input": "${{ steps.one }}"},
        "three": {"needs": "two", "agent": "bench-three", "input": "${{ steps.two }}"},
    },
}
TOPICS = Topics()


class Stopwatch:
    """Adds up the time of each part."""

    def __init__(self) -> None:
        self.taken: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.taken[name] += time.perf_counter() - start


def as_read(sent: OutRecord, offset: int) -> Record:
    return Record(sent.topic, sent.partition or 0, offset, 0, sent.key, sent.value, sent.headers)


def measure(workflows: int) -> dict[str, float]:
    watch, route = Stopwatch(), compile_route(ROUTE)
    index, encoder, directory = RouteIndex([route]), EffectEncoder(TOPICS, 0, 1), Directory()
    states: dict[str, Workflow | None] = {}
    log: list[OutRecord] = []
    events = [
        {
            "specversion": "1.0",
            "id": str(n),
            "source": "/b",
            "type": "bench.steps",
            "subject": str(n),
            "data": {"text": "x" * 480},
        }
        for n in range(workflows)
    ]
    published = [as_read(to_record(event, topic=TOPICS.events), n) for n, event in enumerate(events)]
    with watch.part("ingress: decode event"):
        decoded = [from_record(record) for record in published]
    with watch.part("ingress: match"):
        matched = [index.match(event)[0] for event in decoded]
    with watch.part("ingress: encode input"):
        copied = [
            encode_inbox(_input(m, e, n), topic=TOPICS.inbox, partition=0)
            for n, (m, e) in enumerate(zip(matched, decoded, strict=True))
        ]
    records = [as_read(out, n) for n, out in enumerate(copied)]
    for step in range(4):
        with watch.part("decode input"):
            inputs: list[Input] = [(decode_inbox if step == 0 else decode_result)(record) for record in records]
        with watch.part("decide and evolve"):
            decided = [
                decide(states.get(i.workflow_id), i, route=route, directory=directory, now_ms=1_000 + step)
                for i in inputs
            ]
        states.update((given.workflow_id, d.workflow) for given, d in zip(inputs, decided, strict=True))
        decisions = [
            Decision(
                epoch="e" * 32, workflow_id=i.workflow_id, at_ms=1_000 + step, cause=Cause(kind="result", id="x", topic="t", partition=0, offset=n),
                positions={"mesh.inbox": n, "mesh.results": n}, mark=0, events=d.events,
            )
            for n, (i, d) in enumerate(zip(inputs, decided, strict=True))
        ]  # fmt: skip
        with watch.part("encode decision"):
            log += [encode_decision(decision, topic=TOPICS.log, partition=0) for decision in decisions]
        with watch.part("derive effects"):
            sends = [effect for decision in decisions for effect in effects(decision)]
        with watch.part("encode effects"):
            out = [encoder.encode(effect) for effect in sends]
        if step < 3:
            tasks = [decode_task(as_read(record, n)) for n, record in enumerate(out)]
            done = [
                encode_result(t, output=bytes(t.input), agent_version="1", agent_instance="i", duration_ms=1.0)
                for t in tasks
            ]
            records = [as_read(record, n) for n, record in enumerate(done)]
    with watch.part("replay: decode"):
        held = [decode_log_record(as_read(record, n)) for n, record in enumerate(log)]
    fold = PartitionFold(0)
    fold.epochs.current = "e" * 32
    with watch.part("replay: fold"):
        for n, record in enumerate(held):
            fold.apply(n, record)
    return {name: round(taken / workflows / 4 * 1e6, 2) for name, taken in watch.taken.items()}


def _input(match: Any, event: dict[str, Any], offset: int) -> EventMatched:
    assert isinstance(match, Match)
    return EventMatched(
        workflow_id=match.workflow_id, route="bench", digest=match.route.digest, key=match.key, cloud_event=event,
        source_topic=TOPICS.events, source_partition=0, source_offset=offset, source_at_ms=0,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workflows", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    gc.disable()
    rounds = [measure(arguments.workflows) for _ in range(arguments.rounds)]
    parts = {part: min(one[part] for one in rounds) for part in rounds[0]}
    decided = sum(taken for name, taken in parts.items() if not name.startswith(("replay", "ingress")))
    print(json.dumps({**parts, "one decision, all parts": round(decided, 2)}))


if __name__ == "__main__":
    main()
