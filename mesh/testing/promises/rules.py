"""Judges the rules of the route language, for `mesh.testing.promises.judge`.

Owns a second reading of the rules, from the route and the log alone. It must not ask `decide`,
which may be wrong twice.

* a step begins when its needs let it, once in a round, and never after it was settled or while the
  workflow is undone; a race leaves none of the others open
* a task has no more attempts than its route gives, and is handed over no more often, and to no
  other agents, than its route allows; one that is under a limit has asked for a slot
* no more items are under way than may be, and no more fail than are tolerated, unless an operator
  said so; a loop goes no more rounds than it may
* what fails after its last attempt, expires, or waits in vain has the consequence that its route
  names; an `end` ends the workflow as it says
* a task or a call goes out only if the budget has what it reserves, and reserves what its route
  says
* no event is dismissed that a loop under way may still wait for, and none is taken by two rounds
* nothing of a paused workflow is sent or begun, and an operation is obeyed once
* all that was done is undone, once, the last first (after an operator's `fail`: what is left);
  nothing completes that is being undone, or has open steps
"""

from collections.abc import Iterator, Mapping
from typing import Final

from mesh.core import events as ev
from mesh.core import ids
from mesh.core.evolve import evolve
from mesh.core.limits import AGENT, limiter_id
from mesh.core.route import MOST_DEATHS, AgentWork, CallWork, EndWork, Route, Step, WaitWork
from mesh.core.state import FINISHED, StepState, Workflow

_ACTS: Final = (
    ev.TaskDispatched
    | ev.TaskHeld
    | ev.SlotRequested
    | ev.ApprovalRequested
    | ev.CallMade
    | ev.WaitStarted
    | ev.StepComputed
    | ev.EventEmitted
    | ev.ForEachStarted
)
BEGINS: Final = (
    ev.TaskDispatched,
    ev.SlotRequested,
    ev.CallMade,
    ev.ApprovalRequested,
    ev.WaitStarted,
    ev.StepComputed,
    ev.EventEmitted,
    ev.ForEachStarted,
)
"""What no paused workflow does."""
_UNDER_WAY: Final = frozenset({"running", "retrying", "held", "queued", "calling", "incident", "suspended"})


_DONE: Final = frozenset({"succeeded", "running", "calling"})
"""It was done, or may have been."""


def broken_rules(before: Workflow | None, decision: ev.Decision, routes: Mapping[str, Route]) -> Iterator[str]:
    """What is wrong with a decision on a workflow of these routes (by digest).

    Workflows of other routes are not judged.
    """
    judged = _Judged(before, decision, routes)
    for event in decision.events:
        yield from judged.take(event)
    yield from judged.at_the_end()


