"""How a client proves to a Kafka cluster who it is, and the cluster to the client: TLS and SASL.

Owns the TLS context, the tokens of OAUTHBEARER, and the words for what a cluster refuses. It reads
no environment (`mesh.settings` does) and holds no connection. A secret is in no message, no
`repr` and no log line. Called by `mesh.wiring`, which makes a `Security`; `cluster` gives it to
each of aiokafka's clients.
"""

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec
from aiokafka import errors as kafka_errors
from aiokafka.abc import AbstractTokenProvider

from mesh.errors import BrokerRefused, SettingsInvalid

Protocols = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]

_RENEW_BEFORE_S: Final = 60.0
_TOKEN_TIMEOUT_S: Final = 20.0
_OK: Final = 200
_NEXT: Final = "`mesh topics acls` prints the rights that each part of the mesh needs"

UNAUTHORISED: Final = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.TransactionalIdAuthorizationFailed,
)
"""The cluster knows us, and we may not do this."""

UNAUTHENTICATED: Final = (
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
    kafka_errors.AuthenticationFailedError,
    kafka_errors.AuthenticationMethodNotSupported,
)
"""The cluster does not let us in."""


class Secret(msgspec.Struct, frozen=True, eq=False):
    """A text that no `repr`, log line or message shows."""

    reveal: str

    def __repr__(self) -> str:
        return "Secret(***)"


class Tokens(Protocol):
    """Where OAUTHBEARER's tokens come from."""

    async def token(self) -> str: ...


class TokenFile(msgspec.Struct, frozen=True):
    """A token that another program keeps fresh in a file: read at each login."""

    path: Path

    async def token(self) -> str:
        try:
            text = await asyncio.to_thread(self.path.read_text)
        except (OSError, UnicodeDecodeError) as error:
            raise TokenUnavailable(f"the token file {self.path} can't be read ({type(error).__name__})") from error
        if not text.strip():
            raise TokenUnavailable(f"the token file {self.path} is empty")
        return text.strip()


class ClientCredentials:
    """Tokens from an authorisation server, by OAuth's client-credentials grant (RFC 6749, 4.4).

    One is used until a minute before its end.
    """

    def __init__(
        self, url: str, client_id: str, secret: Secret, *, scope: str = "", ca_file: Path | None = None
    ) -> None:
        self._url = url
        self._client_id = client_id
        self._secret = secret
        self._scope = scope
        self._ca_file = ca_file
        self._token = ""
        self._renew_at = 0.0
        self._asking = asyncio.Lock()

    async def token(self) -> str:
        async with self._asking:
            if not self._token or time.monotonic() >= self._renew_at:
                self._token, lasts_s = await self._ask()
                # one that lasts less than two minutes is used for half of its time
                self._renew_at = time.monotonic() + max(lasts_s - _RENEW_BEFORE_S, lasts_s / 2)
            return self._token

    async def _ask(self) -> tuple[str, float]:
        import httpx  # noqa: PLC0415 - only who takes tokens from a server needs it

        form = {"grant_type": "client_credentials", **({"scope": self._scope} if self._scope else {})}
        verify = ssl.create_default_context(cafile=str(self._ca_file)) if self._ca_file else True
        try:
            async with httpx.AsyncClient(verify=verify, timeout=_TOKEN_TIMEOUT_S) as client:
                answer = await client.post(self._url, data=form, auth=(self._client_id, self._secret.reveal))
        except httpx.HTTPError as error:
            raise TokenUnavailable(f"{self._url} gives no token ({type(error).__name__})") from None
        if answer.status_code != _OK:
            raise TokenUnavailable(f"{self._url} gives {self._client_id} no token (HTTP {answer.status_code})")
        try:
            body = answer.json()
            return str(body["access_token"]), float(body.get("expires_in", 300))
        except (ValueError, KeyError, TypeError):
            raise TokenUnavailable(f"{self._url} answers with no access token") from None


class TokenUnavailable(kafka_errors.AuthenticationFailedError):  # type: ignore[misc] # aiokafka is untyped here
    """No token to log in with; aiokafka takes it for what the broker might have said."""


