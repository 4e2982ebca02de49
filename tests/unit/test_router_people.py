"""A router judges each answer by the people as of the answer's broker time.

It does not matter which router judges it, or when, and a batch of answers costs one look.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from draws import draws
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.codec.approvals import Receipt, decode_receipt, decode_request, encode_response
from mesh.codec.commands import CommandReceipt, decode_command_receipt, encode_command
from mesh.codec.people import encode_people, encode_people_activation
from mesh.codec.route_file import load_route_text
from mesh.core.activation import DELAY_MS, SLACK_MS
from mesh.core.inputs import ApprovalOrder, Command
from mesh.core.people import People, Person, people_of
from mesh.core.state import Directory
from mesh.core.topics import Topics
from mesh.errors import OperatorError, TopicMissing, UnknownFormat
from mesh.ports import OutRecord, TopicPartition, TopicSpec
from mesh.services.client import Client
from mesh.services.people import PeopleReader, activate_people, people_now
from mesh.services.router.config import RouterConfig
from mesh.services.router.people import PeopleFollower
from mesh.services.router.router import Router
from mesh.services.topic_plan import topic_specs
from mesh.testing.virtual_time.loop import SeededEntropy, VirtualClock, VirtualTimeLoop, run

TOPICS = Topics()
START_MS = 1_000_000
FILE = Directory(roles={"by-file": frozenset({"lead"})}, roles_from="approvers.yaml")


class SetClock:
    def __init__(self) -> None:
        self.ms = START_MS

    def now_ms(self) -> int:
        return self.ms


class Watched(MemoryBroker):
    """Counts its calls for the end of the people's topic."""

    looks = 0

    async def end_offsets(self, partitions: Any) -> Any:
        self.looks += any(at.topic == TOPICS.people for at in partitions)
        return await super().end_offsets(partitions)


def people(*leads: str) -> People:
    return people_of([Person(id=name, roles=frozenset({"lead"})) for name in leads])


class Mesh:
    def __init__(self) -> None:
        self.clock = SetClock()
        self.cluster = MemoryCluster(self.clock)
        self.cluster.create_topics([TopicSpec(TOPICS.people, 1)])
        self.count = 0

    async def router(self) -> tuple[PeopleFollower, Watched]:
        self.count += 1
        broker = Watched(self.cluster, f"router-{self.count}")
        follower = PeopleFollower(broker, TOPICS, self.clock)
        await follower.start()
        return follower, broker

    def apply(self, *leads: str) -> None:
        """As an operator does, and lands at once."""
        self.count += 1
        version = people(*leads)
        stored = encode_people(version, TOPICS)
        digest = (stored.key or b"").removeprefix(b"people/").decode()
        active = encode_people_activation(
            digest, topics=TOPICS, activation_id=f"a{self.count}", by="ops", at_ms=self.clock.ms
        )
        self.land(stored, active)

    def land(self, *records: OutRecord) -> None:
        self.cluster.land(TopicPartition(TOPICS.people, 0), records)


async def leads_at(follower: PeopleFollower, at_ms: int) -> set[str]:
    """Who may answer as of a time, with a look if the follower wants one."""
    if not follower.knows(at_ms, was_read=False):
        await follower.look(at_ms)
    assert follower.knows(at_ms, was_read=True)
    return set(follower.directory_at(FILE, at_ms).roles)


# What the follower knows --------------------------------------------------------------------------


async def test_until_the_first_version_the_file_rules_and_from_then_on_it_does_not() -> None:
    mesh = Mesh()
    follower, _ = await mesh.router()
    assert await leads_at(follower, START_MS) == {"by-file"}
    assert follower.current() is None
    mesh.clock.ms += 60_000
    mesh.apply("ana")
    mesh.clock.ms += 5_000
    assert await leads_at(follower, mesh.clock.ms) == {"ana"}
    assert await leads_at(follower, START_MS) == {"ana"}
    current = follower.current()
    assert current is not None
    assert set(current.persons) == {"ana"}


async def test_a_version_holds_two_seconds_after_the_broker_took_it() -> None:
    mesh = Mesh()
    mesh.apply("ana")
    mesh.clock.ms += 60_000
    mesh.apply("ben")
    follower, _ = await mesh.router()
    since = mesh.clock.ms + DELAY_MS
    assert [await leads_at(follower, at_ms) for at_ms in (since - 1, since)] == [{"ana"}, {"ben"}]


async def test_an_answer_names_the_version_that_judged_it() -> None:
    mesh = Mesh()
    mesh.apply("ana")
    follower, _ = await mesh.router()
    await follower.look(START_MS)
    found = follower.directory_at(FILE, START_MS)
    assert found.people is not None
    assert (found.roles_from, found.people.digest) == (
        TOPICS.people,
        follower.known.timeline.all()[0].activation.people,
    )


