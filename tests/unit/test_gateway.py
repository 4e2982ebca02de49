"""What a sender over HTTP gets: 202 once the broker has the events, or one clear refusal."""

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemClock
from mesh.core.topics import Topics
from mesh.errors import BrokerUnavailable, SettingsInvalid
from mesh.gateway.app import MAX_BODY_BYTES, Gateway, app
from mesh.gateway.config import config_of, load_config
from mesh.gateway.intake import MAX_RECORDS, Intake
from mesh.gateway.rates import Rate
from mesh.ports import Delivery, OutRecord, Record, SendFailure, TopicPartition, TopicSpec

TOPIC = Topics("mesh.").events
EVENT = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "com.example.ordered", "data": {"n": 1}}
STRUCTURED = {"content-type": "application/cloudevents+json"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
TOKEN = "a-token-of-the-shop"


class Sending:
    """A broker that takes, holds or refuses what is sent to it."""

    max_record_bytes = 1_000_000

    def __init__(self) -> None:
        self.taken: list[OutRecord] = []
        self.batches: list[int] = []
        self.answer: Callable[[Sequence[OutRecord]], Sequence[SendFailure]] = lambda _: ()
        self.may_go = asyncio.Event()
        self.may_go.set()

    async def send(self, records: Sequence[OutRecord]) -> Sequence[SendFailure]:
        await self.may_go.wait()
        failures = self.answer(records)
        self.batches.append(len(records))
        self.taken += records
        return failures


@asynccontextmanager
async def gateway(
    broker: Any, config: Path | None = None, *, timeout_s: float = 30.0, metrics_of: Any = None, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    intake = Intake(broker, timeout_s=timeout_s)
    if metrics_of is not None:
        options["metrics"] = metrics_of(intake)
    served = Gateway(
        intake,
        None if config is None else load_config(config),
        topics=Topics("mesh."),
        max_event_bytes=10_000,
        max_record_bytes=broker.max_record_bytes,
        **options,
    )
    sending = asyncio.create_task(intake.run())
    transport = httpx.ASGITransport(app(served))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client
    sending.cancel()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "shop.tokens").write_text(f"{TOKEN}\nthe-next-token-of-it\n")
    (tmp_path / "hook.secrets").write_text("the secret")
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "senders:\n"
        "  shop: {tokens_file: shop.tokens, sources: [/shop, /shop/*], types: [com.example.*], rate: 2}\n"
        "webhooks:\n"
        "  gh: {vendor: github, secrets_file: hook.secrets}\n"
    )
    return path