class _Judged:
    """One decision, judged event by event, each with the state that it finds."""

    def __init__(self, before: Workflow | None, decision: ev.Decision, routes: Mapping[str, Route]) -> None:
        self.workflow = before
        self.decision = decision
        self.routes = routes
        self.route: Route | None = routes.get(before.digest) if before is not None else None
        # an operator may go beyond what the route allows
        self.is_ordered = decision.cause.kind == "command"
        self.began: list[Step] = []
        self.heard = set(before.heard) if before is not None else set[str]()
        self.failed: list[tuple[ev.TaskFailed | ev.CallFailed, StepState]] = []

    def take(self, event: ev.Event) -> Iterator[str]:
        if isinstance(event, ev.WorkflowStarted | ev.WorkflowMigrated):
            self.route = self.routes.get(event.digest)
        if self.workflow is not None:
            yield from _ordered(self.workflow, event)
        if self.route is not None and self.workflow is not None:
            yield from self._judge(self.route, self.workflow, event)
            yield from self._judge_awaited(self.route, self.workflow, event)
        self.workflow = evolve(self.workflow, event, workflow_id=self.decision.workflow_id, at_ms=self.decision.at_ms)

    def _judge(self, route: Route, workflow: Workflow, event: ev.Event) -> Iterator[str]:
        place: str = getattr(event, "step", "")
        step = route.steps.get(ids.step_of(place)) if place else None
        state = workflow.steps.get(place)
        if isinstance(event, _ACTS) and step is not None:
            yield from self._begin(workflow, step, place, state)
        match event:
            case ev.TaskDispatched() if step is not None:
                yield from _dispatch(step, place, event, workflow)
            case ev.CallMade() if step is not None:
                yield from _call(step, place, event, workflow)
            case ev.TaskHandedOver() if step is not None:
                allowed = step.work.handover if isinstance(step.work, AgentWork) else None
                if allowed is None or event.to not in allowed.to:
                    yield f"{place} is handed over to {event.to}, which its route does not allow"
            case ev.TaskFailed() | ev.CallFailed() if state is not None:
                self.failed.append((event, state))
            case ev.StepGivenUp() if step is not None and ids.is_item(place) and not self.is_ordered:
                yield from _tolerated(step, workflow)
            case ev.ForEachEnded() if state is not None and state.fan is not None:
                if state.fan.settled != state.fan.total:
                    yield f"{place} ends with {state.fan.settled} of {state.fan.total} items settled"
            case ev.RoundStarted() if step is not None:
                yield from self._round(step, state, event)
            case ev.ApprovalClosed() if event.expired and state is not None:
                if event.verdict != {"reject": "rejected", "approve": "approved"}.get(state.on_expiry or ""):
                    yield f"{place} expires as {event.verdict}, and its route says {state.on_expiry}"
            case ev.CompensationStarted():
                yield from _compensation(route, workflow, event)
            case ev.WorkflowEnded():
                yield from self._end(route, workflow, event)
            case _:
                pass

    def _begin(self, workflow: Workflow, step: Step, place: str, state: StepState | None) -> Iterator[str]:
        """Check that what acts here may act."""
        if workflow.status != "running":
            yield f"{place} acts, and the workflow is {workflow.status}"
        if ids.is_undo(place) != (workflow.ending is not None):
            yield f"{place} acts, and the workflow is {'' if workflow.ending else 'not '}being undone"
        is_over = state is not None and state.status in FINISHED and not self._is_interrupted(place)
        if state is not None and is_over and not ids.is_budget(place) and not ids.is_tool(place):
            yield f"{place} acts, and was {state.status} before"
        if place == step.name and (state is None or state.status == "again"):
            self.began.append(step)
            if not _may_begin(step, workflow):
                needs = {need: workflow.steps[need].status for need in step.needs if need in workflow.steps}
                yield f"{place} begins, and its needs are {needs}"

    def _round(self, step: Step, state: StepState | None, event: ev.RoundStarted) -> Iterator[str]:
        repeat, made = step.repeat, state.round if state is not None else 0
        if repeat is None or event.round != made + 1 or event.steps != repeat.body:
            yield f"{step.name} begins round {event.round} of {event.steps} after round {made}"
        elif event.round > repeat.limit and not self.is_ordered:
            yield f"{step.name} begins round {event.round} of at most {repeat.limit}"

    def _judge_awaited(self, route: Route, workflow: Workflow, event: ev.Event) -> Iterator[str]:
        """What becomes of an event that steps wait for."""
        match event:
            case ev.InputDismissed() if event.code == "unclaimed" and workflow.ending is None:
                yield from _dismissed(route, workflow, event)
            case ev.EventReceived():
                yield from self._received(event)
            case _:
                pass

    def _received(self, event: ev.EventReceived) -> Iterator[str]:
        """Whether a round, or a decision, before this one had the event already."""
        heard = ids.event_mark(event.cloud_event["source"], event.cloud_event["id"])
        for earlier in self.decision.events:
            if earlier is event:
                return
            if isinstance(earlier, ev.RoundStarted) and event.step in earlier.steps and heard in self.heard:
                yield f"{event.step} takes event {event.cloud_event['id']}, which a round before took"
            elif isinstance(earlier, ev.EventReceived):
                self.heard.add(ids.event_mark(earlier.cloud_event["source"], earlier.cloud_event["id"]))

    def _end(self, route: Route, workflow: Workflow, event: ev.WorkflowEnded) -> Iterator[str]:
        ending = workflow.ending
        if ending is not None and event.status != ending.status and not self._is_cancelled():
            yield f"it ends as {event.status}, and was being undone as {ending.status}"
        if ending is not None and ending.undo and not self._is_cancelled():
            yield f"it ends, and {ending.undo} are not undone"
        ends = [step.work.status for step in self.began if isinstance(step.work, EndWork)]
        if event.status == "completed" and "completed" not in ends:
            left = [name for name in route.steps if not _is_finished(workflow.steps.get(name))]
            if left:
                yield f"it completes, and {left} are not done"

    def _is_cancelled(self) -> bool:
        return self.decision.cause.kind in {"command", "call_cancelled"}

    # What follows of it within the decision -------------------------------------------------------

    def at_the_end(self) -> Iterator[str]:
        workflow, route = self.workflow, self.route
        if workflow is None or route is None:
            return
        for step in self.began:
            yield from self._begun(step, workflow)
        for event, state in self.failed:
            yield from self._failed(route, event, state)
        yield from self._in_vain(route)
        yield from self._budget(workflow)
        if workflow.status == "running":
            yield from _under_way(route, workflow)

    def _begun(self, step: Step, workflow: Workflow) -> Iterator[str]:
        if step.first_of and workflow.status == "running":
            unsettled = [need for need in step.needs if not _is_finished(workflow.steps.get(need))]
            if unsettled and not any(isinstance(event, ev.RoundStarted) for event in self.decision.events):
                yield f"{step.name} has begun, and of its race {unsettled} are open"
        computed = any(isinstance(event, ev.StepComputed) and event.step == step.name for event in self.decision.events)
        if isinstance(step.work, EndWork) and computed and step.work.status not in self._ends():
            yield f"{step.name} ends the workflow as {step.work.status}, and it is {self._ends() or workflow.status}"

    def _ends(self) -> list[str]:
        """The statuses with which this decision ends the workflow, at once or after undoing."""
        return [
            event.status
            for event in self.decision.events
            if isinstance(event, ev.WorkflowEnded | ev.CompensationStarted)
        ]

    def _failed(self, route: Route, event: ev.TaskFailed | ev.CallFailed, state: StepState) -> Iterator[str]:
        """Check that a last attempt has the consequence that its route names."""
        place = event.step
        if isinstance(event, ev.TaskFailed) and event.kind == "interrupted" and event.deaths:
            yield from self._interrupted(event)
            return
        if any(isinstance(one, ev.RetryScheduled) and one.step == place for one in self.decision.events):
            step = route.steps[ids.step_of(place)]
            work = step.undo if ids.is_undo(place) else step.work
            made = event.attempt - state.retry_budget_from + 1
            if isinstance(work, AgentWork) and made >= work.retry.attempts:
                yield f"{place} is tried again after attempt {made} of {work.retry.attempts}"
            return
        if event.kind == "undeliverable":
            return
        work = route.steps[ids.step_of(place)].work
        if ids.is_question(place):
            if not any(isinstance(one, ev.QuestionAnswered) and one.failed for one in self.decision.events):
                yield f"{place} has failed for good, and its question has no answer"
            return
        choice = work.on_exhausted if isinstance(work, AgentWork | CallWork) and not ids.is_undo(place) else "incident"
        has_given_up = any(
            isinstance(one, ev.StepGivenUp) and one.step in (place, ids.step_of(place)) for one in self.decision.events
        )
        is_incident = any(isinstance(one, ev.IncidentRaised) and one.step == place for one in self.decision.events)
        follows = {"incident": is_incident, "fail": "failed" in self._ends(), "continue": has_given_up}[choice]
        if not follows and not (ids.is_item(place) and has_given_up):
            yield f"{place} has failed for good, and its route says {choice}"

    def _is_interrupted(self, place: str) -> bool:
        """Whether this very decision sends the task again, since a process died over it."""
        return any(
            isinstance(one, ev.TaskFailed) and one.step == place and one.kind == "interrupted"
            for one in self.decision.events
        )

    def _interrupted(self, event: ev.TaskFailed) -> Iterator[str]:
        """Check what follows when an agent's process has died over a task.

        The task goes out again at once, or waits for its budget or a slot. That happens at most
        twice, unless its route counts a death as a failure.
        """
        again = (ev.TaskDispatched, ev.TaskHeld, ev.SlotRequested, ev.IncidentRaised, ev.StepGivenUp, ev.WorkflowEnded)
        if not any(isinstance(one, again) for one in self.decision.events):
            yield f"{event.step} was interrupted, and nothing follows"
        if len(event.deaths) >= MOST_DEATHS:
            yield f"{event.step} has killed {len(event.deaths)} processes, and goes out again"

    def _in_vain(self, route: Route) -> Iterator[str]:
        """Check that a wait that has timed out has the consequence that its route names."""
        if self.decision.cause.kind != "timer" or "/event_timeout/" not in self.decision.cause.id:
            return
        name = self.decision.cause.id.rsplit("/", 3)[1]
        work, events = route.steps[name].work, self.decision.events
        on_timeout = work.on_timeout if isinstance(work, WaitWork) else ""
        follows = {
            "skip": any(isinstance(event, ev.StepSkipped) and event.step == name for event in events),
            "fail": "failed" in self._ends(),
            "incident": any(isinstance(event, ev.IncidentRaised) and event.step == name for event in events),
        }
        if not follows.get(on_timeout):
            yield f"{name} has waited in vain, and its route says {on_timeout}"

    def _budget(self, workflow: Workflow) -> Iterator[str]:
        """Check that there was budget for what has gone out.

        What was queued had its budget reserved before.
        """
        account = workflow.account
        tasks = [event for event in self.decision.events if isinstance(event, ev.TaskDispatched | ev.SlotRequested)]
        calls = [event for event in self.decision.events if isinstance(event, ev.CallMade)]
        reserved = [event.reserved for event in tasks if not ids.is_undo(event.step)]
        reserved += [event.slice.limits for event in calls if event.slice is not None]
        if account is None or self.decision.cause.kind == "slot_given":
            return
        # a budget never holds up what reserves nothing
        names = {name for some in reserved for name in some or ()}
        for name in sorted(names & account.limits.keys()):
            limit = account.limits[name]
            taken = account.spent.get(name, 0.0) + account.reserved.get(name, 0.0)
            if taken > limit + 1e-6:
                yield f"a task or a call goes out with {taken} {name} spent and reserved, of {limit}"


