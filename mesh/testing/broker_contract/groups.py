"""Cases on consumer groups: sharing, joining, leaving, dying, committing, listeners, pausing.

Owns these cases. It must not know any adapter. `BrokerContract` collects them.
"""

import asyncio
import secrets
from collections.abc import Sequence

import pytest

from mesh.ports import Broker, Committed, TopicPartition
from mesh.testing.broker_contract.harness import (
    GENEROUS_S,
    STEADY,
    BrokerHarness,
    ContractCases,
    Member,
    collect,
    drive,
    new_topic,
    out,
)


def _group() -> str:
    return f"contract.{secrets.token_hex(6)}"


def _all(topic: str, partitions: int) -> frozenset[TopicPartition]:
    return frozenset(TopicPartition(topic, p) for p in range(partitions))


async def _send(broker: Broker, topic: str, partitions: int, *names: str) -> None:
    await broker.send([out(topic, f"{p}.{name}", partition=p) for name in names for p in range(partitions)])


async def _drive_for(seconds: float, *members: Member) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    await drive(lambda: loop.time() > until, *members)


class GroupCases(ContractCases):
    async def test_a_lone_member_gets_everything_from_the_first_record(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topics = [await new_topic(broker, 2), await new_topic(broker, 1)]
        await _send(broker, topics[0], 2, "a", "b")
        await _send(broker, topics[1], 1, "c")
        member = Member()
        await member.join(broker, _group(), *topics, session_timeout_s=harness.session_timeout_s)
        await drive(lambda: len(member.records) == 5, member)
        assert member.share == _all(topics[0], 2) | _all(topics[1], 1)
        assert {at: seen for call in member.assigned for at, seen in call.items()} == dict.fromkeys(member.share)
        assert sorted(member.values) == ["0.a", "0.b", "0.c", "1.a", "1.b"]
        await _send(broker, topics[1], 1, "d")
        await drive(lambda: member.values[-1] == "0.d", member)

    async def test_no_record_is_handed_out_before_on_assigned_returned(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topic = await new_topic(broker, 2)
        await _send(broker, topic, 2, "a")
        member = Member()
        member.hold_assigned = asyncio.Event()
        await member.join(broker, _group(), topic, session_timeout_s=harness.session_timeout_s)
        driving = asyncio.create_task(drive(lambda: len(member.records) == 4, member))
        async with asyncio.timeout(GENEROUS_S):
            await member.entered.wait()
            await _send(broker, topic, 2, "b")
            reader = await broker.reader()
            reader.assign(dict.fromkeys(_all(topic, 2), 0))
            await collect(reader, 4)
            assert member.records == []
            member.hold_assigned.set()
            await driving
        assert sorted(member.values) == ["0.a", "0.b", "1.a", "1.b"]

    async def test_a_member_that_is_long_in_on_assigned_stays_a_member(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        """A router reads a whole state in `on_assigned`, and its polls go on meanwhile."""
        topic, group = await new_topic(broker, 2), _group()
        await _send(broker, topic, 2, "a")
        member, heir = Member(), Member()
        member.hold_assigned = asyncio.Event()
        session_s = STEADY * harness.session_timeout_s
        await member.join(broker, group, topic, session_timeout_s=session_s)
        await drive(member.entered.is_set, member)
        await _drive_for(1.25 * session_s, member)
        member.hold_assigned.set()
        await drive(lambda: len(member.records) == 2, member)
        assert member.revoked == []
        assert len(member.assigned) == 1
        await self._join_all(harness, group, topic, heir, others=[member])
        assert len(member.share) == len(heir.share) == 1

    async def test_a_member_in_a_long_poll_gives_up_a_share_at_once(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topic, group = await new_topic(broker, 2), _group()
        waiting, joining = Member(), Member()
        await self._join_all(harness, group, topic, waiting)
        polling = asyncio.create_task(waiting.poll(timeout_s=2 * GENEROUS_S))
        await joining.join(await harness.connect(), group, topic, session_timeout_s=harness.session_timeout_s)
        await drive(lambda: len(joining.share) == 1, joining)
        assert not polling.done()
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)

    async def test_members_share_the_partitions(self, broker: Broker, harness: BrokerHarness) -> None:
        topic, group = await new_topic(broker, 6), _group()
        first, second, third = Member(), Member(), Member()
        await self._join_all(harness, group, topic, first, second, third)
        assert sorted(len(m.share) for m in (first, second, third)) == [2, 2, 2]
        await _send(broker, topic, 6, "a", "b")
        await drive(lambda: len(first.records + second.records + third.records) == 12, first, second, third)
        for member in (first, second, third):
            assert {(r.topic, r.partition) for r in member.records} == member.share

    async def test_a_leaving_member_is_told_and_its_share_goes_to_the_others_at_once(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topic, group = await new_topic(broker, 4), _group()
        first, second = Member(), Member()
        await self._join_all(harness, group, topic, first, second, session_timeout_s=GENEROUS_S)
        share = second.share
        await second.subscription.close()
        assert second.revoked[-1] == share
        await drive(lambda: first.share == _all(topic, 4), first)

    async def test_what_a_leaving_member_committed_in_on_revoked_stands(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topic, group = await new_topic(broker, 2), _group()
        await _send(broker, topic, 2, "a", "b")
        leaver = Member()
        await leaver.join(broker, group, topic, session_timeout_s=harness.session_timeout_s)
        await drive(lambda: len(leaver.records) == 4, leaver)
        leaver.before_revoke = lambda _: leaver.commit(metadata="bye")
        await leaver.subscription.close()
        assert await broker.committed(group, list(_all(topic, 2))) == dict.fromkeys(_all(topic, 2), Committed(2, "bye"))

    async def test_what_is_committed_in_on_revoked_is_where_the_next_owner_begins(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topic, group = await new_topic(broker, 4), _group()
        await _send(broker, topic, 4, "a", "b")
        first, second = Member(), Member()
        await first.join(broker, group, topic, session_timeout_s=harness.session_timeout_s)
        await drive(lambda: len(first.records) == 8, first)

        async def commit(_: Sequence[TopicPartition]) -> None:
            await first.commit(metadata="handed over")

        first.before_revoke = commit
        await self._join_all(harness, group, topic, second, others=[first])
        moved = second.share
        assert {at: seen for at, seen in second.assigned[-1].items() if at in moved} == dict.fromkeys(
            moved, Committed(2, "handed over")
        )
        await _send(broker, topic, 4, "c")
        await drive(lambda: len(second.records) == len(moved), first, second)
        assert sorted(second.values) == sorted(f"{at.partition}.c" for at in moved)

    async def test_a_dead_members_share_goes_to_the_others_after_its_session(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topic, group = await new_topic(broker, 4), _group()
        dying_on = await harness.connect()
        first, dying = Member(), Member()
        await first.join(broker, group, topic, session_timeout_s=harness.session_timeout_s)
        await dying.join(dying_on, group, topic, session_timeout_s=harness.session_timeout_s, others=[first])
        await drive(lambda: len(first.share) == len(dying.share) == 2, first, dying)
        revoked = list(dying.revoked)
        await harness.crash(dying_on)
        await drive(lambda: first.share == _all(topic, 4), first)
        assert dying.revoked == revoked

    async def test_what_was_not_committed_before_a_crash_comes_again(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topic, group = await new_topic(broker, 2), _group()
        await _send(broker, topic, 2, "a", "b")
        dying_on = await harness.connect()
        dying, heir = Member(), Member()
        await dying.join(dying_on, group, topic, session_timeout_s=harness.session_timeout_s)
        await drive(lambda: len(dying.records) == 4, dying)
        await dying.commit(metadata="done: 7, 9")
        await _send(broker, topic, 2, "c", "d")
        await drive(lambda: len(dying.records) == 8, dying)
        await harness.crash(dying_on)
        await heir.join(broker, group, topic, session_timeout_s=harness.session_timeout_s)
        await drive(lambda: len(heir.records) == 4, heir)
        assert sorted(heir.values) == ["0.c", "0.d", "1.c", "1.d"]
        assert heir.assigned[-1] == dict.fromkeys(_all(topic, 2), Committed(2, "done: 7, 9"))

    async def test_offsets_and_metadata_of_a_commit_come_back(self, broker: Broker, harness: BrokerHarness) -> None:
        topic, group = await new_topic(broker, 3), _group()
        a, b, c = (TopicPartition(topic, p) for p in range(3))
        await _send(broker, topic, 3, *"xyz")
        first, second = Member(), Member()
        await first.join(broker, group, topic, session_timeout_s=harness.session_timeout_s)
        await drive(lambda: len(first.records) == 9, first)
        long = "ü" * 2048
        await first.subscription.commit({a: Committed(1, "beyond: 2"), b: Committed(2, long)})
        await first.subscription.commit({a: Committed(2, '{"done":[2]}')})
        expected = {a: Committed(2, '{"done":[2]}'), b: Committed(2, long), c: None}
        assert await (await harness.connect()).committed(group, [a, b, c]) == expected
        await first.subscription.close()
        await second.join(broker, group, topic, session_timeout_s=harness.session_timeout_s)
        await drive(lambda: len(second.records) == 5, second)
        assert second.assigned[-1] == expected

    async def test_an_unknown_group_has_committed_nothing(self, broker: Broker) -> None:
        at = TopicPartition(await new_topic(broker), 0)
        assert await broker.committed(_group(), [at]) == {at: None}

    async def test_a_commit_for_a_partition_of_another_member_is_ignored(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topic, group = await new_topic(broker, 4), _group()
        first, second = Member(), Member()
        await self._join_all(harness, group, topic, first, second)
        mine, other = next(iter(first.share)), next(iter(second.share))
        stands = await first.subscription.commit({mine: Committed(0, "mine"), other: Committed(0, "not mine")})
        assert stands == {mine}
        assert await broker.committed(group, [mine, other]) == {mine: Committed(0, "mine"), other: None}

    async def test_a_member_that_confirms_has_what_it_holds_and_its_positions_stay(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topic, group = await new_topic(broker, 2), _group()
        await _send(broker, topic, 2, "a")
        member = Member()
        await member.join(broker, group, topic, session_timeout_s=harness.session_timeout_s)
        await drive(lambda: len(member.records) == 2, member)
        at = TopicPartition(topic, 0)
        await member.subscription.commit({at: Committed(1, "done")})
        assert await member.subscription.confirm() == _all(topic, 2)
        assert (await broker.committed(group, [at]))[at] == Committed(1, "done")
        await _send(broker, topic, 2, "b")
        await drive(lambda: len(member.records) == 4, member)
        assert member.revoked == []

    async def test_a_member_that_was_given_the_rest_confirms_it_too(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topic, group = await new_topic(broker, 2), _group()
        first, second = Member(), Member()
        await self._join_all(harness, group, topic, first, second)
        share = second.share
        await first.subscription.close()
        await drive(lambda: second.share == _all(topic, 2), second)
        assert await second.subscription.confirm() > share

    async def test_groups_do_not_share_with_each_other(self, broker: Broker, harness: BrokerHarness) -> None:
        topic = await new_topic(broker, 2)
        await _send(broker, topic, 2, "a")
        one, two = Member(), Member()
        await one.join(broker, _group(), topic, session_timeout_s=harness.session_timeout_s)
        await two.join(broker, _group(), topic, session_timeout_s=harness.session_timeout_s, others=[one])
        await drive(lambda: len(one.records) == len(two.records) == 2, one, two)

    async def test_what_on_assigned_raises_is_raised_by_poll(self, broker: Broker, harness: BrokerHarness) -> None:
        topic = await new_topic(broker, 2)
        member = Member()
        member.fail_assigned = RuntimeError("the state is gone")
        with pytest.raises(RuntimeError, match="the state is gone"):
            await self._poll_until_raised(member, broker, topic, harness)

    async def test_what_on_revoked_raises_is_raised_by_poll(self, broker: Broker, harness: BrokerHarness) -> None:
        topic, group = await new_topic(broker, 2), _group()
        first, second = Member(), Member()
        first.fail_revoked = RuntimeError("the state stays")
        await first.join(broker, group, topic, session_timeout_s=harness.session_timeout_s)
        await drive(lambda: first.share == _all(topic, 2), first)

        async def both() -> None:
            await second.join(
                await harness.connect(), group, topic, session_timeout_s=harness.session_timeout_s, others=[first]
            )
            await drive(lambda: False, first, second)

        with pytest.raises(RuntimeError, match="the state stays"):
            async with asyncio.timeout(GENEROUS_S):
                await both()

    async def test_a_member_without_fetching_shares_but_reads_nothing(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topic, group = await new_topic(broker, 4), _group()
        await _send(broker, topic, 4, "a")
        first, second = Member(), Member()
        await self._join_all(harness, group, topic, first, second, fetch=False)
        assert not await first.poll()
        await second.subscription.close()
        await drive(lambda: first.share == _all(topic, 4), first)
        assert not await first.poll()
        assert first.records == second.records == []

    async def test_paused_partitions_hand_out_nothing_and_lose_nothing(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topic = await new_topic(broker, 2)
        a, b = TopicPartition(topic, 0), TopicPartition(topic, 1)
        await _send(broker, topic, 2, "1", "2", "3")
        member = Member()
        await member.join(broker, _group(), topic, session_timeout_s=harness.session_timeout_s)
        await drive(lambda: member.share == {a, b}, member)
        while "0.1" not in member.values:  # some may be waiting inside already
            await member.poll(max_records=1)
        member.subscription.pause([a])
        before = [v for v in member.values if v.startswith("0.")]
        await _send(broker, topic, 2, "4")
        await drive(lambda: "1.4" in member.values, member)
        await member.poll()
        assert [v for v in member.values if v.startswith("0.")] == before
        member.subscription.resume([a])
        await drive(lambda: "0.4" in member.values, member)
        for p in "01":
            assert [v for v in member.values if v.startswith(p)] == [f"{p}.{n}" for n in "1234"]

    async def test_a_member_whose_partitions_are_all_paused_stays_a_member(
        self, broker: Broker, harness: BrokerHarness
    ) -> None:
        topic, group = await new_topic(broker, 2), _group()
        member = Member()
        session_s = STEADY * harness.session_timeout_s
        await member.join(broker, group, topic, session_timeout_s=session_s)
        await drive(lambda: member.share == _all(topic, 2), member)
        member.subscription.pause(list(_all(topic, 2)))
        await _drive_for(1.25 * session_s, member)
        assert member.share == _all(topic, 2)
        assert member.revoked == []
        await _send(broker, topic, 2, "a")
        member.subscription.resume(list(_all(topic, 2)))
        await drive(lambda: len(member.records) == 2, member)

    async def test_cancelling_a_poll_of_a_member_loses_no_record(self, broker: Broker, harness: BrokerHarness) -> None:
        topic = await new_topic(broker)
        member = Member()
        await member.join(broker, _group(), topic, session_timeout_s=harness.session_timeout_s)
        await drive(lambda: member.share == _all(topic, 1), member)
        for n in range(20):
            polling = asyncio.create_task(member.poll(timeout_s=1.0))
            sending = asyncio.create_task(broker.send([out(topic, str(n))]))
            for _ in range(n):
                await asyncio.sleep(0)
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
            await sending
        await drive(lambda: len(member.records) >= 20, member)
        assert member.values == [str(n) for n in range(20)]

    async def _join_all(
        self,
        harness: BrokerHarness,
        group: str,
        topic: str,
        *members: Member,
        others: Sequence[Member] = (),
        session_timeout_s: float | None = None,
        fetch: bool = True,
    ) -> None:
        """Let each member join on a connection of its own.

        Returns when every partition has one owner and every member has a share.
        """
        joined = list(others)
        count = 0
        for member in members:
            connection = await harness.connect()
            count = (await connection.topics())[topic].partitions
            await member.join(
                connection,
                group,
                topic,
                session_timeout_s=session_timeout_s or harness.session_timeout_s,
                fetch=fetch,
                others=joined,
            )
            joined.append(member)

        def settled() -> bool:
            shares = [m.share for m in joined]
            return all(shares) and sum(map(len, shares)) == count and len(frozenset().union(*shares)) == count

        await drive(settled, *joined)

    async def _poll_until_raised(self, member: Member, broker: Broker, topic: str, harness: BrokerHarness) -> None:
        await member.join(broker, _group(), topic, session_timeout_s=harness.session_timeout_s)
        await drive(lambda: False, member)