async def test_one_look_is_enough_for_a_second_of_answers() -> None:
    mesh = Mesh()
    follower, broker = await mesh.router()
    await follower.look(START_MS)
    looks = broker.looks
    known_ms = START_MS + DELAY_MS - SLACK_MS
    assert [follower.knows(at_ms, was_read=False) for at_ms in (START_MS, known_ms - 1, known_ms)] == [
        True,
        True,
        False,
    ]
    await follower.look(known_ms - 1)
    assert broker.looks == looks
    await follower.look(known_ms)
    assert broker.looks == looks + 1


async def test_an_old_look_is_of_use_for_what_was_read_before_it_alone() -> None:
    mesh = Mesh()
    follower, _ = await mesh.router()
    await follower.look(START_MS)
    follower._lookout._began_s -= 10
    assert (follower.knows(START_MS, was_read=False), follower.knows(START_MS, was_read=True)) == (False, True)


async def test_an_answer_waits_for_a_version_that_can_not_be_read_here() -> None:
    mesh = Mesh()
    mesh.apply("ana")
    follower, _ = await mesh.router()
    mesh.clock.ms += 60_000
    broken = OutRecord(TOPICS.people, b"people/sha256:9", b'{"people": 1}')
    named = encode_people_activation("sha256:9", topics=TOPICS, activation_id="x", by="ops", at_ms=1)
    missing = encode_people_activation("sha256:8", topics=TOPICS, activation_id="y", by="ops", at_ms=1)
    mesh.land(broken, named, OutRecord(TOPICS.people, b"activation/z", b"nothing"))
    await follower.look(mesh.clock.ms)
    at_ms = mesh.clock.ms + DELAY_MS
    assert await leads_at(follower, at_ms - 1) == {"ana"}
    await follower.look(at_ms)
    with pytest.raises(UnknownFormat, match=r"can't be read here: .* does not hold"):
        follower.directory_at(FILE, at_ms)
    with pytest.raises(UnknownFormat):
        await follower.look(at_ms)
    await follower.look(at_ms)  # said once for each answer that waits
    mesh.clock.ms += 60_000
    current = follower.current()
    assert current is not None, "questions are asked by the last version that could be read"
    mesh.land(missing)
    await follower.look(mesh.clock.ms)
    with pytest.raises(UnknownFormat, match=r"it is not on mesh\.approvals\.people"):
        follower.directory_at(FILE, mesh.clock.ms + DELAY_MS)


Act = tuple[str, int, int]
acts = st.lists(
    st.tuples(
        st.sampled_from(["apply", "answer", "judge", "judge_other", "wait", "set_back"]),
        st.integers(0, 3_000),
        st.integers(0, 3),
    ),
    max_size=30,
)


@given(acts)
@settings(max_examples=draws(60), deadline=None)
def test_two_routers_judge_alike_whatever_comes_in_which_order(some: Sequence[Act]) -> None:
    asyncio.run(_judge_alike(some))


async def _judge_alike(some: Sequence[Act]) -> None:
    """One router judges now and then, the other at other times; a third judges all at the end."""
    mesh = Mesh()
    mesh.apply("0")
    routers = [(await mesh.router())[0] for _ in range(2)]
    answers: list[int] = []
    judged: list[dict[int, set[str]]] = [{}, {}]
    newest_ms = mesh.clock.ms
    for what, passed_ms, number in some:
        mesh.clock.ms += passed_ms
        # as the broker does: it never stamps a record with an earlier time than the one before
        newest_ms = max(newest_ms, mesh.clock.ms)
        match what:
            case "apply":
                mesh.apply(str(number))
            case "answer":
                answers.append(newest_ms)
            case "judge" | "judge_other":
                which = int(what == "judge_other")
                for place in range(len(judged[which]), len(answers)):
                    judged[which][place] = await leads_at(routers[which], answers[place])
            case _:
                pass
    late, _ = await mesh.router()
    expected = [await leads_at(late, at_ms) for at_ms in answers]
    for found in judged:
        assert [found[place] for place in sorted(found)] == expected[: len(found)]


# A router ----------------------------------------------------------------------------------------

ROUTE = """\
route: pay
on: {type: t}
steps:
  review: {approval: {ask: Pay?, payload: 1, role: lead, quorum: 3}}
"""


