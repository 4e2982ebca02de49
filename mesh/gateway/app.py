"""The gateway's requests: events at `/events`, webhooks at `/webhooks/NAME`, its health.

Owns the order in which a request is looked at (who sends it, how large it is, whether it can be
read, whether it may come now), and the status that each end has. 202 means that the broker has the
events. 4xx: sending the same again would not help, but for 429. 503: it would.

An answer says what is wrong as `application/problem+json` (RFC 9457).
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import orjson
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mesh.codec.cloudevents import to_record
from mesh.codec.http_events import events_of_request
from mesh.codec.webhooks import Headers, challenge_of, event_of, letter_of
from mesh.core.topics import Topics
from mesh.errors import BrokerError, MalformedRecord, MeshError, RecordTooLarge, SettingsInvalid
from mesh.gateway.config import GatewayConfig, Sender, Webhook
from mesh.gateway.intake import Busy, Intake, NotTaken
from mesh.gateway.metrics import ACCEPTED, ENDS, FAILED, KEPT, RATE, REFUSED, GatewayMetrics
from mesh.gateway.openapi import document
from mesh.gateway.rates import Rate
from mesh.gateway.signatures import SignatureRefused, verify
from mesh.ports import Delivery, OutRecord

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
_RETRY_S: Final = 2  # after the broker was away
_TITLES: Final = {
    400: "The request can't be read",
    401: "Who sends this is not known",
    403: "This sender may not send this",
    404: "There is nothing here",
    405: "This address does not take this method",
    413: "It is too large",
    415: "The encoding is not taken",
    422: "The webhook can't be mapped",
    429: "Too much at a time",
    503: "The broker did not take it",
}
_log = structlog.get_logger()

Serve = Callable[[Request], Awaitable[Response]]
Told = Callable[[str, str, int], None]
"""Gets how many events of a sender came to which end.

