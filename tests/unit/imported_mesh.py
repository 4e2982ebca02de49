"""Meshes in memory, of several partitions, whose logs are exported and imported.

`drawn` makes one by chance: workflows whose steps wait for slots of a limit in another partition,
with records between partitions still on their way, owners that come and go, and offsets that hold
no record.
"""

import random
from pathlib import Path

from one_partition import START_MS, agent
from several_partitions import Mesh

from mesh.adapters.memory import MemoryCluster
from mesh.codec.exports import ExportHead
from mesh.codec.log import encode_decision, encode_owner_changed
from mesh.core.crossings import Crossing
from mesh.core.events import Cause, Decision, OwnerChanged
from mesh.core.inputs import EventMatched, ResultReceived
from mesh.core.route import Route
from mesh.core.state import Directory, Workflow
from mesh.core.topics import Topics
from mesh.inspection.history.exporting import export_log
from mesh.inspection.history.folding import fold_partition, log_ends
from mesh.inspection.history.importing import Checked, Import
from mesh.ports import Broker, OutRecord, TopicPartition
from mesh.routes.compiler import compile_route
from mesh.services.topic_plan import topic_specs

TOPICS = Topics()
PARTITIONS = 3


class Still:
    """A clock that does not move."""

    def now_ms(self) -> int:
        return START_MS


def cluster(name: str) -> MemoryCluster:
    made = MemoryCluster(Still())
    made.cluster_id = name
    return made


def limited() -> Route:
    steps = {"a": agent(limit="one"), "b": agent("y", needs="a", limit="one")}
    document = {"route": "r", "on": {"type": "t"}, "limits": {"one": {"concurrency": 2}}, "steps": steps}
    return compile_route(document)


class Drawn:
    """A drawn mesh. `on_their_way`: records between partitions that nobody has heard."""

    def __init__(self, seed: int, *, with_gaps: bool = True) -> None:
        self.rng = random.Random(seed)
        self.route = limited()
        self.mesh = Mesh([self.route], partitions=PARTITIONS, directory=Directory())
        self.lines: list[list[OutRecord | None]] = [[] for _ in range(PARTITIONS)]
        self.epochs = [""] * PARTITIONS
        self.with_gaps = with_gaps
        for number in range(PARTITIONS):
            self._claim(number)
        for key in range(self.rng.randrange(1, 9)):
            self._start(key)
            for _ in range(self.rng.randrange(5)):
                self._go_on()
        self.on_their_way: list[Crossing] = [given for lane in self.mesh.wire.values() for given in lane]

    def _claim(self, number: int) -> None:
        if self.epochs[number]:
            self.mesh.take_over(number)
        part = self.mesh.parts[number]
        self.epochs[number] = part.fold.epochs.current
        change = OwnerChanged(
            token=part.fold.epochs.current, owner="o", partitions=PARTITIONS, format_level=1, at_ms=START_MS
        )
        self._line(number, encode_owner_changed(change, topic=TOPICS.log, partition=number))

    def _line(self, number: int, record: OutRecord) -> None:
        self.lines[number].append(record)
        if self.with_gaps and self.rng.random() < 0.2:
            self.lines[number].append(None)

    def _start(self, key: int) -> None:
        event = {"specversion": "1.0", "id": f"e{key}", "source": "/s", "type": "t", "data": {"n": key}}
        given = EventMatched(
            workflow_id=f"r:{key}",
            route="r",
            digest=self.route.digest,
            key=str(key),
            cloud_event=event,
            source_topic=TOPICS.events,
            source_partition=0,
            source_offset=key,
            source_at_ms=START_MS,
        )
        self._log(self.mesh.give(given))

    def _go_on(self) -> None:
        if self.rng.random() < 0.1:
            self._claim(self.rng.randrange(PARTITIONS))
        elif self.mesh.wire and self.rng.random() < 0.7:
            self._log(self.mesh.hear(self.rng.choice(sorted(self.mesh.wire))))
        elif self.mesh.tasks:
            task = self.rng.choice(self.mesh.tasks)
            given = ResultReceived(
                task_id=task.task_id,
                attempt=task.attempt,
                workflow_id=task.workflow_id,
                status="succeeded",
                output=self.rng.random(),
            )
            self._log(self.mesh.give(given))

    def _log(self, decision: Decision | None) -> None:
        if decision is not None:
            number = self.mesh.part_of(decision.workflow_id).number
            self._line(number, encode_decision(decision, topic=TOPICS.log, partition=number))

    async def write(self, made: MemoryCluster) -> None:
        """As routers that have stopped in good order: their mark is the end of what they wrote."""
        made.create_topics(topic_specs(TOPICS, PARTITIONS, ["x", "y"]))
        broker = made.connect("routers")
        for number, lines in enumerate(self.lines):
            place = TopicPartition(TOPICS.log, number)
            for record in lines:
                if record is None:
                    made._partitions[place].mark(START_MS)
                else:
                    await broker.append(place, None, [record], [])
            last = Decision(
                epoch=self.epochs[number],
                workflow_id="",
                at_ms=START_MS,
                cause=Cause(kind="mark", id="m"),
                positions={TOPICS.inbox: 0, TOPICS.results: 0},
                mark=len(lines),
                events=(),
            )
            await broker.append(place, None, [encode_decision(last, topic=TOPICS.log, partition=number)], [])

    def states(self) -> dict[str, Workflow]:
        return {one.workflow_id: one for one in self.mesh.workflows()}


async def exported(broker: Broker, file: Path) -> ExportHead:
    return await export_log(
        broker, TOPICS, file, mesh=f"mesh.@{await broker.cluster_id()}", at="now", by="ana", version="1"
    )


async def imported(broker: Broker, file: Path) -> int:
    """How many records were sent again."""
    checked = Checked(file)
    try:
        work = Import(broker, TOPICS, checked, replicas=1, task_partitions=1)
        await work.run()
    finally:
        checked.close()
    return work.sent_again


async def folded(broker: Broker) -> tuple[dict[str, Workflow], dict[int, dict[str, tuple[int, int]]]]:
    """All states that a broker's log gives, and each partition's watermarks."""
    states, marks = dict[str, Workflow](), dict[int, dict[str, tuple[int, int]]]()
    for place, end in (await log_ends(broker, TOPICS.log, PARTITIONS)).items():
        fold, workflows, _ = await fold_partition(broker, place, end)
        states |= dict(workflows.states())
        marks[place.partition] = fold.state.watermarks
        workflows.close()
    return states, marks