class Running:
    """A router in virtual time, with an approval that is open."""

    route = ROUTE

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self.clock = VirtualClock(loop)
        self.cluster = MemoryCluster(self.clock)
        self.cluster.create_topics(topic_specs(TOPICS, partitions=1, agents=[]))
        self.operator = self.cluster.connect("operator")
        self.broker = Watched(self.cluster, "r")
        self.entropy = SeededEntropy(random.Random(1))
        self.router = Router(
            self.broker,
            topics=TOPICS,
            routes=[load_route_text(self.route, name="r.yaml")[0].route],
            roles={name: frozenset({"lead"}) for name in ("old", "older", "oldest")},
            config=RouterConfig(instance="r", partitions=1),
            clock=self.clock,
            entropy=self.entropy,
        )
        self.running = asyncio.ensure_future(self.router.run())
        self.approval = self.digest = ""

    async def ask(self) -> None:
        client = Client(self.operator, TOPICS, clock=self.clock, entropy=self.entropy)
        await client.publish_all([{"type": "t", "source": "/s", "id": "e", "data": {}}])
        [asked] = await self._wait_landed(TOPICS.requests, 1)
        request = decode_request(asked)
        self.approval, self.digest = request.approval_id, request.digest

    def _landed(self, topic: str) -> list[Any]:
        count = self.cluster.topics()[topic].partitions
        return [record for p in range(count) for record in self.cluster.records(TopicPartition(topic, p))]

    async def _wait_landed(self, topic: str, count: int) -> list[Any]:
        while True:
            found = self._landed(topic)
            if len(found) >= count:
                return found
            await asyncio.sleep(0.1)

    async def apply(self, *persons: Person) -> None:
        known = PeopleReader(self.operator, TOPICS)
        await known.start()
        token = self.entropy.token()
        await activate_people(
            known, self.operator, TOPICS, people_of(persons), activation_id=token, by="ops", at_ms=self.clock.now_ms()
        )
        await known.close()

    async def answer(self, *names: str) -> list[Receipt]:
        """Answers sent at once, and their receipts in the same order."""
        before = len(self._landed(TOPICS.receipts))
        ids = [self.entropy.token() for _ in names]
        records = [
            encode_response(
                topics=TOPICS,
                approval_id=self.approval,
                decision="approve",
                by=name,
                answer_id=one,
                at_ms=self.clock.now_ms(),
                digest=self.digest,
            )
            for one, name in zip(ids, names, strict=True)
        ]
        assert not await self.operator.send(records)
        found = await self._wait_landed(TOPICS.receipts, before + len(names))
        receipts = {one.answer_id: one for one in map(decode_receipt, found)}
        return [receipts[one] for one in ids]

    async def order(self, command: Command, **about: Any) -> CommandReceipt:
        """An operator's order about the approval, and its receipt."""
        before = len(self._landed(TOPICS.command_receipts))
        record = encode_command(
            topics=TOPICS,
            command=command,
            workflow_id=self.approval.removesuffix("/review").rpartition("/")[0],
            by="ops",
            command_id=self.entropy.token(),
            at_ms=self.clock.now_ms(),
            order=ApprovalOrder(approval_id=self.approval, **about),
        )
        assert not await self.operator.send([record])
        return decode_command_receipt((await self._wait_landed(TOPICS.command_receipts, before + 1))[-1])

    async def stop(self) -> None:
        self.router.stop()
        await self.running


def lead(id_: str, *names: str) -> Person:
    return Person(id=id_, names=names, roles=frozenset({"lead"}))


def codes(receipts: Sequence[Receipt]) -> list[tuple[str, object]]:
    return [(one.code, one.have) for one in receipts]


def test_votes_by_the_file_stay_when_the_topic_begins_to_rule() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        running = Running(loop)
        await running.ask()
        assert codes(await running.answer("old", "ana")) == [("counted", 1), ("role", 1)]
        await running.apply(lead("ana"), lead("ben"))
        await asyncio.sleep(DELAY_MS / 1000)
        assert codes(await running.answer("older", "ana")) == [("role", 1), ("counted", 2)]
        [refused] = await running.answer("old")
        assert (refused.code, refused.message) == (
            "role",
            "old is not among those who may: 3 of lead, by mesh.approvals.people",
        )
        running.router.set_roles({"older": frozenset({"lead"})})
        assert codes(await running.answer("older")) == [("role", 2)], "the file is not heard any more"
        [last] = await running.answer("ben")
        assert (last.code, last.closed, last.have) == ("accepted", True, 3)
        await running.stop()

    run(main)


def test_a_role_is_granted_and_taken_away_while_answers_arrive() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        running = Running(loop)
        await running.apply(lead("ana"), lead("ben"), lead("cem"))
        await running.ask()
        assert codes(await running.answer("ana")) == [("counted", 1)]
        await running.apply(lead("ben"), lead("cem"), lead("dan"))
        assert codes(await running.answer("dan")) == [("role", 1)], "the version does not hold yet"
        await asyncio.sleep(DELAY_MS / 1000)
        assert codes(await running.answer("dan", "ana")) == [("counted", 2), ("role", 2)]
        [last] = await running.answer("ben")
        assert (last.code, last.have) == ("accepted", 3), "the vote that was counted stays counted"
        await running.stop()

    run(main)


