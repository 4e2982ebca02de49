"""The state of a whole mesh on one screen, and why something in it is stuck.

Owns the judgement; it changes nothing. It sees what any process can see: positions in the log
against the ends of topics, what groups have committed, and the cards of routers and agents. In a
healthy mesh nothing is stuck, whatever goes on. What looks stuck is looked at again before it is
said: a mesh that has just come back, or whose clock has jumped, is at work again in a moment.
Called by `mesh status`, later by the console.

`values` has what is found, `look` the look-ups, and `stuck_routers`, `stuck_agents` and
`stuck_work` the findings.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.errors import NotFound
from mesh.inspection.mesh_status.look import PATIENCE_MS, Lag, View, roles_asked, router_statuses
from mesh.inspection.mesh_status.stuck_agents import stuck_agents
from mesh.inspection.mesh_status.stuck_routers import Inputs, held_clocks, stuck_routers
from mesh.inspection.mesh_status.stuck_terms import stuck_terms
from mesh.inspection.mesh_status.stuck_work import (
    deadly,
    paused,
    paused_targets,
    stuck_iterations,
    stuck_steps,
    waiting_for_events,
    waiting_people,
)
from mesh.inspection.mesh_status.values import (
    AgentStatus,
    Backlog,
    EventCounts,
    MeshStatus,
    PartitionStatus,
    RouterStatus,
    Stuck,
)
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import ApprovalRow, OpenStep, PartitionRow
from mesh.inspection.read_model.routers import RouterRow, routers
from mesh.inspection.route_versions import read_stored
from mesh.ports import Broker, Clock

__all__ = [
    "INCIDENTS_SHOWN",
    "PATIENCE_MS",
    "STEP_STATUSES",
    "AgentStatus",
    "Backlog",
    "EventCounts",
    "MeshStatus",
    "PartitionStatus",
    "RouterStatus",
    "Stuck",
    "assess",
    "assess_twice",
]

STEP_STATUSES: Final = ("running", "retrying", "asking", "calling", "waiting", "iterating", "held", "incident")
INCIDENTS_SHOWN: Final = 20
SECOND_LOOK_S: Final = 3.0
"""How long what looks stuck is looked at again.

