"""A webhook that is signed and means no event is kept, and sent again once the reason is gone."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sample_mesh import TOPICS, Writer
from test_gateway import Sending, gateway

from mesh.adapters.sqlite import SqliteBroker
from mesh.cli.app import mesh as command
from mesh.codec.cloudevents import from_record
from mesh.codec.dead_letters import decode_dead_letter
from mesh.errors import BrokerUnavailable
from mesh.ports import Delivery, OutRecord, Record, SendFailure, TopicPartition

KEY = b"a key of the partner's"
BODY = json.dumps({"order": 7}).encode()
SECRETS = ("whsec_", "signature", "Bearer", "the cookie")


def signed(body: bytes) -> dict[str, str]:
    """A request by the standard, with headers that must not be kept."""
    at = str(int(time.time()))
    digest = hmac.digest(KEY, f"msg-1.{at}.".encode() + body, "sha256")
    return {
        "content-type": "application/json",
        "webhook-id": "msg-1",
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        "authorization": "Bearer something",
        "cookie": "the cookie",
    }


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "partner.secrets").write_text(f"whsec_{base64.b64encode(KEY).decode()}")
    path = tmp_path / "gateway.yaml"
    path.write_text("webhooks:\n  partner: {vendor: standard, secrets_file: partner.secrets, source: /partner}\n")
    return path


async def post(broker: Any, config: Path, body: bytes = BODY) -> tuple[int, dict[str, Any]]:
    async with gateway(broker, config) as client:
        found = await client.post("/webhooks/partner", content=body, headers=signed(body))
    return found.status_code, found.json()


async def test_the_letter_has_the_body_and_what_a_mapping_reads_and_no_secret(config: Path) -> None:
    broker = Sending()
    status, body = await post(broker, config)
    assert (status, body["accepted"]) == (202, [])
    assert "give this webhook a `type`" in body["kept"]
    [record] = broker.taken
    letter = decode_dead_letter(Record(TOPICS.dlq, 0, 0, 0, record.key, record.value, record.headers))
    assert (letter.component, letter.code, letter.original.topic) == ("gateway", "unmapped", "/webhooks/partner")
    assert letter.original.value == BODY
    kept = b"\n".join(name.encode() + b": " + value for name, value in record.headers)
    assert b"webhook-id: msg-1" in kept
    assert not any(secret.encode() in kept for secret in SECRETS)


async def test_what_is_larger_than_the_mesh_takes_is_kept_too(config: Path) -> None:
    broker = Sending()
    status, body = await post(broker, config, json.dumps({"type": "t", "text": "x" * 11_000}).encode())
    assert (status, "MESH_MAX_EVENT_BYTES" in body["kept"]) == (202, True)
    letter = decode_dead_letter(Record(TOPICS.dlq, 0, 0, 0, None, broker.taken[0].value, broker.taken[0].headers))
    assert letter.code == "too_large"


async def test_where_it_can_not_be_kept_the_vendor_hears_why(config: Path) -> None:
    def refuse(records: Sequence[OutRecord]) -> list[SendFailure]:
        return [SendFailure(0, Delivery.REFUSED, "no right to write")]

    def away(_: object) -> list[SendFailure]:
        raise BrokerUnavailable("gone")

    broker = Sending()
    for answer, wanted in ((refuse, 422), (away, 503)):
        broker.answer = answer
        assert (await post(broker, config))[0] == wanted
    assert (await post(broker, config, b" " * 1_000_001))[0] == 422


def call(tmp_path: Path, *words: str, config: Path | None = None) -> Result:
    env = {"MESH_BROKER": f"sqlite://{tmp_path}/mesh.db", "MESH_DATA_DIR": str(tmp_path / "data")}
    env |= {} if config is None else {"MESH_GATEWAY_CONFIG": str(config)}
    return CliRunner().invoke(command, words, env=env)


def test_a_redriven_one_is_the_event_that_the_corrected_file_makes_of_it(config: Path, tmp_path: Path) -> None:
    async def keep() -> None:
        broker = await SqliteBroker.open(tmp_path / "mesh.db", client_id="gateway")
        await Writer(broker).create_topics()
        assert (await post(broker, config))[0] == 202
        await broker.close()

    async def events() -> list[Record]:
        broker = await SqliteBroker.open(tmp_path / "mesh.db", client_id="test")
        reader = await broker.reader()
        reader.assign({TopicPartition(TOPICS.events, 0): 0})
        found = await reader.poll(max_records=10, timeout_s=0.1)
        await reader.close()
        await broker.close()
        return [one for one in found if isinstance(one, Record)]

    asyncio.run(keep())
    [letter] = json.loads(call(tmp_path, "dlq", "--json").stdout)["dead_letters"]
    words = ("dlq", "redrive", "--id", letter["id"], "--yes", "--json")
    stays = call(tmp_path, *words, config=config)
    assert (stays.exit_code, "correct gateway.yaml" in stays.stdout) == (1, True), stays.output
    config.write_text(config.read_text().replace("source: /partner", "source: /partner, type: com.partner.order"))
    # who repairs has the file, and not the secrets
    (tmp_path / "partner.secrets").unlink()
    done = call(tmp_path, *words, config=config)
    assert json.loads(done.stdout)["counts"]["redriven"] == 1, done.output
    [record] = asyncio.run(events())
    event = from_record(record)
    assert (event["id"], event["source"], event["type"]) == ("msg-1", "/partner", "com.partner.order")
    assert event["data"] == {"order": 7}
    # it is done, and once
    assert call(tmp_path, *words, config=config).exit_code == 1
    assert len(asyncio.run(events())) == 1


def test_without_the_file_it_is_mapped_as_it_was_configured_when_it_came(config: Path, tmp_path: Path) -> None:
    async def keep() -> None:
        broker = await SqliteBroker.open(tmp_path / "mesh.db", client_id="gateway")
        await Writer(broker).create_topics()
        # larger than the gateway takes, and not than the mesh
        assert (await post(broker, config, json.dumps({"type": "t", "text": "x" * 11_000}).encode()))[0] == 202
        await broker.close()

    asyncio.run(keep())
    done = call(tmp_path, "dlq", "redrive", "--all", "--yes", "--json")
    assert [one["to"] for one in json.loads(done.stdout)["dead_letters"]] == [TOPICS.events], done.output
