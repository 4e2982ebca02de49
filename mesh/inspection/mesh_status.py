"""The state of a whole mesh on one screen, and why something in it is stuck.

Owns the judgement; it changes nothing. It sees what any process can see: positions in the log
against the ends of topics, what groups have committed, and agents' cards. "Stuck" always means that
a record is older than `PATIENCE_MS` and still unread, so a burst in progress is never called stuck.
Called by `mesh status`, later by the console.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec

from mesh.codec.times import rfc3339
from mesh.core.clock import ClockHold
from mesh.core.topics import Topics
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import ApprovalRow, Awaited, CardRow, OpenStep, PartitionRow
from mesh.ports import Broker, TopicPartition
from mesh.services.reading import first_at

PATIENCE_MS: Final = 10_000
STEP_STATUSES: Final = ("running", "retrying", "asking", "calling", "waiting", "iterating", "held", "incident")
AWAITED_SHOWN: Final = 5  # types of events
INCIDENTS_SHOWN: Final = 20


class PartitionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns a partition, and how far it has read. Lags are in records.

    `owner` is empty if nobody has ever owned it.
    """

    partition: int
    owner: str
    owner_since_ms: int
    decided_at_ms: int
    inbox_lag: int
    results_lag: int
    hold: ClockHold | None = None


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What ingress has yet to read of one topic.

    `overdue`: of these, records older than `PATIENCE_MS`.
    """

    topic: str
    lag: int
    overdue: int


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as an operator sees it.

    `running`: steps whose task is out. `alive`: replicas whose card has not expired. `lag`: None if
    it has no task topic. `capabilities`: those that it is registered for.
    """

    name: str
    alive: int
    versions: tuple[str, ...]
    lag: int | None
    overdue: int
    running: int
    oldest_running_ms: int | None
    capabilities: tuple[str, ...] = ()


class EventCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many events came, and what became of them.

    `unwanted`: read by ingress, but neither matched, dead-lettered nor on the way to a decision.
    """

    seen: int
    waiting: int
    matched: int
    unwanted: int
    dead_lettered: int


class Stuck(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is stuck or waits, and what an operator can do.

    `severity` error: nothing moves there until somebody acts. Warning: it waits, as it may.
    """

    severity: Literal["error", "warning"]
    what: str
    next_step: str


class MeshStatus(msgspec.Struct, frozen=True, kw_only=True):
    broker: str
    at_ms: int
    partitions: tuple[PartitionStatus, ...]
    backlogs: tuple[Backlog, ...]
    agents: tuple[AgentStatus, ...]
    workflows: dict[str, int]
    steps: dict[str, int]
    events: EventCounts
    dead_letters: int
    approvals: int
    oldest_approval: ApprovalRow | None
    incidents: Page[OpenStep]
    stuck: tuple[Stuck, ...]


class _Lag(msgspec.Struct, frozen=True):
    """Unread records of one topic by partition, and how many of them are overdue."""

    by_partition: dict[int, int]
    overdue: int

    @property
    def total(self) -> int:
        return sum(self.by_partition.values())


