"""The bytes of `mesh.definitions`: route versions, and which of them are active.

The topic is compacted.

    sha256:<64 digits>      a version, under its digest: the route's document
    activation/<id>         which versions are active from then on:
                            {"routes": {NAME: DIGEST or null}, "by": ...}

Owns the records. Neither kind is ever overwritten or deleted, so compaction drops none: a workflow
ends under the rules it started with, and an event that was unread for long is still matched with
the routes of its time. A version is stored before an activation names it. Activations are in
partition 0, whose order is theirs. Routers and `mesh routes apply` write them.
"""

from typing import Any, Final

import msgspec
import orjson

from mesh.codec import exact_json
from mesh.codec.cloudevents import binary_headers
from mesh.codec.event_data import decode_json
from mesh.codec.places import place
from mesh.codec.times import rfc3339
from mesh.core.activation import Activation
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record
from mesh.routes.compiler import compile_route
from mesh.routes.problems import RouteRefused

DEFINITION_TYPE: Final = "mesh.route-definition"
ACTIVATION_TYPE: Final = "mesh.route-activation"
_DIGEST: Final = b"sha256:"
_ACTIVATION: Final = b"activation/"


class ActivationBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The value of an activation's record.

    `routes`: name to digest, or to null if the route is withdrawn. `beginning`: nothing was active
    before.
    """

    routes: dict[str, str | None]
    by: str
    beginning: bool = False
    reason: str = ""


def encode_definition(route: Route, topics: Topics) -> OutRecord:
    """The record that stores this version of a route."""
    headers = binary_headers(id=route.digest, source="/mesh/routes", type=DEFINITION_TYPE, subject=route.name)
    return OutRecord(
        topic=topics.definitions, key=route.digest.encode(), value=orjson.dumps(route.definition), headers=headers
    )


def decode_definition(record: Record) -> Route | None:
    """The route version in a record; None for any other record (another key, or a tombstone).

    Raises `MalformedRecord`.
    """
    if record.value is None or record.key is None or not record.key.startswith(_DIGEST):
        return None
    document = decode_json(record.value, f"the route definition {place(record)}")
    try:
        route = compile_route(document)
    except RouteRefused as error:
        raise MalformedRecord(
            f"the route definition {place(record)} does not hold for this version of the mesh: {error}"
        ) from error
    # workflows keep the digest: a document under another's would change what they run on
    if route.digest.encode() != record.key:
        raise MalformedRecord(
            f"the route definition {place(record)} is not what its key says: its digest is {route.digest}"
            " (store the route again under its own digest)"
        )
    return route


def encode_activation(
    routes: dict[str, str | None],
    *,
    topics: Topics,
    activation_id: str,
    by: str,
    at_ms: int,
    beginning: bool = False,
    reason: str = "",
) -> OutRecord:
    """The record that activates these versions (name to digest; None: withdrawn).

    `activation_id` is fresh for every sending: compaction would drop the first of two records with
    one id.
    """
    body: dict[str, Any] = msgspec.to_builtins(ActivationBody(routes=routes, by=by, beginning=beginning, reason=reason))
    headers = binary_headers(id=activation_id, source="/mesh/routes", type=ACTIVATION_TYPE, time=rfc3339(at_ms))
    key = _ACTIVATION + activation_id.encode()
    # in partition 0 alone: activations count in the order of their offsets (ADR 8)
    return OutRecord(topic=topics.definitions, key=key, value=orjson.dumps(body), headers=headers, partition=0)


def decode_activation(record: Record) -> Activation | None:
    """The activation in a record, with the broker's time of it; None for any other record.

    Raises `MalformedRecord`.
    """
    if record.value is None or record.key is None or not record.key.startswith(_ACTIVATION):
        return None
    try:
        body = msgspec.convert(exact_json.decode(record.value), ActivationBody)
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(
            f"the route activation {place(record)} does not hold: {error} (topics/schemas/activation.json has the form)"
        ) from error
    return Activation(
        id=record.key[len(_ACTIVATION) :].decode("utf-8", "replace"),
        routes=body.routes,
        by=body.by,
        # the broker's time, which is the same for every router (ADR 8)
        at_ms=record.timestamp_ms,
        beginning=body.beginning,
        reason=body.reason,
    )
