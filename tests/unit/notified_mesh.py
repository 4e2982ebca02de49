"""Notifiers in virtual time, with the real approvals of one owner and played receivers.

Owns the topics, the people, the clock and the receivers. Approvals are decided by the core itself,
so what notifiers read is what a router writes.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from one_partition import PEOPLE, Partition, route

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.codec import calendars
from mesh.codec.calendars_file import load_calendar_text
from mesh.codec.channels import Channel, ChannelKind, encode_channel
from mesh.codec.effects import EffectEncoder
from mesh.codec.notices import NOTICE_PARTITIONS, Notice, decode_notice
from mesh.codec.open_approvals import OPEN_PARTITIONS, placed
from mesh.codec.people import digest_of, encode_people, encode_people_activation
from mesh.core.effects import effects
from mesh.core.open_approvals import ShowApproval
from mesh.core.people import Person, people_of
from mesh.core.receipts import SendReceipt
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.notifier.config import NotifierConfig
from mesh.notifier.couriers import Undelivered
from mesh.notifier.messages import Message
from mesh.notifier.notifier import Notifier
from mesh.ports import OutRecord, Record, TopicPartition, TopicSpec
from mesh.testing.virtual_time.incarnation import Incarnation
from mesh.testing.virtual_time.loop import VirtualClock, VirtualTimeLoop, run

TOPICS = Topics()
LOOK_S = 60.0
HOUR_S = 3_600.0
T = TypeVar("T")


class Arrived(NamedTuple):
    """A message that a receiver took. `at_s`: of virtual time."""

    at_s: float
    kind: ChannelKind
    address: str
    message: Message


class Receivers:
    """All receivers. `refuse`: says why one does not take a message; None: it does."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self.arrived: list[Arrived] = []
        self.refused: list[Arrived] = []
        self.takes_s: dict[str, float] = {}  # by address, how long it takes
        self.refuse: Callable[[str, Message], Undelivered | None] = lambda address, message: None

    async def deliver(self, kind: ChannelKind, address: str, message: Message) -> None:
        await asyncio.sleep(self.takes_s.get(address, 0.01))
        found, error = Arrived(self._loop.time(), kind, address, message), self.refuse(address, message)
        (self.arrived if error is None else self.refused).append(found)
        if error is not None:
            raise error

    def told(self, address: str = "") -> list[str]:
        """`<what>/<number> <person>` of each message, after the workflow's key if it is not `k`."""
        return [_short(one.message.id) for one in self.arrived if address in ("", one.address)]


def _short(notice_id: str) -> str:
    *before, what, number, person = notice_id.split("/")
    key = before[0].partition(":")[2] if before else ""
    return f"{f'{key} ' if key not in ('', 'k') else ''}{what}/{number} {person}"