def _is_finished(state: StepState | None) -> bool:
    return state is not None and state.status in FINISHED


def _may_begin(step: Step, workflow: Workflow) -> bool:
    states = {need: workflow.steps.get(need) for need in step.needs}
    good = [need for need, state in states.items() if _is_good(step, need, state)]
    if step.enough is not None:
        return len(good) >= step.enough
    return all(_is_finished(state) for state in states.values()) and all(
        need in good or (state is not None and state.status == "skipped") for need, state in states.items()
    )


def _is_good(step: Step, need: str, state: StepState | None) -> bool:
    """Whether the need has succeeded, or the step's `if` reads how it came out."""
    if state is None or state.status not in FINISHED:
        return False
    read = step.condition.paths if step.condition is not None else frozenset[str]()
    speaks = f"status.{need}" in read
    if state.status == "rejected":
        speaks = speaks or any(path == f"steps.{need}" or path.startswith(f"steps.{need}.") for path in read)
    return state.status == "succeeded" or speaks


def _dismissed(route: Route, workflow: Workflow, event: ev.InputDismissed) -> Iterator[str]:
    """A loop is under way until the step that closes it is done."""
    for closing, step in route.steps.items():
        if step.repeat is None or _is_finished(workflow.steps.get(closing)):
            continue
        for name in step.repeat.body:
            work = route.steps[name].work
            awaited = work.event if isinstance(work, WaitWork) else None
            if awaited is not None and not awaited.alias and event.message.endswith(f" {awaited.type} any more"):
                yield f"an event {awaited.type} is dismissed, and {name} may wait for it in a round to come"


