"""The gateway's answers, held against its own OpenAPI document; and what it counts of them."""

import asyncio
import hmac
import json
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_answers import Answers
from test_gateway import BATCH, EVENT, STRUCTURED, TOKEN, Sending, gateway, sent

from mesh.errors import BrokerUnavailable
from mesh.gateway.metrics import GatewayMetrics
from mesh.gateway.openapi import document
from mesh.metrics import names
from mesh.metrics.meters import Meters
from mesh.ports import Delivery, SendFailure

T = TypeVar("T")
CONFORM = Answers(document())
SECRET = "the secret"
SHOP = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "shop.tokens").write_text(TOKEN)
    (tmp_path / "hook.secrets").write_text(SECRET)
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "senders:\n"
        "  shop: {tokens_file: shop.tokens, sources: [/shop], rate: 1000000}\n"
        "  slow: {tokens_env: SLOW_TOKENS, rate: 0.001}\n"
        "webhooks:\n"
        "  github: {vendor: github, secrets_file: hook.secrets}\n"
        "  slack: {vendor: slack, secrets_file: hook.secrets}\n"
    )
    return path


def signed(body: bytes) -> dict[str, str]:
    digest = hmac.digest(SECRET.encode(), body, "sha256").hex()
    return {"x-hub-signature-256": f"sha256={digest}", "x-github-event": "ping", "x-github-delivery": "d-1"}


