"""The gateway's requests as OpenAPI 3.1, for the tools of those who send.

Served at `/openapi.json`. It describes what `mesh.gateway.app` does.
"""

from typing import Any, Final

_ID: Final = {"type": "string", "minLength": 1}
_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": _ID,
        "source": {"type": "string", "minLength": 1, "format": "uri-reference"},
        "type": {"type": "string", "minLength": 1},
        "subject": {"type": "string", "minLength": 1},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"type": "string", "minLength": 1},
        "dataschema": {"type": "string", "minLength": 1, "format": "uri"},
        "data": {},
        "data_base64": {"type": "string", "contentEncoding": "base64"},
    },
    "description": "A CloudEvent 1.0 in the JSON format. Further attributes are extensions.",
}
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}
_RETRY: Final = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
_REFUSALS: Final = {
    "400": "It can't be read. The detail says which event and which attribute, and how to correct it.",
    "401": "Who sends this is not known.",
    "413": "It is too large.",
    "415": "The body has a content-encoding.",
    "429": "Too much at a time.",
    "503": "The broker did not take it. Send it again: an event that comes twice counts once.",
}


def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "agent-mesh gateway",
            "version": "1",
            "description": "CloudEvents and webhooks over HTTP. 202 means that the broker has the events.",
        },
        "paths": {
            "/events": {"post": _events()},
            "/webhooks/{name}": {"post": _webhook()},
            "/health/live": {"get": _health("The process is alive.")},
            "/health/ready": {"get": _health("The broker took what came last.")},
        },
        "components": {
            "schemas": {"Event": _EVENT, "Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _events() -> dict[str, Any]:
    event = {"$ref": "#/components/schemas/Event"}
    return {
        "operationId": "sendEvents",
        "summary": "Send an event, or a batch of up to 1,000.",
        "description": (
            "In structured mode the body is the event, in batched mode a list of events. In binary mode the body is the "
            "event's data, and the attributes are headers: ce-specversion, ce-id, ce-source, ce-type. A batch is taken "
            "as a whole, or not at all."
        ),
        "security": [{"token": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/cloudevents+json": {"schema": event},
                "application/cloudevents-batch+json": {"schema": {"type": "array", "maxItems": 1_000, "items": event}},
            },
        },
        "responses": {"202": _accepted(), "403": _refusal("This sender may not send this."), **_refusals()},
    }


def _webhook() -> dict[str, Any]:
    return {
        "operationId": "deliverWebhook",
        "summary": "Deliver a webhook of GitHub, Stripe, Slack, or by the standard; signed as they do.",
        "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        "responses": {
            "200": {"description": "The answer to Slack's challenge.", "content": {"text/plain": {}}},
            "202": _accepted(),
            "404": _refusal("No webhook has this name."),
            "422": _refusal("It is signed, can't be mapped to an event, and can't be kept."),
            **_refusals(),
        },
    }


def _accepted() -> dict[str, Any]:
    one = {"type": "object", "required": ["id", "source"], "properties": {"id": _ID, "source": {"type": "string"}}}
    kept = {"type": "string", "description": "Why a webhook is no event: it is a dead letter, and can be sent again."}
    properties = {"accepted": {"type": "array", "items": one}, "kept": kept}
    schema = {"type": "object", "required": ["accepted"], "properties": properties}
    return {"description": "The broker has it.", "content": {"application/json": {"schema": schema}}}


def _refusals() -> dict[str, Any]:
    return {status: _refusal(text, waits=status in {"429", "503"}) for status, text in _REFUSALS.items()}


def _refusal(text: str, *, waits: bool = False) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": text, "content": content, **({"headers": _RETRY} if waits else {})}


def _health(text: str) -> dict[str, Any]:
    return {
        "summary": text,
        "responses": {
            "200": {"description": text, "content": {"text/plain": {}}},
            "503": {"description": "It is not so.", "content": {"text/plain": {}}},
        },
    }
