"""Checks a whole run from outside: what was published, logged, sent and posted.

Owns the reading; `mesh.testing.promises` judges. It reads every topic of the broker again, in its
own process, and reports what the promises forbid: lost, duplicated, reordered, phantom.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mesh.adapters.checkpoint import CheckpointFile
from mesh.codec.state import canonical_workflow, decode_workflow
from mesh.core.ids import BUILT_IN
from mesh.core.replay import PartitionFold
from mesh.core.topics import Topics
from mesh.ports import Broker, Record, TopicPartition
from mesh.testing.promises.judge import Promises


class Evidence:
    """Everything that a broker holds of one mesh.

    `findings` is empty if every promise was kept.
    """

    def __init__(self, promises: Promises) -> None:
        self.findings: list[str] = []
        self.promises = promises

    @property
    def folds(self) -> dict[int, PartitionFold]:
        return {number: self.promises.fold(number) for number in self.promises.partitions()}

    def workflows(self) -> dict[str, bytes]:
        """Each workflow in canonical JSON, by id, as this fold has it."""
        return {
            name: canonical_workflow(workflow)
            for fold in self.folds.values()
            for name, workflow in fold.state.workflows.items()
        }

    def expect(self, kept: bool, finding: str) -> None:
        if not kept:
            self.findings.append(finding)


async def read_topic(broker: Broker, topic: str) -> list[Record]:
    """All records that a topic has now."""
    info = (await broker.topics()).get(topic)
    if info is None:
        return []
    partitions = [TopicPartition(topic, p) for p in range(info.partitions)]
    positions = dict(await broker.begin_offsets(partitions))
    ends = await broker.end_offsets(partitions)
    reader = await broker.reader()
    reader.assign(positions)
    records: list[Record] = []
    try:
        while any(positions[tp] < end for tp, end in ends.items()):
            got = await reader.poll(max_records=5000, timeout_s=30)
            if not got:
                raise AssertionError(f"{topic} can't be read to its end")
            for record in got:
                positions[TopicPartition(topic, record.partition)] = record.offset + 1
                records.append(record)
    finally:
        await reader.close()
    return records


async def gather(broker: Broker, topics: Topics) -> Evidence:
    """Read everything that the mesh has written, and check the promises."""
    promises = Promises(topics, afterwards=True)
    evidence = Evidence(promises)
    names = [topics.definitions, topics.events, topics.responses, topics.commands, topics.inbox, topics.results]
    names += [
        topics.requests,
        topics.open_approvals,
        topics.receipts,
        topics.command_receipts,
        topics.outcomes,
        topics.dlq,
        topics.withdrawals,
    ]
    names += [name for name in await broker.topics() if name.startswith(topics.tasks(""))]
    for name in [*names, topics.log]:
        for record in await read_topic(broker, name):
            promises.landed(record)
    evidence.findings += promises.findings + promises.unsent()
    return evidence


def check_inputs(evidence: Evidence, started: Iterable[str], status: str = "completed") -> None:
    """Check that every workflow which upstream's events start has ended as it should.

    No other workflow may exist, except built-in ones.
    """
    expected = set(started)
    found = [(name, w.status) for fold in evidence.folds.values() for name, w in fold.state.workflows.items()]
    states = {name: status for name, status in found if not name.startswith(BUILT_IN)}
    evidence.findings += [f"lost: {name} never started" for name in expected - states.keys()]
    evidence.findings += [f"phantom: {name} was never asked for" for name in states.keys() - expected]
    evidence.findings += [f"{name} is {states[name]}" for name in expected & states.keys() if states[name] != status]


def check_outbox(evidence: Evidence, outbox: Path, expected: int) -> None:
    """Check that each comment is in the outbox once."""
    lines = [json.loads(line) for line in outbox.read_text().splitlines()] if outbox.exists() else []
    posted = Counter((line["repository"], line["number"]) for line in lines)
    evidence.findings += [f"duplicated: comment {name} was posted {n} times" for name, n in posted.items() if n > 1]
    evidence.expect(len(posted) == expected, f"lost: {len(posted)} of {expected} comments were posted")


def checkpointed(data_dir: Path) -> dict[str, bytes]:
    """Each workflow in canonical JSON, by id, from the checkpoints of stopped routers.

    A checkpoint is a router's own live state.
    """
    newest: dict[str, tuple[int, dict[str, bytes]]] = {}
    for file in sorted(data_dir.glob("checkpoints/*/*/*.db")):
        checkpoint = CheckpointFile.open(file)
        saved = checkpoint.load()
        checkpoint.close()
        if saved is not None and (file.name not in newest or newest[file.name][0] < saved.offset):
            newest[file.name] = (saved.offset, saved.workflows)
    return {
        name: canonical_workflow(decode_workflow(value)) for _, kept in newest.values() for name, value in kept.items()
    }
