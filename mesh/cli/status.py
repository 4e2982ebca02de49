"""`mesh status`: the mesh on one screen, and why something is stuck.

Owns the layout; `mesh.inspection.mesh_status` judges.
"""

import asyncio
import time
from contextlib import nullcontext
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

import click
import msgspec
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mesh.cli.agents import table as agents_table
from mesh.cli.options import Seconds
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, one_line, printable, rfc3339_or_none
from mesh.codec import exact_json
from mesh.codec.times import rfc3339
from mesh.inspection.mesh_status import (
    INCIDENTS_SHOWN,
    AgentStatus,
    MeshStatus,
    PartitionStatus,
    RouterStatus,
    assess_twice,
)
from mesh.inspection.mesh_status.disk import full_disk
from mesh.inspection.notices import count_undelivered
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.queries import CardRow, OpenStep
from mesh.ports import Broker

if TYPE_CHECKING:
    from mesh.cli.remote.api import Api

DAY_MS = 86_400_000
EVERY_S: Final = 2.0  # from one look to the next
DIGEST_SHOWN = 19  # with sha256:
STYLES = {
    "running": "cyan",
    "expected": "dim",
    "completed": "green",
    "failed": "red",
    "rejected": "yellow",
    "cancelled": "dim",
}
SAID = {
    "running": ("with agents", "cyan"),
    "retrying": ("to be retried", "yellow"),
    "asking": ("waiting for people", "yellow"),
    "calling": ("waiting for workflows that they called", "cyan"),
    "waiting": ("waiting for an event or a time", "yellow"),
    "iterating": ("for each of a list", "cyan"),
    "held": ("held by their budget", "yellow"),
    "incident": ("incidents", "red"),
}


class _Look(NamedTuple):
    """What one look at the mesh gives: all that `render` shows."""

    found: MeshStatus
    cards: list[CardRow]
    undelivered: int