async def assess(
    broker: Broker,
    topics: Topics,
    model: ReadModel,
    *,
    broker_url: str,
    now_ms: int,
    incidents_shown: int | None = INCIDENTS_SHOWN,
) -> MeshStatus:
    """The mesh as of the read model's last catch-up and the broker's offsets now.

    `incidents_shown`: how many incidents it names, the oldest first. None: all.
    """
    view = _View(broker, topics, model, now_ms)
    owned = {row.partition: row for row in queries.partitions(model.db)}
    inbox = await view.lag(topics.inbox, view.positions(topics.inbox, owned.values()))
    results = await view.lag(topics.results, view.positions(topics.results, owned.values()))
    backlogs = tuple([await view.backlog(topic) for topic in (topics.events, topics.responses, topics.commands)])
    agents = await view.agents()
    approvals = queries.approvals(model.db, limit=1)
    steps = dict.fromkeys(STEP_STATUSES, 0) | queries.count_open_steps(model.db)
    incidents = queries.open_steps(model.db, "incident", limit=incidents_shown)
    routers = [*_held_clocks(owned.values()), *_stuck_routers(view, owned.values(), backlogs, inbox, results)]
    counts = queries.count_events(model.db, topics.events)
    waiting = backlogs[0].lag
    return MeshStatus(
        broker=broker_url,
        at_ms=now_ms,
        partitions=_partitions(view.count(topics.log), owned, inbox, results),
        backlogs=backlogs,
        agents=agents,
        workflows=queries.count_workflows(model.db),
        steps=steps,
        events=EventCounts(
            seen=counts["seen"],
            waiting=waiting,
            matched=counts["matched"],
            dead_lettered=counts["dead_lettered"],
            # The numbers are not of one moment, so the rest may come out below 0.
            unwanted=max(0, counts["seen"] - waiting - counts["matched"] - counts["dead_lettered"] - inbox.total),
        ),
        dead_letters=queries.count_dead_letters(model.db),
        approvals=approvals.total,
        oldest_approval=approvals[0] if approvals else None,
        incidents=incidents,
        stuck=(
            # If routers are stuck, overdue times follow from that and are not reported as well.
            *(routers or _stuck_times(*queries.overdue_steps(model.db, now_ms - PATIENCE_MS), now_ms)),
            *_stuck_agents(agents, topics, now_ms),
            *_stuck_steps(incidents),
            *_deadly(queries.deadly_steps(model.db)),
            *_stuck_iterations(queries.halted_iterations(model.db)),
            *_waiting_people(approvals, now_ms),
            *_waiting_for_events(queries.awaited_events(model.db), now_ms),
        ),
    )


def _held_clocks(owned: Iterable[PartitionRow]) -> list[Stuck]:
    """Of all partitions together: one machine's clock is behind all of them, as a rule."""
    held = [(row.partition, row.hold) for row in owned if row.hold is not None]
    if not held:
        return []
    ahead_s, since_ms = held[0][1].ahead_ms / 1_000, min(hold.since_ms for _, hold in held)
    partitions = ", ".join(str(partition) for partition, _ in held)
    return [
        Stuck(
            severity="warning",
            what=f"the clock has jumped by {ahead_s:+,.0f} s since {rfc3339(since_ms)}: deadlines of partitions {partitions} "
            "go on by the time that really passes",
            next_step="set the clock right, and they follow it by themselves; if it is right now: mesh clock release",
        )
    ]


class _View:
    """Look-ups at the broker, with the topics and cards as they are now."""

    def __init__(self, broker: Broker, topics: Topics, model: ReadModel, now_ms: int) -> None:
        self._broker = broker
        self._topics = topics
        self._model = model
        self.now_ms = now_ms

    def count(self, topic: str) -> int:
        info = self._model.topics_known.get(topic)
        return info.partitions if info else 0

    def positions(self, topic: str, owned: Iterable[PartitionRow]) -> dict[int, int]:
        return {row.partition: row.positions.get(topic, 0) for row in owned}

    async def backlog(self, topic: str) -> Backlog:
        lag = await self.lag_of_group(topic, self._topics.ingress_group)
        return Backlog(topic=topic, lag=lag.total, overdue=lag.overdue)

    async def lag_of_group(self, topic: str, group: str) -> _Lag:
        partitions = [TopicPartition(topic, p) for p in range(self.count(topic))]
        committed = await self._broker.committed(group, partitions) if partitions else {}
        return await self.lag(
            topic, {tp.partition: found.offset for tp, found in committed.items() if found is not None}
        )

    async def lag(self, topic: str, positions: Mapping[int, int]) -> _Lag:
        partitions = [TopicPartition(topic, p) for p in range(self.count(topic))]
        if not partitions:
            return _Lag({}, 0)
        ends = await self._broker.end_offsets(partitions)
        begins = await self._broker.begin_offsets(partitions)
        # Records before the beginning are gone (retention): nobody can be behind on them.
        lags = {tp.partition: ends[tp] - max(positions.get(tp.partition, 0), begins[tp]) for tp in partitions}
        behind = [tp for tp in partitions if lags[tp.partition] > 0]
        old = await self._broker.offsets_at(behind, self.now_ms - PATIENCE_MS) if behind else {}
        read = {tp: max(positions.get(tp.partition, 0), begins[tp]) for tp in behind}
        overdue = {tp: old[tp] - read[tp] for tp in behind if old[tp] > read[tp]}
        for tp in list(overdue):  # a transaction's marker has an offset, but nobody has to read it
            if await first_at(self._broker, tp, read[tp]) is None:
                del overdue[tp]
                lags[tp.partition] = 0
        return _Lag({partition: max(0, lag) for partition, lag in lags.items()}, sum(overdue.values()))

    async def agents(self) -> tuple[AgentStatus, ...]:
        """Every agent that has a task topic, a card, or a task out."""
        prefix = self._topics.tasks("")
        cards = queries.cards(self._model.db)
        running = queries.running_by_agent(self._model.db)
        names = {topic.removeprefix(prefix) for topic in self._model.topics_known if topic.startswith(prefix)}
        names |= {row.card.name for row in cards} | running.keys()
        return tuple([await self._agent(name, cards, running.get(name, (0, None))) for name in sorted(names)])

    async def _agent(self, name: str, cards: Sequence[CardRow], running: tuple[int, int | None]) -> AgentStatus:
        alive = [row.card for row in cards if row.card.name == name and row.is_alive(self.now_ms)]
        has_topic = self.count(self._topics.tasks(name)) > 0
        lag = await self.lag_of_group(self._topics.tasks(name), self._topics.agent_group(name))
        return AgentStatus(
            name=name,
            alive=len(alive),
            versions=tuple(sorted({card.version for card in alive})),
            lag=lag.total if has_topic else None,
            overdue=lag.overdue,
            running=running[0],
            oldest_running_ms=running[1],
            capabilities=next((row.card.capabilities for row in cards if _registers(row, name)), ()),
        )


