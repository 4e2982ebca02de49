"""Crossings: records that a decision on one workflow sends to another workflow's inbox.

docs/adr/0006-records-between-partitions.md has the design. The receiver keeps one watermark for
each sender partition, as it does for each partition that ingress copies from.

The watermark must not depend on who sends the record, or when. The log offset would depend on it:
it is only expected while the record is made. So the watermark is a sequence number: how many such
records the partition's effective decisions have sent before. A decision that sends any carries it.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, assert_never, cast, get_args

from mesh.core import events as ev
from mesh.core import ids
from mesh.core.calls import Caller, called_event, called_key
from mesh.core.inputs import (
    AliasAnswered,
    AliasClaimed,
    AliasReleased,
    CallCancelled,
    CallEnded,
    CallStatus,
    EventForwarded,
    ScheduledStart,
    SlotDenied,
    SlotGiven,
    SlotReturned,
    SlotWanted,
    WorkflowCalled,
)

Crossing = (
    WorkflowCalled
    | CallEnded
    | CallCancelled
    | ScheduledStart
    | AliasClaimed
    | AliasAnswered
    | AliasReleased
    | EventForwarded
    | SlotWanted
    | SlotGiven
    | SlotReturned
    | SlotDenied
)
"""An input that the decision of another workflow's owner made."""

MAY_CROSS: Final = frozenset(
    {
        ev.CallMade,
        ev.CallFailed,
        ev.CallWithdrawn,
        ev.CallRefused,
        ev.WorkflowEnded,
        ev.ScheduleFired,
        ev.AliasSought,
        ev.AliasBound,
        ev.AliasRefused,
        ev.AliasReturned,
        ev.EventRedirected,
        ev.SlotRequested,
        ev.SlotReleased,
        ev.SlotGranted,
        ev.SlotRefused,
        ev.PayloadsSealed,
    }
)


def crossings(events: Sequence[ev.Event]) -> int:
    """How many records to other workflows these events send.

    Every fold asks this of every decision.
    """
    # by exact type: every fold asks it of every decision, and most have none
    if MAY_CROSS.isdisjoint(map(type, events)):
        return 0
    return sum(_count(event) for event in events if type(event) in MAY_CROSS)


def _count(event: ev.Event) -> int:
    match event:
        case ev.PayloadsSealed():
            return event.sends
        case ev.WorkflowEnded():
            return int(event.caller is not None)
        case ev.CallFailed():
            # it cancels the called workflow, but only if that may still run
            return int(event.called != "")
        case _:
            return 1


def inputs_between(decision: ev.Decision) -> list[Crossing]:
    """The records that `decision` sends to other workflows, in order, with their sequence numbers.

    The sender's log is not known here; `mesh.codec.effects` adds it.
    """
    found: list[Crossing] = []
    for event in decision.events:
        if type(event) in MAY_CROSS:
            # numbered by what was found so far: folds count the same with `crossings`, and must
            # agree
            one = _input(decision, event, decision.sequence + len(found))
            if one is not None:
                found.append(one)
    return found


def _input(decision: ev.Decision, event: ev.Event, sequence: int) -> Crossing | None:
    match event:
        case ev.CallMade():
            caller = _caller(decision, event)
            return WorkflowCalled(
                workflow_id=event.called,
                route=event.route,
                digest=event.digest,
                key=called_key(event.task_id, event.attempt),
                cloud_event=called_event(caller, event.input, event.traceparent, event.tracestate),
                caller=caller,
                slice=event.slice,
                **_source(decision, sequence),
            )
        case ev.CallWithdrawn():
            return _cancelled(decision, event, event.reason, sequence)
        case ev.CallFailed() if event.called:
            return _cancelled(decision, event, f"the call has failed: {event.kind}", sequence)
        case ev.CallRefused():
            # nothing began, so nothing was spent: the slice goes back whole
            return _ended(decision, event.caller, sequence, status="refused", reason=event.message, usage={})
        case ev.WorkflowEnded() if event.caller is not None:
            return _ended(
                decision,
                event.caller,
                sequence,
                status=event.status,
                reason=event.reason,
                output=event.output,
                usage=event.usage,
            )
        case ev.SlotRequested() | ev.SlotReleased() | ev.SlotGranted() | ev.SlotRefused():
            return _of_slot(decision, event, sequence)
        case _:
            return _built_in(decision, event, sequence)


def _built_in(decision: ev.Decision, event: ev.Event, sequence: int) -> Crossing | None:
    """Records to and from built-in workflows."""
    source = _source(decision, sequence)
    match event:
        case ev.ScheduleFired():
            return ScheduledStart(
                workflow_id=ids.workflow_id(event.route, event.key),
                route=event.route,
                digest=event.digest,
                key=event.key,
                cloud_event=event.cloud_event,
                **source,
            )
        case ev.AliasSought():
            claimant = Caller(workflow_id=decision.workflow_id, task_id=event.task_id, attempt=event.claim)
            return AliasClaimed(workflow_id=event.alias, claimant=claimant, **source)
        case ev.AliasReturned():
            claimant_id = decision.workflow_id
            return AliasReleased(workflow_id=event.alias, claimant=claimant_id, run_id=event.run_id, **source)
        case ev.AliasBound():
            return _answered(decision, event.claimant, "", source)
        case ev.AliasRefused():
            return _answered(decision, event.claimant, event.message, source)
        case ev.EventRedirected():
            return EventForwarded(workflow_id=event.to, kept=event.kept, **source)
        case _:
            return None