def test_a_person_votes_once_under_all_names_and_events_have_the_id() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        running = Running(loop)
        await running.apply(lead("ana", "slack:U1"), lead("ben"), lead("cem"))
        await running.ask()
        found = await running.answer("SLACK:u1", "Ana", "ben")
        assert codes(found) == [("counted", 1), ("counted", 1), ("counted", 2)]
        assert [one.by for one in found] == ["ana", "ana", "ben"]
        await running.stop()

    run(main)


def test_an_order_goes_by_the_people_as_of_its_broker_time() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        running = Running(loop)
        await running.apply(lead("ana"), lead("ben"), lead("cem"))
        await running.ask()
        assert codes(await running.answer("ana")) == [("counted", 1)]
        await running.apply(lead("ana", "slack:U1"), lead("ben"), lead("cem"))
        assert (await running.order("void", voter="slack:U1")).code == "no_vote", "the version does not hold yet"
        await asyncio.sleep(DELAY_MS / 1000)
        assert (await running.order("void", voter="slack:U1")).code == "accepted"
        assert codes(await running.answer("ben")) == [("counted", 1)]
        await running.stop()

    run(main)


def test_a_batch_of_answers_costs_one_look_and_everything_else_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.services.router.people._FOLLOW_EVERY_S", 1e6)

    async def main(loop: VirtualTimeLoop) -> None:
        running = Running(loop)
        # at once: the router's start takes its look while the people are applied
        before = running.broker.looks
        await running.apply(lead("ana"), lead("ben"), lead("cem"))
        await running.ask()
        await asyncio.sleep(60)
        begun = running.broker.looks
        await running.answer(*("eve",) * 50)
        assert (begun - before, running.broker.looks - begun) == (1, 1), "one at the start, and one for the answers"
        await running.stop()

    run(main)


def test_answers_wait_while_the_topic_can_not_be_read_and_other_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        running = Running(loop)
        await running.apply(lead("ana"), lead("ben"), lead("cem"))
        await running.ask()
        missing = encode_people_activation("sha256:8", topics=TOPICS, activation_id="y", by="ops", at_ms=1)
        assert not await running.operator.send([missing])
        await asyncio.sleep(DELAY_MS / 1000)
        waiting = asyncio.ensure_future(running.answer("ana"))
        await asyncio.sleep(30)
        assert not waiting.done()
        stored = encode_people(people("ana"), TOPICS)
        # the version comes after all, as where a writer was cut off between the two records
        monkeypatch.setattr("mesh.codec.people.digest", lambda _: "sha256:8")
        late = OutRecord(TOPICS.people, b"people/sha256:8", stored.value, stored.headers, partition=0)
        assert not await running.operator.send([late])
        assert codes(await waiting) == [("counted", 1)]
        await running.stop()

    run(main)


# What else reads the topic ------------------------------------------------------------------------


async def test_people_now_are_those_in_effect_and_none_before_the_first() -> None:
    mesh = Mesh()
    broker = mesh.cluster.connect("x")
    assert await people_now(broker, TOPICS, START_MS) is None
    mesh.apply("ana")
    found = await people_now(broker, TOPICS, START_MS)
    assert found is not None
    assert set(found.persons) == {"ana"}


async def test_a_topic_that_is_not_there_is_said() -> None:
    broker = MemoryCluster(SetClock()).connect("x")
    with pytest.raises(TopicMissing, match="mesh topics apply"):
        await people_now(broker, TOPICS, START_MS)


async def test_a_version_is_stored_once_and_a_failure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Mesh()
    broker = mesh.cluster.connect("x")
    known = PeopleReader(broker, TOPICS)
    await known.start()

    async def apply(name: str) -> None:
        await activate_people(known, broker, TOPICS, people("ana"), activation_id=name, by="ops", at_ms=1)

    await apply("one")
    await apply("two")
    keys = [record.key for record in mesh.cluster.records(TopicPartition(TOPICS.people, 0))]
    assert [key.partition(b"/")[0] for key in keys if key is not None] == [b"people", b"activation", b"activation"]
    monkeypatch.setattr(
        "mesh.services.people.encode_people_activation", lambda *_, **__: OutRecord("mesh.none", b"k", b"v")
    )
    with pytest.raises(OperatorError, match="k could not be stored"):
        await apply("three")
    assert len(known.timeline.all()) == len(keys) - 1
