"""Routers and agents, by their cards: their clocks and versions, and who is there for nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from mesh.codec.times import is_rfc3339, parse_rfc3339
from mesh.core.route import Route, agents_of, capabilities_of
from mesh.inspection.doctor.patient import Patient
from mesh.inspection.doctor.values import Finding, Result, found
from mesh.inspection.mesh_status import AgentStatus
from mesh.inspection.mesh_status.spans import span
from mesh.inspection.read_model.queries import cards
from mesh.inspection.read_model.routers import RouterRow, routers
from mesh.inspection.route_versions import read_stored, uses

SKEW_MS: Final = 2_000
"""Cards come with a delay of the network; a second between the brokers' clocks is allowed."""


_SKEWED_ROUTER: Final = (
    "deadlines go by the broker's clock all the same; its log has the wrong times, and at ten minutes it may "
    "hold all deadlines"
)
_SKEWED_AGENT: Final = "it takes tasks for expired too early or too late by as much, and its log has the wrong times"


class Stamped(msgspec.Struct, frozen=True, kw_only=True):
    """A card's time by the process that wrote it, and by the broker that took it."""

    who: str
    said_ms: int
    stamped_ms: int


async def check_clocks(patient: Patient) -> Result:
    now_ms, db = patient.clock.now_ms(), patient.model.db
    stamped = [
        Stamped(who=f"router {row.instance}", said_ms=parse_rfc3339(row.card.renewed_at), stamped_ms=row.renewed_at_ms)
        for row in routers(db)
        if not row.stopped and is_rfc3339(row.card.renewed_at) and row.is_alive(now_ms)
    ]
    stamped += [
        Stamped(
            who=f"agent {row.card.name} ({row.card.instance})",
            said_ms=parse_rfc3339(row.card.renewed_at),
            stamped_ms=row.renewed_at_ms,
        )
        for row in cards(db)
        if is_rfc3339(row.card.renewed_at) and row.is_alive(now_ms)
    ]
    return found(of_clocks(stamped, now_ms), f"{len(stamped)} processes compared with the broker")


def of_clocks(stamped: Sequence[Stamped], now_ms: int) -> Iterator[Finding]:
    """Whose clock is not the broker's. `now_ms`: by this machine's clock."""
    for one in stamped:
        ahead_ms = one.said_ms - one.stamped_ms
        if abs(ahead_ms) > SKEW_MS:
            yield Finding(
                severity="warning",
                what=f"the clock of {one.who} is {_ahead(ahead_ms)} the broker's",
                why=_SKEWED_ROUTER if one.who.startswith("router ") else _SKEWED_AGENT,
                next_step="set that machine's clock by NTP (chronyc tracking shows how far it is off)",
            )
    newest_ms = max((one.stamped_ms for one in stamped), default=0)
    if newest_ms - now_ms > SKEW_MS:
        yield Finding(
            severity="warning",
            what=f"this machine's clock is {_ahead(now_ms - newest_ms)} the broker's, or more",
            why="what commands here say of how long something has waited or lived is wrong",
            next_step="set this machine's clock by NTP (chronyc tracking shows how far it is off)",
        )


def _ahead(ms: int) -> str:
    return f"{abs(ms) / 1_000:,.1f} s {'ahead of' if ms > 0 else 'behind'}"


async def check_versions(patient: Patient) -> Result:
    now_ms = patient.clock.now_ms()
    alive = [row for row in routers(patient.model.db) if row.is_alive(now_ms)]
    agents = (await patient.status()).agents
    said = ", ".join(sorted({row.card.software or "unknown" for row in alive}))
    return found([*of_routers(alive), *of_replicas(agents)], f"routers run {said}" if alive else "no router is alive")


def of_routers(alive: Sequence[RouterRow]) -> Iterator[Finding]:
    """Living routers of different versions, or that take answers differently."""
    versions = _who_by((row.card.software or "a version that does not say", row.instance) for row in alive)
    if len(versions) > 1:
        yield Finding(
            severity="warning",
            what=f"routers run different versions: {_listed(versions)}",
            why="an older router that meets a format of a newer one stops (exit code 6), and its partitions move on",
            next_step="finish the upgrade: docs/upgrading.md has the order",
        )
    answers = _who_by((row.card.answers, row.instance) for row in alive if row.card.answers)
    if len(answers) > 1:
        yield Finding(
            severity="error",
            what=f"routers take answers differently: {_listed(answers)}",
            why="whether an answer counts depends on which router reads it",
            next_step="set MESH_ANSWERS alike for all routers",
        )


def of_replicas(agents: Sequence[AgentStatus]) -> Iterator[Finding]:
    for agent in agents:
        if len(agent.versions) > 1:
            yield Finding(
                severity="note",
                what=f"replicas of {agent.name} run different versions: {', '.join(agent.versions)}",
                why="a task goes to either",
                next_step="nothing during an upgrade; else stop the replicas of the old version",
            )


def _who_by(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    who: dict[str, list[str]] = {}
    for what, instance in sorted(pairs):
        who.setdefault(what, []).append(instance)
    return who


def _listed(who: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{what} ({', '.join(instances[:3])})" for what, instances in who.items())


async def check_agents(patient: Patient) -> Result:
    """Agents that no rule in use calls, and rules that call agents that nobody runs."""
    stored = await read_stored(patient.broker, patient.topics)
    running = {digest for digest, use in uses(patient.model.db).items() if use.running}
    digests = running | set(stored.digests().values())
    routes = [one.route for one in stored.versions if one.digest in digests and one.route is not None]
    agents = (await patient.status()).agents
    alive = sum(agent.alive > 0 for agent in agents)
    return found(of_agents(agents, routes, patient.clock.now_ms()), f"{alive} of {len(agents)} agents are alive")


def of_agents(agents: Sequence[AgentStatus], routes: Sequence[Route], now_ms: int) -> Iterator[Finding]:
    """`routes`: the versions that are active, or that workflows run on."""
    named = {agent: route.name for route in reversed(routes) for agent in agents_of(route)}
    asked = {capability for route in routes for capability in capabilities_of(route)}
    alive = {agent.name for agent in agents if agent.alive}
    for agent in agents:
        if agent.name in named or asked & set(agent.capabilities):
            continue
        if agent.alive:
            yield Finding(
                severity="note",
                what=f"the agent {agent.name} is alive ({agent.alive}), and no route that is in use calls it",
                why="it does nothing, and costs what it costs",
                next_step="stop it, or apply the route that calls it: mesh routes apply FILE",
            )
        elif agent.lag and agent.oldest_running_ms is None:
            yield Finding(
                severity="note",
                what=f"{agent.lag:,} records are on the topic of {agent.name}, whom nobody runs and no route in use calls",
                why="nobody waits for these tasks any more",
                next_step=f"nothing: they expire with the topic; mesh agents forget {agent.name} takes its card away",
            )
    known = {agent.name: agent for agent in agents}
    for name, route in sorted(named.items()):
        one = known.get(name)
        if name in alive or (one is not None and one.heard_at_ms is None and one.has_consumed):
            continue  # in another language it may have no card
        last = f"was last heard of {span(now_ms - one.heard_at_ms)} ago" if one and one.heard_at_ms else "has never run"
        yield Finding(
            severity="warning",
            what=f"the route {route} calls the agent {name}, which {last}",
            why="its next task will wait until somebody starts it",
            next_step=f"mesh agent MODULE, with the module that defines {name}",
        )
