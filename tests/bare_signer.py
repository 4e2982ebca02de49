"""A client that is not ours: it signs an answer to an open approval, and waits for the receipt.

    python bare_signer.py BOOTSTRAP TOPIC_PREFIX WORKFLOW_ID WHO KEY.pem [KID]

It knows joserfc and a Kafka client, and nothing of the mesh's code. It prints the receipt. With a
KID it claims to have that key.
"""

import asyncio
import base64
import hashlib
import json
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from joserfc import jws
from joserfc.jwk import OKPKey


def thumbprint(key: OKPKey) -> str:
    """RFC 7638."""
    x = key.as_dict(private=False)["x"]
    canonical = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()


async def first(bootstrap: str, topic: str, found: Any) -> Any:
    """The first value on a topic that fits."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async for record in consumer:
            value = json.loads(record.value) if record.value else None
            if value is not None and found(value):
                return value
    finally:
        await consumer.stop()


async def main(bootstrap: str, prefix: str, workflow_id: str, *, who: str, key: OKPKey, kid: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    cluster = (await admin.describe_cluster())["cluster_id"]
    await admin.close()

    asked = await first(
        bootstrap, f"{prefix}approvals.requests", lambda one: one["approval_id"].startswith(f"{workflow_id}/")
    )
    answer_id = secrets.token_hex(16)
    body = {
        "mesh": f"{prefix}@{cluster}",
        "approval_id": asked["approval_id"],
        "decision": "approve",
        "by": who,
        "digest": asked["digest"],
        "answer_id": answer_id,
        "answered_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    header = {"alg": "Ed25519", "kid": kid, "typ": "mesh-answer+jws"}
    signed = jws.serialize_compact(header, json.dumps(body), key, algorithms=["Ed25519"])

    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    value = json.dumps({"jws": signed}).encode()
    await producer.send_and_wait(f"{prefix}approvals.responses", value, key=workflow_id.encode())
    await producer.stop()
    receipt = await first(
        bootstrap, f"{prefix}approvals.receipts", lambda one: one["answer_id"] == answer_id and one["code"]
    )
    sys.stdout.write(json.dumps(receipt))


if __name__ == "__main__":
    where, named, file, *claimed = sys.argv[1:4], sys.argv[4], sys.argv[5], *sys.argv[6:]
    private = OKPKey.import_key(Path(file).read_bytes())
    asyncio.run(main(*where, who=named, key=private, kid="".join(claimed) or thumbprint(private)))
