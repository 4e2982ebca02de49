"""What people send by any client: an answer or a command.

As a CloudEvent, or as bare JSON so that one short kcat line works.

Owns the reading of such a record down to its checked fields. It must not know what they mean:
`mesh.codec.approvals` and `mesh.codec.commands` do.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from mesh.codec.cloudevents import from_record, header, is_cloud_event, parse_traceparent
from mesh.codec.event_data import decode_json
from mesh.codec.places import place, place_id
from mesh.core import ids
from mesh.errors import MalformedRecord
from mesh.ports import Record

_SHOWN: Final = 60  # characters of a field's name in a message


class Body(NamedTuple):
    """The fields of a record from a person.

    `id`: the CloudEvent's, or the record's place. `traceparent`: None unless it is valid.
    """

    data: dict[str, Any]
    id: str
    traceparent: str | None


def read_body(
    record: Record,
    *,
    what: str,
    required: Sequence[str],
    optional: Sequence[str],
    anything: Sequence[str],
    example: str,
    flags: Sequence[str] = (),
    unwrap: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    also: Callable[[dict[str, Any]], Sequence[str]] | None = None,
) -> Body:
    """Read and check the fields of a record that should hold `what` ("answer").

    `required` fields are strings that are not blank, `optional` ones strings or null, `flags` true,
    false or null, `anything` ones any JSON. No id may be longer than `ids.MAX_ID`. `unwrap` opens
    an envelope, and raises `MalformedRecord` as this does. `also`: what these fields make required.

    Raises `MalformedRecord`, which names all that is missing or wrong and ends with `example`.
    """
    data, own_id, traceparent = _open(record, what)
    if not isinstance(data, dict):
        raise MalformedRecord(f"{place(record)}: the {what} is not a JSON object; send {example}")
    try:
        data = data if unwrap is None else unwrap(data)
    except MalformedRecord as error:
        raise MalformedRecord(f"{place(record)}: the {what} does not hold: {error}. Send {example}") from error
    required = (*(() if also is None else also(data)), *required)
    problems = _problems(data, required, optional, flags)
    # refused, not ignored: a misspelt `payload` would approve the text that was not edited
    problems += _unknown(data, {*required, *optional, *flags, *anything})
    if len(own_id) > ids.MAX_ID:
        problems.append(f"its id has {len(own_id)} characters, and at most {ids.MAX_ID} are taken")
    if problems:
        raise MalformedRecord(f"{place(record)}: the {what} does not hold: {'; '.join(problems)}. Send {example}")
    return Body(data, own_id, traceparent if parse_traceparent(traceparent) else None)


def _open(record: Record, what: str) -> tuple[Any, str, str | None]:
    if is_cloud_event(record):
        event = from_record(record)
        trace = event.get("traceparent")
        return event.get("data"), event["id"], trace if isinstance(trace, str) else None
    try:
        data = decode_json(record.value or b"", f"the {what}")
    except MalformedRecord as error:
        raise MalformedRecord(f"{place(record)}: {error}") from error
    return data, place_id(record), header(record, "traceparent")


def _problems(
    data: dict[str, Any], required: Sequence[str], optional: Sequence[str], flags: Sequence[str]
) -> list[str]:
    problems = []
    for name in required:
        value = data.get(name)
        if value is None or value == "":
            problems.append(f"`{name}` is missing")
        elif not isinstance(value, str) or not value.strip():
            problems.append(f"`{name}` is not a string that says something")
        elif len(value) > ids.MAX_ID:
            problems.append(f"`{name}` has {len(value)} characters, and at most {ids.MAX_ID} are taken")
    problems += [f"`{name}` is not true or false" for name in flags if not isinstance(data.get(name), bool | None)]
    problems += [f"`{name}` is not a string" for name in optional if not isinstance(data.get(name), str | None)]
    return problems


def _unknown(data: dict[str, Any], known: set[str]) -> list[str]:
    return [f"`{name[:_SHOWN]}` is not a field of it" for name in data if name not in known]
