"""Records as other clients of Kafka write them, and as a damaged disk leaves them."""

import secrets
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

from mesh.ports import Header, TopicPartition

_CRC_AT: Final = 17
_ATTRIBUTES_AT: Final = 21
_NO_CODEC: Final = 7  # none that Kafka knows


class ForeignProducers:
    """Producers of another kind than the mesh's. `close` ends those with an open transaction."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._open: list[Any] = []

    async def write(
        self,
        at: TopicPartition,
        values: Sequence[str],
        *,
        codec: str = "none",
        transaction: str | None = None,
        headers: Sequence[Header] = (),
    ) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            compression_type=None if codec == "none" else codec,
            transactional_id=f"foreign-{secrets.token_hex(6)}" if transaction else None,
            transaction_timeout_ms=600_000,
        )
        await producer.start()
        self._open.append(producer)
        if transaction:
            await producer.begin_transaction()
        batch = producer.create_batch()
        for value in values:
            assert batch.append(key=b"foreign", value=value.encode(), timestamp=None, headers=list(headers))
        await (await producer.send_batch(batch, at.topic, partition=at.partition))
        if transaction == "open":
            return
        if transaction:
            await (producer.commit_transaction() if transaction == "commit" else producer.abort_transaction())
        self._open.remove(producer)
        await producer.stop()

    async def close(self) -> None:
        for producer in self._open:
            await producer.abort_transaction()
            await producer.stop()


def damage(data: Path, at: TopicPartition) -> None:
    """Damage the last batch in a stopped broker's partition.

    It gets a codec that does not exist, and a checksum that fits.
    """
    [segment] = (data / "data" / f"{at.topic}-{at.partition}").glob("*.log")
    raw = bytearray(segment.read_bytes())
    begin = following = 0
    while following < len(raw):
        begin = following
        following += 12 + struct.unpack_from(">i", raw, begin + 8)[0]
    (attributes,) = struct.unpack_from(">h", raw, begin + _ATTRIBUTES_AT)
    struct.pack_into(">h", raw, begin + _ATTRIBUTES_AT, attributes | _NO_CODEC)
    struct.pack_into(">I", raw, begin + _CRC_AT, calc_crc32c(bytes(raw[begin + _ATTRIBUTES_AT :])))
    segment.write_bytes(raw)
