"""Everybody around the routers: upstream, agents, approvers and operators.

The seed decides how well each of them behaves. Owns who hears of what. `world` makes them.

They act on what lands at the broker, as real ones do, and what they send lands at once. Only the
routers' own connections meet the faults of the network (and those of the real agent runtime, in
`world`).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from mesh.codec.approvals import decode_request
from mesh.codec.cloudevents import from_record
from mesh.codec.tasks import decode_task
from mesh.core.events import ApprovalClosed, IncidentRaised, WaitStarted
from mesh.core.matching import Match, RouteIndex
from mesh.core.route import Route
from mesh.errors import MalformedRecord
from mesh.ports import Record
from mesh.testing.simulation.approvers import Approvers
from mesh.testing.simulation.deadly import DEADLY_WORKFLOW, deadly_event, is_deadly
from mesh.testing.simulation.ground import Ground
from mesh.testing.simulation.heavy import heavy_event
from mesh.testing.simulation.operators import Operators
from mesh.testing.simulation.played_agents import PlayedAgents
from mesh.testing.simulation.routes import AGENTS, CAPABILITIES, UNKNOWN_AGENT
from mesh.testing.simulation.upstream import Upstream


class Parties:
    """All parties of a run.

    With `plays_agents` false, real agent runtimes work, and this only sends some results again.
    """

    def __init__(self, ground: Ground, *, plays_agents: bool) -> None:
        self._ground = ground
        self._plays_agents = plays_agents
        self._approvers = Approvers(self._ground)
        self._upstream = Upstream(self._ground, self._approvers)
        self._agents = PlayedAgents(self._ground)
        self._operators = Operators(self._ground, self._approvers, self._upstream.tell)
        self._decisions = 0
        self._outstanding: Mapping[str, int] = {}

    def begin(
        self,
        *,
        workflows: int,
        chaos_s: float,
        outstanding: Mapping[str, int],
        people_change: bool = False,
        routes_change: bool = True,
        organised: bool = False,
        pauses: bool = False,
    ) -> None:
        """Plan what comes from outside while there are faults."""
        self._outstanding = outstanding
        if self._plays_agents:
            self._agents.register(outstanding, CAPABILITIES)
        for number in range(workflows):
            self._upstream.publish(number, chaos_s * 0.7)
        if routes_change:
            self._operators.change_routes(chaos_s * 0.8)
        self._operators.migrate_workflows(chaos_s * 0.9)
        if people_change:
            self._operators.change_people(chaos_s * 0.9)
        if organised:
            self._approvers.organise(chaos_s * 0.9)
        if pauses:
            self._operators.pause_now_and_then(chaos_s * 0.9)

    def send_deadly(self, count: int) -> None:
        """Send inputs that kill routers, among all others: their ingress, and then their owner."""
        for number in range(count):
            kill = partial(self._ground.publish, deadly_event(number))
            if number % 2:
                kill = partial(self._ground.command, "cancel", f"{DEADLY_WORKFLOW}{number}")
            self._ground.later(3.0 + 6.0 * number, kill)

    def send_heavy(self, kinds: Sequence[str]) -> None:
        """Send events with large lists, among all others, and one with small lists for each."""
        for number, kind in enumerate(kinds):
            for is_large in (True, False):
                event = heavy_event(kind, 2 * number + is_large, is_large=is_large)
                self._ground.later(3.0 + 4.0 * number, partial(self._ground.publish, event))

    def landed(self, record: Record) -> None:
        """React to what the broker has taken; the promises have seen it already."""
        topics = self._ground.topics
        if record.topic == topics.requests:
            self._approvers.on_request(decode_request(record))
        elif record.topic == topics.results:
            self._agents.on_result(record)
        elif record.topic == topics.log:
            self._on_log()
        elif record.topic.startswith(topics.tasks("")):
            task = decode_task(record)
            if self._plays_agents or task.agent == UNKNOWN_AGENT:
                self._agents.on_task(task)

    def _on_log(self) -> None:
        """Tell the parties what the newest decision means for them."""
        effective = self._ground.promises.effective
        if len(effective) == self._decisions:
            return
        self._decisions = len(effective)
        number, _, decision = effective[-1]
        for event in decision.events:
            if isinstance(event, IncidentRaised):
                self._operators.on_incident(decision.workflow_id, event)
            elif isinstance(event, ApprovalClosed):
                self._operators.on_verdict(decision.workflow_id, event.step)
            elif isinstance(event, WaitStarted) and event.awaits:
                workflow = self._ground.promises.fold(number).state.workflows.get(decision.workflow_id)
                if workflow is not None:
                    self._upstream.on_wait(workflow, event)

    def clock_jumped(self) -> None:
        """Operators may soon find that the clock is right."""
        self._operators.release_clocks()

    def calm_down(self) -> None:
        """From here on everybody behaves, and operators look after what is stuck."""
        self._ground.is_calm = True
        self._agents.register(self._outstanding, {**CAPABILITIES, "nobodys": (AGENTS[0],)})
        self._operators.settle()


class Met(NamedTuple):
    """What a version of a route makes of an event.

    `started`: the workflows. `is_wanted`: something must become of it, be it a dead letter.
    """

    started: frozenset[str] = frozenset()
    is_wanted: bool = True


def met_by(record: Record, route: Route) -> Met:
    """What this version makes of a record of the events' topic."""
    if is_deadly(record):
        return Met()
    try:
        event = from_record(record)
    except MalformedRecord:
        return Met()
    index = RouteIndex([route])
    found = index.match(event)
    started = frozenset(match.workflow_id for match in found if isinstance(match, Match))
    return Met(started, bool(found or index.offers(event)))