def _answered(decision: ev.Decision, claimant: Caller, refusal: str, source: dict[str, Any]) -> AliasAnswered:
    return AliasAnswered(
        workflow_id=claimant.workflow_id,
        claimant=claimant,
        alias=decision.workflow_id,
        refusal=refusal,
        **source,
    )


def _of_slot(
    decision: ev.Decision, event: ev.SlotRequested | ev.SlotReleased | ev.SlotGranted | ev.SlotRefused, sequence: int
) -> Crossing:
    about: dict[str, Any] = {"task_id": event.task_id, "attempt": event.attempt, **_source(decision, sequence)}
    if isinstance(event, ev.SlotRequested):
        return SlotWanted(
            workflow_id=event.limit,
            concurrency=event.concurrency,
            rate=event.rate,
            per_ms=event.per_ms,
            priority=event.priority,
            **about,
        )
    if isinstance(event, ev.SlotReleased):
        return SlotReturned(workflow_id=event.limit, asked_at_ms=event.asked_at_ms, **about)
    parsed = ids.parse_step_id(event.task_id)
    if parsed is None:
        raise ValueError(f"{event.task_id}, which {decision.workflow_id} tells something, is not a task")
    about |= {"workflow_id": parsed.workflow_id, "limit": decision.workflow_id}
    if isinstance(event, ev.SlotGranted):
        return SlotGiven(asked_at_ms=event.asked_at_ms, **about)
    return SlotDenied(message=event.message, **about)


def _caller(decision: ev.Decision, event: ev.CallMade | ev.CallWithdrawn | ev.CallFailed) -> Caller:
    return Caller(workflow_id=decision.workflow_id, task_id=event.task_id, attempt=event.attempt)


def _source(decision: ev.Decision, sequence: int) -> dict[str, Any]:
    return {
        "source_topic": "",
        "source_partition": -1,
        "source_offset": sequence,
        "source_at_ms": decision.at_ms,
    }


def _cancelled(
    decision: ev.Decision, event: ev.CallWithdrawn | ev.CallFailed, reason: str, sequence: int
) -> CallCancelled:
    return CallCancelled(
        workflow_id=event.called, caller=_caller(decision, event), reason=reason, **_source(decision, sequence)
    )


def _ended(
    decision: ev.Decision,
    caller: Caller,
    sequence: int,
    *,
    status: CallStatus,
    reason: str,
    output: Any = None,
    usage: dict[str, float] | None = None,
) -> CallEnded:
    return CallEnded(
        workflow_id=caller.workflow_id,
        task_id=caller.task_id,
        attempt=caller.attempt,
        called=decision.workflow_id,
        status=status,
        reason=reason,
        output=output,
        usage=usage,
        **_source(decision, sequence),
    )


def crossing_id(given: Crossing) -> str:
    """The name of such a record for operators.

    It names the attempt that the record is about, and what it says of it.
    """
    match given:
        case WorkflowCalled():
            return f"{ids.attempt_id(given.caller.task_id, given.caller.attempt)}/call"
        case CallCancelled():
            return f"{ids.attempt_id(given.caller.task_id, given.caller.attempt)}/cancel"
        case CallEnded():
            return f"{ids.attempt_id(given.task_id, given.attempt)}/end"
        case AliasClaimed():
            return f"{ids.attempt_id(given.claimant.task_id, given.claimant.attempt)}/claim"
        case AliasAnswered():
            return f"{ids.attempt_id(given.claimant.task_id, given.claimant.attempt)}/claimed"
        case AliasReleased():
            return f"{given.claimant}/{given.run_id}/release"
        case EventForwarded():
            event = given.kept.cloud_event
            return f"{event.get('source', '')}/{event.get('id', '')}/forward"
        case ScheduledStart():
            return f"{given.workflow_id}/start"
        case SlotWanted() | SlotGiven() | SlotReturned() | SlotDenied():
            return f"{ids.attempt_id(given.task_id, given.attempt)}/{_SLOT_WORDS[type(given)]}"
        case _:
            assert_never(given)


CrossingKind = Literal["call", "cancel", "end", "claim", "claimed", "acquire", "grant", "release", "denial"]
_KINDS: Final = frozenset(get_args(CrossingKind))

_SLOT_WORDS: Final[dict[type, CrossingKind]] = {
    SlotWanted: "acquire",
    SlotGiven: "grant",
    SlotReturned: "release",
    SlotDenied: "denial",
}


class CrossingId(NamedTuple):
    """The parts of a record's name: which call, claim or attempt it is about, and what it says."""

    caller: Caller
    what: CrossingKind


def parse_crossing_id(text: str) -> CrossingId | None:
    """Parse the name of a record that can't be read further.

    None if the text is not such a name, or if nobody waits for the record.
    """
    # from the right: a workflow's key may hold slashes
    rest, _, what = text.rpartition("/")
    task, _, attempt = rest.rpartition("/")
    parsed = ids.parse_step_id(task)
    if parsed is None or what not in _KINDS or not attempt.isdecimal():
        return None
    caller = Caller(workflow_id=parsed.workflow_id, task_id=task, attempt=int(attempt))
    return CrossingId(caller, cast("CrossingKind", what))