@click.command(short_help="Show the mesh on one screen, and why something is stuck.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=INCIDENTS_SHOWN,
    show_default=True,
    help="With --json: how many incidents to name; all are counted.",
)
@click.option("--watch", "watches", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@click.option("--for", "for_s", type=Seconds(), metavar="SECONDS", help="With --watch: end after this time.")
@mesh_command
def status(session: Session, *, limit: int, watches: bool, for_s: float | None) -> None:
    """Show the mesh on one screen, and why something is stuck.

    It has routers and partitions, what waits, agents and workflows.
    """
    session.run(_follow(session, limit, for_s) if watches else _once(session, limit))


async def _once(session: Session, limit: int) -> None:
    if session.api is not None:
        look = await _look_at_console(session.api, limit)
    else:
        async with session.model() as (broker, model):
            look = await _look(session, broker, model, limit)
    if session.as_json:
        session.emit(_look_document(look))
        return
    for part in render(*look):
        session.show(part)


async def _follow(session: Session, limit: int, for_s: float | None) -> None:
    """Look again and again: on a terminal in place, else below; in JSON a line each."""
    until = None if for_s is None else time.monotonic() + for_s
    live = Live(console=session.out, auto_refresh=False) if session.out.is_terminal and not session.as_json else None
    with live or nullcontext():
        async with session.model() as (broker, model):
            while True:
                look = await _look(session, broker, model, limit)
                if session.as_json:
                    click.echo(exact_json.encode(msgspec.to_builtins(_look_document(look))).decode())
                elif live is not None:
                    live.update(Group(*render(*look)), refresh=True)
                else:
                    session.show(*render(*look), Text())
                left_s = EVERY_S if until is None else until - time.monotonic()
                if left_s <= 0:
                    return
                await asyncio.sleep(min(EVERY_S, left_s))
                await model.catch_up()


async def _look(session: Session, broker: Broker, model: ReadModel, limit: int) -> _Look:
    url = session.settings.broker
    found = await assess_twice(
        broker,
        session.topics,
        model,
        clock=session.clock,
        broker_url=url,
        incidents_shown=limit,
        hindrance=full_disk(url),
    )
    undelivered = await count_undelivered(broker, session.topics, found.at_ms - DAY_MS)
    return _Look(found, queries.cards(model.db), undelivered)


async def _look_at_console(api: "Api", limit: int) -> _Look:
    found = await api.status(limit)
    return _Look(found.status, found.cards, found.notices_undelivered)


def _look_document(look: _Look) -> dict[str, object]:
    return _document(look.found) | {"notices_undelivered": look.undelivered}


def render(found: MeshStatus, cards: list[CardRow], undelivered: int = 0) -> list[Table | Text]:
    """What the screen shows, from top to bottom. `undelivered`: notices of the last day."""
    facts = _facts(found)
    if undelivered:
        said = Text(f"{undelivered:,} undelivered in the last day", style="red")
        facts.add_row("notices", said + Text("  mesh notices list --undelivered", style="dim"))
    parts: list[Table | Text] = [facts]
    if found.agents:
        parts += [Text(), agents_table(found.agents, cards, found.at_ms)]
    parts += [Text(), *_stuck(found)]
    return parts


def _facts(found: MeshStatus) -> Table:
    facts = Table.grid(padding=(0, 3, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("broker", printable(found.broker))
    facts.add_row("routers", _owners(found))
    facts.add_row("unread", _unread(found))
    if people := _people(found):
        facts.add_row("people", people)
    if answers := _answers(found):
        facts.add_row("answers", answers)
    facts.add_row("events", _events(found))
    facts.add_row("workflows", _workflows(found))
    facts.add_row("steps", _steps(found))
    if found.dead_letters:
        facts.add_row(
            "dead letters", Text(f"{found.dead_letters:,}", style="red") + Text("  mesh dlq list", style="dim")
        )
    oldest = found.oldest_approval
    if oldest is not None:
        waits = Text(f"asked {ago(oldest.asked_at_ms, found.at_ms)}: {one_line(oldest.question, 60)}")
        facts.add_row("oldest approval", waits + Text(f"  {printable(oldest.workflow_id)}", style="dim"))
    return facts


def _owners(found: MeshStatus) -> Text:
    """Each owner with its partitions, e.g. `router-1: 0-7, router-2: 8-15`."""
    owners: dict[str, list[PartitionStatus]] = {}
    cards = {one.instance: one for one in found.routers}
    for row in found.partitions:
        owners.setdefault(row.owner, []).append(row)
    if set(owners) <= {""}:
        return Text("none has run yet", style="yellow")
    text = Text()
    for number, (owner, rows) in enumerate(sorted(owners.items(), key=lambda item: item[1][0].partition)):
        text.append(", " if number else "")
        text.append(printable(owner) if owner else "nobody", style="default" if owner else "yellow")
        text.append(f" ({_ranges([row.partition for row in rows])})", style="dim")
        text.append(*_life(cards.get(owner), found.at_ms))
    idle = [one.instance for one in found.routers if one.state == "alive" and one.instance not in owners]
    text.append(f"; with no partitions: {', '.join(map(printable, idle))}" if idle else "", style="dim")
    last_ms = max(max(row.decided_at_ms, row.owner_since_ms) for row in found.partitions)
    text.append(f"; last decision {ago(last_ms, found.at_ms)}", style="dim")
    return text


def _people(found: MeshStatus) -> Text | None:
    """What says who has which role; None if no living router tells."""
    rules = dict.fromkeys(
        f"{one.people_from}, version {one.people[:DIGEST_SHOWN]}" if one.people else f"{one.people_from} (a file)"
        for one in found.routers
        if one.state == "alive" and one.people_from
    )
    if not rules:
        return None
    text = Text("; ".join(map(printable, rules)))
    # for a moment after a change, or files that differ
    return text.append("  routers differ", style="yellow") if len(rules) > 1 else text


def _answers(found: MeshStatus) -> Text | None:
    """Whether people's answers must be signed; None if no living router tells."""
    says = sorted({one.answers for one in found.routers if one.state == "alive" and one.answers})
    if says == ["signed"]:
        return Text("signed")
    if says == ["unsigned"]:
        return Text("unsigned: anybody who may write to their topic can answer in any name", style="yellow")
    # an answer would count or not by which router reads it
    return Text("routers differ: MESH_ANSWERS must be the same for all", style="red") if says else None


def _life(router: RouterStatus | None, now_ms: int) -> tuple[str, str]:
    """What has become of a router that is not alive, and its style."""
    if router is None or router.state == "alive":
        return "", "default"
    return f" {router.state}, heard of {ago(router.heard_at_ms, now_ms)}", "red"


def _ranges(numbers: list[int]) -> str:
    """Numbers as ranges: `0-3, 7`."""
    shown = []
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        shown.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ", ".join(shown)


def _unread(found: MeshStatus) -> Text:
    names = {"events": "event", "responses": "answer", "commands": "command"}
    counts = [(names[one.topic.rpartition(".")[2]], one.lag) for one in found.backlogs]
    counts.append(("input", sum(row.inbox_lag for row in found.partitions)))
    counts.append(("result", sum(row.results_lag for row in found.partitions)))
    if not any(count for _, count in counts):
        return Text("nothing")
    return _counts([(name if count == 1 else f"{name}s", count, "yellow") for name, count in counts if count])


def _events(found: MeshStatus) -> Text:
    events = found.events
    text = Text(f"{events.seen:,} seen")
    for name, count, style in (
        ("matched", events.matched, "green"),
        ("unwanted", events.unwanted, "dim"),
        ("dead-lettered", events.dead_lettered, "red"),
    ):
        text.append(f", {count:,} ")
        text.append(name, style=style if count else "dim")
    return text


def _workflows(found: MeshStatus) -> Text:
    if not found.workflows:
        return Text("none yet")
    order = [name for name in STYLES if found.workflows.get(name)]
    return _counts([(name, found.workflows[name], STYLES[name]) for name in order])


def _steps(found: MeshStatus) -> Text:
    shown = [(name, count, *SAID.get(name, (name, "default"))) for name, count in found.steps.items() if count]
    return _counts([(said, count, style) for _, count, said, style in shown]) if shown else Text("none under way")


def _counts(counts: list[tuple[str, int, str]]) -> Text:
    text = Text()
    for number, (name, count, style) in enumerate(counts):
        text.append(", " if number else "")
        text.append(f"{count:,} ")
        text.append(name, style=style)
    return text


def _stuck(found: MeshStatus) -> list[Text]:
    if not found.stuck:
        return [Text("Nothing is stuck.", style="green")]
    lines = []
    for one in found.stuck:
        sign, style = ("!", "bold red") if one.severity == "error" else ("·", "yellow")
        lines.append(Text(f"{sign} ", style=style) + Text(printable(one.what), style="default"))
        lines.append(Text(f"    {printable(one.next_step)}", style="dim"))
    if any(one.severity == "error" for one in found.stuck):
        lines.append(Text("\nWhat has a ! will not move by itself.", style="red"))
    return lines


def _document(found: MeshStatus) -> dict[str, object]:
    oldest = found.oldest_approval
    return {
        "broker": found.broker,
        "at": rfc3339(found.at_ms),
        "routers": [_router(one) for one in found.routers],
        "partitions": [_partition(row) for row in found.partitions],
        "ingress": [{"topic": one.topic, "lag": one.lag, "overdue": one.overdue} for one in found.backlogs],
        "agents": [_agent(one) for one in found.agents],
        "workflows": found.workflows,
        "steps": found.steps,
        "events": found.events,
        "dead_letters": found.dead_letters,
        "approvals": found.approvals,
        "oldest_approval": oldest
        and {
            "approval_id": oldest.approval_id,
            "role": oldest.role,
            "asked_at": rfc3339(oldest.asked_at_ms),
            "deadline_at": rfc3339_or_none(oldest.deadline_at_ms),
        },
        "incidents": [_incident(one) for one in found.incidents],
        "incidents_total": found.incidents.total,
        "stuck": [{"severity": one.severity, "what": one.what, "next": one.next_step} for one in found.stuck],
    }


def _router(one: RouterStatus) -> dict[str, object]:
    return {
        "instance": one.instance,
        "state": one.state,
        "started_at": rfc3339_or_none(one.started_at_ms or None),
        "heard_at": rfc3339(one.heard_at_ms),
        "partitions": one.partitions,
        "people": {"source": one.people_from, "version": one.people or None} if one.people_from else None,
        "answers": one.answers or None,
    }


def _partition(one: PartitionStatus) -> dict[str, object]:
    return {
        "partition": one.partition,
        "owner": one.owner,
        "owner_since": rfc3339_or_none(one.owner_since_ms or None),
        "last_decision_at": rfc3339_or_none(one.decided_at_ms or None),
        "inbox_lag": one.inbox_lag,
        "results_lag": one.results_lag,
        "clock": one.hold and {"ahead_s": one.hold.ahead_ms / 1_000, "since": rfc3339(one.hold.since_ms)},
    }


def _agent(one: AgentStatus) -> dict[str, object]:
    return {
        "name": one.name,
        "alive": one.alive,
        "versions": one.versions,
        "unread": one.lag,
        "overdue": one.overdue,
        "running": one.running,
        "oldest_running_since": rfc3339_or_none(one.oldest_running_ms),
        "schemas_differ": None if one.conflict is None else str(one.conflict),
    }


def _incident(one: OpenStep) -> dict[str, object]:
    return {
        "workflow_id": one.workflow_id,
        "step": one.step,
        "kind": one.incident_kind,
        "message": one.incident_message,
        "since": rfc3339(one.since_ms),
    }
