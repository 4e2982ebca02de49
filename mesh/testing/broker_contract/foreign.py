"""Cases on records as foreign producers write them: compressed, and in transactions.

Owns these cases. They are for brokers that know either (Kafka). It must not know any adapter.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import pytest

from mesh.ports import Broker, Record, TopicPartition
from mesh.services.reading import first_at, read_up_to, unread
from mesh.testing.broker_contract.harness import BrokerHarness, ContractCases, Member, drive, new_topic, out

Codec = Literal["none", "gzip", "snappy", "lz4", "zstd"]
Ending = Literal["commit", "abort", "open"]


class ForeignHarness(BrokerHarness, Protocol):
    """A harness whose broker has codecs and transactions."""

    async def write(
        self, at: TopicPartition, values: Sequence[str], *, codec: Codec = "none", transaction: Ending | None = None
    ) -> None:
        """Write one batch as another client would.

        An `open` transaction stays open until the end.
        """
        ...


async def read_to_end(broker: Broker, at: TopicPartition) -> list[str]:
    """All values that a partition has now, read by the rule that every part of the mesh uses."""
    reader = await broker.reader()
    try:
        reader.assign({at: 0})
        ends = await broker.end_offsets([at])
        found: list[Record] = [record async for records in read_up_to(reader, ends) for record in records]
        assert not unread(reader, ends)
    finally:
        await reader.close()
    return [(record.value or b"").decode() for record in found]


class ForeignCases(ContractCases):
    @pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
    async def test_a_batch_of_each_codec_is_read(self, broker: Broker, harness: ForeignHarness, codec: Codec) -> None:
        at = TopicPartition(await new_topic(broker), 0)
        await harness.write(at, ["x" * 2_000, "y"], codec=codec)
        await broker.send([out(at.topic, "behind")])
        assert await read_to_end(broker, at) == ["x" * 2_000, "y", "behind"]

    @pytest.mark.parametrize("codec", ["none", "zstd"])
    async def test_what_was_rolled_back_is_never_read(
        self, broker: Broker, harness: ForeignHarness, codec: Codec
    ) -> None:
        at = TopicPartition(await new_topic(broker), 0)
        await harness.write(at, ["rolled back"], codec=codec, transaction="abort")
        assert await read_to_end(broker, at) == []
        await harness.write(at, ["committed"], codec=codec, transaction="commit")
        await harness.write(at, ["rolled back, too"], codec=codec, transaction="abort")
        assert await read_to_end(broker, at) == ["committed"]
        assert await first_at(broker, at, 4) is None

    async def test_a_transaction_that_is_open_is_behind_the_end(self, broker: Broker, harness: ForeignHarness) -> None:
        at = TopicPartition(await new_topic(broker), 0)
        await broker.send([out(at.topic, "before")])
        await harness.write(at, ["open"], transaction="open")
        await broker.send([out(at.topic, "after")])
        assert await broker.end_offsets([at]) == {at: 1}
        assert await broker.offsets_at([at], 4_000_000_000_000) == {at: 1}
        assert await read_to_end(broker, at) == ["before"]

    @pytest.mark.parametrize("ending", ["commit", "abort"])
    async def test_a_member_passes_a_marker_at_the_end(
        self, broker: Broker, harness: ForeignHarness, ending: Ending
    ) -> None:
        at = TopicPartition(await new_topic(broker), 0)
        await harness.write(at, ["a", "b"], transaction=ending)
        member = Member()
        await member.join(broker, f"group.{at.topic}", at.topic, session_timeout_s=harness.session_timeout_s)
        end = (await broker.end_offsets([at]))[at]
        assert end == 3
        await drive(lambda: member.share == {at} and member.subscription.position(at) == end, member)
        assert member.values == (["a", "b"] if ending == "commit" else [])
        await member.subscription.close()
