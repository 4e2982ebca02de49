"""What a webhook that is verified means: one CloudEvent.

Owns the mapping of each vendor's request to an event. An event's id is the vendor's id of the
delivery or of the event, so that a delivery that the vendor repeats is the same event, and counts
once. The body becomes `data` as it is.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qs

from mesh.codec import exact_json
from mesh.codec.github import webhook_event as github_event
from mesh.core.json_values import kind_of
from mesh.errors import MalformedRecord
from mesh.gateway.config import Webhook
from mesh.gateway.signatures import Headers, Vendor

_FORM: Final = "application/x-www-form-urlencoded"
_MAX_FIELDS: Final = 1_000


def event_of(name: str, webhook: Webhook, headers: Headers, body: bytes) -> dict[str, Any]:
    """The event of a request to `/webhooks/NAME`, in CloudEvents' JSON format.

    Raises `MalformedRecord`: which member is missing or wrong.
    """
    event = _MAPPINGS[webhook.vendor](webhook, headers, body)
    source = webhook.source or event.get("source") or f"/webhooks/{name}"
    whole = {"specversion": "1.0", "datacontenttype": "application/json", **event, "source": source}
    return {key: value for key, value in whole.items() if value is not None}


def challenge_of(webhook: Webhook, body: bytes) -> str | None:
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


def _github(_: Webhook, headers: Headers, body: bytes) -> dict[str, Any]:
    # GitHub sends either, as the webhook's content type says there
    payload = _object(_form(body).get("payload", "") if _is_form(headers) else body)
    return github_event(
        payload, kind=headers.get("x-github-event", ""), delivery=headers.get("x-github-delivery"), raw=body
    )


def _stripe(_: Webhook, __: Headers, body: bytes) -> dict[str, Any]:
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


def _slack(_: Webhook, headers: Headers, body: bytes) -> dict[str, Any]:
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


def _standard(webhook: Webhook, headers: Headers, body: bytes) -> dict[str, Any]:
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


_MAPPINGS: Final[Mapping[Vendor, Callable[[Webhook, Headers, bytes], dict[str, Any]]]] = {
    "github": _github,
    "stripe": _stripe,
    "slack": _slack,
    "standard": _standard,
}


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