class _Provider(AbstractTokenProvider):  # type: ignore[misc] # as above
    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def token(self) -> str:
        return await self._tokens.token()


class Security(msgspec.Struct, frozen=True, kw_only=True):
    """How to connect. Nothing given: as anybody, in the clear."""

    protocol: Protocols = "PLAINTEXT"
    mechanism: Mechanism | None = None
    username: str = ""
    password: Secret | None = None
    tokens: Tokens | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: Secret | None = None
    check_hostname: bool = True

    @property
    def principal(self) -> str:
        """Who we are, as far as we know it ourselves.

        Only the cluster can read the name out of a certificate.
        """
        if self.mechanism == "OAUTHBEARER":
            return "the token's principal"
        if self.username:
            return f"User:{self.username}"
        return f"the principal of {self.cert_file}" if self.cert_file else "User:ANONYMOUS"

    def client_options(self) -> dict[str, Any]:
        """What each of aiokafka's clients is made with. Raises `SettingsInvalid`."""
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.protocol in {"SSL", "SASL_SSL"}:
            options["ssl_context"] = self._tls()
        if self.protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.mechanism
            if self.tokens is not None:
                options["sasl_oauth_token_provider"] = _Provider(self.tokens)
            else:
                options["sasl_plain_username"] = self.username
                options["sasl_plain_password"] = self.password.reveal if self.password is not None else ""
        return options

    def _tls(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        except (OSError, ssl.SSLError) as error:
            raise SettingsInvalid(
                f"MESH_KAFKA_CA_FILE: {self.ca_file} holds no certificates in PEM ({_short(error)})"
            ) from error
        context.check_hostname = self.check_hostname
        if self.cert_file is not None:
            password = self.key_password.reveal if self.key_password is not None else None
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password or _no_password)
            except (OSError, ssl.SSLError, ValueError) as error:
                raise SettingsInvalid(
                    f"MESH_KAFKA_CERT_FILE, MESH_KAFKA_KEY_FILE: {self.cert_file} and {self.key_file or 'its own key'} "
                    f"can't be used ({_short(error)}); both must be PEM, and the key must fit (MESH_KAFKA_KEY_PASSWORD_FILE)"
                ) from error
        return context


def _no_password() -> str:
    """Instead of the prompt on the terminal that OpenSSL would make."""
    raise ValueError("the key is encrypted, and there is no password for it")


def is_login_refused(error: BaseException | None) -> bool:
    """Whether a connection failed by what trying again does not change: TLS or SASL said no."""
    while error is not None:
        # the other side has closed the connection, as a broker that dies does: worth another try
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
            return False
        if isinstance(error, (ssl.SSLError, *UNAUTHENTICATED)):
            return True
        error = error.__cause__
    return False


def login_refused(name: str, security: Security, error: BaseException) -> BrokerRefused:
    """The message for one that `is_login_refused`."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (ssl.SSLError, *UNAUTHENTICATED)):
        cause = cause.__cause__
    cause = cause or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        said = f"its certificate is not accepted here ({cause.verify_message}): look at MESH_KAFKA_CA_FILE and at the host's name"
    elif isinstance(cause, ssl.SSLError):
        said = (
            f"TLS fails ({_short(cause)}): look at MESH_KAFKA_SECURITY_PROTOCOL, at the port, and (where the cluster asks for one) "
            "at MESH_KAFKA_CERT_FILE"
        )
    elif isinstance(cause, TokenUnavailable):
        said = f"there is no token to log in with: {cause.args[0]}"
    elif isinstance(cause, kafka_errors.UnsupportedSaslMechanismError):
        said = f"it does not take the mechanism {security.mechanism}: look at MESH_KAFKA_SASL_MECHANISM"
    else:
        said = (
            f"it does not let {security.principal} in with {security.mechanism}: look at the user, its password or token, "
            "and at what the cluster knows of it"
        )
    return BrokerRefused(f"{name}: {said}")


def right_refused(name: str, security: Security, what: str) -> BrokerRefused:
    """The error for what the cluster's ACLs do not allow.

    `what`: the operation and its object.
    """
    return BrokerRefused(f"{name} does not allow {security.principal} to {what}; {_NEXT}")


def _short(error: BaseException) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
