"""Answers over HTTP, held against an OpenAPI document."""

import json
import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

_ROOT = "urn:openapi"


class Answers:
    """What a document says of answers. One that it does not know is an error."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        resource = DRAFT202012.create_resource(document)
        self._registry: Registry[Any] = Registry().with_resource(_ROOT, resource)
        self._validators: dict[tuple[str, ...], Draft202012Validator] = {}

    def check(self, method: str, path: str, found: httpx.Response) -> Any:
        """The value of the answer, after it was held against its schema."""
        template = next(one for one in self._document["paths"] if _fits(one, path))
        responses = self._document["paths"][template][method.lower()]["responses"]
        status, media = str(found.status_code), found.headers.get("content-type", "").partition(";")[0]
        assert status in responses, f"{method} {template} answers {status}, which its document does not know"
        assert media in responses[status]["content"], f"{method} {template} answers {status} as {media}"
        if "json" not in media:
            return found.text
        # strictly: NaN is no JSON
        value = json.loads(found.content, parse_constant=_refuse)
        if "schema" in responses[status]["content"][media]:
            self._validator(template, method.lower(), status, media).validate(value)
        return value

    def _validator(self, template: str, *at: str) -> Draft202012Validator:
        method, status, media = at
        place = ("paths", template, method, "responses", status, "content", media, "schema")
        if place not in self._validators:
            pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in place)
            schema = {"$ref": f"{_ROOT}#/{_quoted(pointer)}"}
            self._validators[place] = Draft202012Validator(schema, registry=self._registry)
        return self._validators[place]


def _fits(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path) is not None


def _quoted(pointer: str) -> str:
    return pointer.replace("{", "%7B").replace("}", "%7D")


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
