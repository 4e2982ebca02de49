"""What a process can see of a mesh from outside: lags, commits and cards, as they are now.

Owns the look-ups at the broker and in the read model. It does not say what of it is wrong.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from mesh.core.pauses import agent_target, kind_of, name_of
from mesh.core.route import Route, approvals_of, roles_of
from mesh.core.state import Pause
from mesh.core.topics import Topics
from mesh.inspection.card_conflicts import conflict_of
from mesh.inspection.mesh_status.values import AgentStatus, Backlog, RouterStatus
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.queries import CardRow, PartitionRow
from mesh.inspection.read_model.routers import RouterRow, heard_at_ms
from mesh.ports import Broker, Committed, TopicPartition
from mesh.services.agent_runtime.begins import tenure_of
from mesh.services.reading import first_at
from mesh.services.router.positions import results_position

PATIENCE_MS: Final = 10_000


class Lag(msgspec.Struct, frozen=True):
    """Unread records of one topic by partition, and how many of them are overdue.

    `late`: the partitions that have overdue ones.
    """

    by_partition: dict[int, int]
    overdue: int
    late: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        return sum(self.by_partition.values())


class View:
    """Look-ups at the broker, with the topics and cards as they are now."""

    def __init__(self, broker: Broker, topics: Topics, model: ReadModel, now_ms: int) -> None:
        self._broker = broker
        self.topics = topics
        self._model = model
        self.now_ms = now_ms
        self.cards = queries.cards(model.db)

    def count(self, topic: str) -> int:
        info = self._model.topics_known.get(topic)
        return info.partitions if info else 0

    async def backlog(self, topic: str) -> Backlog:
        lag = await self._lag_of_group(topic, await self._committed(topic, self.topics.ingress_group))
        return Backlog(topic=topic, lag=lag.total, overdue=lag.overdue)

    async def inputs(self, owned: Iterable[PartitionRow]) -> tuple[Lag, Lag]:
        """The lags of the inbox and of results.

        An owner that has read an input says so in its next decision. If the input brings none (a
        sign of life, a second copy), only its group's commit says so.
        """
        inbox, results = self.topics.inbox, self.topics.results
        told = await self._committed(inbox, self.topics.router_group)
        read: dict[str, dict[int, int]] = {inbox: {}, results: {}}
        for row in owned:
            said = told.get(row.partition)
            positions = row.positions
            read[inbox][row.partition] = max(positions.get(inbox, 0), said.offset if said else 0)
            read[results][row.partition] = max(positions.get(results, 0), results_position(said))
        return await self.lag(inbox, read[inbox]), await self.lag(results, read[results])

    async def _committed(self, topic: str, group: str) -> dict[int, Committed]:
        partitions = [TopicPartition(topic, p) for p in range(self.count(topic))]
        committed = await self._broker.committed(group, partitions) if partitions else {}
        return {tp.partition: found for tp, found in committed.items() if found is not None}

    async def _lag_of_group(self, topic: str, committed: Mapping[int, Committed]) -> Lag:
        return await self.lag(topic, {partition: found.offset for partition, found in committed.items()})

    async def lag(self, topic: str, positions: Mapping[int, int]) -> Lag:
        """How much of a topic is unread by somebody who is at these positions."""
        partitions = [TopicPartition(topic, p) for p in range(self.count(topic))]
        if not partitions:
            return Lag({}, 0)
        ends = await self._broker.end_offsets(partitions)
        begins = await self._broker.begin_offsets(partitions)
        # Records before the beginning are gone (retention): nobody can be behind on them.
        lags = {tp.partition: ends[tp] - max(positions.get(tp.partition, 0), begins[tp]) for tp in partitions}
        behind = [tp for tp in partitions if lags[tp.partition] > 0]
        # newer records are unread, but nobody is late with them yet
        old = await self._broker.offsets_at(behind, self.now_ms - PATIENCE_MS) if behind else {}
        read = {tp: max(positions.get(tp.partition, 0), begins[tp]) for tp in behind}
        overdue = {tp: old[tp] - read[tp] for tp in behind if old[tp] > read[tp]}
        for tp in list(overdue):  # a transaction's marker has an offset, but nobody has to read it
            if await first_at(self._broker, tp, read[tp]) is None:
                del overdue[tp]
                lags[tp.partition] = 0
        late = tuple(sorted(tp.partition for tp in overdue))
        return Lag({partition: max(0, lag) for partition, lag in lags.items()}, sum(overdue.values()), late)

    async def agents(self) -> tuple[AgentStatus, ...]:
        """Every agent that has a task topic, a card, or a task out."""
        prefix = self.topics.tasks("")
        running = queries.running_by_agent(self._model.db)
        names = {topic.removeprefix(prefix) for topic in self._model.topics_known if topic.startswith(prefix)}
        names |= {row.card.name for row in self.cards} | running.keys()
        paused = {row.target: row.pause for row in queries.pauses(self._model.db)}
        names |= {name_of(target) for target in paused if kind_of(target) == "agent"}
        return tuple(
            [
                await self._agent(name, running.get(name, (0, None)), paused.get(agent_target(name)))
                for name in sorted(names)
            ]
        )

    async def _agent(self, name: str, running: tuple[int, int | None], pause: Pause | None) -> AgentStatus:
        own = [row for row in self.cards if row.card.name == name]
        replicas = [row for row in own if not row.card.registration]
        alive = [row.card for row in replicas if row.is_alive(self.now_ms)]
        topic = self.topics.tasks(name)
        committed = await self._committed(topic, self.topics.agent_group(name))
        lag = await self._lag_of_group(topic, committed)
        places = sum(card.concurrency for card in alive)
        return AgentStatus(
            name=name,
            alive=len(alive),
            versions=tuple(sorted({card.version for card in alive})),
            lag=lag.total if self.count(topic) else None,
            overdue=lag.overdue,
            running=running[0],
            oldest_running_ms=running[1],
            capabilities=next((row.card.capabilities for row in own if row.card.registration), ()),
            places=places,
            heard_at_ms=max((_heard(row, self.now_ms) for row in replicas), default=None),
            has_consumed=bool(committed),
            untaken=await self._untaken(topic, committed, places) if lag.overdue and alive else 0,
            conflict=conflict_of(name, alive),
            pause=pause,
        )

    async def _untaken(self, topic: str, committed: Mapping[int, Committed], places: int) -> int:
        """How many overdue tasks nobody has begun, although a place is free.

        A task is committed only with its result. What may have been begun lies below the line that
        its agent commits before; agents in other languages commit none, and then it can't be told.
        """
        tenures = {partition: tenure_of(found.offset, found.metadata) for partition, found in committed.items()}
        lines = {partition: tenure.line for partition, tenure in tenures.items() if tenure is not None}
        if len(lines) < len(committed):
            return 0
        unread = await self.lag(topic, {partition: found.offset for partition, found in committed.items()})
        unbegun = await self.lag(topic, lines)
        begun = unread.total - unbegun.total
        return unbegun.overdue if begun < places else 0


def _heard(row: CardRow, now_ms: int) -> int:
    return heard_at_ms(row.renewed_at_ms, row.card.renewed_at, now_ms)


def router_statuses(
    rows: Sequence[RouterRow], owned: Mapping[int, PartitionRow], now_ms: int
) -> tuple[RouterStatus, ...]:
    """Every router that has a card and is alive, or that has partitions, or was heard of last."""
    found = []
    for number, row in enumerate(rows):
        partitions = tuple(sorted(p for p, one in owned.items() if one.owner == row.instance))
        if not (row.is_alive(now_ms) or partitions or number == 0):
            continue
        state: Literal["alive", "stopped", "gone"] = (
            "alive" if row.is_alive(now_ms) else "stopped" if row.stopped else "gone"
        )
        found.append(
            RouterStatus(
                instance=row.instance,
                state=state,
                started_at_ms=row.started_at_ms,
                heard_at_ms=row.heard_at_ms(now_ms),
                partitions=partitions,
                people_from=row.card.approvers,
                people=row.card.people,
                answers=row.card.answers,
            )
        )
    return tuple(sorted(found, key=lambda one: (one.state != "alive", one.instance)))


def roles_asked(routes: Iterable[Route]) -> dict[str, tuple[str, str]]:
    """The roles that these routes ask for, each with the first route and step that does."""
    asked: dict[str, tuple[str, str]] = {}
    for route in routes:
        for name, work in approvals_of(route):
            for role in roles_of(work):
                asked.setdefault(role, (route.name, name))
    return asked