def _asked(place: str, event: ev.TaskDispatched, workflow: Workflow) -> Iterator[str]:
    """Check that a question went to the agent that was asked, while the approval is open."""
    approval, number = ids.asked_by(place)
    step = workflow.steps.get(approval)
    asking = step.asking if step is not None and step.status == "asking" else None
    to = [one.to.agent for one in (asking.questions if asking else ()) if one.number == number]
    if to != [event.agent]:
        yield f"{place} goes to {event.agent}, and {', '.join(to) or 'nobody'} was asked"


def _dispatch(step: Step, place: str, event: ev.TaskDispatched, workflow: Workflow) -> Iterator[str]:
    if ids.is_question(place):
        yield from _asked(place, event, workflow)
        return
    work = step.undo if ids.is_undo(place) else step.work
    if not isinstance(work, AgentWork):
        yield f"a task goes out for {place}, which has no agent"
        return
    made = event.attempt - event.retry_budget_from + 1
    if made > work.retry.attempts:
        yield f"{place} goes out for the {made}th time, of {work.retry.attempts}"
    hops = work.handover.hops if work.handover is not None else 0
    if event.hop > hops + 1:
        yield f"{place} goes to a {event.hop}th agent, and may be handed over {hops} times"
    reserve = work.reserve if workflow.account is not None else {}
    if (event.reserved or {}) != reserve:
        yield f"{place} goes out with a reserve of {event.reserved}, and its route says {reserve}"
    if work.limit is not None:
        asked = {slot.limit for slot in workflow.slots.get(place, ()) if slot.attempt == event.attempt}
        wanted = limiter_id(work.limit.name)
        if not any(one == wanted or one.startswith(limiter_id(work.limit.name, "")) for one in asked - {AGENT}):
            yield f"{place} goes out, is under the limit {work.limit.name}, and has not asked for a slot"