A card is renewed a second after it could not be.
"""
_LOOK_EVERY_S: Final = 0.5


async def assess_twice(
    broker: Broker,
    topics: Topics,
    model: ReadModel,
    *,
    clock: Clock,
    broker_url: str,
    incidents_shown: int | None = INCIDENTS_SHOWN,
    hindrance: Stuck | None = None,
) -> MeshStatus:
    """The mesh now. What looks stuck in routers or agents has to look so for `SECOND_LOOK_S`.

    The read model is caught up meanwhile. `hindrance`: see `assess`.
    """

    async def look() -> MeshStatus:
        return await assess(
            broker,
            topics,
            model,
            broker_url=broker_url,
            now_ms=clock.now_ms(),
            incidents_shown=incidents_shown,
            hindrance=hindrance,
        )

    found, loop = await look(), asyncio.get_running_loop()
    end_s = loop.time() + SECOND_LOOK_S
    while any(one.may_pass for one in found.stuck) and loop.time() < end_s:
        await asyncio.sleep(_LOOK_EVERY_S)
        await model.catch_up()
        found = await look()
    return found


async def assess(
    broker: Broker,
    topics: Topics,
    model: ReadModel,
    *,
    broker_url: str,
    now_ms: int,
    incidents_shown: int | None = INCIDENTS_SHOWN,
    hindrance: Stuck | None = None,
) -> MeshStatus:
    """The mesh as of the read model's last catch-up and the broker's offsets now.

    `incidents_shown`: how many incidents it names, the oldest first. None: all. `hindrance`: what
    keeps every process from writing, if the caller knows of something: then routers and agents seem
    dead, and are not.
    """
    view = View(broker, topics, model, now_ms)
    owned = {row.partition: row for row in queries.partitions(model.db)}
    cards = routers(model.db)
    inbox, results = await view.inputs(owned.values())
    backlogs = tuple([await view.backlog(topic) for topic in (topics.events, topics.responses, topics.commands)])
    agents = await view.agents()
    approvals = queries.approvals(model.db, limit=1)
    steps = dict.fromkeys(STEP_STATUSES, 0) | queries.count_open_steps(model.db)
    workflows = queries.count_workflows(model.db)
    incidents = queries.open_steps(model.db, "incident", limit=incidents_shown)
    active = await _active_routes(broker, topics)
    inputs = Inputs(
        backlogs=backlogs,
        inbox=inbox,
        results=results,
        overdue_times=queries.overdue_steps(model.db, now_ms - PATIENCE_MS, _holds(owned)),
        open_workflows=workflows.get("running", 0),
        has_routes=bool(active),
    )
    processes = [hindrance] if hindrance is not None else _of_processes(cards, owned, inputs, agents, view)
    return MeshStatus(
        broker=broker_url,
        at_ms=now_ms,
        routers=router_statuses(cards, owned, now_ms),
        partitions=_partitions(view.count(topics.log), owned, inbox, results),
        backlogs=backlogs,
        agents=agents,
        workflows=workflows,
        steps=steps,
        events=_event_counts(model, topics, waiting=backlogs[0].lag, in_inbox=inbox.total),
        dead_letters=queries.count_dead_letters(model.db),
        approvals=approvals.total,
        oldest_approval=approvals[0] if approvals else None,
        incidents=incidents,
        stuck=(
            *processes,
            *held_clocks(owned),
            *_unheld_roles(cards, active, now_ms),
            *await stuck_terms(broker, topics, model.db, active, now_ms),
            *paused_targets(queries.pauses(model.db), view.count(topics.log), now_ms),
            *_of_work(model, incidents, approvals, now_ms),
        ),
    )


def _event_counts(model: ReadModel, topics: Topics, *, waiting: int, in_inbox: int) -> EventCounts:
    """How many events came, and what became of them. `in_inbox`: on the way to a decision."""
    counts = queries.count_events(model.db, topics.events)
    seen, matched, dead_lettered = counts["seen"], counts["matched"], counts["dead_lettered"]
    return EventCounts(
        seen=seen,
        waiting=waiting,
        matched=matched,
        dead_lettered=dead_lettered,
        # The numbers are not of one moment, so the rest may come out below 0.
        unwanted=max(0, seen - waiting - matched - dead_lettered - in_inbox),
    )


def _of_work(model: ReadModel, incidents: Page[OpenStep], approvals: Page[ApprovalRow], now_ms: int) -> Iterator[Stuck]:
    """What waits in workflows: for operators, for people, for events."""
    yield from stuck_steps(incidents)
    yield from deadly(queries.deadly_steps(model.db))
    yield from stuck_iterations(queries.halted_iterations(model.db))
    yield from paused(*queries.paused_workflows(model.db), now_ms)
    yield from waiting_people(approvals, now_ms)
    yield from waiting_for_events(queries.awaited_events(model.db), now_ms)


def _of_processes(
    cards: Sequence[RouterRow],
    owned: Mapping[int, PartitionRow],
    inputs: Inputs,
    agents: Sequence[AgentStatus],
    view: View,
) -> list[Stuck]:
    """What is wrong with routers and agents."""
    now_ms = view.now_ms
    up_since_ms = min((row.started_at_ms for row in cards if row.is_alive(now_ms)), default=0)
    found = stuck_routers(cards, owned, inputs, now_ms) + stuck_agents(agents, view.topics, now_ms, up_since_ms)
    return [replace(one, may_pass=True) for one in found]


def _holds(owned: Mapping[int, PartitionRow]) -> dict[int, int]:
    """How far the broker's clock is ahead of a partition's time, where it is."""
    return {number: row.hold.ahead_ms for number, row in owned.items() if row.hold is not None}


async def _active_routes(broker: Broker, topics: Topics) -> list[Route]:
    """The routes that are active or about to be, as far as they can be read here."""
    try:
        stored = await read_stored(broker, topics)
    except NotFound:
        return []
    digests = set(stored.digests().values())
    return [one.route for one in stored.versions if one.digest in digests and one.route is not None]


def _unheld_roles(cards: Sequence[RouterRow], active: Sequence[Route], now_ms: int) -> list[Stuck]:
    """Roles that active routes ask for and that nobody has, as some living router knows them."""
    found = []
    for role, (route, step) in sorted(roles_asked(active).items()):
        lacking = [
            row.card
            for row in cards
            if row.is_alive(now_ms) and row.card.roles is not None and role not in row.card.roles
        ]
        if lacking:
            what = f"nobody has the role {role}, which {step} of route {route} asks: every answer would be refused"
            which = lacking[0]
            next_step = f"give it to somebody in {which.approvers} of router {which.instance}"
            if which.people:
                next_step = "give it to somebody: `mesh people apply FILE`, with all people and their roles"
            found.append(Stuck(severity="warning", what=what, next_step=next_step))
    return found


def _partitions(count: int, owned: Mapping[int, PartitionRow], inbox: Lag, results: Lag) -> tuple[PartitionStatus, ...]:
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
