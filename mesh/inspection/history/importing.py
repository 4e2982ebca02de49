"""An exported log into an empty mesh.

    1  read the whole file: its sums, its counts, and what its log folds to
    2  append the log's records at the offsets that they had, and behind them `LogImported`
    3  send what else a mesh needs, and the tasks, questions and records between workflows that lay
       on the old broker
    4  read the new log back, and compare what it folds to

An import that died goes on when it is called again: what is there must be what the file has.
docs/adr/0031 says why each step is as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from itertools import groupby, islice
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from mesh.codec.effects import EffectEncoder
from mesh.codec.exports import ExportHead, ExportInvalid, ExportReader
from mesh.codec.jws_bodies import mesh_of
from mesh.codec.log import decode_log_record, encode_decision, encode_owner_changed
from mesh.codec.sealing import Key, encode_key, is_sealed, opened
from mesh.core.effects import AskApproval, Effect, SendInput, SendTask, effects
from mesh.core.events import Cause, Decision, LogImported, LogRecord, OwnerChanged, PayloadsErased
from mesh.core.ids import clock_of, partition_of_key
from mesh.core.ownership import Epochs
from mesh.core.replay import PartitionFold
from mesh.core.topics import Topics
from mesh.core.wanted import is_awaited
from mesh.errors import LogError, OperatorError
from mesh.inspection.history.folding import (
    SpilledWorkflows,
    fold_partition,
    joint_digest,
    log_ends,
    open_digests,
    records_of,
    spilled_fold,
)
from mesh.ports import Broker, OutRecord, Record, TopicPartition
from mesh.services.topic_plan import topic_specs

_BATCH: Final = 200  # records in one append
_BATCH_BYTES: Final = 1_000_000
_LOG: Final = "log"


class Checked:
    """A file that was read to its end and is whole, with the folds of its log. Close it.

    `keys`: of private workflows, by name. Those without a key have no state in the folds, and what
    the head tells of the log is not about any of them.
    """

    def __init__(self, path: Path, keys: Mapping[str, Key] | None = None) -> None:
        self.path = path
        self.keys: Mapping[str, Key] = keys or {}
        self.folds: dict[int, tuple[PartitionFold, SpilledWorkflows]] = {}
        with path.open("rb") as file:
            reader = ExportReader(file)
            self.head = reader.head
            self._parts = {part.partition: part for part in self.head.log}
            for number, records in groupby(
                reader.records(), key=lambda one: one.partition if one.topic == _LOG else -1
            ):
                self._fold(number, records)
        for number in self._parts.keys() - self.folds.keys():
            self._fold(number, iter(()))

    def _fold(self, number: int, records: Iterator[Record]) -> None:
        if number < 0:
            for _ in records:
                pass
            return
        part = self._parts.get(number)
        if part is None or number in self.folds:
            raise ExportInvalid(f"partition {number} of the log is not where the head says")
        fold, workflows = self.folds[number] = spilled_fold(number)
        count = 0
        for record in records:
            fold.apply(record.offset, self.decode(record))
            count += 1
        if (count, *joint_digest(open_digests(fold, workflows))) != (part.records, part.workflows, part.states):
            raise ExportInvalid(
                f"partition {number} of the log does not fold to the states that the head tells of: another version "
                "of agent-mesh may fold it otherwise; use the one that wrote the file"
            )

    def decode(self, record: Record) -> LogRecord:
        """A record of the log, opened if its key is there."""
        return decode_log_record(opened(record, self.keys) if is_sealed(record) else record)

    @property
    def unreadable(self) -> list[str]:
        """The private workflows whose keys are not there, and that nobody has erased."""
        return sorted(name for fold, _ in self.folds.values() for name in fold.unreadable)

    def records(self) -> Iterator[Record]:
        """All records once more."""
        with self.path.open("rb") as file:
            yield from ExportReader(file).records()

    def agents(self) -> set[str]:
        """The agents that had a topic for their tasks, and those whose tasks are under way."""
        states = (state for _, workflows in self.folds.values() for _, state in workflows.states())
        running = {
            step.agent for state in states for step in state.steps.values() if step.status == "running" and step.agent
        }
        return running | set(self.head.agents)

    def close(self) -> None:
        for _, workflows in self.folds.values():
            workflows.close()


def _import_token(head: ExportHead, number: int) -> str:
    # a function of the file, so that an import that goes on writes the same
    return sha256(f"import {head.last_sum} {number}".encode()).hexdigest()[:32]


class Import:
    """One import under way.

    `sent_again`: how many tasks, questions and records between workflows.
    """

    def __init__(
        self, broker: Broker, topics: Topics, checked: Checked, *, replicas: int, task_partitions: int
    ) -> None:
        self._broker = broker
        self._topics = topics
        self._file = checked
        self._head = checked.head
        self._specs = topic_specs(
            topics, self._head.partitions, sorted(checked.agents()), task_partitions=task_partitions, replicas=replicas
        )
        self.sent_again = 0

    async def run(self) -> None:
        """Import all of it. Raises `OperatorError` where this mesh has another log."""
        if self._topics.prefix != self._head.prefix:
            raise OperatorError(
                f"the file is of a mesh with the topic prefix {self._head.prefix!r}, and this one has {self._topics.prefix!r}: "
                f"set MESH_TOPIC_PREFIX={self._head.prefix}"
            )
        if mesh_of(self._topics.prefix, await self._broker.cluster_id()) == self._head.mesh:
            raise OperatorError("the file is of this very mesh: import it into another one, which is empty")
        there = (await self._broker.topics()).get(self._topics.log)
        if there is not None and there.partitions != self._head.partitions:
            raise OperatorError(
                f"{self._topics.log} has {there.partitions} partitions here and {self._head.partitions} in the file: "
                "import into a mesh with the same number, or into one that has no topics yet"
            )
        # the log first: a router that starts meanwhile finds no other topic, and waits
        await self._create(log_only=True)
        ends = await log_ends(self._broker, self._topics.log, self._head.partitions)
        await self._check_present(ends)
        await self._write_log(ends)
        await self._create(log_only=False)
        await self._send_keys()
        await self._send_kept()
        await self._send_owed()
        await self._check_written()

    async def _create(self, *, log_only: bool) -> None:
        await self._broker.create_topics(
            [spec for spec in self._specs if not log_only or spec.name == self._topics.log]
        )

    # The log --------------------------------------------------------------------------------------

    def _log_of_file(self) -> Iterator[tuple[int, Iterator[OutRecord]]]:
        """Each partition of the log as it is to be written: no offset is left out."""
        logs = groupby((one for one in self._file.records() if one.topic == _LOG), key=lambda one: one.partition)
        written = set()
        for number, records in logs:
            written.add(number)
            yield number, self._lines_of(number, records)
        for number in sorted(self._file.folds.keys() - written):
            yield number, self._lines_of(number, iter(()))

    def _lines_of(self, number: int, records: Iterator[Record]) -> Iterator[OutRecord]:
        topic, offset, filler = self._topics.log, 0, None
        for record in records:
            out = OutRecord(topic, record.key, record.value, record.headers, number)
            # the broker had offsets without a record: a token that was there before counts for
            # nothing, and keeps every offset, and so every mark, where it was
            while offset < record.offset:
                filler = filler or self._filler(number)
                yield filler
                offset += 1
            yield out
            offset += 1
            if isinstance(decode_log_record(record), OwnerChanged):
                filler = out
        yield from self._end_of(number)

    def _filler(self, number: int) -> OutRecord:
        token = sha256(f"{_import_token(self._head, number)} begin".encode()).hexdigest()[:32]
        return self._claim(number, token)

    def _claim(self, number: int, token: str) -> OutRecord:
        state = self._file.folds[number][0].state
        claim = OwnerChanged(
            token=token, owner="mesh log import", partitions=self._head.partitions, format_level=1, at_ms=state.at_ms
        )
        return encode_owner_changed(claim, topic=self._topics.log, partition=number)

    def _end_of(self, number: int) -> Iterator[OutRecord]:
        """What tells every later fold that input topics begin again."""
        state, token = self._file.folds[number][0].state, _import_token(self._head, number)
        of_logs = {name: at for name, at in state.watermarks.items() if name.rpartition("/")[0] == self._topics.log}
        imported = LogImported(mesh=self._head.mesh, digest=self._head.last_sum, watermarks=of_logs)
        decision = Decision(
            epoch=token,
            workflow_id=clock_of(number, self._head.partitions),
            at_ms=state.at_ms,
            cause=Cause(kind="mark", id=f"import/{self._head.last_sum}"),
            positions={},
            mark=state.mark,
            events=(imported,),
        )
        yield self._claim(number, token)
        for name in sorted(self._file.folds[number][0].unreadable):
            yield encode_decision(self._erased(name, decision), topic=self._topics.log, partition=number)
        yield encode_decision(decision, topic=self._topics.log, partition=number)

    def _erased(self, name: str, like: Decision) -> Decision:
        """What makes a workflow erased here whose key did not come along."""
        event = PayloadsErased(by="mesh log import", reason="its key was not with the file", keys=())
        return replace(like, workflow_id=name, events=(event,))

    async def _check_present(self, ends: Mapping[TopicPartition, int]) -> None:
        """What is there must be what an import of this file has written before it died."""
        if not any(ends.values()):
            return
        for number, lines in self._log_of_file():
            place = TopicPartition(self._topics.log, number)
            async for batch in records_of(self._broker, place, ends[place]):
                for record in batch:
                    wanted = next(lines, None)
                    if wanted is None or (record.key, record.value) != (wanted.key, wanted.value):
                        raise OperatorError(
                            f"this mesh has a log of its own: {self._topics.log}/{number} has another record at "
                            f"{record.offset} than the file. Import into an empty mesh: another SQLite file, or other topics"
                        )

    async def _write_log(self, ends: Mapping[TopicPartition, int]) -> None:
        for number, lines in self._log_of_file():
            place = TopicPartition(self._topics.log, number)
            await self._append(place, ends[place], islice(lines, ends[place], None))

    async def _append(self, place: TopicPartition, at: int, lines: Iterator[OutRecord]) -> None:
        for batch in _batches(lines):
            appended = await self._broker.append(place, at, batch, [])
            if appended.refused or not _is_at(appended.spans, at):
                raise OperatorError(
                    f"somebody else writes to {place.topic}/{place.partition}: stop the routers of this mesh, and "
                    "import into an empty one"
                )
            at += len(batch)

    async def _send_keys(self) -> None:
        """The keys, each in its workflow's partition."""
        for batch in _batches(self._keys()):
            await self._send(batch)

    def _keys(self) -> Iterator[OutRecord]:
        for key in self._file.keys.values():
            partition = partition_of_key(key.workflow_id.encode(), self._head.partitions)
            yield encode_key(key, topics=self._topics, partition=partition)

    # What else ------------------------------------------------------------------------------------

    async def _send_kept(self) -> None:
        # the key decides, as it did when they were written
        kept = (
            OutRecord(self._topics.prefix + one.topic, one.key, one.value, one.headers)
            for one in self._file.records()
            if one.topic != _LOG
        )
        for batch in _batches(kept):
            await self._send(batch)

    async def _send_owed(self) -> None:
        """Send again what the old broker had taken and nobody has answered.

        Only of decisions below the mark: the first owner sends what is from there on.
        """
        for batch in _batches(self._owed()):
            self.sent_again += len(batch)
            await self._send(batch)

    def _owed(self) -> Iterator[OutRecord]:
        logs = groupby((one for one in self._file.records() if one.topic == _LOG), key=lambda one: one.partition)
        for number, records in logs:
            epochs, mark = Epochs(), self._file.folds[number][0].state.mark
            encode = EffectEncoder(self._topics, number, self._head.partitions).encode
            for record in records:
                decision = self._file.decode(record)
                if epochs.observe(decision) and isinstance(decision, Decision) and record.offset < mark:
                    yield from (encode(one) for one in effects(decision) if self._is_owed(one, number))

    def _is_owed(self, effect: Effect, number: int) -> bool:
        if isinstance(effect, SendInput):
            given = effect.input
            receiver = self._file.folds[partition_of_key(given.workflow_id.encode(), self._head.partitions)][0].state
            seen = receiver.watermarks.get(f"{self._topics.log}/{number}")
            return seen is None or (given.source_offset, given.source_index) > seen
        if not isinstance(effect, SendTask | AskApproval):
            return False
        return is_awaited(effect, self._file.folds[number][1].get(effect.workflow_id))

    async def _send(self, batch: Sequence[OutRecord]) -> None:
        failures = await self._broker.send(batch)
        if failures:
            first = failures[0]
            raise OperatorError(
                f"{batch[first.index].topic} does not take what was imported: {first.message}. Repair it, and import again: it goes on"
            )

    async def _check_written(self) -> None:
        for part in self._head.log:
            place = TopicPartition(self._topics.log, part.partition)
            end = (await self._broker.end_offsets([place]))[place]
            fold, workflows, _ = await fold_partition(self._broker, place, end)
            with ExitStack() as stack:
                stack.callback(workflows.close)
                if joint_digest(open_digests(fold, workflows)) != (part.workflows, part.states):
                    raise LogError(
                        f"{place.topic}/{place.partition} does not fold to what the file's log folds to: "
                        "do not use this mesh; import into another empty one, and report this"
                    )


def _is_at(spans: Sequence[tuple[int, int]], offset: int) -> bool:
    """Whether all of it landed one after the other from this offset on."""
    for first, count in spans:
        if first != offset:
            return False
        offset += count
    return True


def _batches(records: Iterator[OutRecord]) -> Iterator[list[OutRecord]]:
    batch: list[OutRecord] = []
    size = 0
    for record in records:
        size += record.size_bytes()
        if batch and (len(batch) == _BATCH or size > _BATCH_BYTES):
            yield batch
            batch, size = [], record.size_bytes()
        batch.append(record)
    if batch:
        yield batch