def _ordered(workflow: Workflow, event: ev.Event) -> Iterator[str]:
    """Judge what operators have ordered: a pause, and an operation once."""
    place = getattr(event, "step", "")
    # an approval that an agent wants for a task that is out is asked, and so are its terms
    if workflow.pause is not None and isinstance(event, BEGINS) and not ids.is_tool(place):
        yield f"{place} begins ({type(event).__name__}), and the workflow is paused"
    if isinstance(event, ev.CommandAccepted) and event.operation and event.operation in workflow.operations:
        yield f"operation {event.operation} is obeyed twice"


def _call(step: Step, place: str, event: ev.CallMade, workflow: Workflow) -> Iterator[str]:
    work = step.work
    if not isinstance(work, CallWork) or ids.is_undo(place):
        yield f"{event.route} is called for {place}, which calls nothing"
        return
    if event.route != work.route:
        yield f"{place} calls {event.route}, and its route says {work.route}"
    part = event.slice.limits if event.slice is not None else None
    wanted = work.reserve if workflow.account is not None else None
    if part != wanted:
        yield f"{place} calls {event.called} with a slice of {part}, and its route says {wanted}"


def _tolerated(step: Step, workflow: Workflow) -> Iterator[str]:
    fan, each = workflow.steps[step.name].fan, step.for_each
    if fan is not None and each is not None and fan.failed >= each.tolerated(fan.total):
        yield f"of {step.name} {fan.failed + 1} items have failed, of {each.tolerated(fan.total)} that are tolerated"


def _under_way(route: Route, workflow: Workflow) -> Iterator[str]:
    """Check that no more items are under way than may be."""
    for name, state in workflow.steps.items():
        each = route.steps[name].for_each if state.fan is not None and name in route.steps else None
        if each is not None and state.status == "iterating":
            under_way = [
                place
                for place, item in workflow.steps.items()
                if ids.is_item(place) and ids.step_of(place) == name and item.status in _UNDER_WAY
            ]
            if len(under_way) > each.concurrency:
                yield f"{len(under_way)} items of {name} are under way, and {each.concurrency} may be"


def _compensation(route: Route, workflow: Workflow, event: ev.CompensationStarted) -> Iterator[str]:
    """Check what is undone: all that has succeeded or is out and can be undone, the last first.

    If that is under way and an operator fails it, what is left.
    """
    if workflow.ending is not None:
        if (event.status, event.steps) != ("failed", workflow.ending.undo):
            yield f"{event.steps} are undone before it ends as {event.status}, and {workflow.ending.undo} are left"
        return
    done = {
        name
        for name, step in route.steps.items()
        if step.undo is not None and name in workflow.steps and workflow.steps[name].status in _DONE
    }
    left = done - set(event.steps)
    if left:
        yield f"{sorted(left)} were done, and are not undone"
    foreign = [name for name in event.steps if route.steps[name].undo is None or name not in workflow.steps]
    if foreign or len(set(event.steps)) != len(event.steps):
        yield f"{event.steps} are undone, of which {foreign} can't be"
    since = [workflow.steps[name].since_ms for name in event.steps if name in workflow.steps]
    if since != sorted(since, reverse=True):
        yield f"{event.steps} are undone in this order, and were done at {since}"
