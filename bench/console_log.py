"""The log of a mesh with many workflows, as its routers would have written it.

    python bench/console_log.py URL FROM RATE SECONDS

Owns what is in it. As a program it goes on writing, RATE decisions a second, and prints after
each append where the log ends and when that was (`OFFSET UNIX_MS`).
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator

from mesh.codec.log import encode_decision, encode_owner_changed
from mesh.codec.open_approvals import OPEN_PARTITIONS, encode_shown, placed
from mesh.core import events as ev
from mesh.core.effects import effects
from mesh.core.ids import run_id, task_id
from mesh.core.json_values import digest
from mesh.core.open_approvals import ShowApproval
from mesh.core.topics import Topics
from mesh.ports import Broker, TopicPartition, TopicSpec
from mesh.settings import load_settings
from mesh.wiring import open_broker

TOPICS = Topics()
TOKEN = "0" * 32
PORTION = 1_000
ROUTES = ("issue-triage", "invoices", "onboarding", "refunds")
CAUSES = ("OSError: disk full", "Timeout: no result in 30 s", "401 Bad credentials", "no such path: a.b")
SOURCE = "/bench"


def workflow(number: int) -> str:
    return f"{ROUTES[number % len(ROUTES)]}:octo/repo#{number}"


def history(number: int, now_ms: int) -> Iterator[ev.Decision]:
    """One of many workflows: of 20, 14 have ended, 1 has an incident, 2 ask, and 3 are at work."""
    workflow_id, kind = workflow(number), number % 20
    run = run_id(SOURCE, f"e{number}")
    task = task_id(workflow_id, run, "check")
    started = ev.WorkflowStarted(
        route=ROUTES[number % len(ROUTES)],
        digest="sha256:" + "ab" * 32,
        run_id=run,
        key=f"octo/repo#{number}",
        cloud_event={"id": f"e{number}", "source": SOURCE, "type": "t", "specversion": "1.0", "data": {"n": number}},
        trace_id="0af7651916cd43dd8448eb211c80319c",
    )
    dispatched = ev.TaskDispatched(
        step="check",
        task_id=task,
        attempt=1,
        agent=f"agent-{number % 7}",
        input={"title": f"Issue {number}", "body": "It does not start. " * 10},
        due_at_ms=now_ms + 300_000,
        traceparent="",
        reason="no needs",
    )
    yield decision(workflow_id, now_ms, f"{number}/a", started, dispatched)
    if kind < 14:
        status: ev.EndStatus = ("completed", "completed", "completed", "failed", "rejected")[kind % 5]
        ended = ev.WorkflowEnded(
            status=status, reason="every step is done", run_id=run, traceparent="", output={}, usage={"usd": 0.01}
        )
        yield decision(workflow_id, now_ms + 1_000 * (1 + number % 90), f"{number}/b", ended)
    elif kind == 14:
        raised = ev.IncidentRaised(step="check", kind="exhausted", message=CAUSES[number // 20 % len(CAUSES)])
        yield decision(workflow_id, now_ms + 2_000, f"{number}/b", raised)
    elif kind < 17:
        payload = {"body": f"Text {number}. " * 20, "labels": ["bug"]}
        asked = ev.ApprovalRequested(
            step="review",
            approval_id=task_id(workflow_id, run, "review"),
            question="Post this reply?",
            payload=payload,
            digest=digest(payload),
            role=("finance", "legal")[number % 2],
            on_expiry="reject",
            traceparent="",
            reason="needs check: succeeded",
            deadline_at_ms=now_ms + 86_400_000,
        )
        yield decision(workflow_id, now_ms + 2_000, f"{number}/b", asked)


def decision(workflow_id: str, at_ms: int, cause_id: str, *events: ev.Event) -> ev.Decision:
    cause = ev.Cause(kind="result", id=cause_id)
    return ev.Decision(
        epoch=TOKEN, workflow_id=workflow_id, at_ms=at_ms, cause=cause, positions={}, mark=0, events=events
    )


async def fill(broker: Broker, count: int) -> None:
    """Write the log, over the last day."""
    names = (TOPICS.events, TOPICS.responses, TOPICS.commands, TOPICS.receipts, TOPICS.agents, TOPICS.dlq)
    more = (TOPICS.definitions, TOPICS.people, TOPICS.operations, TOPICS.log, TOPICS.inbox, TOPICS.results)
    specs = [TopicSpec(name, 1) for name in (*names, *more, TOPICS.outcomes, TOPICS.command_receipts)]
    await broker.create_topics([*specs, TopicSpec(TOPICS.open_approvals, OPEN_PARTITIONS)])
    now_ms = int(time.time() * 1_000)
    owner = ev.OwnerChanged(token=TOKEN, owner="bench", partitions=1, format_level=1, at_ms=now_ms)
    log = TopicPartition(TOPICS.log, 0)
    await broker.append(log, None, [encode_owner_changed(owner, topic=TOPICS.log, partition=0)], [])
    for start in range(0, count, PORTION):
        numbers = range(start, min(count, start + PORTION))
        made = [
            one for number in numbers for one in history(number, now_ms - (count - number) * 86_400_000 // (count + 1))
        ]
        await broker.append(log, None, [encode_decision(one, topic=TOPICS.log, partition=0) for one in made], [])
        shown = [effect for one in made for effect in effects(one) if isinstance(effect, ShowApproval)]
        records = [placed(encode_shown(one, topics=TOPICS), start) for one in shown]
        assert not await broker.send(records)


EVERY_S = 0.05


async def go_on(url: str, first: int, rate: int, seconds: float) -> None:
    """Write decisions about new workflows at this rate."""
    broker = await open_broker(url, client_id="load", settings=load_settings(broker=url, durability="normal"))
    log = TopicPartition(TOPICS.log, 0)
    end = (await broker.end_offsets([log]))[log]
    portion = max(1, round(rate * EVERY_S))
    made = itertools.chain.from_iterable(history(number, int(time.time() * 1_000)) for number in itertools.count(first))
    begin = time.monotonic()
    try:
        for number in range(int(seconds / EVERY_S)):
            decisions = list(itertools.islice(made, portion))
            await broker.append(
                log, None, [encode_decision(one, topic=TOPICS.log, partition=0) for one in decisions], []
            )
            end += len(decisions)
            print(end, int(time.time() * 1_000), flush=True)
            # behind: at once, so that the rate is what was asked for
            await asyncio.sleep(max(0.0, begin + (number + 1) * EVERY_S - time.monotonic()))
    finally:
        await broker.close()


if __name__ == "__main__":
    asyncio.run(go_on(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