class NotifiedMesh:
    """`terms`: of the approval that each workflow asks."""

    def __init__(self, loop: VirtualTimeLoop, folder: Path, roles: Mapping[str, str], **terms: Any) -> None:
        self.loop, self.folder = loop, folder
        self.clock = VirtualClock(loop)
        self.cluster = MemoryCluster(clock=self.clock)
        self.broker = self.cluster.connect("test")
        self.receivers = Receivers(loop)
        self.roles = {name: frozenset(held.split()) for name, held in roles.items()}
        self.partition = Partition(asking(**terms), directory=PEOPLE.__class__(roles=self.roles))
        self.processes: list[Incarnation] = []
        self._sent = self._offset = 0

    async def create(self, *channels: str, **more: Channel) -> None:
        """The topics, the people, and a webhook for each of `channels`."""
        specs = [TopicSpec(name, 1) for name in (TOPICS.receipts, TOPICS.people)]
        open_topic = TopicSpec(TOPICS.open_approvals, OPEN_PARTITIONS)
        await self.broker.create_topics([*specs, open_topic, TopicSpec(TOPICS.notices, NOTICE_PARTITIONS)])
        await self.apply_people()
        for name in channels:
            await self.set_channel(name, self.webhook(name))
        for name, channel in more.items():
            await self.set_channel(name, channel)

    async def apply_people(self) -> None:
        people = people_of(Person(id=name, roles=roles) for name, roles in self.roles.items())
        active = encode_people_activation(
            digest_of(people), topics=TOPICS, activation_id=f"a{self.loop.time()}", by="op", at_ms=self.clock.now_ms()
        )
        await self.send([encode_people(people, TOPICS), active])

    def webhook(self, person: str) -> Channel:
        return Channel(webhook=f"https://{person}/")

    async def apply_calendar(self, text: str) -> None:
        """A calendar as its file has it."""
        now_ms = self.clock.now_ms()
        calendar = load_calendar_text(text, datetime.fromtimestamp(now_ms / 1000, UTC).date())
        digest = calendars.digest_of(calendar)
        active = calendars.encode_calendar_activation(
            calendar.name, digest, topics=TOPICS, activation_id=f"c{self.loop.time()}", by="op", at_ms=now_ms
        )
        await self.send([calendars.encode_calendar(calendar, TOPICS), active])

    async def set_channel(self, person: str, channel: Channel | None) -> None:
        record = encode_channel(person, channel, topics=TOPICS, record_id="c", at_ms=self.clock.now_ms())
        await self.send([record])

    async def send(self, records: list[OutRecord]) -> None:
        assert not await self.broker.send(records)

    async def do(self, act: Callable[[Partition], object], *, receipts: bool = True) -> None:
        """Let something happen to the approvals, now, and send what follows of it."""
        self.partition.now_ms = self.clock.now_ms()
        act(self.partition)
        encoder = EffectEncoder(TOPICS, 0, 1)
        out: list[OutRecord] = []
        for decision in self.partition.decisions[self._sent :]:
            self._offset += 1
            for effect in effects(decision):
                if isinstance(effect, ShowApproval):
                    out.append(placed(encoder.encode(effect), self._offset))
                elif isinstance(effect, SendReceipt) and receipts:
                    out.append(encoder.encode(effect))
        self._sent = len(self.partition.decisions)
        await self.send(out)

    def start(self, name: str = "one", *, folder: str = "", **config: Any) -> Notifier:
        """Start a notifier as a process of its own."""
        process = self.loop.incarnation(name)
        broker = self.cluster.connect(name)
        process.on_kill(broker.kill)
        notifier = self.make(name, broker, folder=folder, **config)
        self.processes.append(process)
        process.start(notifier.run())
        return notifier

    def make(self, name: str, broker: MemoryBroker | None = None, *, folder: str = "", **config: Any) -> Notifier:
        """A notifier that does not run yet."""
        return Notifier(
            broker or self.broker,
            topics=TOPICS,
            config=NotifierConfig(instance=name, look_s=LOOK_S, people_s=LOOK_S, **config),
            clock=self.clock,
            folder=self.folder / (folder or name),
            courier=self.receivers,
        )

    def kill(self, number: int = -1) -> None:
        self.processes[number].kill()

    async def pass_time(self, seconds: float = 4 * LOOK_S) -> None:
        await asyncio.sleep(seconds)

    def today(self) -> str:
        return f"{datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC):%Y%m%d}"

    async def notices(self) -> dict[tuple[str, str], list[Notice]]:
        """Each notice by id and channel, as it became."""
        reader = await self.broker.reader()
        places = [TopicPartition(TOPICS.notices, number) for number in range(NOTICE_PARTITIONS)]
        ends = await self.broker.end_offsets(places)
        reader.assign(dict.fromkeys(places, 0))
        records: list[Record] = []
        while any(reader.position(at) < end for at, end in ends.items()):
            records += await reader.poll(max_records=1_000, timeout_s=1)
        await reader.close()
        found: dict[tuple[str, str], list[Notice]] = {}
        for notice in map(decode_notice, records):
            found.setdefault((notice.id, notice.channel), []).append(notice)
        return found

    async def statuses(self) -> dict[str, str]:
        """What became of each notice, by its short id."""
        return {_short(own_id): said[-1].status for (own_id, _), said in (await self.notices()).items()}


def asking(**terms: Any) -> Route:
    work = {"ask": "Pay ${{ event.data.amount }}?", "payload": "${{ event.data }}", **terms}
    return route({"review": {"approval": work}}, route="pay")


def begin(key: str = "k", amount: int = 5) -> Callable[[Partition], object]:
    return lambda p: p.start(key, event_id=f"e-{key}", data={"amount": amount})


def play(
    folder: Path, roles: Mapping[str, str], scene: Callable[[NotifiedMesh], Coroutine[Any, Any, T]], **terms: Any
) -> T:
    """Play a scene in virtual time."""

    async def main(loop: VirtualTimeLoop) -> T:
        made = NotifiedMesh(loop, folder, roles, **terms)
        try:
            return await scene(made)
        finally:
            for process in made.processes:
                process.kill()
            await made.broker.close()

    return run(main)
