"""Write `signed.json`: requests as the vendors' own SDKs sign them.

Run it in an environment of its own: `pip install stripe==16.1.0 slack_sdk==3.48.0
standardwebhooks==1.1.0`, then `python make.py`. GitHub's request is the example of its page
"Validating webhook deliveries". `tests/unit/test_gateway_signatures.py` reads the file, so tests
need no SDK.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import slack_sdk
import standardwebhooks
import stripe
from slack_sdk.signature import SignatureVerifier

AT = 1_796_000_000


def stripe_request() -> dict[str, object]:
    body = json.dumps(
        {
            "id": "evt_1",
            "object": "event",
            "type": "charge.succeeded",
            "created": AT,
            "data": {"object": {"id": "ch_1", "object": "charge", "amount": 2000}},
        }
    )
    secret = "whsec_stripe_test_secret"
    signature = stripe.WebhookSignature._compute_signature(f"{AT}.{body}", secret)
    header = f"t={AT},v0=ignored,v1={signature}"
    stripe.Webhook.construct_event(body, header, secret, tolerance=10**10)
    return {
        "made_by": f"stripe {stripe.VERSION}",
        "vendor": "stripe",
        "secret": secret,
        "headers": {"stripe-signature": header, "content-type": "application/json"},
        "body": body,
    }


def slack_request(body: str, content_type: str) -> dict[str, object]:
    secret = "8f742231b10e8888abcd99yyyzzz85a5"
    signature = SignatureVerifier(secret).generate_signature(timestamp=str(AT), body=body)
    return {
        "made_by": f"slack_sdk {slack_sdk.version.__version__}",
        "vendor": "slack",
        "secret": secret,
        "headers": {
            "x-slack-signature": signature,
            "x-slack-request-timestamp": str(AT),
            "content-type": content_type,
        },
        "body": body,
    }


def standard_request() -> dict[str, object]:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = json.dumps({"type": "invoice.paid", "timestamp": "2026-11-30T00:00:00Z", "data": {"id": "in_1"}})
    at = datetime.fromtimestamp(AT, UTC)
    signature = standardwebhooks.Webhook(secret).sign(msg_id="msg_1", timestamp=at, data=body)
    return {
        "made_by": "standardwebhooks 1.1.0",
        "vendor": "standard",
        "secret": secret,
        "headers": {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(AT),
            "webhook-signature": signature,
            "content-type": "application/json",
        },
        "body": body,
    }


def github_request() -> dict[str, object]:
    return {
        "made_by": "docs.github.com, Validating webhook deliveries",
        "vendor": "github",
        "secret": "It's a Secret to Everybody",
        "headers": {
            "x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            "x-github-event": "ping",
            "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        },
        "body": "Hello, World!",
    }


EVENT = {
    "type": "event_callback",
    "team_id": "T1",
    "event_id": "Ev1",
    "event_time": AT,
    "event": {"type": "app_mention", "channel": "C1", "user": "U1", "text": "hello"},
}
FORM = "application/x-www-form-urlencoded"

if __name__ == "__main__":
    made = {
        "at_s": AT,
        "requests": [
            github_request(),
            stripe_request(),
            slack_request(json.dumps(EVENT), "application/json"),
            slack_request("token=t&team_id=T1&command=%2Fweather&text=94070", FORM),
            slack_request(
                "payload=%7B%22type%22%3A%22block_actions%22%2C%22user%22%3A%7B%22id%22%3A%22U1%22%7D%7D", FORM
            ),
            slack_request('{"type": "url_verification", "challenge": "3eZbrw1a"}', "application/json"),
            standard_request(),
        ],
    }
    Path(__file__).with_name("signed.json").write_text(json.dumps(made, indent=1) + "\n")