def _registers(row: CardRow, name: str) -> bool:
    return row.card.registration and row.card.name == name


def _partitions(
    count: int, owned: Mapping[int, PartitionRow], inbox: _Lag, results: _Lag
) -> tuple[PartitionStatus, ...]:
    rows = []
    for number in range(count):
        row = owned.get(number)
        rows.append(
            PartitionStatus(
                partition=number,
                owner=row.owner if row else "",
                owner_since_ms=row.owner_since_ms if row else 0,
                decided_at_ms=row.decided_at_ms if row else 0,
                inbox_lag=inbox.by_partition.get(number, 0),
                results_lag=results.by_partition.get(number, 0),
                hold=row.hold if row else None,
            )
        )
    return tuple(rows)


# Why something is stuck ---------------------------------------------------------------------------


def _stuck_routers(
    view: _View, owned: Iterable[PartitionRow], backlogs: Sequence[Backlog], inbox: _Lag, results: _Lag
) -> list[Stuck]:
    last_ms = max((max(row.decided_at_ms, row.owner_since_ms) for row in owned), default=0)
    overdue = [(one.topic, one.overdue) for one in backlogs if one.overdue]
    overdue += [(name, lag.overdue) for name, lag in (("the inbox", inbox), ("results", results)) if lag.overdue]
    if not overdue:
        return []
    what = ", ".join(f"{count:,} unread in {name}" for name, count in overdue)
    if not last_ms:
        return [Stuck(severity="error", what=f"{what}, and no router has ever run here", next_step="mesh router")]
    quiet_ms = view.now_ms - last_ms
    if quiet_ms > PATIENCE_MS:
        why = f"{what}, and no router is alive: the last decision was {_span(quiet_ms)} ago"
        return [Stuck(severity="error", what=why, next_step="mesh router")]
    why = f"{what}: the routers are behind"
    return [Stuck(severity="warning", what=why, next_step="run more routers, up to one for each partition")]


def _stuck_times(count: int, first_ms: int, now_ms: int) -> list[Stuck]:
    """A time has come but no router acts on it, although nothing is unread."""
    if not count:
        return []
    what = "the time of a step has come" if count == 1 else f"the time of {count:,} steps has come"
    what += f"{', the first' if count > 1 else ''} {_span(now_ms - first_ms)} ago, and no router has acted on it"
    return [Stuck(severity="error", what=what, next_step="mesh router")]


