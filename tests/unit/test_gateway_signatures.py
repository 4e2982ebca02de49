"""A webhook is taken if its vendor signed it as it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from mesh.codec.webhooks import Terms, challenge_of, event_of
from mesh.errors import MalformedRecord, SettingsInvalid
from mesh.gateway.signatures import TOLERANCE_S, SignatureRefused, check_secret, verify

MADE = json.loads((Path(__file__).parent.parent / "data" / "webhooks" / "signed.json").read_text())
AT_S = MADE["at_s"]
REQUESTS = MADE["requests"]
SIGNATURES = {
    "github": "x-hub-signature-256",
    "stripe": "stripe-signature",
    "slack": "x-slack-signature",
    "standard": "webhook-signature",
}
every_request = pytest.mark.parametrize(
    "request_", REQUESTS, ids=[f"{one['vendor']}-{number}" for number, one in enumerate(REQUESTS)]
)


def check(request_: dict[str, Any], now_s: float = AT_S, **changed: Any) -> None:
    one = {**request_, **changed}
    secrets = one.get("secrets", [one["secret"]])
    verify(one["vendor"], secrets, one["headers"], one["body"].encode(), now_s)


@every_request
def test_what_the_vendors_own_code_signed_is_taken(request_: dict[str, Any]) -> None:
    check(request_)


@every_request
def test_the_old_and_the_new_secret_both_count(request_: dict[str, Any]) -> None:
    other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx"
    check(request_, secrets=[other, request_["secret"]])
    with pytest.raises(SignatureRefused):
        check(request_, secrets=[other])


@every_request
def test_a_changed_body_is_refused(request_: dict[str, Any]) -> None:
    for body in (request_["body"] + " ", request_["body"][:-1], ""):
        with pytest.raises(SignatureRefused, match="does not fit"):
            check(request_, body=body)


@every_request
def test_a_changed_or_missing_header_is_refused(request_: dict[str, Any]) -> None:
    signed = {name for name in request_["headers"] if "signature" in name or "timestamp" in name}
    if request_["vendor"] == "standard":
        signed.add("webhook-id")
    assert signed
    for name in signed:
        value = request_["headers"][name]
        for wrong in (
            "",
            "x",
            value[:-1],
            value[:-1] + ("0" if value[-1] != "0" else "1"),
            "1",
            "-1",
            "9" * 30,
            "\u0660",
        ):
            with pytest.raises(SignatureRefused):
                check(request_, headers={**request_["headers"], name: wrong})


@every_request
def test_an_old_request_is_refused_where_the_time_is_signed(request_: dict[str, Any]) -> None:
    for now_s in (AT_S + TOLERANCE_S, AT_S - TOLERANCE_S):
        check(request_, now_s=now_s)
    if request_["vendor"] == "github":
        return
    for now_s in (AT_S + TOLERANCE_S + 1, AT_S - TOLERANCE_S - 1):
        with pytest.raises(SignatureRefused, match="old request"):
            check(request_, now_s=now_s)


def test_a_secret_that_can_not_be_one_is_refused_at_the_start() -> None:
    check_secret("standard", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    check_secret("github", "any words")
    for vendor, secret in (("standard", "whsec_???"), ("github", "")):
        with pytest.raises(SettingsInvalid):
            check_secret(vendor, secret)  # type: ignore[arg-type]


def event(number: int, name: str = "hook", **webhook: Any) -> dict[str, Any]:
    request_ = REQUESTS[number]
    hook = Terms(vendor=request_["vendor"], **webhook)
    return event_of(name, hook, request_["headers"], request_["body"].encode())


def test_a_delivery_is_one_event_with_the_vendors_own_id() -> None:
    stripe = event(1, "billing")
    assert stripe.pop("data")["data"]["object"]["amount"] == 2000
    assert stripe == {
        "specversion": "1.0",
        "id": "evt_1",
        "source": "/webhooks/billing",
        "type": "com.stripe.charge.succeeded",
        "subject": "ch_1",
        "time": "2026-11-30T00:53:20Z",
        "datacontenttype": "application/json",
    }
    slack = event(2, source="https://acme.slack.com")
    assert (slack["id"], slack["type"], slack["subject"]) == ("Ev1", "com.slack.event.app_mention", "C1")
    assert slack["source"] == "https://acme.slack.com"
    standard = event(6)
    assert (standard["id"], standard["type"]) == ("msg_1", "invoice.paid")


def test_slacks_forms_are_events_too() -> None:
    command, interaction = event(3), event(4)
    assert (command["type"], command["subject"]) == ("com.slack.command", "/weather")
    assert command["data"]["text"] == "94070"
    assert interaction["type"] == "com.slack.interaction.block_actions"
    assert interaction["data"]["user"] == {"id": "U1"}
    assert command["id"] == event(3)["id"] != interaction["id"]


def test_slack_gets_its_challenge_back_and_nobody_else_does() -> None:
    body = REQUESTS[5]["body"].encode()
    assert challenge_of(Terms(vendor="slack"), body) == "3eZbrw1a"
    assert challenge_of(Terms(vendor="standard"), body) is None
    for other in (
        b"",
        b'{"type": "url_verification"}',
        b'["url_verification"]',
        b"url_verification",
        REQUESTS[2]["body"].encode(),
    ):
        assert challenge_of(Terms(vendor="slack"), other) is None


def test_github_is_mapped_by_its_headers() -> None:
    hook = Terms(vendor="github")
    headers = {"x-github-event": "push", "x-github-delivery": "d-1"}
    body = json.dumps({"ref": "refs/heads/main", "repository": {"url": "https://api.github.com/repos/o/r"}})
    found = event_of("gh", hook, headers, body.encode())
    assert (found["type"], found["id"], found["subject"]) == ("com.github.push", "d-1", "refs/heads/main")
    assert found["source"] == "https://api.github.com/repos/o/r"


@pytest.mark.parametrize(
    ("vendor", "body", "named"),
    [
        ("stripe", b"{}", "`id` is null"),
        ("stripe", b'{"id": "e", "type": 1}', "`type` is a number"),
        ("stripe", b'{"id": "e", "type": "t", "created": "now"}', "`created`"),
        ("stripe", b'{"id": "e", "type": "t", "created": 99999999999999999}', "`created`"),
        ("stripe", b"[]", "a list, not an object"),
        ("stripe", b"\xff", "can't be taken"),
        ("slack", b'{"type": "event_callback", "event": {"type": "x"}}', "`event_id`"),
        ("standard", b"{}", "give this webhook a `type`"),
        ("github", b"{}", "no kind of GitHub event"),
    ],
)
def test_what_can_not_be_mapped_says_which_member(vendor: Any, body: bytes, named: str) -> None:
    headers = {"webhook-id": "m", "webhook-timestamp": "1"}
    with pytest.raises(MalformedRecord) as refused:
        event_of("hook", Terms(vendor=vendor), headers, body)
    assert named in str(refused.value)
