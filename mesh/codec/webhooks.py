"""What a webhook that is verified means: one CloudEvent. And what is kept of one that means none.

Owns the mapping of each vendor's request to an event, and the dead letter of a request that could
not be mapped. An event's id is the vendor's id of the delivery or of the event, so that a delivery
that the vendor repeats is the same event, and counts once. The body becomes `data` as it is. The
gateway maps what comes; `mesh dlq redrive` maps what was kept, once the reason is gone.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, Literal, get_args
from urllib.parse import parse_qs

import msgspec

from mesh.codec import exact_json
from mesh.codec.dead_letters import dead_letter
from mesh.codec.github import webhook_event as github_event
from mesh.core.json_values import kind_of
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

_FORM: Final = "application/x-www-form-urlencoded"
_MAX_FIELDS: Final = 1_000


Vendor = Literal["github", "stripe", "slack", "standard"]
Headers = Mapping[str, str]
"""Of a request, by name in lower case."""

COMPONENT: Final = "gateway"
_PATH: Final = "/webhooks/"
_KEPT: Final = ("content-type", "x-github-event", "x-github-delivery", "webhook-id", "webhook-timestamp")
"""The headers that a mapping reads. No other is kept: signatures and tokens are secrets."""
_PREFIX: Final = "__mesh.webhook."


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How a webhook is read: its vendor, and what `gateway.yaml` says of its events.

    `source`: None: `/webhooks/NAME`, or what the vendor's mapping has. `type`: of a standard
    webhook whose body has no `type`.
    """

    vendor: Vendor
    source: str | None = None
    type: str | None = None


def event_of(name: str, webhook: Terms, headers: Headers, body: bytes) -> dict[str, Any]:
    """The event of a request to `/webhooks/NAME`, in CloudEvents' JSON format.

    Raises `MalformedRecord`: which member is missing or wrong.
    """
    event = _MAPPINGS[webhook.vendor](webhook, headers, body)
    source = webhook.source or event.get("source") or f"/webhooks/{name}"
    whole = {"specversion": "1.0", "datacontenttype": "application/json", **event, "source": source}
    return {key: value for key, value in whole.items() if value is not None}


def challenge_of(webhook: Terms, body: bytes) -> str | None:
    """What Slack wants back when an address is entered there; None for every other request."""
    if webhook.vendor != "slack" or b"url_verification" not in body:
        return None
    try:
        found = exact_json.decode(body)
    except exact_json.JsonRefused:
        return None
    is_one = isinstance(found, dict) and found.get("type") == "url_verification"
    challenge = found.get("challenge") if is_one else None
    return challenge if isinstance(challenge, str) else None


def _github(_: Terms, headers: Headers, body: bytes) -> dict[str, Any]:
    # GitHub sends either, as the webhook's content type says there
    payload = _object(_form(body).get("payload", "") if _is_form(headers) else body)
    return github_event(
        payload, kind=headers.get("x-github-event", ""), delivery=headers.get("x-github-delivery"), raw=body
    )


def _stripe(_: Terms, __: Headers, body: bytes) -> dict[str, Any]:
    payload = _object(body)
    about = payload.get("data")
    subject = about.get("object") if isinstance(about, dict) else None
    return {
        "id": _text(payload, "id"),
        "type": "com.stripe." + _text(payload, "type"),
        "subject": _maybe_text(subject, "id"),
        "time": _time(payload.get("created"), "created"),
        "data": payload,
    }


def _slack(_: Terms, headers: Headers, body: bytes) -> dict[str, Any]:
    if not _is_form(headers):
        return _slack_event(_object(body))
    form = _form(body)
    # Slack repeats a form as it was, and gives it no id
    event_id = f"sha256:{sha256(body).hexdigest()}"
    if "payload" in form:
        payload = _object(form["payload"])
        return {"id": event_id, "type": f"com.slack.interaction.{_text(payload, 'type')}", "data": payload}
    return {"id": event_id, "type": "com.slack.command", "subject": form.get("command"), "data": form}


