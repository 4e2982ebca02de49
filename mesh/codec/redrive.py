"""A dead letter on its way back: which record is sent where, or why none can be.

Owns the choice by the part of the mesh that gave the letter up, and the headers by which a redriven
record is known. Pure. `mesh dlq redrive` calls it.

    from       it goes back to
    ingress    the topic that it came from: events and commands
    gateway    mesh.events, as the event that the webhook means now
    router     of an event (parked, or unclaimed) mesh.events, of a command mesh.commands: an inbox
               record itself would count as a copy that was made twice

All else stays. An answer is its author's to send again: it counts at the time at which the broker
takes it, and operators have no right to answer. Tasks are the routers' to send, and results the
agents'. A task, a result or a record between workflows is of use only to the step that waits: the
attempt fails at its time-out, and to retry the step is what helps.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, assert_never

from mesh.codec.cloudevents import from_record, to_record
from mesh.codec.commands import encode_command
from mesh.codec.dead_letters import UNREADABLE, DeadLetter
from mesh.codec.handlings import LetterPlace
from mesh.codec.inbox import decode_inbox
from mesh.codec.times import rfc3339
from mesh.codec.webhooks import COMPONENT as GATEWAY
from mesh.codec.webhooks import Terms, event_of_kept
from mesh.core import ids
from mesh.core import inputs as inp
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Header, OutRecord

PREFIX: Final = "__mesh.redriven."
TIMES: Final = PREFIX + "times"  # how often it has gone back, in decimal digits


class Stays(NamedTuple):
    """Why a letter can't go back, and what to do instead. `code` is one word."""

    code: str
    message: str


class By(NamedTuple):
    """Who sends letters back, and when."""

    operation: str
    by: str
    at_ms: int
    reason: str = ""


def redriven(
    letter: DeadLetter, place: LetterPlace, by: By, *, topics: Topics, webhooks: Mapping[str, Terms] | None = None
) -> OutRecord | Stays:
    """The record to send, with its headers of before and whence it comes.

    `webhooks`: as `gateway.yaml` has them now, where that is known.
    """
    found = _delivery(letter, topics, webhooks or {}) if letter.component == GATEWAY else None
    found = found or _record(letter, topics, by.at_ms)
    if isinstance(found, Stays):
        return found
    return OutRecord(
        topic=found.topic,
        key=found.key,
        value=found.value,
        headers=(*_without(found.headers), *_provenance(letter, place, by)),
    )


def _record(letter: DeadLetter, topics: Topics, now_ms: int) -> OutRecord | Stays:
    original = letter.original
    if letter.code == UNREADABLE or original.value is None:
        return Stays(
            "no_bytes", f"its bytes are not here ({letter.message}); the sender of {letter.id} can send it again"
        )
    if original.topic == topics.events and letter.component == "router":
        return _event_again(letter, topics)
    if original.topic in {topics.events, topics.commands}:
        return OutRecord(topic=original.topic, key=original.key, value=original.value, headers=original.headers)
    if original.topic == topics.responses:
        return _ANSWER
    if original.topic == topics.inbox:
        return _input_again(letter, topics, now_ms)
    if original.topic.startswith(topics.tasks("")):
        return _retry(letter, "routers alone send tasks; this attempt fails at its time-out, and the next one goes out")
    if original.topic == topics.results:
        return _retry(letter, "a result is of use to its step alone")
    return Stays("foreign", f"{letter.id} is not on a topic from which anything is redriven")


def _delivery(letter: DeadLetter, topics: Topics, webhooks: Mapping[str, Terms]) -> OutRecord | Stays:
    """The event of a webhook that the gateway kept."""
    try:
        return to_record(event_of_kept(letter.original, webhooks), topic=topics.events)
    except MalformedRecord as error:
        return Stays("unmapped", f"{error}; correct gateway.yaml, and name it in MESH_GATEWAY_CONFIG")


