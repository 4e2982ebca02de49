"""GitHub's webhook payloads as CloudEvents.

The mapping is the CloudEvents project's (`adapters/github.md`). Owns that table and nothing else:
it reads no file and knows no HTTP header, and the whole body becomes `data`. `mesh publish
--github` calls it. Another kind of event is another line of `_KINDS`.

One departure: the table has `com.github.issue.` for GitHub's event `issues`, the only kind that
does not have the name that GitHub gives in `X-GitHub-Event`. Here the type is `com.github.issues.`
+ action.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from mesh.codec import exact_json
from mesh.errors import MalformedRecord

_ACTION = re.compile(r"[a-z][a-z_]*\Z")


class _Kind(NamedTuple):
    """Where the attributes of one kind of event are in its payload: dotted paths."""

    type_prefix: str
    source: str
    subject: str
    time: str
    not_with: tuple[str, ...]  # members that show the payload to be of another kind


_KINDS = {
    "issues": _Kind("com.github.issues.", "repository.url", "issue.number", "issue.updated_at", ("comment",)),
}


def read_payload(raw: bytes) -> dict[str, Any]:
    """The payload that `raw` holds. Raises `MalformedRecord` if it is not one JSON object."""
    try:
        payload = exact_json.decode(raw)
    except exact_json.JsonRefused as error:
        raise MalformedRecord(
            f"the GitHub payload can't be taken: {error}; save the webhook's request body as it came"
        ) from error
    if not isinstance(payload, dict):
        raise MalformedRecord(f"the GitHub payload is {_name(payload)}, not an object; save the webhook's request body")
    return payload


def issue_event(payload: dict[str, Any], *, delivery: str | None, raw: bytes) -> dict[str, Any]:
    """The CloudEvent of one payload of GitHub's `issues` event, whatever its action.

    It is in CloudEvents' JSON format.

    `delivery` is the value of `X-GitHub-Delivery`; without it the id is the SHA-256 of `raw`, the
    payload's bytes, so that the same file is the same event. `time` is left out where the issue has
    none. Raises `MalformedRecord`, which names the member that is missing or wrong.
    """
    return _event("issues", payload, delivery or f"sha256:{sha256(raw).hexdigest()}")


def _event(kind: str, payload: dict[str, Any], event_id: str) -> dict[str, Any]:
    where = _KINDS[kind]
    for other in where.not_with:
        if other in payload:
            raise MalformedRecord(
                f"GitHub {kind} payload {event_id}: it has `{other}`, so it is another kind of event; only `{kind}` is mapped"
            )
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id,
        "source": _text(payload, where.source, kind, event_id),
        "type": where.type_prefix + _action(payload, kind, event_id),
        "subject": _number(payload, where.subject, kind, event_id),
        "datacontenttype": "application/json",
        "data": payload,
    }
    time = _time(payload, where.time, kind, event_id)
    if time is not None:
        event["time"] = time
    return event


def _find(payload: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or None."""
    value: Any = payload
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _text(payload: Mapping[str, Any], path: str, kind: str, event_id: str) -> str:
    value = _find(payload, path)
    if not isinstance(value, str) or not value:
        raise _wrong(kind, event_id, path, "a string that is not empty", value)
    return value


def _action(payload: Mapping[str, Any], kind: str, event_id: str) -> str:
    action = _text(payload, "action", kind, event_id)
    if _ACTION.match(action) is None:
        raise _wrong(kind, event_id, "action", "a word of small letters, such as `opened`", action)
    return action


def _number(payload: Mapping[str, Any], path: str, kind: str, event_id: str) -> str:
    value = _find(payload, path)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _wrong(kind, event_id, path, "a number of 1 or more", value)
    return str(value)


def _time(payload: Mapping[str, Any], path: str, kind: str, event_id: str) -> str | None:
    """The time in RFC 3339, which CloudEvents want and GitHub sends."""
    value = _find(payload, path)
    if value is None:
        return None
    try:
        aware = isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        aware = False
    if not aware:
        raise _wrong(kind, event_id, path, "a time such as 2026-03-01T09:30:00Z", value)
    return str(value)


def _wrong(kind: str, event_id: str, path: str, wanted: str, value: Any) -> MalformedRecord:
    found = "is missing" if value is None else f"is {_name(value)}"
    return MalformedRecord(f"GitHub {kind} payload {event_id}: `{path}` {found}; it must be {wanted}")


def _name(value: Any) -> str:
    """What a value is, for a message, without its content."""
    match value:
        case dict():
            return "an object"
        case list():
            return "an array"
        case None:
            return "null"
        case _:
            text = repr(value)
            return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - a message's line
