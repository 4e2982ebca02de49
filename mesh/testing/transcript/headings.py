"""What came in, in words: the heading of each decision, by its cause.

Owns these words alone. `words` calls it.
"""

from collections.abc import Mapping
from typing import Final

from mesh.core.calls import Caller
from mesh.core.events import (
    AbsenceSaid,
    AnswerHeld,
    AnswerRefused,
    ApprovalClaimed,
    ApprovalClosed,
    ApprovalEscalated,
    ApprovalReleased,
    CallFailed,
    CallRefused,
    CallSucceeded,
    CommandAccepted,
    CommandRefused,
    DeadlineMoved,
    Decision,
    DelegationGiven,
    DelegationTakenBack,
    EventKept,
    EventReceived,
    IncidentRaised,
    NoteAdded,
    PayloadEdited,
    QuestionAnswered,
    QuestionAsked,
    TaskFailed,
    TaskHandedOver,
    TaskSucceeded,
    VoteCast,
    VoteTakenBack,
    WorkflowStarted,
)
from mesh.core.ids import attempt_id, is_person
from mesh.inspection.wording.phrases import as_json, event_words, said_for, short, step_words

_OF_SLOTS: Final = {
    "slot_wanted": "{who} wants a slot",
    "slot_given": "{who} has been granted a slot",
    "slot_returned": "{who} gives its slot back",
    "slot_denied": "{who} can't be given a slot",
}


def heading(decision: Decision, agents: Mapping[str, str]) -> str:
    """What came in, in a line.

    `agents`: the agent of each attempt, by id, because an answer does not name it.
    """
    cause = decision.cause
    match cause.kind:
        case "event":
            return _event_heading(decision)
        case "result":
            return _result_heading(decision, agents)
        case "answer":
            return _answer_heading(decision)
        case "command":
            return _command_heading(decision)
        case "timer":
            return _timer_heading(decision, agents)
        case "call" | "call_ended" | "call_cancelled":
            return _call_heading(decision)
        case "schedule" | "scheduled_start" | "claim" | "claim_answered" | "alias_released" | "forwarded_event":
            return _built_in_heading(decision)
        case "slot_wanted" | "slot_given" | "slot_returned" | "slot_denied":
            return _OF_SLOTS[cause.kind].format(who=step_words(cause.id.rpartition("/")[0]))
        case "undeliverable":
            return f"what could not be sent: {short(cause.id)}"
        case _:
            return f"{cause.kind} {cause.id}"


def _result_heading(decision: Decision, agents: Mapping[str, str]) -> str:
    agent = agents.get(decision.cause.id, "an agent")
    for event in decision.events:
        match event:
            case TaskSucceeded():
                return f"{agent} answers {event.step}: {as_json(event.output)}"
            case TaskFailed():
                again = "" if event.retryable else ", and need not try again"
                return f"{agent} fails at {event.step}: {event.kind}: {event.message}{again}"
            case TaskHandedOver():
                return f"{agent} hands {event.step} over to {event.to}"
            case _:
                continue
    return f"{agent} answers {short(decision.cause.id)}"


def _timer_heading(decision: Decision, agents: Mapping[str, str]) -> str:
    for event in decision.events:
        match event:
            case TaskFailed():
                agent = agents.get(attempt_id(event.task_id, event.attempt), "the agent")
                has_begun = event.kind in {"timeout", "run_timeout"}
                late = "has not answered" if has_begun else "gives no sign of life at"
                return f"{agent} {late} {event.step} in time"
            case CallFailed():
                return f"{event.called} has not come to an end for {event.step} in time"
            case ApprovalEscalated():
                return f"it is time to escalate {event.step}"
            case ApprovalClosed() | IncidentRaised(kind="expired"):
                return f"nobody has answered {event.step} in time"
            case _:
                continue
    step, kind = decision.cause.id.rsplit("/", 3)[-3:-1]
    match kind:
        case "retry":
            return f"it is time to try {step} again"
        case "budget_time":
            return "its budget's time is over"
        case "resumed":
            return "what a pause held goes on"
        case "rate":
            return "one more is within the rate"
        case "forget":
            return "it is remembered no longer"
        case "wait":
            return f"the time that {step} waits for has come"
        case "schedule":
            return "it is time to start"
        case "event_timeout":
            return f"no event has come for {step} in time"
        case _:
            return f"it is time: {kind} of {step}"