def _stuck_agents(agents: Sequence[AgentStatus], topics: Topics, now_ms: int) -> list[Stuck]:
    found = []
    for agent in agents:
        waited_ms = now_ms - agent.oldest_running_ms if agent.oldest_running_ms is not None else 0
        topic, start = topics.tasks(agent.name), f"start the agent {agent.name}: mesh agent MODULE"
        if agent.running and agent.lag is None:
            what = f"{_tasks(agent.running)} for {agent.name}, and there is no topic {topic}"
            found.append(Stuck(severity="error", what=what, next_step="mesh topics apply, then mesh workflows retry"))
        elif agent.running and not agent.alive and waited_ms >= PATIENCE_MS:
            since = f"{'' if agent.running == 1 else ', the oldest'} for {_span(waited_ms)}"
            what = f"{_tasks(agent.running)}{since}: nobody alive consumes {topic}"
            found.append(Stuck(severity="error", what=what, next_step=start))
        elif agent.overdue and agent.alive:
            what = f"{agent.overdue:,} unread in {topic}: {agent.name} is behind"
            found.append(Stuck(severity="warning", what=what, next_step=f"run more replicas of {agent.name}"))
    return found


def _stuck_steps(incidents: Page[OpenStep]) -> list[Stuck]:
    if not incidents:
        return []
    one, count = incidents[0], incidents.total
    message = one.incident_message if len(one.incident_message) <= 100 else one.incident_message[:99] + "…"  # noqa: PLR2004 - one line of a screen
    what = f"{count:,} incident{'s' if count > 1 else ''} wait{'' if count > 1 else 's'} for an operator; the oldest: {one.step}: {message}"
    return [Stuck(severity="error", what=what, next_step=f"mesh workflows retry '{one.workflow_id}'")]


def _deadly(steps: Sequence[OpenStep]) -> list[Stuck]:
    """Agents whose processes die over a task, and the tasks."""
    found = []
    for one in steps:
        where = f"mesh workflows show '{one.workflow_id}'"
        what = f"agent {one.agent} dies over the task {one.step} of {one.workflow_id}"
        if one.status == "incident":
            what += ", which is not sent again"
            where = f"repair the agent (its processes' last lines say why they died), then mesh workflows retry '{one.workflow_id}'"
        found.append(Stuck(severity="error" if one.status == "incident" else "warning", what=what, next_step=where))
    return found


def _stuck_iterations(halted: Sequence[OpenStep]) -> list[Stuck]:
    """For-each steps that wait for their incidents alone.

    These are warnings, because the incidents are errors of their own.
    """
    if not halted:
        return []
    one = halted[0]
    more = f", and {len(halted) - 1:,} more like it" if len(halted) > 1 else ""
    what = f"for-each {one.step} waits for its incidents alone{more}: {one.settled:,} of {one.total:,} items are done"
    return [
        Stuck(severity="warning", what=what, next_step=f"mesh workflows skip '{one.workflow_id}' --step {one.step}")
    ]


def _waiting_for_events(awaited: Sequence[Awaited], now_ms: int) -> list[Stuck]:
    found = []
    for one in awaited[:AWAITED_SHOWN]:
        who = f"{one.step} waits" if one.count == 1 else f"{one.count:,} steps wait, the oldest"
        untimed = one.count - one.timed
        forever = (
            "" if not untimed else "without a time-out" if one.count == untimed else f"{untimed:,} without a time-out"
        )
        what = f"{who} {_span(now_ms - one.since_ms)} for event {one.type}" + (f", {forever}" if forever else "")
        found.append(Stuck(severity="warning", what=what, next_step=f"mesh workflows show '{one.workflow_id}'"))
    others = awaited[AWAITED_SHOWN:]
    if others:
        count = sum(one.count for one in others)
        steps = "step waits" if count == 1 else "steps wait"
        kinds = "type" if len(others) == 1 else "types"
        what = f"{count:,} more {steps} for events of {len(others):,} other {kinds}"
        found.append(Stuck(severity="warning", what=what, next_step="mesh workflows --status running"))
    return found


def _waiting_people(approvals: Page[ApprovalRow], now_ms: int) -> list[Stuck]:
    if not approvals:
        return []
    oldest = approvals[0]
    waits = "approval waits" if approvals.total == 1 else f"{approvals.total:,} approvals wait, the oldest"
    what = f"{waits} {_span(now_ms - oldest.asked_at_ms)} for role {oldest.role}"
    return [Stuck(severity="warning", what=what, next_step="mesh approvals")]


def _tasks(count: int) -> str:
    return "a task waits" if count == 1 else f"{count:,} tasks wait"


def _span(ms: int) -> str:
    seconds = max(0, ms) // 1_000
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"  # noqa: PLR2004 - two hours
