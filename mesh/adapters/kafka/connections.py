"""Corrects what aiokafka 0.14's connections do wrong when a broker dies.

Owns the patches of aiokafka's connections: `send`, `connect`, and the login by token.
`repair_connections` applies them when a broker is opened; nothing happens at import. They must
change nothing for a connection that is well. Called by `broker`.

A background task of aiokafka that meets an unexpected error ends and is not restarted, and some end
in silence. Without its metadata synchronizer a client never learns where the partitions are, and
waits. So errors must be those that aiokafka expects:

* A closed transport of uvloop answers a write with `RuntimeError`, where asyncio's raises nothing,
  or an `OSError`. For a moment the transport is closed and the connection does not know
  (aio-libs/aiokafka#1038, open).
* If a connection fails because of TLS or SASL, nobody learns of it: a client goes on trying, and in
  the end "can't bootstrap".
* A request that times out should close its connection, which may be a black hole. If the request
  was for metadata, nothing closes it, and the next request for metadata goes over the same
  connection.
"""

from collections.abc import Awaitable
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection, CloseReason, OAuthAuthenticator
from aiokafka.errors import KafkaConnectionError, RequestTimedOutError, SaslAuthenticationFailed

_plain_send = AIOKafkaConnection.send
_plain_connect = AIOKafkaConnection.connect
_plain_step = OAuthAuthenticator.step

failures: Final[dict[str, Exception]] = {}
"""Why the last try to connect failed, by client id; one that works takes it out."""


def repair_connections() -> None:
    """Let every connection of aiokafka in this process send as below. Again makes no difference."""
    AIOKafkaConnection.send = _send
    AIOKafkaConnection.connect = _connect
    OAuthAuthenticator.step = _step


async def _step(authenticator: Any, payload: bytes | None) -> Any:
    """One step of a login by token: what `OAuthAuthenticator.step` does.

    A broker that refuses the token says why and waits for a word, where aiokafka goes on as if it
    were let in (RFC 7628, 3.2.2).
    """
    if payload:
        raise SaslAuthenticationFailed(payload.decode("utf-8", "replace"))
    return await _plain_step(authenticator, payload)


async def _connect(connection: Any) -> Any:
    """Connect: what `AIOKafkaConnection.connect` does, and keep why it could not."""
    client_id = connection._client_id  # noqa: SLF001 - the one name that leads back to our client
    try:
        connected = await _plain_connect(connection)
    except Exception as error:
        failures[client_id] = error
        raise
    failures.pop(client_id, None)
    return connected


def _send(connection: Any, request: Any, expect_response: bool = True) -> Awaitable[Any]:  # noqa: FBT001, FBT002 - aiokafka's signature
    """Send a request: what `AIOKafkaConnection.send` does.

    A broken connection is closed, and raises `KafkaConnectionError`.
    """
    writer = connection._writer  # noqa: SLF001 - there is no other way to its transport
    try:
        answer = _plain_send(connection, request, expect_response)
    except RuntimeError as error:
        # an error of another kind, which must not be hidden
        if not writer.transport.is_closing():
            raise
        connection.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
        raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} broken: {error}") from error
    return _answer(connection, answer)


async def _answer(connection: Any, answer: Awaitable[Any]) -> Any:
    """Wait for the answer.

    A connection that owes one for too long is closed, and raises `RequestTimedOutError`.
    """
    try:
        return await answer
    except TimeoutError as error:
        connection.close(reason=CloseReason.CONNECTION_TIMEOUT, exc=error)
        raise RequestTimedOutError(f"{connection.host}:{connection.port} has not answered in time") from error
