"""Makes decisions again, for `mesh.testing.promises.judge`.

Owns the comparison. `decide` must give the same events, with the state that the log has at that
place.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from msgspec.structs import replace

from mesh.core import ids
from mesh.core.decide import decide
from mesh.core.events import (
    AnswerRefused2,
    CallMade,
    Event,
    IncidentRaised,
    SlotRequested,
    TaskDispatched,
    WorkflowEnded,
)
from mesh.core.inputs import (
    AnswerGiven,
    AnswerGiven2,
    CommandGiven,
    EventMatched,
    EventOffered,
    Input,
    ScheduledStart,
    WorkflowCalled,
)
from mesh.core.pauses import kind_of, name_of
from mesh.core.route import AgentWork, Route, capabilities_of
from mesh.core.state import Directory, Workflow
from mesh.testing.promises.clocks import as_owner
from mesh.testing.promises.ledger import Step, input_of
from mesh.testing.promises.slots import cards_of

Answer = AnswerGiven | AnswerGiven2
_UNMADE: Final = "the route's output could not be made: "


def _unsigned(answer: Answer, _: Directory) -> Answer:
    return answer


def another_decision(
    step: Step,
    routes: Mapping[str, Route],
    known: Directory,
    checked: Callable[[Answer, Directory], Answer] = _unsigned,
) -> str:
    """Compare a decision with what `decide` gives for its input and the state in the log.

    Returns what is wrong; empty if nothing is, or if it can't be told. `routes`: by digest.
    `known`: what every router knows. `checked`: an answer with its proof.
    """
    decision = step.decision
    given = input_of(step.partition, decision)
    if given is None:
        return ""
    if isinstance(given, Answer):
        given = checked(given, known)
    tried = [
        _decided_otherwise(step, one, routes, replace(known, registered=registered))
        for one in as_owner(given, step.partition, decision.at_ms)
        for registered in _registered(step, routes.get(_digest_for(one, step.before)))
    ]
    return "" if "" in tried else tried[0]


def _decided_otherwise(step: Step, given: Input, routes: Mapping[str, Route], known: Directory) -> str:
    before, decision = step.before, step.decision
    route = routes.get(_digest_for(given, before))
    called = {event.route: event.digest for event in decision.events if isinstance(event, CallMade)}
    directory = replace(
        known,
        routes={**known.routes, **called},
        chosen=_chosen(decision.events),
        agents=cards_of(decision),
    )
    try:
        target = routes.get(given.to) if isinstance(given, CommandGiven) else None
        decided = decide(
            before,
            given,
            route=route,
            directory=directory,
            now_ms=decision.at_ms,
            target=target,
            withheld=_withheld(decision.events),
            pauses=step.partition.paused,
        )
    except Exception as error:  # noqa: BLE001 - whatever it raises, the owner decided where it can't be decided
        return f"{decision.cause.id} can't be decided on the state that the log has: {error!r}"
    if _without_choices(decided.events) != _without_choices(decision.events):
        names = [type(e).__name__ for e in decision.events], [type(e).__name__ for e in decided.events]
        return f"on the state that the log has, {decision.cause.id} gives {names[1]}, not {names[0]}"
    return ""


def _chosen(events: Iterable[Event]) -> dict[str, str]:
    """The agents that the owner chose for capabilities.

    The log does not say what the owner knew of agents, so its choice is taken as given.
    """
    return {
        ids.attempt_id(event.task_id, event.attempt): event.agent
        for event in events
        if (isinstance(event, TaskDispatched) and event.capability) or isinstance(event, SlotRequested)
    }


def _registered(step: Step, route: Route | None) -> Iterator[dict[str, tuple[str, ...]]]:
    """The agents that may have been registered for capabilities, as far as it matters.

    The log does not say. While agents are paused, a task for a capability either goes to one that
    is not, or is an incident because there is none, or is held because all of them are paused.
    """
    yield {}
    paused = [name_of(target) for target in step.partition.paused if kind_of(target) == "agent"]
    if route is None or not paused:
        return
    found: dict[str, tuple[str, ...]] = dict.fromkeys(capabilities_of(route), (paused[0],))
    for event in step.decision.events:
        if isinstance(event, TaskDispatched | SlotRequested) or (
            isinstance(event, IncidentRaised) and event.kind == "no_agent"
        ):
            found.pop(_capability_at(route, event.step), None)
    yield found


def _capability_at(route: Route, place: str) -> str:
    step = route.steps.get(ids.step_of(place))
    work = None if step is None else step.undo if ids.is_undo(place) else step.work
    return work.capability if isinstance(work, AgentWork) else ""


def _withheld(events: Iterable[Event]) -> dict[str, str]:
    """The places that the owner found too large, and what it said of them.

    What the broker takes is not in the log.
    """
    found: dict[str, str] = {}
    for event in events:
        match event:
            case IncidentRaised(step=step, kind="too_large", message=message):
                found[step] = message
            case WorkflowEnded(status="failed", reason=reason) if _UNMADE in reason:
                found[""] = reason.partition(_UNMADE)[2]
            case _:
                pass
    return found


def _without_choices(events: Iterable[Event]) -> list[Event]:
    """The events without what depends on how much the owner knew at that moment."""
    return [_without_choice(event) for event in events]


def _without_choice(event: Event) -> Event:
    match event:
        case TaskDispatched(capability=capability) if capability:
            return replace(event, reason="")
        case SlotRequested():
            return replace(event, reason="")
        # a key that is not in effect yet may not have come to the owner: then nobody has it
        case AnswerRefused2(code="key"):
            return replace(event, message="")
        case _:
            return event


def _digest_for(given: Input, before: Workflow | None) -> str:
    """The digest of the version that decides on this input, as owners choose it."""
    if isinstance(given, EventMatched | WorkflowCalled | ScheduledStart):
        return given.digest
    if before is not None and before.status == "running":
        return before.digest
    return given.digest if isinstance(given, EventOffered) else ""