async def test_each_end_of_a_request_is_in_the_document_and_counted(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_TOKENS", "a-token-of-the-slow-one")
    slow = {"authorization": "Bearer a-token-of-the-slow-one"}
    broker, meters = Sending(), Meters()
    body = b'{"zen": "x", "repository": {"url": "https://github.com/o/r"}}'

    def away(_: object) -> list[SendFailure]:
        raise BrokerUnavailable("gone")

    def too_large(_: object) -> list[SendFailure]:
        return [SendFailure(0, Delivery.TOO_LARGE, "too large")]

    async def post(client: httpx.AsyncClient, path: str, content: bytes, headers: dict[str, str], status: int) -> None:
        found = await client.post(path, content=content, headers=headers)
        assert found.status_code == status, found.text
        CONFORM.check("POST", path, found)

    event = json.dumps(EVENT).encode()
    async with gateway(broker, config, metrics_of=lambda intake: GatewayMetrics(meters, intake, ["shop"])) as client:
        for path, content, headers, status in (
            ("/events", event, STRUCTURED | SHOP, 202),
            ("/events", b"[%b,%b]" % (event, event), BATCH | SHOP, 202),
            ("/events", b"{", STRUCTURED | SHOP, 400),
            ("/events", event, STRUCTURED, 401),
            ("/events", event.replace(b"/shop", b"/other"), STRUCTURED | SHOP, 403),
            ("/events", b"x" * 20_000, STRUCTURED | SHOP, 400),
            ("/events", event, STRUCTURED | SHOP | {"content-encoding": "gzip"}, 415),
            ("/events", event, STRUCTURED | slow, 202),
            ("/events", event, STRUCTURED | slow, 429),
            ("/webhooks/github", body, signed(body), 202),
            ("/webhooks/github", body, {}, 401),
            ("/webhooks/github", b"[]", signed(b"[]"), 202),
            ("/webhooks/github", b"[%s]" % (b" " * 1_000_000), signed(b"[%s]" % (b" " * 1_000_000)), 422),
            ("/webhooks/other", body, {}, 404),
        ):
            await post(client, path, content, headers, status)
        for answer, status in ((away, 503), (too_large, 413)):
            broker.answer = answer
            await post(client, "/events", event, STRUCTURED | SHOP, status)
        for path in ("/health/live", "/health/ready"):
            CONFORM.check("GET", path, await client.get(path))
    counted = {family.metric: dict(family.values) for family in meters.snapshot()}
    requests = {labels: count for labels, count in counted[names.GATEWAY_REQUESTS].items() if count}
    assert requests == {
        ("shop", "accepted"): 2,
        ("shop", "unreadable"): 2,
        ("", "unknown_sender"): 1,
        ("shop", "forbidden"): 1,
        ("shop", "encoded"): 1,
        ("slow", "accepted"): 1,
        ("slow", "rate"): 1,
        ("github", "accepted"): 1,
        ("github", "unknown_sender"): 1,
        ("github", "kept"): 1,
        ("github", "unmapped"): 1,
        ("", "not_found"): 1,
        ("shop", "broker_away"): 1,
        ("shop", "too_large"): 1,
    }
    events = {labels: count for labels, count in counted[names.GATEWAY_EVENTS].items() if count}
    assert events[("shop", "accepted")] == 3
    [durations] = [family for family in meters.snapshot() if family.metric is names.GATEWAY_DURATION]
    assert sum(sum(one.counts) for one in durations.distributions.values()) == sum(requests.values())


async def test_what_waits_for_the_broker_and_whether_it_takes_is_sampled() -> None:
    broker, meters, made = Sending(), Meters(), list[GatewayMetrics]()

    def metrics_of(intake: Any) -> GatewayMetrics:
        made.append(GatewayMetrics(meters, intake, []))
        return made[0]

    async with gateway(broker, metrics_of=metrics_of) as client:
        broker.may_go.clear()
        first = asyncio.create_task(sent(client, EVENT))
        await asyncio.sleep(0)
        made[0].sample()
        # one is on its way, or waits; none is lost from sight
        broker.may_go.set()
        assert (await first).status_code == 202
        made[0].sample()
    values = {family.metric: family.values for family in meters.snapshot()}
    assert values[names.GATEWAY_WAITING] == {(): 0}
    assert values[names.GATEWAY_UP] == {(): 1}


# Anything -----------------------------------------------------------------------------------------


class Loop:
    """A gateway in an event loop that is entered for one request at a time."""

    def __init__(self, config: Path) -> None:
        self._runner, self._stack = asyncio.Runner(), AsyncExitStack()
        self.client = self.run(self._stack.enter_async_context(gateway(Sending(), config)))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._runner.close()


@pytest.fixture
def loop(config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    monkeypatch.setenv("SLOW_TOKENS", "a-token-of-the-slow-one")
    found = Loop(config)
    yield found
    found.close()


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "specversion": st.sampled_from(["1.0", "0.3", 1]),
        "id": st.one_of(st.text(max_size=10), VALUES),
        "source": st.sampled_from(["/shop", "/other", "", "\x00", 7]),
        "type": st.sampled_from(["com.example.ordered", "", "é"]),
        "data": VALUES,
        "data_base64": st.sampled_from(["YQ==", "!", 7]),
        "time": st.sampled_from(["2026-11-20T08:00:00Z", "soon", 7]),
        "datacontenttype": st.sampled_from(["application/json", "text/plain", "", 7]),
        "subject": VALUES,
        "extension": VALUES,
        "UPPER": VALUES,
    },
)
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "action": VALUES,
        "repository": st.one_of(VALUES, st.fixed_dictionaries({"html_url": VALUES, "full_name": VALUES})),
        "issue": st.one_of(VALUES, st.fixed_dictionaries({"number": VALUES, "html_url": VALUES})),
        "sender": VALUES,
        "type": st.sampled_from(["url_verification", "event_callback", 7]),
        "challenge": VALUES,
    },
)
BODIES = st.one_of(
    st.binary(max_size=40),
    EVENTS.map(lambda value: json.dumps(value).encode()),
    st.lists(EVENTS, max_size=3).map(lambda value: json.dumps(value).encode()),
    PAYLOADS.map(lambda value: json.dumps(value).encode()),
    VALUES.map(lambda value: json.dumps(value).encode()),
)
# what HTTP lets into a header: the parser refuses the rest before the gateway sees it
HEADER_VALUES = st.one_of(
    st.sampled_from(["1.0", "/shop", "com.example.ordered", "7", '"', '"a\\"b"', "%", "%zz", "caf%C3%A9", "%ff", ""]),
    st.binary(max_size=12).map(lambda raw: bytes(one for one in raw if one >= 32 and one != 127).decode("latin-1")),
)
TYPES = [
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "application/cloudevents+avro",
    "application/json",
    "application/x-www-form-urlencoded",
    "text/plain; charset=odd",
    ";",
]
HEADERS = st.dictionaries(
    st.sampled_from(["ce-id", "ce-source", "ce-type", "ce-specversion", "ce-time", "ce-x", "ce-X_", "x-github-event"]),
    HEADER_VALUES,
    max_size=6,
)


# the rate of `slow` is by the clock, and its answers are 202 or 429, which both conform
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    path=st.sampled_from(["/events", "/events", "/webhooks/github", "/webhooks/slack", "/webhooks/other"]),
    body=BODIES,
    headers=HEADERS,
    media=st.sampled_from(TYPES),
    who=st.sampled_from(
        [SHOP, SHOP, {}, {"authorization": "Bearer a-token-of-the-slow-one"}, {"authorization": "odd"}]
    ),
    is_signed=st.booleans(),
)
def test_no_request_is_an_error_of_the_gateway_and_every_answer_conforms(
    loop: Loop,
    *,
    path: str,
    body: bytes,
    headers: dict[str, str],
    media: str,
    who: dict[str, str],
    is_signed: bool,
) -> None:
    sent_headers = (signed(body) if is_signed else {}) | headers | who | {"content-type": media}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in sent_headers.items()]
    found = loop.run(loop.client.post(path, content=body, headers=raw))
    assert found.status_code != 500, found.text
    CONFORM.check("POST", path, found)
