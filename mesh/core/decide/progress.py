"""Progress: which steps can act now, and what they do."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, assert_never

from mesh.core import ids, traces
from mesh.core.decide.begin import for_each
from mesh.core.decide.begin.alias import claim
from mesh.core.decide.begin.approval import ask
from mesh.core.decide.begin.call import call
from mesh.core.decide.begin.end import end, end_if_done, outputs
from mesh.core.decide.begin.instants import CalendarLacks
from mesh.core.decide.begin.loop import goes_round
from mesh.core.decide.begin.task import dispatch
from mesh.core.decide.begin.undo import cancel_step, undo_next
from mesh.core.decide.begin.wait import begin_wait
from mesh.core.decide.draft import Draft, TooLarge
from mesh.core.events import EventEmitted, IncidentRaised, StepBlocked, StepComputed, StepSkipped
from mesh.core.evolve.voting import skipped_output
from mesh.core.joins import takes
from mesh.core.loops import is_settled
from mesh.core.route import (
    AgentWork,
    ApprovalWork,
    CallWork,
    EmitWork,
    EndWork,
    ExpressionError,
    Step,
    ValueWork,
    WaitWork,
)
from mesh.core.state import StepState

_SATISFIES: Final = frozenset({"succeeded", "skipped"})
# a rejection too: a loop's `until` may read the verdict and ask for another round
_TURNS: Final = frozenset({"succeeded", "rejected"})


def settled(draft: Draft, place: str) -> None:
    """Continue after the work at this place is settled.

    The place is a step, an item of one, or a compensation.
    """
    if place in draft.route.steps:
        go_on(draft, following(draft, place))
    elif ids.is_undo(place):
        undo_next(draft)
    # an item: what needs the step goes on only after the last of its items
    elif for_each.advance(draft, ids.step_of(place)):
        go_on(draft, following(draft, ids.step_of(place)))


def go_on(draft: Draft, candidates: Iterable[str]) -> None:
    """Let every candidate act whose needs are settled.

    Then the steps that need what that settled. Ends the workflow if all is done.
    """
    route = draft.route
    todo = deque(candidates)
    # a step that acts may end the workflow or begin its undoing, and then no other may act
    while todo and is_going(draft):
        name = todo.popleft()
        # several of its needs may have put it into the queue
        if _is_open(draft.live.steps.get(name)):
            for done in _act(draft, route.steps[name]):
                todo.extend(following(draft, done) if is_going(draft) else ())
    if is_going(draft):
        end_if_done(draft)


def following(draft: Draft, name: str) -> Iterable[str]:
    """The steps that may act now that this step is done.

    None yet if it must first get its alias.
    """
    return () if claim(draft, name) else beyond(draft, name)


def beyond(draft: Draft, name: str) -> Iterable[str]:
    """The steps that may act now that this step is settled.

    Those that need it, or the body of the loop that it closes, once more.
    """
    repeat = draft.route.steps[name].repeat
    if repeat is not None and draft.live.steps[name].status in _TURNS and goes_round(draft, name, repeat):
        # the loop may also have become an incident or ended the workflow: then nothing goes on
        return repeat.body if draft.live.steps[name].status == "again" else ()
    return draft.route.dependents[name]


def is_going(draft: Draft) -> bool:
    """Whether steps may act: not in a workflow that is over, is being undone, or is paused."""
    workflow = draft.workflow
    is_live = workflow is not None and workflow.status == "running" and workflow.ending is None
    return is_live and not draft.is_paused


def _is_open(state: StepState | None) -> bool:
    """Whether the step has not begun (in this round)."""
    return state is None or state.status == "again"


def _act(draft: Draft, step: Step) -> list[str]:
    """Begin or settle one step, if it can be.

    Returns the steps that are settled by that: itself, and those that it makes needless.
    """
    ready = _readiness(step, draft.live.steps)
    match ready:
        case _Ready():
            # before the step begins: its expressions may read the statuses of those that lost
            needless = _cancel_others(draft, step) if step.first_of else []
            # those that lost are settled even if the step itself is only under way, and others may
            # need them
            return [step.name, *needless] if begin(draft, step) else needless
        case _Blocked(reason=reason):
            draft.add(StepBlocked(step=step.name, reason=reason))
            return [step.name]
        case _Skipped(reason=reason):
            draft.add(StepSkipped(step=step.name, reason=reason))
            return [step.name]
        case None:
            return []
        case _:
            assert_never(ready)


# Joins --------------------------------------------------------------------------------------------


class _Ready(NamedTuple):
    pass


_READY: Final = _Ready()


class _Blocked(NamedTuple):
    reason: str


class _Skipped(NamedTuple):
    reason: str


def _readiness(step: Step, steps: Mapping[str, StepState]) -> _Ready | _Blocked | _Skipped | None:
    """Whether the step's needs let it act. None: not yet."""
    if step.enough is None:
        return _of_all(step, steps)
    return _of_some(step, step.enough, steps)


