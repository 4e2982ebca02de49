"""Whether a webhook is from who it says: the signatures of GitHub, Stripe, Slack and the standard.

Owns each vendor's scheme and nothing else. A check takes the headers and the body as they came, and
all secrets that are valid now, so that a secret can be rotated: the old and the new one both count
until the old one is taken out. The gateway calls it before it looks at the body.

Sources: GitHub, "Validating webhook deliveries"; Stripe, "Verify webhook signatures manually";
Slack, "Verifying requests from Slack"; https://www.standardwebhooks.com (version 1.0.0).
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final

from mesh.codec.webhooks import Headers, Vendor
from mesh.errors import MeshError, SettingsInvalid

TOLERANCE_S: Final = 300
"""How far a signed time may be from ours: Stripe's, Slack's and the standard's own advice."""

_STANDARD_PREFIX: Final = "whsec_"
_MAX_DIGITS: Final = 15  # of a time in seconds; Python refuses to read very long numbers


class SignatureRefused(MeshError):
    """The request does not prove that it is from the vendor. Says why, without any secret."""


def verify(vendor: Vendor, secrets: Sequence[str], headers: Headers, body: bytes, now_s: float) -> None:
    """Return if one of the secrets has signed this. Raises `SignatureRefused`."""
    _CHECKS[vendor](secrets, headers, body, now_s)


def check_secret(vendor: Vendor, secret: str) -> None:
    """Raises `SettingsInvalid` for a secret that can't be one of this vendor's."""
    if not secret:
        raise SettingsInvalid("the secret is empty")
    if vendor == "standard":
        _standard_key(secret)


def _github(secrets: Sequence[str], headers: Headers, body: bytes, _: float) -> None:
    given = _header(headers, "x-hub-signature-256")
    expected = ["sha256=" + _hex(secret.encode(), body) for secret in secrets]
    _one_of([given], expected, "x-hub-signature-256")


def _stripe(secrets: Sequence[str], headers: Headers, body: bytes, now_s: float) -> None:
    parts = [part.partition("=") for part in _header(headers, "stripe-signature").split(",")]
    times = [value for name, _, value in parts if name.strip() == "t"]
    given = [value for name, _, value in parts if name.strip() == "v1"]
    if len(times) != 1 or not given:
        raise SignatureRefused("header stripe-signature has no `t` and `v1`")
    _in_time(times[0], now_s, "stripe-signature")
    signed = times[0].encode() + b"." + body
    _one_of(given, [_hex(secret.encode(), signed) for secret in secrets], "stripe-signature")


def _slack(secrets: Sequence[str], headers: Headers, body: bytes, now_s: float) -> None:
    at = _header(headers, "x-slack-request-timestamp")
    given = _header(headers, "x-slack-signature")
    _in_time(at, now_s, "x-slack-request-timestamp")
    signed = b"v0:" + at.encode() + b":" + body
    _one_of([given], ["v0=" + _hex(secret.encode(), signed) for secret in secrets], "x-slack-signature")


def _standard(secrets: Sequence[str], headers: Headers, body: bytes, now_s: float) -> None:
    message_id, at = _header(headers, "webhook-id"), _header(headers, "webhook-timestamp")
    # several, with spaces: one for each secret that the sender has
    given = [
        signature
        for version, _, signature in (part.partition(",") for part in _header(headers, "webhook-signature").split())
        if version == "v1"
    ]
    _in_time(at, now_s, "webhook-timestamp")
    signed = f"{message_id}.{at}.".encode() + body
    expected = [base64.b64encode(hmac.digest(_standard_key(secret), signed, sha256)).decode() for secret in secrets]
    _one_of(given, expected, "webhook-signature")


_CHECKS: Final[Mapping[Vendor, Callable[[Sequence[str], Headers, bytes, float], None]]] = {
    "github": _github,
    "stripe": _stripe,
    "slack": _slack,
    "standard": _standard,
}


def _header(headers: Headers, name: str) -> str:
    value = headers.get(name, "")
    if not value:
        raise SignatureRefused(f"header {name} is missing: is the secret set at the sender?")
    return value


def _in_time(text: str, now_s: float, name: str) -> None:
    """A signature of long ago may be somebody's copy of an old request."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise SignatureRefused(f"header {name} has no time in seconds")
    if abs(now_s - int(text)) > TOLERANCE_S:
        raise SignatureRefused(
            f"header {name} has a time that is more than {TOLERANCE_S} s from ours: it is an old request, or a clock "
            "is wrong"
        )


def _one_of(given: Sequence[str], expected: Sequence[str], name: str) -> None:
    if not any(hmac.compare_digest(one.encode(), other.encode()) for one in given for other in expected):
        raise SignatureRefused(
            f"header {name} does not fit the body and the secret: is the sender's secret among ours, and does a proxy "
            "change the body?"
        )


def _hex(key: bytes, signed: bytes) -> str:
    return hmac.digest(key, signed, sha256).hex()


def _standard_key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(_STANDARD_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SettingsInvalid(f"the secret is not {_STANDARD_PREFIX} and base64") from error
