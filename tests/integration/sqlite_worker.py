"""Programs that the SQLite tests run as processes of their own.

`python sqlite_worker.py MODE FILE [SESSION_S]`. They report on stdout.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence

from mesh.adapters.sqlite import SqliteBroker
from mesh.ports import Committed, OutRecord, TopicPartition

LOG = TopicPartition("log", 0)
_POLL_S = 5.0


def say(*words: object) -> None:
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


class Telling:
    async def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        say("assigned", *sorted(place.partition for place in partitions))

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        say("revoked", *sorted(place.partition for place in partitions))


async def append(broker: SqliteBroker, _: float) -> None:
    """Append decisions with one effect each, until killed; after a refusal behind a claim."""
    end = (await broker.end_offsets([LOG]))[LOG]
    while True:
        decisions = [OutRecord("log", b"w", b"%d" % n) for n in range(end, end + 5)]
        effects = [OutRecord("tasks", None, record.value) for record in decisions]
        if (await broker.append(LOG, end, decisions, effects)).refused:
            claimed = await broker.append(LOG, None, [OutRecord("log", b"w", b"claim")], [])
            end = sum(claimed.spans[-1])
            continue
        end += len(decisions)
        say("appended", end)


async def work(broker: SqliteBroker, session_s: float) -> None:
    """Answer each task with a result, and commit after it, until killed."""
    member = await broker.subscribe("workers", ["tasks"], Telling(), member="worker", session_timeout_s=session_s)
    while True:
        for record in await member.poll(max_records=3, timeout_s=_POLL_S):
            await broker.send([OutRecord("results", record.key, record.value)])
            place = TopicPartition(record.topic, record.partition)
            await member.commit({place: Committed(record.offset + 1)})
            say("done", (record.value or b"").decode())


async def answer(broker: SqliteBroker, _: float) -> None:
    """Send back each record of `tasks` as it comes."""
    reader = await broker.reader()
    reader.assign({TopicPartition("tasks", 0): 0})
    say("ready")
    while True:
        for record in await reader.poll(max_records=10, timeout_s=3600.0):
            await broker.send([OutRecord("results", record.key, record.value)])


async def main(mode: str, file: str, session_s: str = "10") -> None:
    broker = await SqliteBroker.open(file, client_id=mode)
    await {"append": append, "work": work, "answer": answer}[mode](broker, float(session_s))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