def _event_heading(decision: Decision) -> str:
    for event in decision.events:
        match event:
            case WorkflowStarted() | EventReceived():
                return event_words(event.cloud_event)
            case EventKept():
                return event_words(event.kept.cloud_event)
            case _:
                continue
    return f"event {decision.cause.id}"


def _answer_heading(decision: Decision) -> str:
    for event in decision.events:
        match event:
            case VoteCast(vote=vote):
                why = f", because: {vote.reason}" if vote.reason else ""
                return f"{said_for(vote.by, vote.on_behalf)} answers {event.step}: {vote.choice}{why}"
            case DelegationGiven(delegation=one):
                return f"{one.by} delegates to {one.to}"
            case DelegationTakenBack(end=end):
                return f"{end.by} ends a delegation"
            case AbsenceSaid(absence=absence):
                return f"{absence.by} says when they are away"
            case VoteTakenBack() | NoteAdded() | ApprovalClaimed() | ApprovalReleased() | DeadlineMoved():
                return f"{event.by} answers {event.step}"
            case QuestionAsked():
                return f"{event.by} asks back about {event.step}"
            case QuestionAnswered() if event.answer_id:
                return f"{event.by} answers a question about {event.step}"
            case AnswerHeld(answer=held):
                return f"{said_for(held.by, held.on_behalf)} answers {event.step}: {held.decision}"
            case PayloadEdited() if not any(isinstance(other, VoteCast) for other in decision.events):
                return f"{event.by} answers {event.step} with an edit"
            case ApprovalClosed() if event.by:
                edit = f", but with {as_json(event.payload)}" if event.edited else ""
                why = f", because: {event.reason}" if event.reason else ""
                return f"{said_for(event.by, event.on_behalf)} answers {event.step}: {event.verdict}{edit}{why}"
            case AnswerRefused() if is_person(decision.workflow_id):
                return f"{event.by} says something of themself"
            case AnswerRefused():
                return f"{said_for(event.by, event.on_behalf) or 'somebody'} answers {short(event.approval_id) or 'what nobody can tell'}"
            case _:
                continue
    return f"answer {decision.cause.id}"


def _command_heading(decision: Decision) -> str:
    for event in decision.events:
        match event:
            case CommandAccepted():
                return f"{event.by} orders: {event.command}" + (f", because: {event.reason}" if event.reason else "")
            case CommandRefused():
                return f"{event.by or 'somebody'} orders: {event.command or 'what nobody can tell'}"
            case _:
                continue
    return f"command {decision.cause.id}"


def _call_heading(decision: Decision) -> str:
    for event in decision.events:
        match event:
            case WorkflowStarted(caller=Caller(task_id=task_id)):
                return f"{step_words(task_id)} calls it: {as_json(event.cloud_event.get('data'))}"
            case CallSucceeded():
                return f"{event.called} comes back for {event.step}: {as_json(event.output)}"
            case CallFailed():
                return f"{event.called or 'the call'} fails {event.step}: {event.kind}: {event.message}"
            case CallRefused():
                return f"{step_words(event.caller.task_id)} calls it"
            case _:
                continue
    return (
        "its caller takes the call back"
        if decision.cause.kind == "call_cancelled"
        else f"the end of a call, {decision.cause.id}"
    )


def _built_in_heading(decision: Decision) -> str:
    name = decision.cause.id
    match decision.cause.kind:
        case "schedule":
            return "a router tells when the route starts"
        case "scheduled_start":
            return f"its schedule starts it, for {name}"
        case "claim":
            return f"{step_words(name.rpartition('/')[0])} asks for it"
        case "claim_answered":
            return f"the alias of {short(name.rpartition('/')[0])} answers"
        case "alias_released":
            return f"{name.rpartition('/')[0]} gives it back"
        case _:
            return f"event {name}, by an alias"
