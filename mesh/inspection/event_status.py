"""What became of an event: the answer to an upstream team's first question.

Owns the judgement, which it makes from the read model and a few look-ups at the broker. It changes
nothing. Called by `mesh event`, later by the console.

    cited by a decision of the log?     -> started, repeated, received, kept, unclaimed or
                                           parked, workflow by workflow
    dead-lettered?                      -> dead_lettered  and why
    in the backlog?                     -> waiting        ingress has not read it
    wanted by a route, or by a step?    -> accepted       its owner has yet to decide
    else                                -> unwanted       with each route's reason
"""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from mesh.codec.cloudevents import from_record
from mesh.codec.event_batches import member_words, members_of
from mesh.core.events import (
    Cause,
    Event,
    EventKept,
    EventReceived,
    EventUnclaimed,
    InputDismissed,
    InputParked,
    StartRepeated,
    WorkflowStarted,
)
from mesh.core.matching import Explanation, RouteIndex
from mesh.core.state import KeptEvent
from mesh.core.topics import Topics
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.queries import EventRow, LetterFilter, TimelineEntry
from mesh.inspection.route_versions import active_routes
from mesh.ports import Broker, Record, TopicPartition
from mesh.services.reading import first_at

FateKind = Literal["waiting", "dead_lettered", "decided", "accepted", "unwanted"]


class WorkflowTouched(msgspec.Struct, frozen=True, kw_only=True):
    """What the event did to one workflow.

    `effect` is one of these:

    - started, repeated
    - received: a step waited for it, or took it when it began to wait
    - kept: until a step waits for it
    - unclaimed: no step took it
    - dismissed: it changed nothing
    - parked: it could not be processed
    - decided: anything else
    """

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
    """The fate of one record of `mesh.events`, as of the read model's last catch-up."""
    return EventFate(event=event, fate=await _fate(broker, topics, model, event))


async def _fate(broker: Broker, topics: Topics, model: ReadModel, event: EventRow) -> Fate:
    where = TopicPartition(event.topic, event.partition)
    cited = queries.decisions_citing(model.db, event.topic, event.partition, event.offset)
    if not cited and queries.is_cited(model.db, event.topic, event.partition, event.offset):
        return Fate(kind="decided", message="the workflow that it was for is archived")
    if event.member:
        cited = [entry for entry in cited if _is_of(entry.decision.cause, event)]
    if cited:
        touched = tuple(_touched(model, entry) for entry in cited)
        return Fate(kind="decided", message=_summary(touched), workflows=touched)
    letters = list(queries.dead_letters(model.db, LetterFilter(source=(event.topic, event.partition, event.offset))))
    if event.member:
        words = member_words(event.member)
        letters = [one for one in letters if words in one.message or one.code == "poison"]
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


def _is_of(cause: Cause, event: EventRow) -> bool:
    """Whether the decision was about this event of a batch."""
    return cause.id == event.event_id and cause.event_source in ("", event.source)


def _touched(model: ReadModel, entry: TimelineEntry) -> WorkflowTouched:
    decision = entry.decision
    effect, reason = next((said for event in decision.events if (said := _effect(event)) is not None), ("decided", ""))
    kept = next((event.kept for event in decision.events if isinstance(event, EventKept)), None)
    if kept is not None:
        effect, reason = _since_kept(queries.decisions_of(model.db, decision.workflow_id), entry, kept)
    return WorkflowTouched(
        workflow_id=decision.workflow_id, run_id=entry.run_id, effect=effect, reason=reason, at_ms=decision.at_ms
    )


def _effect(event: Event) -> tuple[str, str] | None:
    """What this event of the log says about its cause, and why; None if it says nothing."""
    match event:
        case WorkflowStarted():
            return "started", f"route {event.route}"
        case StartRepeated():
            return "repeated", event.reason
        case EventReceived(kept=False):
            return "received", f"step {event.step} waited for it"
        case InputDismissed():
            return "dismissed", event.message
        case InputParked():
            return "parked", f"{event.code}: {event.message}"
        case _:
            return None


def _since_kept(entries: Sequence[TimelineEntry], entry: TimelineEntry, kept: KeptEvent) -> tuple[str, str]:
    """What has become of an event since it was kept in this decision."""
    for later in entries:
        if later.offset <= entry.offset:
            continue
        for event in later.decision.events:
            if isinstance(event, EventReceived) and event.kept and event.cloud_event == kept.cloud_event:
                return "received", f"it was kept until step {event.step} waited for it"
            if isinstance(event, EventUnclaimed) and event.kept == kept:
                return "unclaimed", f"it was kept, and {event.reason}"
    return "kept", "no step waits for it yet" if entry.run_id else "no workflow of this id has started yet"


_SAID: Final = {
    "started": "it started workflow {}",
    "repeated": "it repeats a start, and changed nothing: workflow {}",
    "received": "it is what workflow {} waited for",
    "kept": "it is kept for workflow {}",
    "unclaimed": "it was for workflow {}, which did not take it: it is a dead letter",
    "dismissed": "it changed nothing in workflow {}",
    "parked": "it could not be processed, and is parked with workflow {}",
}


def _summary(touched: Sequence[WorkflowTouched]) -> str:
    return "; ".join(_SAID.get(one.effect, "it moved workflow {}").format(one.workflow_id) for one in touched)


async def _by_routes(broker: Broker, topics: Topics, event: EventRow) -> Fate:
    record = await read_record(broker, TopicPartition(event.topic, event.partition), event.offset)
    if record is None:
        return Fate(
            kind="unwanted",
            message="no decision cites it, and the broker has dropped the record: its retention is over",
        )
    if event.member:
        record = members_of(record)[event.member - 1]
    active = await active_routes(broker, topics, record.timestamp_ms)
    explained = tuple(RouteIndex(active).explain(from_record(record)))
    if any(one.matched or one.offered for one in explained):
        who = "a route wants it" if any(one.matched for one in explained) else "a step may wait for it"
        return Fate(kind="accepted", message=f"{who}; its workflow's owner has yet to decide", routes=explained)
    message = "no route wants it" if explained else "no route wants it: none was active at its time"
    return Fate(kind="unwanted", message=message, routes=explained)


async def read_record(broker: Broker, where: TopicPartition, offset: int) -> Record | None:
    """One record by its place; None if the broker no longer has it."""
    record = await first_at(broker, where, offset)
    return record if record is not None and record.offset == offset else None
