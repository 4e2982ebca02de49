"""What each run of a workflow must keep, judged by its events and its route alone.

`test_core_properties` asks it, besides the counts of results.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from mesh.core import events as ev
from mesh.core import ids
from mesh.core.effects import SendTask, effects
from mesh.core.evolve import evolve
from mesh.core.route import Route
from mesh.core.state import FINISHED, StepState, Workflow

_DUST = 1e-6
_UNHEARD = frozenset({"timeout", "start_timeout", "run_timeout", "heartbeat_timeout"})
_UNDER_WAY = frozenset({"running", "calling", "retrying", "held", "incident"})


class RunLedger:
    """Of one run. `route_of` gives the route of a digest."""

    def __init__(self, route_of: Callable[[str], Route]) -> None:
        self._route_of = route_of
        self.route: Route | None = None
        self.attempts: dict[str, dict[str, str]] = {}  # step -> attempt id -> what was heard of it
        self.done_at: dict[str, int] = {}  # step -> when its work was done last
        self.fanned: set[str] = set()
        self.items: dict[str, list[Any]] = {}  # for-each under way -> what its items gave
        self.skipped_items: Counter[str] = Counter()
        self.granted: Counter[str] = Counter()  # rounds, by an operator, by closing step
        self.limits: Counter[str] = Counter()  # rounds, by the most generous version
        self.to_undo: list[str] | None = None
        self.is_given_up = False  # an operator ends it as it is
        self.counted: dict[
            str, float
        ] = {}  # attempt id of a task or a call -> tokens: its last word, or else its reserve

    def note(self, before: Workflow | None, decision: ev.Decision) -> None:
        state, self.is_given_up = before, False
        for event in decision.events:
            was = state
            state = evolve(state, event, workflow_id=decision.workflow_id, at_ms=decision.at_ms)
            self._event(was, state, event, decision.at_ms)
            self._count(decision, event)
        _check_pause(before, decision)
        self._check_count(state)
        if before is not None and before.status == "running":
            _check_withdrawn(before, state, decision)

    def _event(self, before: Workflow | None, after: Workflow | None, event: ev.Event, at_ms: int) -> None:
        match event:
            case ev.WorkflowStarted() | ev.WorkflowMigrated():
                self._goes_by(event.digest)
            case ev.StepGivenUp() if ids.is_item(event.step):
                self._settle_item(event.step, None)
                self.skipped_items[ids.step_of(event.step)] += event.reason.startswith("skipped by")
            case ev.StepSkipped() if ids.is_undo(event.step):
                self._undone(event.step)
            case ev.ForEachStarted():
                self.fanned.add(event.step)
                self.items[event.step] = [...] * len(event.items)
                self.skipped_items[event.step] = 0
            case ev.ForEachEnded() if before is not None and after is not None:
                self._fanned_in(before, after, event, at_ms)
            case ev.IncidentResolved() if before is not None:
                incident = before.steps[event.step].incident
                self.granted[event.step] += incident is not None and incident.kind == "loop" and event.action == "retry"
            case ev.RoundStarted():
                most = self.limits[event.step] + self.granted[event.step]
                assert event.round <= most, f"{event.step} goes into round {event.round} of {most}"
            case ev.CompensationStarted() if before is not None:
                self._compensates(before, event)
            case ev.CommandAccepted(command="cancel"):
                self.is_given_up = True
            case ev.WorkflowEnded():
                assert self.is_given_up or not self.to_undo, f"it ended before {self.to_undo} were undone"
            case _:
                self._work(event, at_ms)

    def _work(self, event: ev.Event, at_ms: int) -> None:
        match event:
            case ev.TaskDispatched():
                self._dispatched(event)
            case ev.CallMade():
                self.attempts.setdefault(ids.step_of(event.step), {})[_attempt(event)] = "out"
            case ev.TaskSucceeded() | ev.CallSucceeded():
                self._succeeded(event, at_ms)
            case ev.StepCompleted():
                self._completed(event, at_ms)
            case ev.TaskFailed() | ev.CallFailed():
                heard = "unheard" if event.kind in _UNHEARD else "failed"
                self._heard(event.step, event.task_id, event.attempt, heard)
            case ev.TaskHandedOver() | ev.ApprovalWanted():
                self._heard(event.step, event.task_id, event.attempt, "handed over")
            case _:
                pass

    def _goes_by(self, digest: str) -> None:
        self.route = self._route_of(digest)
        for name, step in self.route.steps.items():
            if step.repeat is not None:
                self.limits[name] = max(self.limits[name], step.repeat.limit)

    # What it takes --------------------------------------------------------------------------------

    def _count(self, decision: ev.Decision, event: ev.Event) -> None:
        """Count each attempt once, however often it is reported; what was not sent, not at all."""
        match event:
            case ev.TaskDispatched():
                sent = [(one.task_id, one.attempt) for one in effects(decision) if isinstance(one, SendTask)]
                reserved = (event.reserved or {}).get("tokens", 0.0)
                self.counted[_attempt(event)] = reserved if (event.task_id, event.attempt) in sent else 0.0
            case ev.CallMade():
                self.counted[_attempt(event)] = event.slice.limits.get("tokens", 0.0) if event.slice else 0.0
            case ev.TaskFailed(kind="undeliverable") | ev.CallFailed(kind="undeliverable"):
                self.counted[_attempt(event)] = 0.0
            case (
                ev.TaskSucceeded()
                | ev.TaskFailed()
                | ev.TaskHandedOver()
                | ev.ApprovalWanted()
                | ev.CallSucceeded()
                | ev.CallFailed()
                | ev.UsageReported()
            ):
                if event.usage is not None:
                    self.counted[_attempt(event)] = event.usage.get("tokens", 0.0)
            case ev.WorkflowEnded() if event.usage is not None:
                assert abs(event.usage["tokens"] - sum(self.counted.values())) < _DUST, "it says another thing"
            case _:
                pass

    def _check_count(self, workflow: Workflow | None) -> None:
        account = workflow.account if workflow is not None and workflow.status == "running" else None
        if account is not None:
            booked = account.spent.get("tokens", 0.0) + account.reserved.get("tokens", 0.0)
            assert abs(booked - sum(self.counted.values())) < _DUST, f"{booked:g} booked of {self.counted}"

    # Tasks ----------------------------------------------------------------------------------------

    def _dispatched(self, event: ev.TaskDispatched) -> None:
        step = ids.step_of(event.step)
        if ids.is_undo(event.step):
            assert self.to_undo, f"{event.step} is undone, and it need not be"
            assert step == self.to_undo[0], f"{step} is undone before {self.to_undo[0]}"
            return
        assert self.to_undo is None, f"{event.step} was dispatched although the workflow is being undone"
        self.attempts.setdefault(step, {})[ids.attempt_id(event.task_id, event.attempt)] = "out"

    def _heard(self, place: str, task: str, attempt: int, what: str) -> None:
        if not ids.is_undo(place):
            self.attempts[ids.step_of(place)][ids.attempt_id(task, attempt)] = what

    def _succeeded(self, event: ev.TaskSucceeded | ev.CallSucceeded, at_ms: int) -> None:
        if ids.is_undo(event.step):
            self._undone(event.step)
            return
        self._heard(event.step, event.task_id, event.attempt, "done")
        if ids.is_item(event.step):
            self._settle_item(event.step, event.output)
        else:
            self.done_at[event.step] = at_ms

    def _completed(self, event: ev.StepCompleted, at_ms: int) -> None:
        """An output by hand: what is out may be done as well, and nobody waits for it."""
        name = ids.step_of(event.step)
        if ids.is_undo(event.step):
            self._undone(event.step)
            return
        self.attempts.setdefault(name, {})[f"{event.step} by hand"] = "done"
        if ids.is_item(event.step):
            self._settle_item(event.step, event.output)
        else:
            self.done_at[name] = at_ms

    # For-each -------------------------------------------------------------------------------------

    def _settle_item(self, place: str, output: Any) -> None:
        items, index = self.items[ids.step_of(place)], ids.index_of(place)
        assert items[index] is ..., f"{place} was settled twice"
        items[index] = output

    def _fanned_in(self, before: Workflow, after: Workflow, event: ev.ForEachEnded, at_ms: int) -> None:
        name = event.step
        assert after.steps[name].output == self.items.pop(name), "not an entry for each item, in order"
        self.done_at[name] = at_ms
        fan, each = before.steps[name].fan, self.route and self.route.steps[name].for_each
        assert fan is not None
        assert each
        most = each.tolerated(fan.total) + self.skipped_items[name]
        assert event.failed <= most, f"{event.failed} items failed, of {most} that may"

    # Compensation ---------------------------------------------------------------------------------

    def _compensates(self, before: Workflow, event: ev.CompensationStarted) -> None:
        if before.ending is not None:  # an operator fails it while it is undone
            assert (event.status, list(event.steps)) == ("failed", self.to_undo), "what is left is to be undone"
            return
        assert self.to_undo is None, "it is undone twice"
        assert self.route is not None
        assert len(set(event.steps)) == len(event.steps)
        self.to_undo = list(event.steps)
        for name, step in self.route.steps.items():
            heard = set(self.attempts.get(name, {}).values())
            must = step.undo is not None and bool(heard & {"out", "unheard", "done"})
            may = must or (step.undo is not None and name in self.fanned)
            assert must <= (name in event.steps), f"{name} may have been done, and is not undone: {heard}"
            assert (name in event.steps) <= may, f"{name} is undone, and was never done: {heard}"
        done = [name for name in event.steps if before.steps[name].status == "succeeded"]
        times = [self.done_at[name] for name in done]
        assert times == sorted(times, reverse=True), "not the last first"
        for place, name in enumerate(done):
            earlier = [n for n in done[:place] if self.done_at[n] == self.done_at[name]]
            order = list(self.route.steps)
            assert all(order.index(n) > order.index(name) for n in earlier), "undone before what was made of it"

    def _undone(self, place: str) -> None:
        assert self.to_undo, f"{place} was undone twice"
        assert self.to_undo.pop(0) == ids.step_of(place)


_BEGINS = (
    ev.TaskDispatched,
    ev.CallMade,
    ev.SlotRequested,
    ev.ApprovalRequested,
    ev.EventEmitted,
    ev.WaitStarted,
    ev.ForEachStarted,
    ev.StepComputed,
)


def _check_pause(before: Workflow | None, decision: ev.Decision) -> None:
    """Check that a paused workflow sends and begins nothing before it resumes."""
    is_paused = before is not None and before.pause is not None
    for event in decision.events:
        is_paused = (is_paused or isinstance(event, ev.WorkflowPaused)) and not isinstance(event, ev.WorkflowResumed)
        assert not (is_paused and isinstance(event, _BEGINS)), f"it is paused, and {event} begins"


def _check_withdrawn(before: Workflow, after: Workflow | None, decision: ev.Decision) -> None:
    """Check that what is withdrawn was out before this decision, and is not any more.

    At an end that is all that was out, except what was reported.
    """
    told = [one for event in decision.events if isinstance(event, ev.TasksWithdrawn) for one in event.tasks]
    named = {ids.attempt_id(one.task_id, one.attempt) for one in told}
    assert len(named) == len(told), "an attempt is withdrawn twice"
    was_out = _out(before)
    assert named <= was_out, f"{named - was_out} were not out, and are withdrawn"
    assert not named & _out(after), f"{named & _out(after)} are still out, and are withdrawn"
    if any(isinstance(event, ev.WorkflowEnded) for event in decision.events):
        words = (ev.TaskSucceeded, ev.TaskFailed, ev.TaskHandedOver, ev.ApprovalWanted)
        heard = {_attempt(event) for event in decision.events if isinstance(event, words)}
        assert was_out <= named | heard, f"{was_out - named - heard} were out, and their agents are not told"


def _out(workflow: Workflow | None) -> set[str]:
    """The attempts at tasks that are out, by id."""
    steps = workflow.steps.values() if workflow is not None else ()
    return {ids.attempt_id(step.task_id, step.attempt) for step in steps if step.status == "running"}


def _attempt(
    event: ev.TaskDispatched
    | ev.TaskSucceeded
    | ev.TaskFailed
    | ev.TaskHandedOver
    | ev.ApprovalWanted
    | ev.CallMade
    | ev.CallSucceeded
    | ev.CallFailed
    | ev.UsageReported,
) -> str:
    return ids.attempt_id(event.task_id, event.attempt)


def check_liveness(workflow: Workflow, route: Route) -> None:
    """Check that every part of a running workflow waits for something that can come.

    A workflow that has ended waits for nothing.
    """
    # it waits for an operator, with all that is held
    if workflow.pause is not None and workflow.status == "running":
        return
    waiting = {place: step for place, step in workflow.steps.items() if step.status not in FINISHED}
    if workflow.status != "running":
        assert not waiting
        return
    anchors = [place for place, step in waiting.items() if _is_anchored(workflow, place, step, waiting)]
    assert anchors, f"it waits for nothing: { {place: step.status for place, step in workflow.steps.items()} }"
    for place, step in waiting.items():
        assert (step.incident is not None) == (step.status == "incident"), place
        assert place in anchors or step.status == "again", f"{place} is {step.status}, and nothing will move it"
    if workflow.ending is not None:
        assert list(waiting) == [ids.undo_place(workflow.ending.undo[0])], (
            "one is undone at a time, and nothing else moves"
        )
        return
    for name, needed in route.steps.items():
        state = workflow.steps.get(name)
        is_open = state is None or state.status == "again"
        settled = all(need in workflow.steps and need not in waiting for need in needed.needs)
        assert not (is_open and settled), f"all that {name} needs is settled, and it does not begin"
        if needed.first_of and not is_open:
            assert settled, f"the race of {name} is won, and others of it are under way"


def _is_anchored(workflow: Workflow, place: str, step: StepState, waiting: dict[str, StepState]) -> bool:
    match step.status:
        case "running" | "retrying":
            return step.due_at_ms is not None
        case "asking":
            return bool(step.task_id)
        case "suspended":
            return step.tools is not None and ids.tool_place(place, step.tools.waits_for) in waiting
        case "queued":
            return place in workflow.slots
        case "calling":
            return bool(step.called)
        case "waiting":
            return bool(step.awaits) or step.due_at_ms is not None
        case "iterating":
            under_way = any(ids.is_item(p) and ids.step_of(p) == place for p in waiting)
            return step.due_at_ms is not None or under_way
        case "incident":
            return True
        case "held":
            asked = any(ids.is_budget(p) for p in waiting)
            promised = workflow.account is not None and bool(workflow.account.unheard)
            return asked or promised or any(other.reserved for other in waiting.values())
        case _:
            return False


def check_items(workflow: Workflow, route: Route) -> None:
    """No more than the limit at once."""
    under_way = Counter(ids.step_of(p) for p, s in workflow.steps.items() if ids.is_item(p) and s.status in _UNDER_WAY)
    for name, count in under_way.items():
        each = route.steps[name].for_each
        assert each is not None
        assert count <= each.concurrency, f"{count} items of {name} are under way, and {each.concurrency} may be"


def check_account(workflow: Workflow) -> None:
    """Check that what is spent and reserved stays within the limits.

    It does if agents keep to their reserve. A compensation is paid in any case.
    """
    account = workflow.account
    if account is None or workflow.ending is not None or workflow.status != "running":
        return
    for name, limit in account.limits.items():
        spent, reserved = account.spent.get(name, 0.0), account.reserved.get(name, 0.0)
        assert spent >= 0, f"{name}: {spent:g} spent"
        assert spent + reserved <= limit + 1e-6, f"{name}: {spent:g} spent and {reserved:g} promised of {limit:g}"
    promised = [
        *(step.reserved or {} for step in workflow.steps.values()),
        *(call.reserved for call in account.unheard.values()),
    ]
    out = sum(map(Counter, promised), Counter[str]())
    assert {k: v for k, v in account.reserved.items() if v} == dict(out), "promised to nobody"
