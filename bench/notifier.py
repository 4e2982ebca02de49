"""How long `mesh notifier` takes with many open approvals, in one process and without a broker.

    python bench/notifier.py [--open 100000] [--people 1] [--profile]

Owns the topics in memory, the people and a receiver that takes all at once. It times the first
start on a full topic, what one new approval costs after that, the close of some, a restart with the
files that are there, and one with an empty folder, which must tell nothing.
"""

import argparse
import asyncio
import cProfile
import pstats
import resource
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mesh.adapters.memory import MemoryCluster
from mesh.adapters.system import SystemClock
from mesh.codec.channels import Channel, ChannelKind, encode_channel
from mesh.codec.notices import NOTICE_PARTITIONS
from mesh.codec.open_approvals import OPEN_PARTITIONS, encode_shown, placed
from mesh.codec.people import digest_of, encode_people, encode_people_activation
from mesh.core.events import ApprovalRequested
from mesh.core.open_approvals import ShowApproval
from mesh.core.people import Person, people_of
from mesh.core.topics import Topics
from mesh.notifier.config import NotifierConfig
from mesh.notifier.messages import Message
from mesh.notifier.notifier import Notifier
from mesh.ports import OutRecord, TopicPartition, TopicSpec

TOPICS = Topics()
PORTION = 2_000
SOME = 1_000


class Receiver:
    """Takes every message at once."""

    def __init__(self) -> None:
        self.messages = 0

    async def deliver(self, _kind: ChannelKind, _address: str, _message: Message) -> None:
        self.messages += 1


class Bench:
    def __init__(self, folder: Path, people: int) -> None:
        self.folder = folder
        self.people = [f"p{number}" for number in range(people)]
        self.clock = SystemClock()
        self.cluster = MemoryCluster(clock=self.clock)
        self.broker = self.cluster.connect("bench")
        self.receiver = Receiver()
        self.top = 0

    async def create(self) -> None:
        specs = [TopicSpec(name, 1) for name in (TOPICS.receipts, TOPICS.people)]
        specs += [TopicSpec(TOPICS.open_approvals, OPEN_PARTITIONS), TopicSpec(TOPICS.notices, NOTICE_PARTITIONS)]
        await self.broker.create_topics(specs)
        people = people_of(Person(id=one, roles=frozenset({"finance"})) for one in self.people)
        now_ms = self.clock.now_ms()
        active = encode_people_activation(digest_of(people), topics=TOPICS, activation_id="a", by="bench", at_ms=now_ms)
        channel = Channel(slack="https://slack/")
        channels = [encode_channel(one, channel, topics=TOPICS, record_id="c", at_ms=now_ms) for one in self.people]
        await self.send([encode_people(people, TOPICS), active, *channels])

    async def send(self, records: list[OutRecord]) -> None:
        assert not await self.broker.send(records)

    async def ask(self, count: int) -> None:
        for start in range(self.top, self.top + count, PORTION):
            some = range(start, min(start + PORTION, self.top + count))
            await self.send([self._shown(number, is_open=True) for number in some])
        self.top += count

    async def end(self, count: int) -> None:
        """End the first ones. Nobody knows how: there is no receipt."""
        await self.send([self._shown(number, is_open=False) for number in range(count)])

    def _shown(self, number: int, *, is_open: bool) -> OutRecord:
        now_ms, workflow_id = self.clock.now_ms(), f"pay:{number}"
        event = ApprovalRequested(
            step="review",
            approval_id=f"{workflow_id}/0af76519/review",
            question=f"Pay {number} EUR?",
            payload={"amount": number, "account": f"account {number}", "about": "what it is for, " * 25},
            digest="sha256:" + "0" * 64,
            role="finance",
            on_expiry="reject",
            traceparent="",
            reason="needs precheck: succeeded",
            deadline_at_ms=now_ms + 7_200_000 + (number * 7_919) % 1_000_000 * 1_000,
        )
        show = ShowApproval(
            workflow_id=workflow_id,
            approval_id=event.approval_id,
            part="request",
            value=event if is_open else None,
            at_ms=now_ms,
        )
        return placed(encode_shown(show, topics=TOPICS), 2 * number + (not is_open))

    @asynccontextmanager
    async def running(self, name: str, folder: str) -> AsyncIterator[Notifier]:
        notifier = Notifier(
            self.cluster.connect(name),
            topics=TOPICS,
            config=NotifierConfig(instance=name),
            clock=self.clock,
            folder=self.folder / folder,
            courier=self.receiver,
        )
        task = asyncio.create_task(notifier.run())
        try:
            yield notifier
        finally:
            notifier.stop()
            await task

    async def sent(self) -> int:
        """How many records the topic of notices has."""
        places = [TopicPartition(TOPICS.notices, number) for number in range(NOTICE_PARTITIONS)]
        return sum((await self.broker.end_offsets(places)).values())

    async def until_sent(self, records: int) -> None:
        while True:
            if await self.sent() >= records:
                return
            await asyncio.sleep(0.05)


class Stopwatch:
    """Prints seconds by the clock, and of the processor.

    On a busy machine the first says little.
    """

    def __init__(self) -> None:
        self._clock_s, self._processor_s = time.perf_counter(), time.process_time()

    def say(self, what: str) -> None:
        clock_s, processor_s = time.perf_counter() - self._clock_s, time.process_time() - self._processor_s
        print(f"{what:<60} {clock_s:7.2f} s, {processor_s:7.2f} s of the processor", flush=True)


async def rounds(folder: Path, count: int, people: int) -> None:
    bench = Bench(folder, people)
    await bench.create()
    await bench.ask(count)
    told = 2 * count * people  # each notice is there as due, and as sent
    watch = Stopwatch()
    async with bench.running("one", "kept"):
        await bench.until_sent(count * people)
        watch.say(f"{count:,} open, first start, all is planned")
        await bench.until_sent(told)
        watch.say(f"... all notices went out, in {bench.receiver.messages:,} messages")
        watch = Stopwatch()
        await asyncio.sleep(10)
        watch.say("10 s in which nothing happens")
        watch = Stopwatch()
        await bench.ask(1)
        told += 2 * people
        await bench.until_sent(told)
        watch.say("one more is asked and told")
        watch = Stopwatch()
        await bench.end(SOME)
        told += 2 * SOME * people
        await bench.until_sent(told)
        watch.say(f"{SOME:,} end, with a notice of each (10 s of it waiting for a receipt)")
    for name, kept in (("two", "kept"), ("three", "empty")):
        watch, messages = Stopwatch(), bench.receiver.messages
        async with bench.running(name, kept):
            await bench.ask(1)
            told += 2 * people
            await bench.until_sent(told)
            watch.say(f"a start with {kept} files, and one more approval")
        assert await bench.sent() == told, "something was told twice"
        assert bench.receiver.messages == messages + people
    await bench.broker.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open", type=int, default=100_000)
    parser.add_argument("--people", type=int, default=1)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    profile = cProfile.Profile()
    if given.profile:
        profile.enable()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(rounds(Path(folder), given.open, given.people))
    if given.profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB at most")


if __name__ == "__main__":
    main()
