"""The core's voice: inputs in full, events with all their fields, effects by their ids.

For those who change the core, and must see every field that moves.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from mesh.codec.delegations import personal_key
from mesh.core import inputs as inp
from mesh.core.calls import Caller
from mesh.core.crossings import Crossing, crossing_id
from mesh.core.effects import (
    AskApproval,
    DeleteKey,
    Effect,
    PublishEvent,
    PublishOutcome,
    SendDeadLetter,
    SendInput,
    SendPersonal,
    SendTask,
    TellForked,
    WithdrawTask,
)
from mesh.core.events import CallFailed, CallSucceeded, Event, UsageReported, WorkflowEnded
from mesh.core.open_approvals import ShowApproval
from mesh.core.receipts import SendCommandReceipt, SendReceipt
from mesh.core.schedules import Schedule
from mesh.core.state import KeptEvent
from mesh.inspection.wording.built_in import schedule_words
from mesh.inspection.wording.phrases import as_json

UNSAID = frozenset(
    {
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
)
"""Fields that say nothing to the reader of a transcript, or that another line says."""
_SAYS_USAGE: Final = (CallFailed, CallSucceeded, UsageReported, WorkflowEnded)
"""Events between workflows: what one of them has taken, the other hears."""


def input_line(given: inp.Input, at: Callable[[int], str]) -> str:
    match given:
        case inp.EventMatched():
            event = given.cloud_event
            return f"event {event['id']} for {given.workflow_id}: {as_json(event['data'])}"
        case inp.ResultReceived(handover=inp.HandOver(to=to, input=value)):
            return f"result of {given.task_id}/{given.attempt}: handed over to {to} {as_json(value)}"
        case inp.ResultReceived(error=None):
            return f"result of {given.task_id}/{given.attempt}: {given.status} {as_json(given.output)}"
        case inp.ResultReceived(error=error):
            again = "" if error and error.retryable else ", not to be tried again"
            return f"result of {given.task_id}/{given.attempt}: failed, {error and error.kind}{again}"
        case inp.EventOffered():
            event = given.cloud_event
            return f"event {event['id']} ({event['type']}) offered to {given.workflow_id}: {as_json(event['data'])}"
        case inp.AnswerGiven():
            edit = f", payload {as_json(given.payload)}" if isinstance(given.payload, dict) else ""
            why = f", because: {given.reason}" if given.reason else ""
            return f"answer of {given.by} to {given.approval_id}: {given.decision}{edit}{why} (sent {at(given.source_at_ms)})"
        case inp.AnswerGiven2():
            more = f" {given.choice}" if given.choice else f": {given.text}" if given.text else ""
            return (
                f"answer of {given.by} to {given.approval_id}: {given.decision}{more} (sent {at(given.source_at_ms)})"
            )
        case inp.CommandGiven():
            to = f" to {given.to}" if given.to else ""
            return f"command of {given.by}: {given.command} {given.step or given.workflow_id}{to}"
        case inp.AnswerUnreadable():
            return f"unreadable answer to {given.approval_id or 'nothing'}: {given.code}"
        case inp.CommandUnreadable():
            return f"unreadable command to {given.workflow_id}: {given.code}"
        case inp.ScheduleSet():
            return f"{given.by} tells when {given.route} starts: {schedule_words(given.schedule)}, since {at(given.since_ms)}"
        case inp.TimerDue():
            return f"timer: {given.kind} {given.step or given.workflow_id}, due {at(given.due_at_ms)}"
        case inp.TaskUndeliverable():
            return f"undeliverable: {given.task_id}/{given.attempt}, {given.message}"
        case inp.Undeliverable():
            return f"undeliverable: {given.effect_id}, {given.message}"
        case _:
            return _crossing_line(given)


def _crossing_line(given: Crossing) -> str:
    match given:
        case inp.WorkflowCalled():
            return f"call {given.caller.task_id}/{given.caller.attempt} of {given.workflow_id}: {as_json(given.cloud_event['data'])}"
        case inp.CallEnded():
            why = f", because: {given.reason}" if given.status != "completed" else f" {as_json(given.output)}"
            return f"end of call {given.task_id}/{given.attempt}: {given.status}{why}"
        case inp.CallCancelled():
            return f"call {given.caller.task_id}/{given.caller.attempt} is taken back"
        case inp.ScheduledStart():
            return f"scheduled start of {given.workflow_id}: {as_json(given.cloud_event['data'])}"
        case inp.AliasClaimed():
            return f"claim {given.claimant.task_id}/{given.claimant.attempt} of {given.workflow_id}"
        case inp.AliasAnswered():
            return f"answer to claim {given.claimant.task_id}/{given.claimant.attempt}: {given.refusal or 'granted'}"
        case inp.AliasReleased():
            return f"{given.claimant} gives {given.workflow_id} back"
        case inp.EventForwarded():
            event = given.kept.cloud_event
            return f"event {event['id']} ({event['type']}) by alias {given.kept.alias}: {as_json(event['data'])}"
        case inp.SlotWanted() | inp.SlotGiven() | inp.SlotReturned() | inp.SlotDenied():
            return f"{crossing_id(given)} to {given.workflow_id}"


def event_line(event: Event, at: Callable[[int], str]) -> str:
    step = getattr(event, "step", "")
    return f"{type(event).__name__}{f' {step}' if step else ''}  {fields_of(event, at)}".rstrip()


def effect_line(effect: Effect) -> str:
    match effect:
        case SendTask():
            return f"task {effect.task_id}/{effect.attempt} to {effect.agent}: {as_json(effect.input)}"
        case ShowApproval():
            return f"{'shown as open' if effect.value else 'no longer open'}: {effect.key}"
        case AskApproval():
            return f"question {effect.approval_id} to {effect.role}: {effect.question} {as_json(effect.payload)}"
        case SendReceipt():
            verdict = f", {effect.verdict}" if effect.verdict else ""
            return f"receipt for {effect.answer_id or 'nobody'}: {effect.status} ({effect.code}){verdict}"
        case SendCommandReceipt():
            return f"receipt for command {effect.command_id}: {effect.status} ({effect.code})"
        case PublishOutcome():
            return f"outcome {effect.status}: {as_json(effect.output)}"
        case PublishEvent():
            event = effect.cloud_event
            return f"event {event['id']} of type {event['type']}: {as_json(event.get('data'))}"
        case SendDeadLetter():
            return f"dead letter: {effect.parked.code}, {effect.parked.message}"
        case SendPersonal():
            return f"record of {effect.record.by}: {personal_key(effect.record)}"
        case TellForked():
            return f"word of a fork to {effect.of}: it is {effect.workflow_id}"
        case DeleteKey():
            return f"key {effect.key} is deleted"
        case WithdrawTask():
            return f"withdrawal {effect.task_id}/{effect.attempt} to {effect.agent}"
        case SendInput():
            return f"record {effect.input.source_offset} to {effect.input.workflow_id}: {crossing_id(effect.input)}"


def fields_of(event: Event, at: Callable[[int], str]) -> str:
    """What says something: neither empty nor what it is by default."""
    parts = []
    for field in msgspec.structs.fields(event):
        name, value = field.name, getattr(event, field.name)
        if isinstance(value, KeptEvent):
            value = value.cloud_event
        if isinstance(value, Caller):
            value = value.task_id
        if isinstance(value, Schedule):
            value = schedule_words(value)
        if (
            (name in UNSAID and not (name == "usage" and isinstance(event, _SAYS_USAGE)))
            or (name in {"event_id", "event_source"} and isinstance(event, WorkflowEnded))
            or value in ("", None)
            or value is False
            or value == field.default
        ):
            continue
        shown = (
            at(value)
            if name.endswith("_at_ms") or name == "since_ms"
            else value
            if isinstance(value, str)
            else as_json(value)
        )
        parts.append(f"{name.removesuffix('_ms')}: {shown}")
    return " | ".join(parts)
