"""Events that workflows emit: CloudEvents on `mesh.events`, as upstream's are, so that they start
and move other workflows.

Owns nothing but the way from the effect to the record; routers encode, ingress reads them like any
other event.
"""

from mesh.codec.cloudevents import to_record
from mesh.codec.times import rfc3339
from mesh.core.effects import PublishEvent
from mesh.core.topics import Topics
from mesh.ports import OutRecord


def encode_emitted(effect: PublishEvent, *, topics: Topics) -> OutRecord:
    """Key: the workflow that emits, so that its events keep their order.

    Raises `MalformedRecord` for what is no CloudEvent.
    """
    event = {
        **effect.cloud_event,
        "time": rfc3339(effect.at_ms),
        "correlationid": effect.workflow_id,
        "traceparent": effect.traceparent,
    }
    return to_record(event, topic=topics.events, key=effect.workflow_id.encode())
