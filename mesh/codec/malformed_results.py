"""Results that don't have the form of one, as failures of the attempts that they are of.

An attempt whose result can't be read is over, and nothing else will come of it: its step must not
wait for a time-out. So as much as can be read is read here, to find out which attempt it is.

Owns that reading. Which attempt it is may be said by the value (its first members, as far as it is
JSON), by the headers of CloudEvents, or by the key. `mesh.codec.tasks` reads results that are well.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from mesh.codec.places import place
from mesh.codec.tasks import SIGN_TYPE
from mesh.core import ids
from mesh.core.inputs import ResultReceived, TaskError
from mesh.ports import Record

KIND: Final = "result_invalid"
MAX_ATTEMPT: Final = 2**31
_SIGNS: Final = frozenset({"started", "heartbeat"})
_READ: Final = 65_536  # characters of a value that are looked at
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_JSON: Final = json.JSONDecoder()
_Attempt = tuple[str, int]


def failure_instead(record: Record, trouble: str) -> ResultReceived | None:
    """The failure of the attempt that a malformed result is of.

    None if it can't be told which it is, or if the record is a sign of life. `trouble`: what is
    wrong with it.
    """
    said, headers = _readable(record), _texts(record)
    if said.get("status") in _SIGNS or headers.get("ce_type") == SIGN_TYPE:
        return None
    attempt = _of_value(said) or _of_texts(headers, record.key)
    parsed = ids.parse_step_id(attempt[0]) if attempt is not None else None
    if attempt is None or parsed is None:
        return None
    agent = _text(said, "agent")
    who = f"agent {agent}" if agent else "the agent"
    message = f"{who} sent a result that can't be read: {trouble}; its bytes stay at {place(record)}"
    return ResultReceived(
        task_id=attempt[0],
        attempt=attempt[1],
        workflow_id=parsed.workflow_id,
        status="failed",
        error=TaskError(kind=KIND, message=message, retryable=False),
        agent=agent,
        agent_version=_text(said, "agent_version"),
        agent_instance=_text(said, "agent_instance"),
    )


def _of_value(said: dict[str, Any]) -> _Attempt | None:
    task, attempt = said.get("task_id"), said.get("attempt")
    if not isinstance(task, str) or type(attempt) is not int or not 1 <= attempt < MAX_ATTEMPT:
        return None
    return (task, attempt) if ids.parse_step_id(task) is not None else None


def _of_texts(headers: dict[str, str], key: bytes | None) -> _Attempt | None:
    texts = (
        headers.get("ce_causationid", ""),
        headers.get("ce_id", "").removesuffix("/result"),
        (key or b"").decode("utf-8", "replace"),
    )
    return next((found for text in texts if (found := _attempt(text)) is not None), None)


def _attempt(text: str) -> _Attempt | None:
    """The attempt of an attempt's id, `<workflow id>/<run id>/<step>/<attempt>`."""
    task, _, number = text.rpartition("/")
    if not (number.isascii() and number.isdecimal() and len(number) < len(str(MAX_ATTEMPT))):
        return None
    parsed = ids.parse_step_id(task)
    return (task, int(number)) if parsed is not None and int(number) >= 1 else None


def _texts(record: Record) -> dict[str, str]:
    return {name.lower(): value.decode("utf-8", "replace") for name, value in record.headers}


def _text(said: dict[str, Any], name: str) -> str:
    found = said.get(name)
    return found[:200] if isinstance(found, str) else ""


def _readable(record: Record) -> dict[str, Any]:
    """The members of the value's object up to the first that can't be read."""
    # a character has four bytes at the most, so enough is decoded, and no more
    text = (record.value or b"")[: 4 * _READ].decode("utf-8", "replace")[:_READ]
    found: dict[str, Any] = {}
    try:
        for name, value in _members(text):
            found.setdefault(name, value)
    except (ValueError, IndexError, RecursionError):
        pass  # what came before it was read
    return found


def _members(text: str) -> Iterator[tuple[str, Any]]:
    """Raises `ValueError` or `IndexError` where the text is no JSON any more."""
    at = _behind(text, 0, "{")
    while True:
        name, at = _JSON.raw_decode(text, _blank(text, at))
        value, at = _JSON.raw_decode(text, _blank(text, _behind(text, at, ":")))
        yield str(name), value
        at = _behind(text, at, ",")


def _behind(text: str, at: int, mark: str) -> int:
    at = _blank(text, at)
    if text[at] != mark:
        raise ValueError(mark)
    return at + 1


def _blank(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
