"""What can still be told of a record that can't be read: whose it is, and what it is about.

Owns the search of damaged bytes for ids. It must not judge them: the sender gets a refusal, and
nothing else follows from what is found here. Ingress calls it for answers and commands, and the
read model for events.

The bytes may be no JSON at all (cut off, in another encoding, with a key twice). So they are looked
through for strings and brackets, which tells what belongs to which object. A member that says two
different things says nothing. That takes linear time and no recursion, so it is safe for bytes that
routers have died on, too.

A refusal goes where the answer itself would go. If a router had copied the answer before it died,
the owner's watermark then takes the refusal for a second copy, and the answer has one receipt.
"""

import re
from base64 import b64decode
from typing import Final

import orjson

from mesh.codec.cloudevents import is_structured
from mesh.codec.exact_json import InexactNumber
from mesh.codec.places import place, place_id
from mesh.core import ids
from mesh.core.inputs import AnswerUnreadable, CommandUnreadable
from mesh.errors import MalformedRecord, RecordTooLarge
from mesh.ports import Record

Members = dict[tuple[str, str], str]

# a string that is not closed goes to the end, so each byte is looked at once
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[{}\[\]:]', re.DOTALL)
_PREFIX: Final = "ce_"
_DATA: Final = "data"
_SHOWN: Final = 1_000  # characters of a reason, so that the refusal itself is never too large
_DOTS: Final = 2  # in a JWS in compact form
_NAME: Final = 200  # characters of a name or a verb


class PayloadIsNull(MalformedRecord):
    """An answer's `payload` is null, and it does not say whether that is an edit."""


def refusal_code(error: BaseException) -> str:
    """The short word for why a record was refused, for its sender."""
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case RecordTooLarge():
                return "too_large"
            case InexactNumber():
                return "number"
            case PayloadIsNull():
                return "payload"
            case _:
                cause = cause.__cause__
    return "malformed"


def unreadable_answer(record: Record, code: str, message: str) -> AnswerUnreadable:
    """The input that refuses the answer in a record."""
    found = _of_person(record)
    approval_id = _bounded(found.get("approval_id", ""))
    parts = ids.parse_step_id(approval_id)
    return AnswerUnreadable(
        workflow_id=ids.answers_id(record.partition) if parts is None else parts.workflow_id,
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        source_at_ms=record.timestamp_ms,
        approval_id="" if parts is None else approval_id,
        answer_id=_own_id(record),
        code=code,
        message=_said(record, message),
        by=found.get("by", "")[:_NAME],
    )


def unreadable_command(record: Record, code: str, message: str) -> CommandUnreadable:
    """The input that refuses the command in a record."""
    found = _of_person(record)
    workflow_id = _bounded(found.get("workflow_id", ""))
    route, _, key = workflow_id.partition(":")
    return CommandUnreadable(
        workflow_id=workflow_id if route and key else ids.commands_id(record.partition),
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        source_at_ms=record.timestamp_ms,
        command_id=_own_id(record),
        command=found.get("command", "")[:_NAME],
        code=code,
        message=_said(record, message),
        by=found.get("by", "")[:_NAME],
    )


def event_id(record: Record) -> str:
    """The id of an event, valid or not; empty if none can be told.

    In binary mode the value is the event's data, and an id in there is not the event's.
    """
    attributes = {name.lower(): raw for name, raw in record.headers if name.lower().startswith(_PREFIX)}
    if not attributes or _says_structured(record):
        return _bounded(_members(record.value).get(("", "id"), ""))
    # a header that is there twice with different values names nothing
    said = {raw for name, raw in record.headers if name.lower() == "ce_id"}
    return _bounded(_text(said.pop())) if len(said) == 1 else ""


def _own_id(record: Record) -> str:
    """The id under which a person's client knows what it sent: the CloudEvent's, or the place."""
    is_event = any(name.lower().startswith(_PREFIX) for name, _ in record.headers) or _says_structured(record)
    if is_event or ("", "specversion") in _members(record.value):
        return event_id(record) or place_id(record)
    return place_id(record)


def _said(record: Record, message: str) -> str:
    """The reason without the place, which the receipt has in a field of its own."""
    return message.removeprefix(f"{place(record)}: ")[:_SHOWN]


def _of_person(record: Record) -> dict[str, str]:
    """The fields of an answer or a command, bare or as the data of a CloudEvent."""
    members = _members(record.value)
    if signed := _signed(members):
        return signed
    encoded = members.get(("", "data_base64"))
    if encoded is not None:
        members = {(_DATA, name): text for (where, name), text in _decoded(encoded).items() if not where} | members
    inside = {name: text for (where, name), text in members.items() if where == _DATA}
    return inside | {name: text for (where, name), text in members.items() if not where}


def _signed(members: Members) -> dict[str, str]:
    """The fields that the body of a signed answer has. Nobody has checked the signature."""
    jws = members.get(("", "jws")) or members.get((_DATA, "jws"), "")
    body = jws.split(".")[1] if jws.count(".") == _DOTS else ""
    # base64url, and without its padding
    padded = body.replace("-", "+").replace("_", "/") + "=" * (-len(body) % 4)
    return {name: text for (where, name), text in _decoded(padded).items() if not where}


def _decoded(encoded: str) -> Members:
    try:
        return _members(b64decode(encoded, validate=True))
    except ValueError:
        return {}


def _members(value: bytes | None) -> Members:
    """The strings that the outermost object has, and those of its member `data`.

    Keys: the object ("" or "data") and the member.
    """
    found: dict[tuple[str, str], set[str]] = {}
    above: list[str] = []  # the key of each object and array that is open
    key, before = "", b""
    for match in _TOKEN.finditer(value or b""):
        token = match.group()
        if token in b"{[":
            above.append(key)
            key = ""
        elif token in b"}]":
            key = above.pop() if above else ""
        elif token != b":":
            text = _string(token)
            if before != b":":
                key = text
            elif len(above) == 1 or (len(above) == 2 and above[1] == _DATA):  # noqa: PLR2004 - one below the outermost
                found.setdefault((above[1] if len(above) > 1 else "", key), set()).add(text)
        before = token
    # a guess between two could show the refusal in another workflow
    return {name: texts.pop() for name, texts in found.items() if len(texts) == 1}


def _string(token: bytes) -> str:
    try:
        text: str = orjson.loads(token)
    except orjson.JSONDecodeError:
        return ""
    return text


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return ""


def _bounded(text: str) -> str:
    """The id, if it may be one."""
    return text if len(text) <= ids.MAX_ID else ""


def _says_structured(record: Record) -> bool:
    return any(name.lower() == "content-type" and is_structured(raw.decode("latin-1")) for name, raw in record.headers)