def _of_all(step: Step, steps: Mapping[str, StepState]) -> _Ready | _Blocked | None:
    for need in step.needs:
        state = steps.get(need)
        if state is None or not is_settled(state):
            return None
        if state.status not in _SATISFIES and not takes(step, need, rejected=state.status == "rejected"):
            return _Blocked(f"needs {need}, which was {state.status}")
    return _READY


def _of_some(step: Step, enough: int, steps: Mapping[str, StepState]) -> _Ready | _Blocked | _Skipped | None:
    """Ready once `enough` needs have succeeded, or have ended in a way that the step's `if` takes.

    A skipped need does not count.
    """
    counted, still_open, refused = 0, 0, ""
    for need in step.needs:
        state = steps.get(need)
        if state is None or not is_settled(state):
            still_open += 1
        elif _counts(step, need, state):
            counted += 1
        # a skip refuses nothing: if the join falls short by skips alone it is skipped too, and what
        # needs it can still act
        elif state.status != "skipped":
            refused = refused or f"{need} was {state.status}"
    if counted >= enough:
        return _READY
    # enough may still come, so wait
    if counted + still_open >= enough:
        return None
    short = f"needs {enough} of {', '.join(step.needs)}, and {counted} succeeded"
    return _Blocked(f"{short}: {refused}") if refused else _Skipped(short)


def _cancel_others(draft: Draft, step: Step) -> list[str]:
    """Cancel the other needs of a race that is won, and every step that only served them."""
    route, steps = draft.route, draft.live.steps
    gone = {need for need in step.needs if not is_settled(steps.get(need))}
    # backwards, so that a step is looked at after all steps that need it
    for name in reversed(route.steps):
        dependents = route.dependents[name]
        # a step that nothing needs gives part of the outcome, so a race never makes it needless
        if name not in gone and dependents and not is_settled(steps.get(name)) and gone.issuperset(dependents):
            gone.add(name)
    cancelled = [name for name in route.steps if name in gone]
    won = next(need for need in step.needs if need not in gone and _counts(step, need, steps[need]))
    for name in cancelled:
        cancel_step(draft, name, f"{step.name} goes on with {won}")
    return cancelled


def _counts(step: Step, need: str, state: StepState) -> bool:
    """Whether the way this need ended counts for a join of some."""
    return state.status == "succeeded" or takes(step, need, rejected=state.status == "rejected")


# Beginning ----------------------------------------------------------------------------------------


def begin(draft: Draft, step: Step) -> bool:
    """Do the step's work, or skip it.

    It is an incident if an expression can't be evaluated, or what it gives is too large. True if
    that settled the step.
    """
    try:
        return _begin(draft, step)
    # these before their base class, or an operator would look for a fault in an expression
    except TooLarge as error:
        draft.add(IncidentRaised(step=step.name, kind="too_large", message=str(error)))
        return False
    except CalendarLacks as error:
        draft.add(IncidentRaised(step=step.name, kind="calendar", message=str(error)))
        return False
    except ExpressionError as error:
        draft.add(IncidentRaised(step=step.name, kind="expression", message=str(error)))
        return False


