"""Several partitions' owners without a broker, for properties across partitions.

Their decisions are in logs, and what they tell each other is on its way.
"""

from collections.abc import Iterator

import msgspec
from one_partition import START_MS, as_saved

from mesh.core.crossings import Crossing, crossings, inputs_between
from mesh.core.decide import decide
from mesh.core.effects import SendTask, effects
from mesh.core.events import Cause, Decision, OwnerChanged
from mesh.core.ids import partition_of_key
from mesh.core.inputs import (
    AnswerGiven,
    EventMatched,
    Input,
    ResultReceived,
    TaskUndeliverable,
    TimerDue,
    Undeliverable,
)
from mesh.core.replay import PartitionFold, is_repeated, settle
from mesh.core.route import Route
from mesh.core.state import Directory, PartitionState, Workflow
from mesh.services.router.timers import AWAITED, Timers


class _One:
    """A partition: its state, the log that it can be folded from, and its timers."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = PartitionState()
        self.fold = PartitionFold(number)
        self.timers = Timers()
        self.owners = 0


class Mesh:
    """`give` decides one input in the partition of its workflow.

    `wire`: records on their way, in order for each sender and receiver.
    """

    def __init__(self, routes: list[Route], *, partitions: int, directory: Directory) -> None:
        self.routes = {route.digest: route for route in routes}
        self.directory = msgspec.structs.replace(directory, routes={route.name: route.digest for route in routes})
        self.parts = [_One(number) for number in range(partitions)]
        self.wire: dict[tuple[int, int], list[Crossing]] = {}
        self.heard: list[Crossing] = []
        self.now_ms = START_MS
        self.decisions: list[Decision] = []
        self.tasks: list[SendTask] = []
        for one in self.parts:
            self.take_over(one.number)

    def take_over(self, number: int) -> None:
        """With nothing but the log."""
        one = self.parts[number]
        one.owners += 1
        change = OwnerChanged(
            token=f"{number}.{one.owners}", owner="", partitions=len(self.parts), format_level=1, at_ms=self.now_ms
        )
        one.fold.apply(one.fold.next_offset, change)
        one.state = as_saved(one.fold.state)
        one.timers.rebuild(one.state.workflows.values())

    def part_of(self, workflow_id: str) -> _One:
        return self.parts[partition_of_key(workflow_id.encode(), len(self.parts))]

    def workflow(self, workflow_id: str) -> Workflow | None:
        return self.part_of(workflow_id).state.workflows.get(workflow_id)

    def workflows(self) -> Iterator[Workflow]:
        for one in self.parts:
            yield from list(one.state.workflows.values())

    def give(self, given: Input) -> Decision | None:
        """None: it changes nothing, and is not written down."""
        one, workflow = self.part_of(given.workflow_id), self.workflow(given.workflow_id)
        decided = decide(
            workflow, given, route=self._route_for(given, workflow), directory=self.directory, now_ms=self.now_ms
        )
        if not decided.events:
            return None
        decision = Decision(
            epoch=one.fold.epochs.current,
            workflow_id=given.workflow_id,
            at_ms=self.now_ms,
            cause=_cause(given),
            positions={},
            mark=0,
            events=decided.events,
            sequence=one.state.sequence if crossings(decided.events) else 0,
        )
        settle(one.state, decision, decided.workflow)
        one.fold.apply(one.fold.next_offset, decision)
        assert one.fold.state == one.state, "replay gives another state"
        self.decisions.append(decision)
        if decided.workflow is not None:
            self._arm(one, decision, decided.workflow)
        for told in inputs_between(decision):
            sent = msgspec.structs.replace(told, source_topic="mesh.log", source_partition=one.number)
            self.wire.setdefault((one.number, self.part_of(sent.workflow_id).number), []).append(sent)
        self.tasks += [effect for effect in effects(decision) if isinstance(effect, SendTask)]
        return decision

    def hear(self, lane: tuple[int, int]) -> Decision | None:
        """The next record of one sender for one receiver."""
        given = self.wire[lane].pop(0)
        if not self.wire[lane]:
            del self.wire[lane]
        self.heard.append(given)
        assert not is_repeated(self.part_of(given.workflow_id).state, given)
        return self.give(given)

    def is_repeated(self, given: Crossing) -> bool:
        return is_repeated(self.part_of(given.workflow_id).state, given)

    def due(self) -> tuple[int, int] | None:
        """The nearest time that anything is due, and in which partition."""
        found = [(due, one.number) for one in self.parts if (due := one.timers.nearest_at_ms()) is not None]
        return min(found, default=None)

    def timers(self, number: int) -> list[TimerDue]:
        """What is due now in a partition."""
        one = self.parts[number]
        return [
            timer
            for awaited in AWAITED
            for timer in one.timers.pop_due(awaited, self.now_ms, one.state.workflows, limit=100)
        ]

    def _arm(self, one: _One, decision: Decision, workflow: Workflow) -> None:
        """As the owner does."""
        for event in decision.events:
            name = getattr(event, "step", "")
            step = workflow.steps.get(name)
            if step is not None and step.due_at_ms is not None and step.since_ms == decision.at_ms:
                one.timers.arm(step.due_at_ms, workflow.workflow_id, name, workflow.run_id, step)
        one.timers.arm_rate(workflow)
        if workflow.forget_at_ms is not None:
            one.timers.arm_forget(workflow.forget_at_ms, workflow.workflow_id, workflow.run_id)

    def _route_for(self, given: Input, workflow: Workflow | None) -> Route | None:
        if isinstance(given, EventMatched):
            return self.routes[given.digest]
        return self.routes[workflow.digest] if workflow is not None and workflow.status == "running" else None


def _cause(given: Input) -> Cause:
    if isinstance(given, ResultReceived | TimerDue | TaskUndeliverable | Undeliverable | AnswerGiven):
        return Cause(kind="", id="")
    return Cause(
        kind="",
        id="",
        source_topic=given.source_topic,
        source_partition=given.source_partition,
        source_offset=given.source_offset,
        source_index=given.source_index,
    )
