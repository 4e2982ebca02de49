"""A partition's conversation as text: what came in, what was decided, what left, and how the workflow stands. Made for people to read and to review as a diff."""

from collections.abc import Iterator
from typing import Any

import orjson
from msgspec import to_builtins
from one_partition import START_MS, Partition

from mesh.core.between import Crossing, crossing_id
from mesh.core.effects import (
    AskApproval,
    Effect,
    PublishEvent,
    PublishOutcome,
    SendDeadLetter,
    SendInput,
    SendReceipt,
    SendTask,
)
from mesh.core.events import Event
from mesh.core.inputs import (
    AnswerGiven,
    CallCancelled,
    CallEnded,
    CommandGiven,
    EventMatched,
    EventOffered,
    HandOver,
    Input,
    ResultReceived,
    TaskUndeliverable,
    TimerDue,
    Undeliverable,
    WorkflowCalled,
)
from mesh.core.route import Route
from mesh.core.state import KeptEvent, Workflow

__all__ = ["Transcript"]

_UNSAID = {
    "agent_instance",
    "agent_version",
    "caller",
    "closed_retention_s",
    "cloud_event",
    "digest",
    "duration_ms",
    "payload_schema",
    "step",
    "task_id",
    "trace_id",
    "traceparent",
    "usage",
}
"""Fields that say nothing to the reader of a transcript, or that another line says."""


_USUAL = [("retry_budget_from", 1), ("round", 1), ("hop", 1), ("failed", 0)]


class Transcript(Partition):
    """A partition that writes down all that is given to it. The first run of a workflow is called RUN1, and so on."""

    def __init__(self, title: str, *routes: Route, **more: Any) -> None:
        self.lines = [title, "=" * len(title), ""]
        self._runs: dict[str, str] = {}
        super().__init__(*routes, **more)
        for one in routes:
            self.lines += [f"route {one.name}", *(f"    {name}: {_json(s)}" for name, s in _steps(one)), ""]

    def note(self, text: str) -> None:
        self.lines += [f"# {text}", ""]

    def take_over(self, token: str) -> None:
        super().take_over(token)
        if self.decisions:
            self.note(f"router-{token} takes over, with nothing but the log")

    def give(self, given: Input) -> tuple[Event, ...]:
        before = len(self.decisions)
        events = super().give(given)
        self.lines.append(f"{_clock(self.now_ms)}  {_input(given)}")
        self.lines += [f"    {type(event).__name__}{_step(event)}  {_fields(event)}".rstrip() for event in events]
        if len(self.decisions) == before:
            self.lines.append("    (nothing)")
        else:
            self.lines += [f"    -> {_effect(effect)}" for effect in self.effects()]
        self.lines += [f"    = {_stand(self.state.workflows.get(given.workflow_id))}", ""]
        return events

    def text(self) -> str:
        text = "\n".join(self.lines)
        for workflow in self.decisions:
            for event in workflow.events:
                run = getattr(event, "run_id", "")
                if run and run not in self._runs:
                    self._runs[run] = f"RUN{len(self._runs) + 1}"
        for run, name in self._runs.items():
            text = text.replace(run, name)
        return text


def _steps(route: Route) -> Iterator[tuple[str, Any]]:
    yield from route.definition["steps"].items()
    yield from ((key, value) for key, value in route.definition.items() if key not in {"route", "on", "key", "steps"})


def _json(value: Any) -> str:
    return orjson.dumps(value, default=to_builtins).decode()


def _clock(at_ms: int) -> str:
    """Since the first input, as hours:minutes:seconds."""
    seconds, ms = divmod(at_ms - START_MS, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms:03}"


def _input(given: Input) -> str:
    match given:
        case EventMatched():
            event = given.cloud_event
            return f"event {event['id']} for {given.workflow_id}: {_json(event['data'])}"
        case ResultReceived(handover=HandOver(to=to, input=value)):
            return f"result of {given.task_id}/{given.attempt}: handed over to {to} {_json(value)}"
        case ResultReceived(error=None):
            return f"result of {given.task_id}/{given.attempt}: {given.status} {_json(given.output)}"
        case ResultReceived(error=error):
            again = "" if error and error.retryable else ", not to be tried again"
            return f"result of {given.task_id}/{given.attempt}: failed, {error and error.kind}{again}"
        case EventOffered():
            event = given.cloud_event
            return f"event {event['id']} ({event['type']}) offered to {given.workflow_id}: {_json(event['data'])}"
        case AnswerGiven():
            edit = f", payload {_json(given.payload)}" if isinstance(given.payload, dict) else ""
            why = f", because: {given.reason}" if given.reason else ""
            return f"answer of {given.by} to {given.approval_id}: {given.decision}{edit}{why} (sent {_clock(given.source_at_ms)})"
        case CommandGiven():
            return f"command of {given.by}: {given.command} {given.step or given.workflow_id}"
        case WorkflowCalled() | CallEnded() | CallCancelled():
            return _crossing(given)
        case TimerDue():
            return f"timer: {given.kind} {given.step or given.workflow_id}, due {_clock(given.due_at_ms)}"
        case TaskUndeliverable():
            return f"undeliverable: {given.task_id}/{given.attempt}, {given.message}"
        case Undeliverable():
            return f"undeliverable: {given.effect_id}, {given.message}"


def _crossing(given: Crossing) -> str:
    match given:
        case WorkflowCalled():
            return f"call {given.caller.task_id}/{given.caller.attempt} of {given.workflow_id}: {_json(given.cloud_event['data'])}"
        case CallEnded():
            why = f", because: {given.reason}" if given.status != "completed" else f" {_json(given.output)}"
            return f"end of call {given.task_id}/{given.attempt}: {given.status}{why}"
        case CallCancelled():
            return f"call {given.caller.task_id}/{given.caller.attempt} is taken back"


def _step(event: Event) -> str:
    step = getattr(event, "step", "")
    return f" {step}" if step else ""


def _fields(event: Event) -> str:
    parts = []
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, KeptEvent):
            value = value.cloud_event
        if name in _UNSAID or value in ("", None) or value is False or (name, value) in _USUAL:
            continue
        shown = _clock(value) if name.endswith("_at_ms") else value if isinstance(value, str) else _json(value)
        parts.append(f"{name.removesuffix('_ms')}: {shown}")
    return " | ".join(parts)


def _effect(effect: Effect) -> str:
    match effect:
        case SendTask():
            return f"task {effect.task_id}/{effect.attempt} to {effect.agent}: {_json(effect.input)}"
        case AskApproval():
            return f"question {effect.approval_id} to {effect.role}: {effect.question} {_json(effect.payload)}"
        case SendReceipt():
            verdict = f", {effect.verdict}" if effect.verdict else ""
            return f"receipt for {effect.answer_id or 'nobody'}: {effect.status} ({effect.code}){verdict}"
        case PublishOutcome():
            return f"outcome {effect.status}: {_json(effect.output)}"
        case PublishEvent():
            event = effect.cloud_event
            return f"event {event['id']} of type {event['type']}: {_json(event.get('data'))}"
        case SendDeadLetter():
            return f"dead letter: {effect.parked.code}, {effect.parked.message}"
        case SendInput():
            return f"record {effect.input.source_offset} to {effect.input.workflow_id}: {crossing_id(effect.input)}"


def _stand(workflow: Workflow | None) -> str:
    if workflow is None:
        return "no such workflow"
    steps = ", ".join(f"{name} {step.status}" for name, step in workflow.steps.items())
    return f"{workflow.status}: {steps or 'nothing has begun'}"
