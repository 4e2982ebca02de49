"""The API as OpenAPI 3.1, made of its endpoints.

Owns how an endpoint is described. `docs/console.openapi.json` is a copy, which `python
docs/generate.py` writes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from mesh.console.api.answers import JSON, PROBLEM, Problem
from mesh.console.api.endpoint import ONCE, SCHEMAS, Endpoint, Parameter

_REF: Final = "#/components/schemas/{name}"
_EVERYWHERE: Final = {
    400: "A parameter or the body can't be taken; the detail says which, and why.",
    401: "Nobody is signed in, or the token does not count.",
    503: "The mesh can't be asked now; try again.",
}
_OF_ALL: Final = {403: "Only viewers, operators and authors see this."}
_OF_ONE: Final = {403: "The person may not see this."}
_OF_FORMS: Final = {
    403: "The person may not do this, or it comes from another site.",
    411: "The request says no length.",
    413: "It is too large.",
    415: "The body is not application/json.",
}
_ONCE: Final[dict[str, Any]] = {
    "name": ONCE,
    "in": "header",
    "description": "The same request under the same key does nothing twice, at whichever console, and has the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_LISTED: Final = re.compile(r"Listed_(\w+)_")


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The whole document."""
    types = dict.fromkeys(_types(endpoints))
    found, components = msgspec.json.schema_components(list(types), ref_template=_REF)
    schemas = dict(zip(types, found, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "agent-mesh console",
            "version": "1",
            "description": "What the console's pages show and do, for programs. A token is made by `mesh console token`.",
        },
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": {_name(name): _tidy(schema) for name, schema in sorted(components.items())},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "mesh_session"},
            },
        },
    }


def _types(endpoints: Iterable[Endpoint]) -> Iterable[Any]:
    yield Problem
    for one in endpoints:
        yield one.gives
        if one.takes is not None:
            yield one.takes
        yield from (kind for kind, _ in one.others.values())


def _operation(one: Endpoint, schemas: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    answers = {200: (one.gives, "The answer."), **one.others}
    refused = _OF_FORMS if one.takes is not None else _OF_ALL if one.needs_all else _OF_ONE
    refusals = {**_EVERYWHERE, **refused, **one.refuses}
    responses = {
        **{str(status): _content(text, JSON, schemas[kind]) for status, (kind, text) in answers.items()},
        **{str(status): _content(text, PROBLEM, schemas[Problem]) for status, text in sorted(refusals.items())},
    }
    body = {} if one.takes is None else {JSON: {"schema": _tidy(schemas[one.takes])}}
    return {
        "operationId": one.name,
        "summary": one.about,
        "parameters": [*map(_parameter, one.parameters), *([_ONCE] if one.writes else [])],
        **({"requestBody": {"required": True, "content": body}} if body else {}),
        "responses": responses,
    }


def _content(text: str, media: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {media: {"schema": _tidy(schema)}}}


def _parameter(one: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"enum": list(one.choices)} if one.choices else SCHEMAS[one.kind]
    if one.is_repeatable:
        schema = {"type": "array", "items": schema}
    return {
        "name": one.name,
        "in": "query",
        "description": one.about,
        "schema": schema,
        **({"required": True} if one.is_needed else {}),
    }


def _name(name: str) -> str:
    """`Letters` for the list of `Letter`."""
    return _LISTED.sub(lambda match: f"{match[1]}List", name)


def _tidy(schema: Any) -> Any:
    """A schema with plain names, and descriptions on one line."""
    match schema:
        case dict():
            return {key: _tidied(key, value) for key, value in schema.items()}
        case list() | tuple():
            return [_tidy(one) for one in schema]
        case _:
            return schema


def _tidied(key: str, value: Any) -> Any:
    if key == "description" and isinstance(value, str):
        return " ".join(value.split())
    if key in {"$ref", "title"} and isinstance(value, str):
        return _name(value)
    return _tidy(value)
