"""How a message gets to an address: a webhook, a Slack-compatible one, or e-mail.

Owns the protocols, and which failure is worth another attempt. It must not know when that is
(`mesh.notifier.lanes`), nor what a message says (`mesh.notifier.messages`). Addresses are in no
error: the address of a Slack webhook is a secret by itself.

Webhooks are signed as https://www.standardwebhooks.com says (v1): HMAC-SHA256 over
`<id>.<timestamp>.<body>`, base64, with each of the secrets, so that they can be rotated.
"""

import asyncio
import base64
import binascii
import hmac
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate
from hashlib import sha256
from typing import Any, Final, Literal, Protocol, assert_never

import httpx
import msgspec
import orjson

from mesh.codec import exact_json
from mesh.codec.channels import ChannelKind
from mesh.errors import MeshError, SettingsInvalid
from mesh.notifier.messages import Message, as_slack
from mesh.ports import Clock

_PREFIX: Final = "whsec_"
_LEAST_SECRET: Final = 24  # bytes, as the standard says
_MOST_SECRET: Final = 64
_GONE: Final = 410
_OK: Final = range(200, 300)
_PERMANENT: Final = range(500, 600)  # of SMTP: the server will never take it
TIMEOUT_S: Final = 15.0


class Undelivered(MeshError):
    """The message did not arrive. `is_final`: no other attempt can help.

    `wait_s`: for how long the receiver wants to be left alone.
    """

    def __init__(self, reason: str, *, is_final: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.is_final = is_final
        self.wait_s = wait_s


class Courier(Protocol):
    async def deliver(self, kind: ChannelKind, address: str, message: Message) -> None:
        """Return once the receiver has taken the message. Raises `Undelivered`. Bounded."""
        ...


class MailServer(msgspec.Struct, frozen=True, kw_only=True):
    """Where e-mail goes. `host` empty: there is none."""

    host: str = ""
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    password: str = ""
    sender: str = ""


def secret_key(text: str) -> bytes:
    """The key of a signing secret, which is `whsec_` and base64.

    Raises `SettingsInvalid`, without the secret.
    """
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(_PREFIX) or not _LEAST_SECRET <= len(key) <= _MOST_SECRET:
        raise SettingsInvalid(
            f"a webhook secret is not {_PREFIX} and {_LEAST_SECRET} to {_MOST_SECRET} bytes in base64; "
            f"make one: echo {_PREFIX}$(head -c 32 /dev/urandom | base64)"
        )
    return key


def signatures(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each key."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, signed, sha256)).decode()}" for key in keys)


class Couriers:
    """Delivers to all kinds of address. `keys`: of webhooks; empty: they are not signed."""

    def __init__(self, clock: Clock, *, keys: Sequence[bytes] = (), mail: MailServer | None = None) -> None:
        self._clock = clock
        self._keys = keys
        self._mail = mail or MailServer()
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, headers={"user-agent": "agent-mesh"})

    async def deliver(self, kind: ChannelKind, address: str, message: Message) -> None:
        try:
            # httpx bounds each read, and a slow receiver could go on without end
            async with asyncio.timeout(TIMEOUT_S):
                match kind:
                    case "webhook":
                        await self._webhook(address, message)
                    case "slack":
                        await self._post(address, orjson.dumps(as_slack(message)), {})
                    case "email":
                        await self._send_mail(address, message)
                    case _:
                        assert_never(kind)
        except TimeoutError as error:
            raise Undelivered(f"no answer within {TIMEOUT_S:g} s") from error
        except (TypeError, ValueError) as error:
            raise Undelivered(f"{type(error).__name__}: the message can't be written", is_final=True) from error

    async def close(self) -> None:
        await self._http.aclose()

    # HTTP -----------------------------------------------------------------------------------------

    async def _webhook(self, url: str, message: Message) -> None:
        body, now_s = exact_json.encode(message.body), self._clock.now_ms() // 1000
        # an id may hold what a header can't
        message_id = header_id(message.id)
        headers = {"webhook-id": message_id, "webhook-timestamp": str(now_s)}
        if self._keys:
            headers["webhook-signature"] = signatures(self._keys, message_id, now_s, body)
        await self._post(url, body, headers)

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> None:
        try:
            request = self._http.build_request(
                "POST", url, content=body, headers={"content-type": "application/json", **headers}
            )
            # the answer's body says nothing that we need, and may be without end
            response = await self._http.send(request, stream=True)
            await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Undelivered(f"{type(error).__name__}: the receiver can't be reached") from error
        if response.status_code not in _OK:
            raise Undelivered(
                f"the receiver answered {response.status_code}",
                is_final=response.status_code == _GONE,
                wait_s=_wait_s(response.headers.get("retry-after", "")),
            )

    # SMTP -----------------------------------------------------------------------------------------

    async def _send_mail(self, address: str, message: Message) -> None:
        import aiosmtplib  # noqa: PLC0415 - only where there is a mail server

        mail = self._mail
        if not mail.host:
            raise Undelivered("the notifier has no mail server: set MESH_SMTP_HOST", is_final=True)
        try:
            await aiosmtplib.send(
                _as_mail(message, mail.sender, address, self._clock.now_ms()),
                hostname=mail.host,
                port=mail.port,
                username=mail.username or None,
                password=mail.password or None,
                use_tls=mail.security == "tls",
                start_tls=mail.security == "starttls",
                timeout=TIMEOUT_S,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [one.code for one in error.recipients]
            raise Undelivered(
                f"the mail server refused the recipient ({', '.join(map(str, codes))})",
                is_final=all(code in _PERMANENT for code in codes),
            ) from error
        except aiosmtplib.SMTPResponseException as error:
            raise Undelivered(f"the mail server answered {error.code}") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Undelivered(f"{type(error).__name__}: the mail server did not take it") from error


def header_id(notice_id: str) -> str:
    """The id as a header may hold it: percent-encoded where it is not printable ASCII."""
    return "".join(
        c
        if c.isascii() and c.isprintable() and c not in " %"
        else "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "replace"))
        for c in notice_id
    )


def _wait_s(retry_after: str) -> float:
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) <= 5 else 0.0  # noqa: PLR2004 - a day and more


def _as_mail(message: Message, sender: str, address: str, now_ms: int) -> EmailMessage:
    mail: Any = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, address, message.title
    mail["Date"] = formatdate(now_ms / 1000)
    # the same for a repeat, so that a mailbox can tell
    mail["Message-ID"] = (
        f"<{sha256(message.id.encode('utf-8', 'replace')).hexdigest()[:40]}@{sender.rpartition('@')[2]}>"
    )
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text)
    found: EmailMessage = mail
    return found
