"""Judges budgets, for `mesh.testing.promises.judge`: what each attempt and call of a run used.

Owns a count of its own, made from events alone. It must not use the run's own account.

* an attempt counts once: by the last report of what it used, or by its whole reserve if there is
  none; what was not sent counts for nothing
* the account of a run, and what its end reports, are the sum of that
* within what was reserved for them, its tasks and calls never use more than the budget and what was
  granted beyond it
* a call gets the slice that it was made with, and may spend no more than that unless more is
  granted
* what a caller counts for a call, and takes for its end, is what the workflow that it called has
  reported
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from msgspec import Struct

from mesh.core import ids
from mesh.core.amounts import as_number
from mesh.core.calls import Slice
from mesh.core.effects import Effect, SendTask
from mesh.core.events import (
    ApprovalWanted,
    BudgetRaised,
    CallFailed,
    CallMade,
    CallRefused,
    CallSucceeded,
    Decision,
    SlotRequested,
    TaskDispatched,
    TaskFailed,
    TaskHandedOver,
    TaskSucceeded,
    UsageReported,
    WorkflowEnded,
    WorkflowForgotten,
    WorkflowStarted,
)
from mesh.core.state import Workflow

_Amounts = dict[str, float]
_DUST: Final = 1e-6
_SAYS_NOTHING: Final = frozenset({"timeout", "undeliverable", "parked"})
"""Failures of a call that are not the word of the workflow that was called."""


class _Told(NamedTuple):
    """What the end of a called workflow says to its caller."""

    called: str
    status: str
    usage: _Amounts | None
    output: Any = None


class _Run(Struct, kw_only=True):
    """One run. `reserved` and `counted` are by attempt, of a task or a call.

    `queued`: what is reserved for an attempt that waits for a slot.
    """

    run_id: str
    limits: _Amounts
    names: frozenset[str]
    reserved: dict[str, _Amounts] = {}
    counted: dict[str, _Amounts] = {}
    queued: dict[str, _Amounts] = {}

    def sum(self, name: str) -> float:
        return sum(amounts.get(name, 0.0) for amounts in self.counted.values())

    def within_reserves(self, name: str) -> float:
        """What was used, or may still be, of what was reserved.

        An attempt may use more than its reserve. Nobody can prevent that, so the excess is left
        out.
        """
        return sum(
            min(amounts.get(name, 0.0), self.reserved[attempt].get(name, 0.0))
            for attempt, amounts in self.counted.items()
        )


class UsageLedger:
    """Give it every effective decision. It returns findings.

    `in_order`: the decisions come as they landed, on all partitions.
    """

    def __init__(self, *, in_order: bool) -> None:
        self._in_order = in_order
        self._runs: dict[str, _Run] = {}  # of workflows with a budget
        self._slices: dict[str, Slice | None] = {}  # by attempt of a call
        self._told: dict[str, list[_Told]] = {}  # by attempt of a call

    def take(self, decision: Decision, sent: list[Effect], after: Workflow | None) -> Iterator[str]:
        """Take a decision. `sent`: its effects. `after`: the workflow with this decision."""
        out = {ids.attempt_id(one.task_id, one.attempt) for one in sent if isinstance(one, SendTask)}
        for event in decision.events:
            if isinstance(event, WorkflowStarted):
                yield from self._start(decision.workflow_id, event)
            elif isinstance(event, WorkflowForgotten):
                self._forget(decision.workflow_id)
            if self._in_order:
                yield from self._between(decision.workflow_id, event)
            run = self._runs.get(decision.workflow_id)
            if run is not None:
                _count(run, event, out)
                if isinstance(event, WorkflowEnded):
                    yield from _end(run, event)
                    del self._runs[decision.workflow_id]
        run = self._runs.get(decision.workflow_id)
        if run is not None and after is not None:
            yield from _balance(run, after)

    def _start(self, workflow_id: str, event: WorkflowStarted) -> Iterator[str]:
        part = event.slice
        if event.caller is not None and self._in_order:
            attempt = ids.attempt_id(event.caller.task_id, event.caller.attempt)
            made = self._slices.get(attempt)
            # the caller may have been forgotten since it called
            if attempt in self._slices and part != made:
                yield f"{workflow_id} begins with the slice {part}, and was called with {made}"
        budget = event.budget
        if part is not None:
            more = [name for name, most in part.limits.items() if budget is None or budget.get(name, most + 1) > most]
            if more:
                yield f"{workflow_id} has the budget {budget}, and a slice of {part.limits}"
        self._runs.pop(workflow_id, None)
        if budget is not None:
            names = {*budget, *(part.counted if part is not None else ())} - {"hops"}
            self._runs[workflow_id] = _Run(run_id=event.run_id, limits=dict(budget), names=frozenset(names))

    def _forget(self, workflow_id: str) -> None:
        """Forget a workflow: the same key may start again, even with the same event."""
        prefix = workflow_id + "/"
        self._slices = {attempt: part for attempt, part in self._slices.items() if not attempt.startswith(prefix)}
        self._told = {attempt: told for attempt, told in self._told.items() if not attempt.startswith(prefix)}

    def _between(self, workflow_id: str, event: object) -> Iterator[str]:
        """Compare what a call is made with and reports with what its caller takes from it."""
        match event:
            case CallMade():
                self._slices[_attempt(event)] = event.slice
            case CallRefused():
                self._tell(event, _Told(workflow_id, "refused", {}))
            case WorkflowEnded() if event.caller is not None:
                self._tell(event, _Told(workflow_id, event.status, event.usage, event.output))
            case CallSucceeded():
                parsed = ids.parse_step_id(event.task_id)
                if parsed is None or parsed.step != event.step:
                    yield f"{event.step} succeeds with the call {event.task_id}, which is not its own"
                word = _Told(event.called, "completed", event.usage, event.output)
                if word not in self._told.get(_attempt(event), []):
                    yield f"{event.step} succeeds with {word}, which no workflow of its own has told"
            case CallFailed() if event.kind not in _SAYS_NOTHING:
                yield from self._heard(event, {event.kind})
            case UsageReported() if event.usage:
                yield from self._heard(event, set())
            case _:
                pass

    def _tell(self, event: CallRefused | WorkflowEnded, told: _Told) -> None:
        if event.caller is not None:
            self._told.setdefault(ids.attempt_id(event.caller.task_id, event.caller.attempt), []).append(told)

    def _heard(self, event: CallFailed | UsageReported, statuses: set[str]) -> Iterator[str]:
        told = self._told.get(_attempt(event), [])
        if not any(one.usage == event.usage and (not statuses or one.status in statuses) for one in told):
            what = f"{event.step}, attempt {event.attempt}"
            yield f"{what}, is heard of with {[*statuses]} {event.usage}, and its workflow has told {told}"


def _attempt(event: Any) -> str:
    return ids.attempt_id(event.task_id, event.attempt)


def _count(run: _Run, event: object, out: set[str]) -> None:
    """Count an event. `out`: the attempts whose task this same decision sends."""
    match event:
        case BudgetRaised():
            run.limits = {name: limit + event.granted.get(name, 0.0) for name, limit in run.limits.items()}
        case SlotRequested():
            run.queued[_attempt(event)] = event.reserved or {}
        case TaskDispatched():
            name = _attempt(event)
            run.reserved[name] = event.reserved or {}
            run.counted[name] = run.reserved[name] if name in out else {}
        case CallMade():
            name = _attempt(event)
            run.reserved[name] = run.counted[name] = event.slice.limits if event.slice is not None else {}
        case TaskFailed(kind="undeliverable") | CallFailed(kind="undeliverable"):
            run.counted[_attempt(event)] = {}
        case (
            TaskSucceeded()
            | TaskFailed()
            | TaskHandedOver()
            | ApprovalWanted()
            | CallSucceeded()
            | CallFailed()
            | UsageReported()
        ):
            if event.usage is not None:
                run.counted[_attempt(event)] = _used(event.usage)
        case _:
            pass


def _used(usage: _Amounts) -> _Amounts:
    """Normalise a usage report.

    Tokens may come as input and output, and less than 0 counts as 0.
    """
    halves = [usage[name] for name in ("input_tokens", "output_tokens") if name in usage]
    whole = {"tokens": sum(halves)} if halves and "tokens" not in usage else {}
    return {name: max(0.0, amount) for name, amount in {**usage, **whole}.items()}


def _balance(run: _Run, workflow: Workflow) -> Iterator[str]:
    """Compare the account with the sum of what was reported."""
    account = workflow.account
    if account is None:
        yield f"run {run.run_id} has a budget of {run.limits}, and keeps no account"
        return
    waiting = [
        run.queued.get(ids.attempt_id(step.task_id, step.attempt), {})
        for step in workflow.steps.values()
        if step.status == "queued"
    ]
    for name in sorted(run.names):
        booked = account.spent.get(name, 0.0) + account.reserved.get(name, 0.0)
        counted = run.sum(name) + sum(amounts.get(name, 0.0) for amounts in waiting)
        if abs(booked - counted) > _DUST:
            yield f"{as_number(booked)} {name} are booked, and its attempts took {as_number(counted)}: {run.counted}"
        limit, within = run.limits.get(name), run.within_reserves(name)
        if limit is not None and within > limit + _DUST:
            yield f"within their reserves {as_number(within)} {name} were taken, of {as_number(limit)}"


def _end(run: _Run, event: WorkflowEnded) -> Iterator[str]:
    took = {name: run.sum(name) for name in run.names}
    said = event.usage or {}
    if said.keys() != took.keys() or any(abs(said[name] - took[name]) > _DUST for name in took):
        yield f"it ends and says that it took {said}, and its attempts took {took}"
