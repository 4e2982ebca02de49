"""Outcomes: the CloudEvents that tell upstream systems how a workflow ended.

`mesh.workflow.completed`, `.failed`, `.rejected`, `.cancelled`. Owns the record of `mesh.outcomes`;
`topics/schemas/outcome.json` has the data's form. Routers encode it, upstream clients decode it.
"""

from typing import Any, Final

import msgspec

from mesh.codec import exact_json
from mesh.codec.cloudevents import binary_headers
from mesh.codec.places import place
from mesh.codec.times import rfc3339
from mesh.core.effects import PublishOutcome
from mesh.core.events import EndStatus
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

OUTCOME_TYPE_PREFIX: Final = "mesh.workflow."


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an outcome.

    `event_id` and `event_source` name the event that started the run; of a called workflow, of a
    scheduled start too, an event of the mesh's own.
    """

    workflow_id: str
    run_id: str
    route: str
    status: EndStatus
    reason: str = ""
    output: Any = None
    event_id: str = ""
    event_source: str = ""


_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)


def outcome_id(effect: PublishOutcome) -> str:
    return f"{effect.workflow_id}/{effect.run_id}/outcome"


def encode_outcome(effect: PublishOutcome, *, topics: Topics) -> OutRecord:
    """Key and subject: the workflow id. Source: `/mesh/<route>`."""
    value = Outcome(
        workflow_id=effect.workflow_id,
        run_id=effect.run_id,
        route=effect.route,
        status=effect.status,
        reason=effect.reason,
        output=effect.output,
        event_id=effect.event_id,
        event_source=effect.event_source,
    )
    headers = binary_headers(
        id=outcome_id(effect),
        source=f"/mesh/{effect.route}",
        type=OUTCOME_TYPE_PREFIX + effect.status,
        workflow_id=effect.workflow_id,
        traceparent=effect.traceparent,
        tracestate=effect.tracestate,
        time=rfc3339(effect.at_ms),
        subject=effect.workflow_id,
    )
    return OutRecord(topic=topics.outcomes, key=effect.workflow_id.encode(), value=_encode(value), headers=headers)


def decode_outcome(record: Record) -> Outcome:
    """Raises `MalformedRecord`."""
    try:
        return _decoder.decode(record.value or b"")
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(
            f"{place(record)}: not an outcome ({error}); only routers may write to this topic"
        ) from error
