"""The whole log, and what else a mesh needs, to a file.

Owns what goes into the file, and the checks that the log was read as of one moment. The memory that
it takes does not grow with the log.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

from mesh.codec.cards import is_registration
from mesh.codec.exports import VERSION, ExportHead, ExportWriter, LogPart, head_bytes
from mesh.codec.log import decode_log_record
from mesh.codec.open_approvals import open_key
from mesh.codec.tasks import decode_reply
from mesh.core.ids import parse_step_id
from mesh.core.inputs import SignReceived
from mesh.core.state import PartitionState
from mesh.core.topics import Topics
from mesh.errors import LogError, MalformedRecord, NotFound
from mesh.inspection.history.folding import joint_digest, log_ends, open_digests, records_of, spilled_fold
from mesh.ports import Broker, Record, TopicInfo, TopicPartition

_AGENTS: Final = "agents"
_OPEN: Final = "approvals.open"
KEPT: Final = ("definitions", "approvals.people", "approvals.delegations", _OPEN, "operations", _AGENTS)
"""Topics below the prefix that go with the log. All of them are compacted.

Of the agents' topic only registrations go: by these a step that asks for a capability finds an
agent that has not been started yet. Cards say that a process is alive. Of what is open for
approvers nothing goes that is closed, and nothing of private workflows: `mesh approvals republish`
makes that from the log.
"""


async def export_log(
    broker: Broker, topics: Topics, target: Path, *, mesh: str, at: str, by: str, version: str
) -> ExportHead:
    """Write the log of all partitions, and the topics of `KEPT`, as of now.

    `target` is there when it is complete, and not before. Raises `NotFound` where there is no mesh,
    and `LogError` where the log can't be exported as of one moment.
    """
    found = await broker.topics()
    log = found.get(topics.log)
    if log is None:
        raise NotFound(f"this broker has no topic {topics.log}: no mesh was set up here (check --broker)")
    # a name of its own, so that two exports at once do not meet in one file
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        body, whole = Path(folder) / "body", Path(folder) / "whole"
        with body.open("wb") as file:
            export = _Export(broker, topics, file)
            await export.read_log(log.partitions)
            await export.read_kept(found)
        head = ExportHead(
            export=VERSION,
            mesh=mesh,
            prefix=topics.prefix,
            partitions=log.partitions,
            at=at,
            by=by,
            version=version,
            lines=export.writer.lines,
            last_sum=export.writer.sum,
            topics=dict(export.counts),
            log=tuple(export.parts),
            unread=await _unread(broker, topics, export.states, found),
            agents=_agents(topics, found),
        )
        with whole.open("wb") as out, body.open("rb") as lines:
            out.write(head_bytes(head))
            shutil.copyfileobj(lines, out)
        whole.replace(target)
    return head


class _Export:
    """One export under way.

    `states`: the partitions' positions, without their workflows. `private`: workflows whose
    payloads the log has only sealed.
    """

    def __init__(self, broker: Broker, topics: Topics, file: BinaryIO) -> None:
        self._broker = broker
        self._topics = topics
        self.writer = ExportWriter(file)
        self.counts = Counter[str]()
        self.parts: list[LogPart] = []
        self.states: dict[int, PartitionState] = {}
        self.private: set[str] = set()

    async def read_log(self, partitions: int) -> None:
        ends = await log_ends(self._broker, self._topics.log, partitions)
        for place, end in ends.items():
            await self._read_partition(place, end)
        _check_one_moment(self._topics, self.states)

    async def _read_partition(self, place: TopicPartition, end: int) -> None:
        fold, workflows = spilled_fold(place.partition)
        try:
            records = 0
            async for batch in records_of(self._broker, place, end):
                for record in batch:
                    fold.apply(record.offset, decode_log_record(record))
                    self.writer.write(record, "log")
                records += len(batch)
            count, states = joint_digest(open_digests(fold, workflows))
        finally:
            workflows.close()
        self.counts["log"] += records
        self.parts.append(
            LogPart(partition=place.partition, records=records, next_offset=end, workflows=count, states=states)
        )
        self.states[place.partition] = fold.state
        # without keys nothing of theirs can be read here
        self.private |= fold.unreadable

    async def read_kept(self, found: Mapping[str, TopicInfo]) -> None:
        for name in KEPT:
            topic = self._topics.prefix + name
            places = [TopicPartition(topic, p) for p in range(found[topic].partitions)] if topic in found else []
            for place, end in (await self._broker.end_offsets(places)).items():
                newest = await self._newest(place, end) if name == _OPEN else {}
                async for batch in records_of(self._broker, place, end):
                    kept = [record for record in batch if name != _AGENTS or is_registration(record)]
                    if name == _OPEN:
                        kept = [record for record in kept if self._is_open(record, newest)]
                    for record in kept:
                        self.writer.write(record, name)
                    self.counts[name] += len(kept)
        self.writer.close()

    async def _newest(self, place: TopicPartition, end: int) -> dict[bytes | None, int]:
        """The offset of each key's last record: a broker may still have those before it."""
        found = dict[bytes | None, int]()
        async for batch in records_of(self._broker, place, end):
            found |= {record.key: record.offset for record in batch}
        return found

    def _is_open(self, record: Record, newest: Mapping[bytes | None, int]) -> bool:
        """Whether the record is what approvers still see, and may lie open in a file."""
        if newest.get(record.key) != record.offset or record.value is None:
            return False
        try:
            asked = parse_step_id(open_key(record).approval_id)
        except MalformedRecord:
            return False
        return asked is None or asked.workflow_id not in self.private


