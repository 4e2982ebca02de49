"""Checks a whole run from outside: what was published, what the log says, what was sent, what stands in the outbox.

It reads every topic of the broker afresh, in its own process, and reports what the promises forbid: lost, duplicated, reordered, phantom.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from mesh.adapters.checkpoint import CheckpointFile
from mesh.codec.log import decode_log_record
from mesh.codec.outcomes import decode_outcome
from mesh.codec.state import canonical_workflow, decode_workflow
from mesh.codec.tasks import decode_task
from mesh.core.events import Decision, InputParked, LogRecord, TaskDispatched, TaskFailed, TaskSucceeded, WorkflowEnded
from mesh.core.ids import attempt_id
from mesh.core.replay import PartitionFold
from mesh.core.topics import Topics
from mesh.ports import Broker, Record, TopicPartition


class Evidence:
    """Everything that a broker holds of one mesh. `findings` is empty where every promise was kept."""

    def __init__(self) -> None:
        self.findings: list[str] = []
        self.folds: dict[int, PartitionFold] = {}
        self.effective: list[tuple[int, int, Decision]] = []  # (partition, offset, decision)
        self.inert = 0
        self.tasks: Counter[str] = Counter()  # by attempt id
        self.outcomes: Counter[str] = Counter()  # by workflow id

    def workflows(self) -> dict[str, bytes]:
        """Canonical JSON by workflow id, as this fold has it."""
        return {
            name: canonical_workflow(workflow)
            for fold in self.folds.values()
            for name, workflow in fold.state.workflows.items()
        }

    def expect(self, kept: bool, finding: str) -> None:
        if not kept:
            self.findings.append(finding)


async def read_topic(broker: Broker, topic: str) -> list[Record]:
    """All records of a topic, up to its end as of now."""
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
    """Read the log, the tasks and the outcomes, and check them against each other."""
    evidence = Evidence()
    for record in await read_topic(broker, topics.log):
        _fold(evidence, record.partition, record.offset, decode_log_record(record))
    for name in await broker.topics():
        if name.startswith(topics.prefix + "tasks."):
            for record in await read_topic(broker, name):
                task = decode_task(record)
                evidence.tasks[attempt_id(task.task_id, task.attempt)] += 1
    for record in await read_topic(broker, topics.outcomes):
        evidence.outcomes[decode_outcome(record).workflow_id] += 1
    _check_decisions(evidence)
    _check_effects(evidence)
    return evidence


def _fold(evidence: Evidence, partition: int, offset: int, record: LogRecord) -> None:
    fold = evidence.folds.setdefault(partition, PartitionFold(partition))
    evidence.expect(offset == fold.next_offset, f"log {partition}: offset {offset} follows {fold.next_offset - 1}")
    if fold.apply(offset, record) and isinstance(record, Decision):
        evidence.effective.append((partition, offset, record))
    elif isinstance(record, Decision):
        evidence.inert += 1


def _check_decisions(evidence: Evidence) -> None:
    """No input is decided twice, none is passed over, positions never fall, and a task has one result."""
    inputs: Counter[tuple[object, ...]] = Counter()
    results: Counter[str] = Counter()
    positions: dict[tuple[int, str], int] = {}
    for partition, offset, decision in evidence.effective:
        cause = decision.cause
        if cause.topic:
            inputs[cause.topic, cause.partition, cause.offset] += 1
        if cause.source_topic:
            inputs[cause.source_topic, cause.source_partition, cause.source_offset, cause.source_index] += 1
        for topic, position in decision.positions.items():
            before = positions.get((partition, topic), 0)
            evidence.expect(
                position >= before, f"log {partition}/{offset}: position of {topic} falls: {before}, {position}"
            )
            positions[partition, topic] = position
        for event in decision.events:
            if isinstance(event, TaskSucceeded):
                results[event.task_id] += 1
            evidence.expect(
                not isinstance(event, InputParked), f"log {partition}/{offset}: an input was parked: {event}"
            )
    evidence.findings += [f"duplicated: input {name} has {n} decisions" for name, n in inputs.items() if n > 1]
    evidence.findings += [f"duplicated: task {name} has {n} results" for name, n in results.items() if n > 1]


def _check_effects(evidence: Evidence) -> None:
    """What left is what the log holds, and all that it holds has left."""
    decided_tasks, decided_ends = set[str](), set[str]()
    for _, _, decision in evidence.effective:
        for event in decision.events:
            if isinstance(event, TaskDispatched):
                decided_tasks.add(attempt_id(event.task_id, event.attempt))
            elif isinstance(event, TaskFailed) and event.kind == "undeliverable":
                decided_tasks.discard(attempt_id(event.task_id, event.attempt))
            elif isinstance(event, WorkflowEnded):
                decided_ends.add(decision.workflow_id)
    _compare(evidence, "task", decided_tasks, evidence.tasks)
    _compare(evidence, "outcome", decided_ends, evidence.outcomes)


def _compare(evidence: Evidence, what: str, decided: set[str], sent: Mapping[str, int]) -> None:
    evidence.findings += [
        f"phantom: {what} {name} was sent, and the log has no decision for it" for name in sent.keys() - decided
    ]
    evidence.findings += [f"lost: {what} {name} was decided and never sent" for name in decided - sent.keys()]


def check_inputs(evidence: Evidence, started: Iterable[str], status: str = "completed") -> None:
    """Every workflow that upstream's events start has ended as it should, and no other exists."""
    expected = set(started)
    states = {name: w.status for fold in evidence.folds.values() for name, w in fold.state.workflows.items()}
    evidence.findings += [f"lost: {name} never started" for name in expected - states.keys()]
    evidence.findings += [f"phantom: {name} was never asked for" for name in states.keys() - expected]
    evidence.findings += [f"{name} is {states[name]}" for name in expected & states.keys() if states[name] != status]


def check_outbox(evidence: Evidence, outbox: Path, expected: int) -> None:
    """Each comment stands in the outbox once."""
    lines = [json.loads(line) for line in outbox.read_text().splitlines()] if outbox.exists() else []
    posted = Counter((line["repository"], line["number"]) for line in lines)
    evidence.findings += [f"duplicated: comment {name} was posted {n} times" for name, n in posted.items() if n > 1]
    evidence.expect(len(posted) == expected, f"lost: {len(posted)} of {expected} comments were posted")


def checkpointed(data_dir: Path) -> dict[str, bytes]:
    """Canonical JSON by workflow id as stopped routers have left it: their own live state."""
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
