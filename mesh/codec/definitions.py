"""The bytes of route versions on `mesh.definitions`, which is compacted: the key is the definition's digest, the value its document.

Owns the record. A version is written before its first use and never deleted, so a workflow ends under the rules it started with. Routers write and read it.
"""

from typing import Final

import orjson

from mesh.codec.cloudevents import binary_headers, decode_json
from mesh.codec.places import place
from mesh.core.route import Route
from mesh.core.route_compile import compile_route
from mesh.core.route_problems import RouteRefused
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

__all__ = ["DEFINITION_TYPE", "decode_definition", "encode_definition"]

DEFINITION_TYPE: Final = "mesh.route-definition"
_DIGEST: Final = b"sha256:"


def encode_definition(route: Route, topics: Topics) -> OutRecord:
    """The record that stores this version of a route."""
    headers = binary_headers(id=route.digest, source="/mesh/routes", type=DEFINITION_TYPE, subject=route.name)
    return OutRecord(
        topic=topics.definitions, key=route.digest.encode(), value=orjson.dumps(route.definition), headers=headers
    )


def decode_definition(record: Record) -> Route | None:
    """The route version; None where the record is none (another key, or a tombstone). Raises `MalformedRecord`."""
    if record.value is None or record.key is None or not record.key.startswith(_DIGEST):
        return None
    document = decode_json(record.value, f"the route definition {place(record)}")
    try:
        route = compile_route(document)
    except RouteRefused as error:
        raise MalformedRecord(
            f"the route definition {place(record)} does not hold for this version of the mesh: {error}"
        ) from error
    if route.digest.encode() != record.key:
        raise MalformedRecord(
            f"the route definition {place(record)} is not what its key says: its digest is {route.digest}"
            " (store the route again under its own digest)"
        )
    return route