The ends are `accepted`, `kept`, `refused`, `busy` and `failed`.
"""


class Problem(Exception):
    """A request that is not taken."""

    def __init__(self, status: int, detail: str, *, retry_after_s: int | None = None, end: str = "") -> None:
        """`end`: the word for metrics, where the status does not say it."""
        super().__init__(detail)
        self.status = status
        self.end = end or ENDS[status]
        self.detail = detail
        self.retry_after_s = retry_after_s

    def response(self) -> Response:
        body = {"type": "about:blank", "title": _TITLES[self.status], "status": self.status, "detail": self.detail}
        headers = {"www-authenticate": "Bearer"} if self.status == 401 else {}  # noqa: PLR2004 - RFC 9110
        if self.retry_after_s is not None:
            headers["retry-after"] = str(self.retry_after_s)
        return Response(orjson.dumps(body), self.status, headers, "application/problem+json")


class Gateway:
    """What the requests need.

    `config` None: anybody may send events, and there are no webhooks.
    """

    def __init__(
        self,
        intake: Intake,
        config: GatewayConfig | None,
        *,
        topics: Topics,
        max_event_bytes: int,
        max_record_bytes: int,
        told: Told | None = None,
        metrics: GatewayMetrics | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._intake = intake
        self._config = config
        self._topics = topics
        self._max_event_bytes = max_event_bytes
        self._max_record_bytes = max_record_bytes
        self._told = told if metrics is None else metrics.told
        self._metrics = metrics
        self._clock = clock
        self._monotonic = monotonic
        self._rates: dict[str, Rate] = {}

    def measured(self, serve: Serve) -> Serve:
        """The same endpoint, with its requests counted by how they end."""
        metrics = self._metrics
        if metrics is None:
            return serve

        async def measured(request: Request) -> Response:
            begun_s, end = self._monotonic(), FAILED
            try:
                response = await serve(request)
                end = getattr(request.state, "end", ACCEPTED)
            except Problem as problem:
                end = problem.end
                raise
            finally:
                metrics.ended(getattr(request.state, "sender", ""), end, self._monotonic() - begun_s)
            return response

        return measured

    # Events ---------------------------------------------------------------------------------------

    async def events(self, request: Request) -> Response:
        """POST /events: one event in binary or structured mode, or a batch."""
        name, sender = self._sender(request)
        request.state.sender = name
        try:
            events = events_of_request(request.headers.raw, await _body(request))
            if sender is not None:
                _check_allowed(sender, events)
            records = [self._record(event) for event in events]
        except MalformedRecord as error:
            raise Problem(400, str(error)) from error
        except RecordTooLarge as error:
            raise Problem(413, str(error)) from error
        await self._take(name, None if sender is None else sender.rate, records)
        return _accepted(events)

    def _sender(self, request: Request) -> tuple[str, Sender | None]:
        if self._config is None:
            return "", None
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Problem(401, "send the header Authorization: Bearer TOKEN")
        try:
            name = self._config.sender_of(token.strip())
        except SettingsInvalid as error:
            raise self._closed(error) from error
        if name is None:
            raise Problem(401, "no sender has this token")
        return name, self._config.senders[name]

    # Webhooks -------------------------------------------------------------------------------------

    async def webhook(self, request: Request) -> Response:
        """POST /webhooks/NAME: one delivery of a vendor."""
        name = request.path_params["name"]
        webhook = None if self._config is None else self._config.webhooks.get(name)
        if self._config is None or webhook is None:
            raise Problem(404, f"no webhook has the name {name!r}")
        request.state.sender = name
        body = await _body(request)
        headers = {key: value for key, value in request.headers.items()}  # noqa: C416 - a plain dict is faster
        try:
            verify(webhook.vendor, self._config.secrets_of(name), headers, body, self._clock())
        except SignatureRefused as error:
            _log.warning("webhook_refused", webhook=name, reason=str(error))
            raise Problem(401, str(error)) from error
        except SettingsInvalid as error:
            raise self._closed(error) from error
        terms = webhook.terms
        challenge = challenge_of(terms, body)
        if challenge is not None:
            return PlainTextResponse(challenge)
        try:
            event = event_of(name, terms, headers, body)
            record = self._record(event)
        except (MalformedRecord, RecordTooLarge) as error:
            status = 413 if isinstance(error, RecordTooLarge) else 422
            return await self._keep(request, webhook, headers, body, Problem(status, str(error)))
        await self._take(name, webhook.rate, [record])
        return _accepted([event])

    async def _keep(
        self, request: Request, webhook: Webhook, headers: Headers, body: bytes, problem: Problem
    ) -> Response:
        """Keep a verified request that means no event as a dead letter.

        It is the vendor's no more: what it sends again would be refused again, and vendors switch
        off an address that refuses. Raises the problem where the letter can't be kept.
        """
        name, code = request.path_params["name"], ENDS[problem.status]
        now_ms = int(self._clock() * 1_000)
        letter = letter_of(
            name, webhook.terms, headers, body, code=code, message=problem.detail, topics=self._topics, at_ms=now_ms
        )
        if letter.size_bytes() > self._max_record_bytes:
            raise problem
        try:
            await self._take(name, webhook.rate, [letter], end=KEPT)
        except Problem as refused:
            # where this gateway may write events alone, it is as if there were no letters
            raise problem if refused.end == REFUSED else refused from refused
        request.state.end = KEPT
        _log.warning("webhook_kept", webhook=name, reason=problem.detail, next="mesh dlq redrive, once it is corrected")
        return _accepted([], kept=problem.detail)

    # Both -----------------------------------------------------------------------------------------

    def _record(self, event: dict[str, Any]) -> OutRecord:
        record = to_record(event, topic=self._topics.events)
        size = len(record.value or b"")
        if size > self._max_event_bytes or record.size_bytes() > self._max_record_bytes:
            raise RecordTooLarge(
                f"event {event['id']!r} has {size} bytes of data, and the mesh takes {self._max_event_bytes} "
                "(MESH_MAX_EVENT_BYTES): put the bulk elsewhere and send its address"
            )
        return record

    async def _take(self, name: str, per_s: float | None, records: Sequence[OutRecord], *, end: str = ACCEPTED) -> None:
        if per_s is not None and records:
            now_s = self._monotonic()
            wait_s = self._rates.setdefault(name, Rate(per_s, now_s)).take(len(records), now_s)
            if wait_s:
                self._tell(name, "busy", len(records))
                raise Problem(
                    429,
                    f"{name} may send {per_s:g} events a second",
                    retry_after_s=max(1, round(wait_s + 0.5)),
                    end=RATE,
                )
        try:
            await self._intake.take(records)
        except Busy as error:
            self._tell(name, "busy", len(records))
            raise Problem(429, str(error), retry_after_s=error.retry_after_s) from error
        except NotTaken as error:
            self._tell(name, "refused", len(records))
            if error.failure.code is Delivery.TOO_LARGE:
                raise Problem(413, str(error)) from error
            raise Problem(503, str(error), retry_after_s=_RETRY_S, end=REFUSED) from error
        except BrokerError as error:
            self._tell(name, "failed", len(records))
            raise Problem(503, str(error), retry_after_s=_RETRY_S) from error
        self._tell(name, end, len(records))

    def _tell(self, name: str, status: str, count: int) -> None:
        if self._told is not None:
            self._told(name, status, count)

    def _closed(self, error: MeshError) -> Problem:
        # the gateway's own secrets are not there: its operator must know why, and senders must not
        _log.error("secrets_missing", reason=str(error))
        return Problem(503, "the gateway can't check who sends this; its log says why", retry_after_s=_RETRY_S)

    # Health ---------------------------------------------------------------------------------------

    async def ready(self, _: Request) -> Response:
        """GET /health/ready: whether the broker took what came last."""
        return PlainTextResponse(
            "ready\n" if self._intake.is_up else "the broker takes no events\n", 200 if self._intake.is_up else 503
        )


def app(gateway: Gateway) -> Starlette:
    """The ASGI application."""
    return Starlette(
        routes=[
            Route("/events", gateway.measured(gateway.events), methods=["POST"]),
            Route("/webhooks/{name}", gateway.measured(gateway.webhook), methods=["POST"]),
            Route("/health/live", _live, methods=["GET"]),
            Route("/health/ready", gateway.ready, methods=["GET"]),
            Route("/openapi.json", _openapi, methods=["GET"]),
        ],
        exception_handlers={Problem: _on_problem, HTTPException: _on_problem},
    )


async def _live(_: Request) -> Response:
    return PlainTextResponse("live\n")


async def _openapi(_: Request) -> Response:
    return Response(orjson.dumps(document()), media_type="application/json")


async def _on_problem(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):  # of Starlette: no such address, or no such method
        response = Problem(error.status_code, f"{request.method} {request.url.path}", end=FAILED).response()
        response.headers.update(error.headers or {})
        return response
    if isinstance(error, Problem):
        return error.response()
    raise error


def _check_allowed(sender: Sender, events: Sequence[dict[str, Any]]) -> None:
    for event in events:
        reason = sender.refuses(event)
        if reason:
            raise Problem(403, reason)


async def _body(request: Request) -> bytes:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "send the body as it is, without content-encoding")
    # as `request.stream`, without its two suspensions a part
    parts, size, is_more = list[bytes](), 0, True
    while is_more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "the request ended too early")
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise Problem(413, f"a request may have {MAX_BODY_BYTES} bytes; send several")
        parts.append(part)
        is_more = message.get("more_body", False)
    return b"".join(parts)


def _accepted(events: Sequence[dict[str, Any]], *, kept: str = "") -> Response:
    """`kept`: why it is a dead letter."""
    body: dict[str, Any] = {"accepted": [{"id": event["id"], "source": event["source"]} for event in events]}
    if kept:
        body["kept"] = kept
    return Response(orjson.dumps(body), 202, media_type="application/json")
