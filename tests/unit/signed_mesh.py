"""A router in virtual time whose people sign, for the tests of signatures and of the audit."""

import asyncio
import random
from typing import Any

import msgspec
from signing_kit import header, key, with_signature

from mesh.adapters.memory import MemoryCluster
from mesh.codec.approvals import Receipt, decode_receipt, decode_request
from mesh.codec.approver_keys import encode_key, encode_revocation
from mesh.codec.jws_bodies import encode_signed, mesh_of
from mesh.codec.route_file import load_route_text
from mesh.codec.times import rfc3339
from mesh.core.activation import DELAY_MS
from mesh.core.approver_keys import SpeaksFor
from mesh.core.json_values import digest
from mesh.core.people import Person, people_of
from mesh.core.signing import Level
from mesh.core.topics import Topics
from mesh.inspection.audit.bundle import Head, bundle_lines
from mesh.ports import OutRecord, TopicPartition
from mesh.services.client import Client
from mesh.services.people import PeopleReader, activate_people
from mesh.services.router.config import RouterConfig
from mesh.services.router.router import Router
from mesh.services.topic_plan import topic_specs
from mesh.testing.virtual_time.loop import SeededEntropy, VirtualClock, VirtualTimeLoop

TOPICS = Topics()
ROUTE = """\
route: pay
on: {type: t}
key: ${{ event.id }}
steps:
  review: {approval: {ask: Pay?, payload: {n: 1}, role: lead, quorum: 2, not: {people: ["eve"]}}}
"""


def lead(name: str, *names: str) -> Person:
    return Person(id=name, names=names, roles=frozenset({"lead"}))


class SignedMesh:
    """A mesh with ana, ben and eve, who are leads and have keys. `eve` is excluded."""

    def __init__(self, loop: VirtualTimeLoop, *, answers: Level = "gateway", route: str = ROUTE) -> None:
        self.clock = VirtualClock(loop)
        self.cluster = MemoryCluster(self.clock)
        self.cluster.create_topics(topic_specs(TOPICS, partitions=1, agents=[]))
        self.operator = self.cluster.connect("operator")
        self.entropy = SeededEntropy(random.Random(1))
        self.client = Client(self.operator, TOPICS, clock=self.clock, entropy=self.entropy)
        self.router = Router(
            self.cluster.connect("r"),
            topics=TOPICS,
            routes=[load_route_text(route, name="r.yaml")[0].route],
            roles={},
            config=RouterConfig(instance="r", partitions=1, answers=answers),
            clock=self.clock,
            entropy=self.entropy,
        )
        self.running = asyncio.ensure_future(self.router.run())
        self.mesh = mesh_of(TOPICS.prefix, self.cluster.cluster_id)
        self.asked = 0

    async def begin(self, *persons: Person) -> None:
        await self.apply(*(persons or (lead("ana", "slack:U1"), lead("ben"), lead("eve"))))
        for name in ("ana", "ben", "eve"):
            await self.write(self.key_of(name))
        await asyncio.sleep(DELAY_MS / 1_000)

    async def apply(self, *persons: Person) -> None:
        known = PeopleReader(self.operator, TOPICS)
        await known.start()
        await activate_people(
            known,
            self.operator,
            TOPICS,
            people_of(persons),
            activation_id=self.entropy.token(),
            by="ops",
            at_ms=self.clock.now_ms(),
        )
        await known.close()

    def key_of(self, name: str, *, speaks_for: SpeaksFor | None = None) -> OutRecord:
        return encode_key(
            key(name).x, topics=TOPICS, person=name, by="ops", at_ms=self.clock.now_ms(), speaks_for=speaks_for
        )

    def end_of(self, name: str, *, since_ms: int | None = None) -> OutRecord:
        return encode_revocation(
            key(name).kid, topics=TOPICS, by="ops", at_ms=self.clock.now_ms(), reason="stolen", since_ms=since_ms
        )

    async def write(self, record: OutRecord) -> None:
        assert not await self.operator.send([record])

    async def ask(self) -> tuple[str, str]:
        """A new approval: its id, and the digest of its payload."""
        await self.client.publish_all([{"type": "t", "source": "/s", "id": f"e{self.asked}", "data": {}}])
        self.asked += 1
        request = decode_request((await self._wait(TOPICS.requests, self.asked))[-1])
        return request.approval_id, request.digest

    def body(self, approval: tuple[str, str], by: str = "ana", **more: Any) -> dict[str, Any]:
        return {
            "mesh": self.mesh,
            "approval_id": approval[0],
            "decision": "approve",
            "by": by,
            "digest": approval[1],
            "answer_id": self.entropy.token(),
            "answered_at": rfc3339(self.clock.now_ms()),
            **more,
        }

    async def answer(
        self, approval: tuple[str, str], by: str = "ana", *, payload: Any = msgspec.UNSET, **more: Any
    ) -> Receipt:
        """An answer that is signed as it should be."""
        is_edit = payload is not msgspec.UNSET
        more = {"payload_digest": digest(payload), **more} if is_edit else more
        jws = with_signature(header(by), self.body(approval, by, **more), by)
        return await self.send(encode_signed(jws, payload, is_edit=is_edit))

    async def send(self, value: bytes) -> Receipt:
        """Any bytes as an answer, and the receipt."""
        before = len(self.landed(TOPICS.receipts))
        await self.write(OutRecord(TOPICS.responses, None, value))
        return decode_receipt((await self._wait(TOPICS.receipts, before + 1))[-1])

    def landed(self, topic: str) -> list[Any]:
        count = self.cluster.topics()[topic].partitions
        return [record for p in range(count) for record in self.cluster.records(TopicPartition(topic, p))]

    async def _wait(self, topic: str, count: int) -> list[Any]:
        while True:
            found = self.landed(topic)
            if len(found) >= count:
                return sorted(found, key=lambda one: one.timestamp_ms)
            await asyncio.sleep(0.1)

    def bundle(self, approval: tuple[str, str]) -> list[bytes]:
        workflow_id = approval[0].rsplit("/", 2)[0]
        head = Head(bundle=1, mesh=self.mesh, workflow_id=workflow_id, log=TOPICS.log, partition=0)
        people = [*self.landed(TOPICS.people), *self.landed(TOPICS.delegations)]
        return list(bundle_lines(head, people, self.landed(TOPICS.log)))

    async def stop(self) -> None:
        self.router.stop()
        await self.running