def _check_one_moment(topics: Topics, states: Mapping[int, PartitionState]) -> None:
    """Whether no partition has heard of a decision that was made after another's end.

    Its sequence would be used again for another record, which the receiver would take for a repeat.
    """
    for number, state in states.items():
        for sender, said in states.items():
            heard = state.watermarks.get(f"{topics.log}/{sender}")
            if heard is not None and heard[0] >= said.sequence:
                raise LogError(
                    f"partition {number} of {topics.log} was read later than partition {sender}, since routers wrote "
                    "meanwhile: stop them, or try again when less goes on"
                )


def _agents(topics: Topics, found: Mapping[str, TopicInfo]) -> tuple[str, ...]:
    """The agents that have a topic for their tasks."""
    prefix = topics.tasks("")
    return tuple(sorted(name.removeprefix(prefix) for name in found if name.startswith(prefix)))


async def _unread(
    broker: Broker, topics: Topics, states: Mapping[int, PartitionState], found: Mapping[str, TopicInfo]
) -> dict[str, int]:
    """Inputs that are on the broker and not in the log, by topic below the prefix."""
    decided = {TopicPartition(topics.inbox, p): state.positions.get(topics.inbox, 0) for p, state in states.items()}
    copied = [
        TopicPartition(topic, p)
        for topic in (topics.events, topics.responses, topics.commands)
        if topic in found
        for p in range(found[topic].partitions)
    ]
    committed = await broker.committed(topics.ingress_group, copied)
    decided |= {place: 0 if (at := committed.get(place)) is None else at.offset for place in copied}
    left = Counter[str]()
    for place, (begin, end) in (await _rest(broker, decided, found)).items():
        left[place.topic] += end - begin
    results = {TopicPartition(topics.results, p): state.positions.get(topics.results, 0) for p, state in states.items()}
    for place, (begin, end) in (await _rest(broker, results, found)).items():
        async for batch in records_of(broker, place, end, begin=begin):
            left[place.topic] += sum(not _is_sign(record) for record in batch)
    return {topic.removeprefix(topics.prefix): count for topic, count in left.items() if count}


async def _rest(
    broker: Broker, reached: Mapping[TopicPartition, int], found: Mapping[str, TopicInfo]
) -> dict[TopicPartition, tuple[int, int]]:
    """Where each partition has something behind what was reached: its begin and its end."""
    there = [place for place in reached if place.topic in found]
    begins, ends = await broker.begin_offsets(there), await broker.end_offsets(there)
    rest = {place: (max(begins[place], reached[place]), ends[place]) for place in there}
    return {place: (begin, end) for place, (begin, end) in rest.items() if begin < end}


def _is_sign(record: Record) -> bool:
    """Whether it is a sign of life. No decision follows from it, so it is missed by nobody."""
    try:
        return isinstance(decode_reply(record), SignReceived)
    except MalformedRecord:
        return False
