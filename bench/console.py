"""How long each page of the console takes with many workflows.

    python bench/console.py [--workflows 100000] [--rounds 40] [--folder FOLDER]

Owns the log that it fills (on SQLite, once for each folder) and the stopwatch around each page. The
console runs in this process, over the read model that it has made of the log, and each page is
asked as a browser would. CPU is what a page takes: that of the process, less what it takes when
nobody asks.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx

from mesh.adapters.system import SystemClock, SystemEntropy
from mesh.codec.log import encode_decision, encode_owner_changed
from mesh.codec.open_approvals import OPEN_PARTITIONS, encode_shown, placed
from mesh.console.config import ConsoleConfig, DevLogin
from mesh.console.serving import Console
from mesh.console.sessions import COOKIE
from mesh.console.staff import OPERATOR, VIEWER
from mesh.core import events as ev
from mesh.core.effects import effects
from mesh.core.ids import run_id, task_id
from mesh.core.json_values import digest
from mesh.core.open_approvals import ShowApproval
from mesh.core.topics import Topics
from mesh.ports import Broker, TopicPartition, TopicSpec
from mesh.services.client import Client
from mesh.settings import load_settings
from mesh.web_server import LOOPBACK
from mesh.wiring import open_broker

TOPICS = Topics()
TOKEN = "0" * 32
PORTION = 1_000
WHO = "olga@example.org"
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


def pages(count: int) -> dict[str, str]:
    """Each page once, with the filters that matter."""
    stuck, asking = workflow(count // 20 // 2 * 20 + 14), workflow(count // 20 // 2 * 20 + 15)
    asked = task_id(asking, run_id(SOURCE, f"e{count // 20 // 2 * 20 + 15}"), "review")
    return {
        "overview": "/",
        "overview, 7 days": "/?span=7d",
        "approvals": "/approvals?for=all",
        "approvals of a role": "/approvals?for=all&role=legal&due=7d",
        "answered approvals": "/approvals?state=closed&for=all",
        "one approval": f"/approval?id={quote(asked, safe='')}",
        "edit it": f"/approval?id={quote(asked, safe='')}&edit=1",
        "workflows": "/workflows",
        "workflows with an incident": "/workflows?state=incident",
        "workflows of a route, ended": "/workflows?route=invoices&state=ended",
        "workflows at a step": "/workflows?step=review",
        "workflows, rare word": f"/workflows?q=%23{count - 7}",
        "workflows, common word": "/workflows?q=octo",
        "one workflow": f"/workflow?id={quote(stuck, safe='')}",
        "incidents": "/incidents",
        "dead letters": "/dead-letters",
        "agents": "/agents",
        "operations": "/operations",
    }


IDLE_S = 6.0


async def idle_rate() -> float:
    """The share of a core that the console takes while nobody asks."""
    begin, before = time.perf_counter(), time.process_time()
    await asyncio.sleep(IDLE_S)
    return (time.process_time() - before) / (time.perf_counter() - begin)


async def measure(console: Console, rounds: int, count: int) -> None:
    rate = await idle_rate()
    print(f"idle: {rate:.0%} of a core")
    cookies = {COOKIE: console.desk.sessions.begin(WHO)}
    transport = httpx.ASGITransport(console.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8300", cookies=cookies) as client:
        print(f"{'page':<32} {'p50 ms':>8} {'p95 ms':>8} {'CPU ms':>8} {'KB':>6}")
        for name, path in pages(count).items():
            walls, size, before = [], 0, time.process_time()
            for _ in range(rounds):
                begin = time.perf_counter()
                answer = await client.get(path)
                walls.append((time.perf_counter() - begin) * 1_000)
                size = len(answer.content)
                assert answer.status_code in {200, 403}, (path, answer.text)
            cpu = ((time.process_time() - before) * 1_000 - rate * sum(walls)) / rounds
            walls.sort()
            p95 = walls[int(len(walls) * 0.95)]
            print(f"{name:<32} {statistics.median(walls):>8.1f} {p95:>8.1f} {cpu:>8.1f} {size / 1_024:>6.0f}")


async def run(folder: Path, count: int, rounds: int) -> None:
    is_new = not (folder / "mesh.db").exists()
    settings = load_settings(broker=f"sqlite://{folder}/mesh.db", durability="normal")
    broker = await open_broker(settings.broker, client_id="bench", settings=settings)
    try:
        if is_new:
            await fill(broker, count)
        (folder / "approvers.yaml").write_text(f"finance: [{WHO}]\nlegal: [{WHO}]\n")
        config = ConsoleConfig(
            broker_url=settings.broker,
            instance="console",
            model=folder / "model.sqlite",
            inbox=folder / "inbox.sqlite",
            folder=folder,
            approvers=folder / "approvers.yaml",
            hosts=LOOPBACK,
            login=DevLogin(name=WHO, code="code", roles=frozenset({VIEWER, OPERATOR})),
        )
        clock = SystemClock()
        client = Client(broker, TOPICS, clock=clock, entropy=SystemEntropy())
        console = Console(broker, TOPICS, config, clock=clock, client=client)
        begin = time.perf_counter()
        following = asyncio.create_task(console.follow())
        while console.desk.projector.status is None:  # noqa: ASYNC110 - nothing says when it has looked
            await asyncio.sleep(0.05)
        print(f"read model of {count:,} workflows in {time.perf_counter() - begin:.1f} s")
        await measure(console, rounds, count)
        console.stop()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    finally:
        await broker.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workflows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--folder", type=Path, help="Where the log is kept from one run to the next.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        folder = given.folder or Path(fresh)
        folder.mkdir(parents=True, exist_ok=True)
        asyncio.run(run(folder, given.workflows, given.rounds))


if __name__ == "__main__":
    main()