def _event_again(letter: DeadLetter, topics: Topics) -> OutRecord:
    """An event that no step claimed: its key is its workflow's id, not the one it came with."""
    try:
        return to_record(from_record(letter.original), topic=topics.events)
    except MalformedRecord:
        original = letter.original
        return OutRecord(topic=topics.events, key=None, value=original.value, headers=original.headers)


def _input_again(letter: DeadLetter, topics: Topics, now_ms: int) -> OutRecord | Stays:
    """What an inbox record was a copy of."""
    try:
        given = decode_inbox(letter.original)
        match given:
            case inp.EventMatched() | inp.EventOffered():
                return to_record(given.cloud_event, topic=topics.events)
            case inp.CommandGiven():
                return _command(given, topics, now_ms)
            case inp.AnswerGiven() | inp.AnswerGiven2() | inp.AnswerUnreadable():
                return _ANSWER
            case inp.CommandUnreadable():
                return Stays("malformed", "nobody can read this command: give it again (`mesh workflows --help`)")
            case inp.ScheduleSet():
                return Stays("told_again", "routers tell the schedules of their routes at each start")
            case (
                inp.WorkflowCalled()
                | inp.CallEnded()
                | inp.CallCancelled()
                | inp.ScheduledStart()
                | inp.EventForwarded()
                | inp.AliasClaimed()
                | inp.AliasAnswered()
                | inp.AliasReleased()
                | inp.SlotWanted()
                | inp.SlotGiven()
                | inp.SlotReturned()
                | inp.SlotDenied()
            ):
                return _retry(letter, "another workflow sent it, and counts what it sends")
            case _:
                assert_never(given)
    except MalformedRecord as error:
        return Stays("malformed", str(error))


def _command(given: inp.CommandGiven, topics: Topics, now_ms: int) -> OutRecord:
    return encode_command(
        topics=topics,
        command=given.command,
        workflow_id=given.workflow_id,
        by=given.by,
        command_id=given.command_id,
        at_ms=now_ms,
        reason=given.reason,
        step=given.step,
        to=given.to,
        input=given.task_input,
        order=given.order,
    )


_ANSWER: Final = Stays(
    "an_answer", "an answer is its author's to send again: it counts at the time at which the broker takes it"
)


def _retry(letter: DeadLetter, why: str) -> Stays:
    workflow = workflow_of(letter)
    helps = f"mesh workflows retry '{workflow}'" if workflow else "mesh incidents"
    return Stays("of_a_step", f"{why}; where the step is an incident: {helps}")


def workflow_of(letter: DeadLetter) -> str:
    """The id of the workflow that a letter is about, as its key says; empty if it is about none."""
    key = (letter.original.key or b"").decode(errors="replace")
    match letter.component:
        case "router" if ids.route_of(key) != key and key.isprintable():
            return key
        case "agent":  # an attempt's id
            parsed = ids.parse_step_id(key.rpartition("/")[0])
            return "" if parsed is None else parsed.workflow_id
        case _:
            return ""


def times_redriven(letter: DeadLetter) -> int:
    """How often this record had gone back before it came here."""
    found = next((value for name, value in letter.original.headers if name == TIMES), b"0")
    return int(found) if found.isdigit() and len(found) < 10 else 0  # noqa: PLR2004 - nobody does it a billion times


def _without(headers: tuple[Header, ...]) -> tuple[Header, ...]:
    return tuple(one for one in headers if not one[0].startswith(PREFIX))


def _provenance(letter: DeadLetter, place: LetterPlace, by: By) -> tuple[Header, ...]:
    told = {
        "letter": place.id,
        "original": letter.id,
        "code": letter.code,
        "operation": by.operation,
        "by": by.by,
        "reason": by.reason,
        "at": rfc3339(by.at_ms),
        "times": str(times_redriven(letter) + 1),
    }
    return tuple((PREFIX + name, text.encode(errors="replace")) for name, text in told.items() if text)