def _begin(draft: Draft, step: Step) -> bool:
    scope = draft.scope_of(step.name)
    if step.condition is not None and not step.condition.is_true(scope):
        output = None
        # later steps read the payload where the approval would have it, whether or not it was
        # asked; of a for-each there is one for each item, and nobody knows the items
        if isinstance(step.work, ApprovalWork) and step.for_each is None:
            output = skipped_output(step.work.payload.render(scope), is_voted=step.work.voting is not None)
        draft.add(StepSkipped(step=step.name, reason=f"{step.condition.source} is false", output=output))
        return True
    state, work = draft.live.steps.get(step.name), step.work
    reason = _why(step, state)
    # of a step that begins again after an approval before it: its attempts' numbers go on
    attempt = 1 if state is None else state.attempt + 1
    if step.for_each is not None:
        return for_each.start(draft, step, step.for_each, reason)
    match work:
        case AgentWork():
            # retries count from this attempt: the ones before an approval was asked again use up
            # none of them
            dispatch(draft, step.name, work, work.input.render(scope), reason, attempt=attempt, budget_from=attempt)
            return False
        case ApprovalWork():
            ask(draft, step.name, work, reason)
            return False
        case CallWork():
            call(draft, step.name, work, work.input.render(scope), reason, attempt=attempt)
            return False
        case WaitWork():
            return begin_wait(draft, step, work, reason)
        case ValueWork():
            draft.add(StepComputed(step=step.name, output=work.value.render(scope), reason=reason))
            return True
        case EmitWork():
            _emit(draft, step.name, work, reason)
            return True
        case EndWork():
            _end_here(draft, step.name, work, reason)
            return True
        case _:
            assert_never(work)


def _emit(draft: Draft, name: str, work: EmitWork, reason: str) -> None:
    """Emit the step's event."""
    workflow = draft.live
    made = work.event.render(draft.scope_of(name))
    state = workflow.steps.get(name)
    # it names the step and its round, so sending it again sends the same event
    event_id = ids.task_id(
        workflow.workflow_id, workflow.run_id, ids.instance(name, round=1 if state is None else state.round)
    )
    # a template may give anything, and an event that is not valid would go out and be refused by
    # its readers
    for attribute in ("type", "subject"):
        if attribute in made and not (isinstance(made[attribute], str) and made[attribute]):
            raise ExpressionError(f"the event's {attribute} must be a string that is not empty")
    event = {"specversion": "1.0", "id": event_id, "source": f"/mesh/{workflow.route}", **made}
    if state_of_others := traces.tracestate(workflow):
        event["tracestate"] = state_of_others
    draft.add(EventEmitted(step=name, cloud_event=event, traceparent=draft.traceparent(event_id), reason=reason))


def _end_here(draft: Draft, name: str, work: EndWork, reason: str) -> None:
    scope = draft.scope_of(name)
    why = str(work.reason.render(scope))
    output = None
    if work.status == "completed":
        output = outputs(draft) if work.output is None else work.output.render(scope)
    # settled before the end, or the closed workflow would show that it was never reached
    draft.add(StepComputed(step=name, output=output, reason=reason))
    end(draft, work.status, f"{name}: {why}" if why else name, output)


def _why(step: Step, state: StepState | None) -> str:
    start = "the workflow started" if state is None or state.round == 1 else f"round {state.round}"
    needs = f"{', '.join(step.needs)} done" if step.needs else start
    if step.enough is not None:
        needs = f"{step.enough} of {', '.join(step.needs)} done"
    return f"{needs}, and {step.condition.source}" if step.condition else needs