async def sent(client: httpx.AsyncClient, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.post("/events", content=raw, headers=STRUCTURED if headers is None else headers)


# Events -------------------------------------------------------------------------------------------


async def test_one_event_in_every_mode_is_the_same_record() -> None:
    broker = Sending()
    binary = {
        "ce-specversion": "1.0",
        "ce-id": "7",
        "CE-Source": "/shop",
        "ce-type": "com.example.ordered",
        "content-type": "application/json",
    }
    whole = {**EVENT, "datacontenttype": "application/json"}
    async with gateway(broker) as client:
        answers = [
            await sent(client, EVENT["data"], binary),
            await sent(client, whole),
            await sent(client, [whole], BATCH),
            await sent(client, whole, {"content-type": "application/json"}),
        ]
    assert [answer.status_code for answer in answers] == [202] * 4
    assert {answer.text for answer in answers} == {'{"accepted":[{"id":"7","source":"/shop"}]}'}
    first = broker.taken[0]
    assert first.topic == TOPIC
    assert {(one.key, json.dumps(json.loads(one.value or b"")), frozenset(one.headers)) for one in broker.taken} == {
        (first.key, json.dumps(EVENT["data"]), frozenset(first.headers))
    }


async def test_headers_are_decoded_as_the_binding_says() -> None:
    broker = Sending()
    headers = {
        "ce-specversion": "1.0",
        "ce-id": '"with \\"quotes\\""',
        "ce-source": "/caf%C3%A9",
        "ce-type": "t",
        "ce-partitionkey": "k",
    }
    async with gateway(broker) as client:
        answer = await sent(client, b"", headers)
    assert answer.json() == {"accepted": [{"id": 'with "quotes"', "source": "/café"}]}
    assert broker.taken[0].key == b"k"


async def test_the_events_come_to_a_real_topic() -> None:
    broker = MemoryBroker(MemoryCluster(SystemClock()), "gateway")
    await broker.create_topics([TopicSpec(name=TOPIC, partitions=1)])
    async with gateway(broker) as client:
        answers = await asyncio.gather(*(sent(client, {**EVENT, "id": str(n)}) for n in range(50)))
    assert {answer.status_code for answer in answers} == {202}
    reader = await broker.reader()
    reader.assign({TopicPartition(TOPIC, 0): 0})
    found: list[Record] = []
    while len(found) < len(answers):
        found += await reader.poll(max_records=100, timeout_s=10)
    assert {dict(one.headers)["ce_id"] for one in found} == {str(n).encode() for n in range(50)}


@pytest.mark.parametrize(
    ("body", "headers", "status", "named"),
    [
        (b"{}", {}, 400, "send the headers ce-specversion"),
        (b"{", STRUCTURED, 400, "JSON"),
        (b"", STRUCTURED, 400, "empty"),
        (b"\xff", STRUCTURED, 400, "the structured event"),
        (b"{}", STRUCTURED, 400, "`specversion` is missing"),
        (b"", {"ce-specversion": "1.0", "ce-id": "1"}, 400, "header ce-source"),
        (b"[{}]", BATCH, 400, "event 1 of the batch"),
        (b"{}", BATCH, 400, "not a JSON array"),
        (b"[" + b",".join([b"{}"] * 1_001) + b"]", BATCH, 400, "1001 events"),
        (b"x", {"content-type": "application/cloudevents+avro"}, 400, "can't read"),
        (b"x" * (MAX_BODY_BYTES + 1), {}, 413, "send several"),
        (json.dumps({**EVENT, "data": "x" * 10_001}).encode(), STRUCTURED, 413, "'7' has 10003 bytes"),
        (b"x", {**STRUCTURED, "content-encoding": "gzip"}, 415, "content-encoding"),
    ],
)
async def test_what_can_not_be_taken_is_refused_with_the_reason(
    body: bytes, headers: dict[str, str], status: int, named: str
) -> None:
    broker = Sending()
    async with gateway(broker) as client:
        answer = await sent(client, body, headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert named in answer.json()["detail"]
    assert not broker.taken


async def test_a_batch_is_taken_as_a_whole_or_not_at_all() -> None:
    broker = Sending()
    async with gateway(broker) as client:
        answer = await sent(client, [EVENT, {**EVENT, "type": ""}, EVENT], BATCH)
        empty = await sent(client, [], BATCH)
    assert (answer.status_code, broker.taken) == (400, [])
    assert "event 2 of the batch" in answer.json()["detail"]
    assert (empty.status_code, empty.json()) == (202, {"accepted": []})


async def test_other_addresses_and_methods_are_refused_in_the_same_form() -> None:
    async with gateway(Sending()) as client:
        answers = [await client.get("/events"), await client.get("/nothing"), await client.post("/webhooks/x")]
    assert [answer.status_code for answer in answers] == [405, 404, 404]
    assert answers[0].headers["allow"] == "POST"
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "content-type",
                "ce-id",
                "ce-source",
                "ce-type",
                "ce-specversion",
                "ce-time",
                "ce-x",
                "ce-data",
                "traceparent",
            ]
        ),
        st.sampled_from(
            [
                b"",
                b"1.0",
                b"a",
                b'"',
                b"%",
                b"%ff",
                b"\xff",
                b"\x00",
                b"application/cloudevents+json",
                b"2026-11-30T00:00:00Z",
                b"application/cloudevents-batch+json",
                b"application/cloudevents+xml",
                b"application/json",
                b"text/plain",
            ]
        ),
    ),
    max_size=8,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["1.0", "/s", "t"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["specversion", "id", "source", "type", "data", "data_base64", "time", "Ext", "x", "datacontenttype"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@given(HEADERS, st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_request_whatever_is_an_error_of_the_gateways_own(headers: list[tuple[str, bytes]], body: bytes) -> None:
    broker = Sending()

    async def send() -> httpx.Response:
        async with gateway(broker) as client:
            return await client.post(
                "/events", content=body, headers=[(name.encode(), value) for name, value in headers]
            )

    answer = asyncio.run(send())
    assert answer.status_code in {202, 400, 413, 415}
    assert len(broker.taken) == (len(answer.json()["accepted"]) if answer.status_code == 202 else 0)
    assert answer.status_code == 202 or answer.json()["detail"]


# The broker ---------------------------------------------------------------------------------------


async def test_nobody_hears_202_before_the_broker_has_the_event() -> None:
    broker = Sending()
    broker.may_go.clear()
    async with gateway(broker) as client:
        waiting = asyncio.create_task(sent(client, EVENT))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not waiting.done()
        broker.may_go.set()
        assert (await waiting).status_code == 202


async def test_what_comes_while_the_broker_works_goes_in_one_batch() -> None:
    broker = Sending()
    broker.may_go.clear()
    async with gateway(broker) as client:
        waiting = [asyncio.create_task(sent(client, {**EVENT, "id": str(n)})) for n in range(100)]
        for _ in range(200):
            await asyncio.sleep(0)
        broker.may_go.set()
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {202}
    assert len(broker.taken) == 100
    assert len(broker.batches) <= 3


async def test_a_broker_that_is_away_is_503_and_the_gateway_says_so_until_it_is_back() -> None:
    broker = Sending()

    def away(_: Sequence[OutRecord]) -> Sequence[SendFailure]:
        raise BrokerUnavailable("nobody answers at kafka:9092")

    async with gateway(broker) as client:
        broker.answer = away
        failed, unready = await sent(client, EVENT), await client.get("/health/ready")
        broker.answer = lambda _: ()
        taken, ready = await sent(client, EVENT), await client.get("/health/ready")
        live = await client.get("/health/live")
    assert (failed.status_code, failed.headers["retry-after"]) == (503, "2")
    assert "nobody answers" in failed.json()["detail"]
    assert [one.status_code for one in (unready, taken, ready, live)] == [503, 202, 200, 200]


async def test_a_broker_that_does_not_answer_is_503_in_time_and_the_event_is_not_sent_late() -> None:
    broker = Sending()
    broker.may_go.clear()
    async with gateway(broker, timeout_s=0.05) as client:
        answers = await asyncio.gather(sent(client, EVENT), sent(client, EVENT))
        assert {answer.status_code for answer in answers} == {503}


@pytest.mark.parametrize(("code", "status"), [(Delivery.TOO_LARGE, 413), (Delivery.REFUSED, 503)])
async def test_a_record_that_the_broker_never_takes_fails_its_own_request_alone(code: Delivery, status: int) -> None:
    broker = Sending()

    def refuse(records: Sequence[OutRecord]) -> Sequence[SendFailure]:
        bad = [index for index, one in enumerate(records) if dict(one.headers)["ce_id"] == b"bad"]
        return [SendFailure(index, code, "it says no") for index in bad]

    broker.answer = refuse
    broker.may_go.clear()
    async with gateway(broker) as client:
        waiting = [asyncio.create_task(sent(client, {**EVENT, "id": name})) for name in ("1", "bad", "2")]
        for _ in range(200):
            await asyncio.sleep(0)
        broker.may_go.set()
        answers = await asyncio.gather(*waiting)
    assert [answer.status_code for answer in answers] == [202, status, 202]


async def test_more_than_may_wait_is_429_at_once() -> None:
    broker = Sending()
    broker.may_go.clear()
    events = [{**EVENT, "id": str(n)} for n in range(1_000)]
    async with gateway(broker) as client:
        waiting = [asyncio.create_task(sent(client, events, BATCH)) for _ in range(MAX_RECORDS // 1_000 + 3)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        [refused, *_] = [one.result() for one in done]
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        broker.may_go.set()
        answers = await asyncio.gather(*waiting)
    taken = [answer for answer in answers if answer.status_code == 202]
    assert len(broker.taken) == 1_000 * len(taken)
    assert len(taken) >= MAX_RECORDS // 1_000


# Who sends ----------------------------------------------------------------------------------------


async def test_a_sender_is_known_by_any_of_its_tokens(config: Path) -> None:
    broker = Sending()
    async with gateway(broker, config, monotonic=iter(range(0, 10_000, 100)).__next__) as client:
        for token, status in ((TOKEN, 202), ("the-next-token-of-it", 202), ("the-shop-of-others", 401), ("", 401)):
            answer = await sent(client, EVENT, {**STRUCTURED, "authorization": f"Bearer {token}"})
            assert answer.status_code == status
        nobody = await sent(client, EVENT)
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
    assert TOKEN not in nobody.text


async def test_a_sender_may_send_what_it_is_allowed(config: Path) -> None:
    broker = Sending()
    headers = {**STRUCTURED, "authorization": f"bearer {TOKEN}"}
    async with gateway(broker, config, monotonic=iter(range(0, 10_000, 100)).__next__) as client:
        for change, status in (
            ({"source": "/shop/berlin"}, 202),
            ({"source": "/shopping"}, 403),
            ({"type": "org.example.ordered"}, 403),
        ):
            answer = await sent(client, {**EVENT, **change}, headers)
            assert answer.status_code == status, change
    assert len(broker.taken) == 1


async def test_a_token_that_is_taken_out_of_its_file_no_longer_counts(config: Path) -> None:
    headers = {**STRUCTURED, "authorization": f"Bearer {TOKEN}"}
    async with gateway(Sending(), config, monotonic=iter(range(0, 10_000, 100)).__next__) as client:
        assert (await sent(client, EVENT, headers)).status_code == 202
        (config.parent / "shop.tokens").write_text("another-token-of-the-shop")
        assert (await sent(client, EVENT, headers)).status_code == 401
        (config.parent / "shop.tokens").unlink()
        closed = await sent(client, EVENT, headers)
    assert closed.status_code == 503
    assert "shop.tokens" not in closed.text


async def test_a_sender_that_sends_too_fast_hears_when_to_go_on(config: Path) -> None:
    now = [0.0]
    told: list[tuple[str, str, int]] = []
    headers = {**STRUCTURED, "authorization": f"Bearer {TOKEN}"}
    async with gateway(Sending(), config, monotonic=lambda: now[0], told=lambda *one: told.append(one)) as client:
        statuses = [(await sent(client, EVENT, headers)).status_code for _ in range(5)]
        now[0] += 0.5
        later = await sent(client, EVENT, headers)
        again = await sent(client, EVENT, headers)
    assert statuses == [202, 202, 202, 202, 429]
    assert (later.status_code, again.status_code, again.headers["retry-after"]) == (202, 429, "1")
    assert told.count(("shop", "accepted", 1)) == 5
    assert told.count(("shop", "busy", 1)) == 2


async def test_a_webhook_that_is_signed_is_an_event_and_others_are_not(config: Path) -> None:
    body = json.dumps({"ref": "refs/heads/main", "repository": {"url": "https://api.github.com/repos/o/r"}}).encode()
    signature = "sha256=" + hmac.digest(b"the secret", body, "sha256").hex()
    headers = {"x-github-event": "push", "x-github-delivery": "d-1", "x-hub-signature-256": signature}
    broker = Sending()
    async with gateway(broker, config) as client:
        taken = await client.post("/webhooks/gh", content=body, headers=headers)
        forged = await client.post("/webhooks/gh", content=body + b" ", headers=headers)
        unmapped = await client.post(
            "/webhooks/gh",
            content=b"[]",
            headers={**headers, "x-hub-signature-256": "sha256=" + hmac.digest(b"the secret", b"[]", "sha256").hex()},
        )
    assert [one.status_code for one in (taken, forged, unmapped)] == [202, 401, 202]
    assert unmapped.json() == {"accepted": [], "kept": "the body is a list, not an object"}
    event, letter = broker.taken
    assert dict(event.headers)["ce_type"] == b"com.github.push"
    assert letter.topic == Topics("mesh.").dlq


# The file -----------------------------------------------------------------------------------------


def test_without_a_file_only_this_machine_may_send() -> None:
    assert config_of(None, host="127.0.0.1") is None
    with pytest.raises(SettingsInvalid, match="other machines"):
        config_of(None, host="0.0.0.0")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "1: the file is empty"),
        ("[]", "must be a mapping"),
        ("senders: {shop: {}}", "senders.shop: give one of tokens_file and tokens_env"),
        ("senders:\n  shop: {tokens_file: none, tokens_env: X}", "2: senders.shop"),
        ("senders:\n  Shop: {tokens_env: X}", "small letters"),
        ("senders:\n  shop: {tokens_env: X, rat: 3}", "2: senders.shop.rat is not a key"),
        ("senders:\n  shop: {tokens_env: X, rate: 0}", "senders.shop.rate"),
        ("webhooks:\n  a: {vendor: gitlab, secrets_env: X}", "webhooks.a.vendor"),
        ("webhooks:\n  a: {vendor: github, secrets_file: missing}", "webhook a: "),
        ("senders:\n  shop: {tokens_env: MESH_TEST_NOTHING}", "MESH_TEST_NOTHING has no secret"),
        ("senders:\n  shop: {tokens_file: short}", "under 16 characters"),
        ("senders:\n  a: {tokens_file: long}\n  b: {tokens_file: long}", "a and b have the same token"),
        ("webhooks:\n  a: {vendor: standard, secrets_file: short}", "base64"),
        ("a: 1\n---\nb: 2", "more than one document"),
    ],
)
def test_a_wrong_file_says_where(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "short").write_text("short")
    (tmp_path / "long").write_text("x" * 20)
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    with pytest.raises(SettingsInvalid) as refused:
        load_config(path)
    assert named in str(refused.value)


# Rates --------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 30), st.floats(0, 3)), max_size=40), st.floats(0.5, 20))
def test_a_rate_holds_over_any_time(calls: list[tuple[int, float]], per_s: float) -> None:
    rate, now_s, taken, largest = Rate(per_s, 0.0), 0.0, 0, 0
    for count, gap_s in calls:
        now_s += gap_s
        wait_s = rate.take(count, now_s)
        assert wait_s >= 0
        if not wait_s:
            taken += count
            largest = max(largest, count)
        else:
            # after that time it is taken
            assert rate.take(count, now_s + wait_s + 1e-6) == 0
            taken, now_s, largest = taken + count, now_s + wait_s + 1e-6, max(largest, count)
    assert taken <= per_s * (now_s + 2) + largest + 1e-3