def _slack_event(payload: dict[str, Any]) -> dict[str, Any]:
    inner = payload.get("event")
    kind = _text(inner, "type") if isinstance(inner, dict) else _text(payload, "type")
    return {
        "id": _text(payload, "event_id"),
        "type": f"com.slack.event.{kind}",
        "subject": _maybe_text(inner, "channel"),
        "time": _time(payload.get("event_time"), "event_time"),
        "data": payload,
    }


def _standard(webhook: Terms, headers: Headers, body: bytes) -> dict[str, Any]:
    payload = _object(body)
    kind = webhook.type if payload.get("type") is None else _text(payload, "type")
    if kind is None:
        raise MalformedRecord("the body has no `type`: give this webhook a `type` in gateway.yaml")
    return {
        "id": headers["webhook-id"],
        "type": kind,
        "time": _time(int(headers["webhook-timestamp"]), "webhook-timestamp"),
        "data": payload,
    }


_MAPPINGS: Final[Mapping[Vendor, Callable[[Terms, Headers, bytes], dict[str, Any]]]] = {
    "github": _github,
    "stripe": _stripe,
    "slack": _slack,
    "standard": _standard,
}


# What is kept -------------------------------------------------------------------------------------


def letter_of(
    name: str, webhook: Terms, headers: Headers, body: bytes, *, code: str, message: str, topics: Topics, at_ms: int
) -> OutRecord:
    """The dead letter of a request that is verified and means no event. Its offset is its time."""
    told = {"name": name, "vendor": webhook.vendor, "source": webhook.source, "type": webhook.type}
    kept = [(one, headers[one].encode("latin-1")) for one in _KEPT if one in headers]
    kept += [(_PREFIX + one, value.encode()) for one, value in told.items() if value is not None]
    request = Record(_PATH + name, 0, at_ms, at_ms, None, body, tuple(kept))
    return dead_letter(
        request, code=code, message=message, component=COMPONENT, group=COMPONENT, topics=topics, at_ms=at_ms
    )


def event_of_kept(request: Record, webhooks: Mapping[str, Terms]) -> dict[str, Any]:
    """The event of a request that was kept, as it is mapped now.

    `webhooks`: those of `gateway.yaml` now; one that is not among them is read as it was then.
    Raises `MalformedRecord`.
    """
    told = {name.removeprefix(_PREFIX): value.decode() for name, value in request.headers if name.startswith(_PREFIX)}
    headers = {name: value.decode("latin-1") for name, value in request.headers if name in _KEPT}
    name, vendor = told.get("name", ""), told.get("vendor", "")
    before = _TERMS.get(vendor)
    if before is None:
        raise MalformedRecord("it does not say of which vendor it is")
    before = msgspec.structs.replace(before, source=told.get("source"), type=told.get("type"))
    return event_of(name, webhooks.get(name, before), headers, request.value or b"")


_TERMS: Final = {vendor: Terms(vendor=vendor) for vendor in get_args(Vendor)}


# Parts of a body ----------------------------------------------------------------------------------


def _is_form(headers: Headers) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM


def _form(body: bytes) -> dict[str, str]:
    """The fields of a form; of several with one name, the last."""
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise MalformedRecord(f"the form can't be read: {error}") from error
    return {name: values[-1] for name, values in fields.items()}


def _object(raw: bytes | str) -> dict[str, Any]:
    try:
        payload = exact_json.decode(raw.encode() if isinstance(raw, str) else raw)
    except exact_json.JsonRefused as error:
        raise MalformedRecord(f"the body can't be taken: {error}") from error
    if not isinstance(payload, dict):
        raise MalformedRecord(f"the body is {kind_of(payload)}, not an object")
    return payload


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not value:
        raise MalformedRecord(f"`{name}` is {kind_of(value)}; it must be a string that is not empty")
    return value


def _maybe_text(payload: Any, name: str) -> str | None:
    value = payload.get(name) if isinstance(payload, dict) else None
    return value if isinstance(value, str) and value else None


def _time(seconds: Any, name: str) -> str | None:
    if seconds is None:
        return None
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise MalformedRecord(f"`{name}` is {kind_of(seconds)}; it must be a time in seconds")
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError) as error:
        raise MalformedRecord(f"`{name}` is a time that no calendar has") from error
