"""Compare what a run came to under the old rules and under the new ones.

Owns which decisions count as the same: they are compared step by step, without their times, and the
first one that differs is reported for each step. `mesh.inspection.what_if.rehearsal` calls it.
"""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import msgspec

from mesh.core import events as ev
from mesh.core import ids
from mesh.core.json_values import is_same
from mesh.core.route import Route
from mesh.inspection.what_if.recording import Run


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about one step, without times; about the workflow, if `step` is empty."""

    step: str
    what: str
    detail: dict[str, Any] = {}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first decision about a step that is not the same.

    `before`, `after`: that decision, or None if one of the two has no more. `fields`: what differs
    in it.
    """

    step: str
    before: Fact | None
    after: Fact | None
    fields: tuple[str, ...] = ()


def events_of(run: Run) -> Iterator[ev.Event]:
    return (event for decision in run.decisions for event in decision.events)


def facts_of(event: ev.Event) -> Iterator[Fact]:
    found = _of_work(event) or _of_course(event) or _of_run(event)
    if found is not None:
        yield found


def _of_work(event: ev.Event) -> Fact | None:
    """The fact of an event about agents, people or other workflows: what they are asked, or say."""
    match event:
        case ev.TaskDispatched():
            detail = {"agent": event.agent, "input": event.input, "attempt": event.attempt}
            return Fact(step=event.step, what="dispatched", detail=detail)
        case ev.CallMade():
            detail = {"route": event.route, "input": event.input, "attempt": event.attempt}
            return Fact(step=event.step, what="called", detail=detail)
        case ev.TaskSucceeded() | ev.CallSucceeded() | ev.StepCompleted():
            return Fact(step=event.step, what="succeeded")
        case ev.TaskFailed() | ev.CallFailed():
            return Fact(step=event.step, what="failed", detail={"kind": event.kind})
        case ev.TaskHandedOver():
            return Fact(step=event.step, what="handed over", detail={"to": event.to})
        case ev.ApprovalWanted():
            return Fact(step=event.step, what="wants", detail={"approval": event.name})
        # operators' pauses are not played, and say nothing of the rules
        case ev.TaskHeld(is_paused=False):
            return Fact(step=event.step, what="held", detail={"input": event.input})
        case ev.ApprovalRequested():
            detail = {"role": event.role, "question": event.question, "payload": event.payload}
            return Fact(step=event.step, what="asked", detail=detail)
        case ev.ApprovalClosed():
            by = "its deadline" if event.expired else event.by
            return Fact(step=event.step, what=event.verdict, detail={"by": by, "payload": event.payload})
        case _:
            return None


def _of_course(event: ev.Event) -> Fact | None:
    """The fact of an event that the rules decide by themselves."""
    match event:
        case ev.StepSkipped():
            return Fact(step=event.step, what="skipped", detail={"output": event.output})
        case ev.StepBlocked():
            return Fact(step=event.step, what="blocked")
        case ev.StepCancelled() | ev.ApprovalWithdrawn() | ev.CallWithdrawn():
            return Fact(step=event.step, what="cancelled")
        case ev.StepGivenUp():
            return Fact(step=event.step, what="given up")
        case ev.StepComputed():
            return Fact(step=event.step, what="computed", detail={"output": event.output})
        case ev.EventEmitted(cloud_event=sent):
            detail = {name: sent.get(name) for name in ("type", "subject", "data")}
            return Fact(step=event.step, what="emitted", detail=detail)
        case ev.ForEachStarted():
            return Fact(step=event.step, what="for each", detail={"items": event.items})
        case ev.ForEachEnded():
            return Fact(step=event.step, what="all items done", detail={"failed": event.failed})
        case ev.RoundStarted():
            return Fact(step=event.step, what="round", detail={"round": event.round})
        case ev.IncidentRaised():
            return Fact(step=event.step, what="incident", detail={"kind": event.kind})
        case _:
            return None


def _of_run(event: ev.Event) -> Fact | None:
    match event:
        case ev.WaitStarted():
            return Fact(step=event.step, what="waits", detail={"for": event.awaits or "a time"})
        case ev.AliasSought():
            return Fact(step=event.step, what="asks for its alias", detail={"alias": event.alias})
        case ev.AliasWaived():
            return Fact(step=event.step, what="goes without its alias")
        case ev.WaitEnded():
            return Fact(step=event.step, what="time has come")
        case ev.EventReceived():
            return Fact(step=event.step, what="received", detail={"event": event.cloud_event})
        case ev.BudgetTimeOver():
            return Fact(step="", what="budget's time over")
        case ev.BudgetRaised():
            return Fact(step="", what="budget raised", detail={"granted": event.granted})
        case ev.CompensationStarted():
            return Fact(step="", what="undoing", detail={"status": event.status, "steps": list(event.steps)})
        case ev.WorkflowEnded():
            return Fact(step="", what=event.status, detail={"output": event.output})
        case _:
            return None


def differences(run: Run, after: list[Fact], route: Route, *, complete: bool) -> list[Difference]:
    """The first difference of each step.

    They have the order of the new decisions, and then of the old ones.
    """
    before = [fact for event in events_of(run) for fact in facts_of(event)]
    order = dict.fromkeys((*(fact.step for fact in after), *(fact.step for fact in before)))
    found = []
    for step in order:
        # a step that the new rules do not have will never have another decision
        known = complete or (step != "" and ids.step_of(step) not in route.steps)
        difference = _difference(step, _of(step, before), _of(step, after), complete=known)
        if difference is not None:
            found.append(difference)
    return _by_time(found, before, after)


def _of(step: str, facts: list[Fact]) -> list[Fact]:
    return [fact for fact in facts if fact.step == step]


def _difference(step: str, before: list[Fact], after: list[Fact], *, complete: bool) -> Difference | None:
    """The first difference between the decisions about one step; None if there is none.

    `complete`: it is certain that the new rules decide nothing more about the step.
    """
    for old, new in zip_longest(before, after):
        if old is not None and new is not None and old.what == new.what:
            if is_same(old.detail, new.detail):
                continue
            fields = tuple(name for name in old.detail if not is_same(old.detail[name], new.detail.get(name)))
            return Difference(step=step, before=old, after=new, fields=fields)
        # the new rules may decide it yet, so nothing is known to differ
        if new is None and not complete:
            return None
        return Difference(step=step, before=old, after=new)
    return None


def _by_time(found: list[Difference], before: list[Fact], after: list[Fact]) -> list[Difference]:
    """Sort by the place in the new decisions, or in the old ones if only those have it."""

    def place(one: Difference) -> tuple[int, int]:
        facts, fact = (after, one.after) if one.after is not None else (before, one.before)
        # by identity, since the same may have been decided more than once
        at = next((number for number, known in enumerate(facts) if known is fact), len(facts))
        return (at, one.after is None)

    return sorted(found, key=place)
