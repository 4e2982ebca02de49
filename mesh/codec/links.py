"""Links to approvals in the console.

Owns their forms, and the token that makes a link open one approval without a sign-in:

    <console>/approval?id=<approval id>     leads to the sign-in, and gives no right
    <console>/a/<ref>                       the short form of it
    <console>/a/<ref>?link=<token>          for one person, one notice and a few hours

An id holds `/`, `#` and `:`, so it is a parameter: proxies change paths. The token is
`<body>.<mac>`, both in base64url: the body is the JSON `[end in seconds, notice, person]`, the mac
is HMAC-SHA256 over it, the console's URL and the ref. Notifiers make tokens, and consoles check
them; ADR 50 has the reasons.
"""

import hmac
import json
import re
from base64 import b32encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from mesh.errors import SettingsInvalid

REF_LENGTH: Final = 16  # characters: 80 bits, so that two approvals never share one
LINK: Final = "link"
"""The parameter that has the token."""

LEAST_SECRET: Final = 32  # characters
_PURPOSE: Final = "mesh-link/1"
_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]{1,4096})\.([A-Za-z0-9_-]{43})")
_ANSWER: Final = "link-"


def approval_link(console: str, approval_id: str) -> str:
    """Where the console shows an approval. It shows it to those alone who may see it."""
    return f"{console.rstrip('/')}/approval?id={quote(approval_id, safe='')}"


def approval_ref(approval_id: str) -> str:
    """The approval's name in a short link."""
    return b32encode(sha256(approval_id.encode("utf-8", "surrogatepass")).digest()).decode()[:REF_LENGTH].lower()


class Pass(NamedTuple):
    """What a token says: who may answer which approval, until when, and because of which notice."""

    ref: str
    person: str
    notice: str
    ends_at_ms: int

    @property
    def answer_id(self) -> str:
        """The id of the one answer that the link takes. The owner counts an id once."""
        # the end is left out: a notice that is sent again has the same link
        text = json.dumps([self.ref, self.notice, self.person])
        return _ANSWER + sha256(text.encode()).hexdigest()[:40]

    def is_of(self, approval_id: str) -> bool:
        return approval_ref(approval_id) == self.ref


class Links:
    """Makes and checks links of one console. The first of the secrets signs, and all count."""

    def __init__(self, console: str, secrets: Sequence[str], *, life_ms: int) -> None:
        """Raises `SettingsInvalid`, without the secret."""
        if not secrets or min(map(len, secrets)) < LEAST_SECRET:
            raise SettingsInvalid(
                f"a secret for links has at least {LEAST_SECRET} characters, one a line; make one: openssl rand -base64 32"
            )
        self.console = console.rstrip("/")
        self._keys = [secret.encode() for secret in secrets]
        self._life_ms = life_ms

    def make(self, approval_id: str, *, person: str, notice: str, now_ms: int) -> str:
        """The link by which this person answers. `notice`: what tells it from their other links."""
        ref = approval_ref(approval_id)
        text = json.dumps([(now_ms + self._life_ms) // 1_000, notice, person], separators=(",", ":"))
        body = _base64(text.encode())
        return f"{self.console}/a/{ref}?{LINK}={body}.{self._mac(self._keys[0], ref, body)}"

    def read(self, ref: str, token: str) -> Pass | None:
        """What the token says of the approval with this ref; None: nobody here has made it.

        It may have ended.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        # as texts, or a token would have several forms; all keys, so that the time tells nothing
        body, mac = match[1], match[2]
        if not any([hmac.compare_digest(mac, self._mac(key, ref, body)) for key in self._keys]):  # noqa: C419 - as said
            return None
        text = urlsafe_b64decode(body + "=" * (-len(body) % 4))
        ends_at_s, notice, person = msgspec.json.decode(text, type=tuple[int, str, str])
        return Pass(ref, person, notice, ends_at_s * 1_000)

    def _mac(self, key: bytes, ref: str, body: str) -> str:
        signed = json.dumps([_PURPOSE, self.console, ref, body]).encode()
        return _base64(hmac.digest(key, signed, "sha256"))


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
