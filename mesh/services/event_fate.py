"""What became of an event: the answer to an upstream team's first question.

Owns the judgement, made of the read model and a few look-ups at the broker. It changes nothing. Called by `mesh event`, later by the console.

    in the backlog?  -> waiting          ingress has not read it
    dead-lettered?   -> dead_lettered    and why
    cited by a decision of the log?  -> started, repeated, or parked, workflow by workflow
    wanted by a route?  -> accepted      it is in the inbox, and its owner has yet to decide
    else                -> unwanted      with each route's reason
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from mesh.codec.cloudevents import from_record
from mesh.core.events import InputParked, StartRepeated, WorkflowStarted
from mesh.core.matching import Explanation, RouteIndex
from mesh.core.topics import Topics
from mesh.ports import Broker, Record, TopicPartition
from mesh.services.read_model import ReadModel, queries
from mesh.services.read_model.queries import EventRow, TimelineEntry
from mesh.services.route_versions import active_routes

__all__ = ["EventFate", "Fate", "WorkflowTouched", "fate_of", "read_record"]

FateKind = Literal["waiting", "dead_lettered", "decided", "accepted", "unwanted"]
READ_TIMEOUT_S = 30.0


class WorkflowTouched(msgspec.Struct, frozen=True, kw_only=True):
    """What the event did to one workflow. `effect`: started, repeated, parked, or another event's name."""

    workflow_id: str
    run_id: str
    effect: str
    reason: str
    at_ms: int


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    kind: FateKind
    message: str
    workflows: tuple[WorkflowTouched, ...] = ()
    routes: tuple[Explanation, ...] = ()


class EventFate(msgspec.Struct, frozen=True, kw_only=True):
    event: EventRow
    fate: Fate


async def fate_of(broker: Broker, topics: Topics, model: ReadModel, event: EventRow) -> EventFate:
    """The fate of one record of `mesh.events`, as of the read model's last catching up."""
    return EventFate(event=event, fate=await _fate(broker, topics, model, event))


async def _fate(broker: Broker, topics: Topics, model: ReadModel, event: EventRow) -> Fate:
    where = TopicPartition(event.topic, event.partition)
    cited = queries.decisions_citing(model.db, event.topic, event.partition, event.offset)
    if cited:
        touched = tuple(_touched(entry) for entry in cited)
        return Fate(kind="decided", message=_summary(touched), workflows=touched)
    letters = queries.dead_letters(model.db, source=(event.topic, event.partition, event.offset))
    if letters:
        return Fate(kind="dead_lettered", message=f"{letters[0].code}: {letters[0].message}")
    committed = (await broker.committed(topics.ingress_group, [where])).get(where)
    reached = committed.offset if committed is not None else 0
    if event.offset >= reached:
        ahead = event.offset - reached
        before = f"{ahead} before it in partition {event.partition}" if ahead else "it is the next one"
        return Fate(kind="waiting", message=f"no router has read it yet ({before})")
    if event.problem:
        return Fate(kind="unwanted", message=event.problem)
    return await _by_routes(broker, topics, event)


def _touched(entry: TimelineEntry) -> WorkflowTouched:
    effect, reason = "decided", ""
    for event in entry.decision.events:
        match event:
            case WorkflowStarted():
                effect, reason = "started", f"route {event.route}"
            case StartRepeated():
                effect, reason = "repeated", event.reason
            case InputParked():
                effect, reason = "parked", f"{event.code}: {event.message}"
            case _:
                continue
        break
    decision = entry.decision
    return WorkflowTouched(
        workflow_id=decision.workflow_id, run_id=entry.run_id, effect=effect, reason=reason, at_ms=decision.at_ms
    )


def _summary(touched: Sequence[WorkflowTouched]) -> str:
    said = {
        "started": "it started workflow {}",
        "repeated": "it repeats a start, and changed nothing: workflow {}",
        "parked": "it could not be processed, and is parked with workflow {}",
    }
    return "; ".join(said.get(one.effect, "it moved workflow {}").format(one.workflow_id) for one in touched)


async def _by_routes(broker: Broker, topics: Topics, event: EventRow) -> Fate:
    record = await read_record(broker, TopicPartition(event.topic, event.partition), event.offset)
    if record is None:
        return Fate(
            kind="unwanted",
            message="no decision cites it, and the broker has dropped the record: its retention is over",
        )
    active = await active_routes(broker, topics, record.timestamp_ms)
    explained = tuple(RouteIndex(active).explain(from_record(record)))
    if any(one.matched for one in explained):
        return Fate(
            kind="accepted", message="a route wants it; its workflow's owner has yet to decide", routes=explained
        )
    message = "no route wants it" if explained else "no route wants it: none was active at its time"
    return Fate(kind="unwanted", message=message, routes=explained)


async def read_record(broker: Broker, where: TopicPartition, offset: int) -> Record | None:
    """One record by its place; None if the broker no longer has it."""
    begins, ends = await broker.begin_offsets([where]), await broker.end_offsets([where])
    if not begins[where] <= offset < ends[where]:
        return None
    reader = await broker.reader()
    try:
        reader.assign({where: offset})
        records = await reader.poll(max_records=1, timeout_s=READ_TIMEOUT_S)
    finally:
        await reader.close()
    return records[0] if records and records[0].offset == offset else None
