"""What there is to see of a running demo at one moment.

Owns the reading: it catches up with the read model, and finds what became of each event. It must
not change or show anything. `command`, `conductor` and `checks` use it.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from mesh.cli.approvals.ids import as_waiting
from mesh.cli.demo.script import Delivery, Script
from mesh.codec.dead_letters import decode_dead_letter
from mesh.core.state import Workflow
from mesh.core.topics import Topics
from mesh.inspection.event_status import fate_of, read_record
from mesh.inspection.inbox import Waiting
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.queries import EventRow, TimelineEntry
from mesh.ports import Broker, TopicPartition

Fate = Literal["started", "repeated", "unmatched", "dead_letter"]
FATES: Final[Mapping[str, Fate]] = {"started": "started", "repeated": "repeated"}


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to see at one moment.

    `fates`: what became of deliveries, by name, as far as it is decided. `decisions`: those since
    the last view, in the order in which they were read.
    """

    workflows: Mapping[str, Workflow]
    waiting: tuple[Waiting, ...]
    agents: Mapping[str, bool]  # by name: whether the agent's card is still valid
    partitions: int  # how many partitions a router owns
    fates: Mapping[str, Fate]
    sent: tuple[str, ...]
    decisions: tuple[TimelineEntry, ...]

    def end_of(self, delivery: Delivery) -> str:
        """How the delivery ended. Empty if it has not ended yet."""
        fate = self.fates.get(delivery.name, "")
        if fate != "started":
            return fate
        workflow = self.workflows.get(delivery.workflow)
        return workflow.status if workflow is not None and workflow.status != "running" else ""

    def is_quiet(self, delivery: Delivery) -> bool:
        """Whether nothing happens to the delivery unless a person answers."""
        if self.end_of(delivery):
            return True
        workflow = self.workflows.get(delivery.workflow)
        if workflow is None or delivery.name not in self.fates:
            return False
        at_work = {step.status for step in workflow.steps.values()} & {
            "running",
            "retrying",
            "asking",
            "calling",
            "incident",
        }
        return at_work == {"asking"}


class Watcher:
    """Looks at one mesh again and again."""

    def __init__(
        self, broker: Broker, topics: Topics, model: ReadModel, script: Script, agents: tuple[str, ...]
    ) -> None:
        self._broker = broker
        self._topics = topics
        self._model = model
        self._script = script
        self._agents = agents
        self._fates: dict[str, Fate] = {}
        self._last_row = 0

    @property
    def model(self) -> ReadModel:
        return self._model

    async def look(self, sent: tuple[str, ...], now_ms: int) -> View:
        """Look at the mesh now. `sent`: the names of the deliveries so far, in order."""
        await self._model.catch_up()
        db = self._model.db
        for delivery in self._script.deliveries:
            if delivery.name in sent and delivery.name not in self._fates:
                await self._find_fate(delivery, sent)
        states = {one.workflow: queries.workflow_state(db, one.workflow) for one in self._script.workflows}
        requests = [(row, queries.approval_request(db, row.approval_id)) for row in queries.approvals(db)]
        alive = {row.card.name for row in queries.cards(db) if row.is_alive(now_ms)}
        new = queries.decisions_after(db, self._last_row)
        self._last_row = new[-1][0] if new else self._last_row
        return View(
            workflows={workflow_id: state for workflow_id, state in states.items() if state is not None},
            waiting=tuple(as_waiting(row, request) for row, request in requests if request is not None),
            agents={name: name in alive for name in self._agents},
            partitions=len(queries.partitions(db)),
            fates=dict(self._fates),
            sent=sent,
            decisions=tuple(sorted((entry for _, entry in new), key=lambda entry: entry.decision.at_ms)),
        )

    async def _find_fate(self, delivery: Delivery, sent: tuple[str, ...]) -> None:
        fate = await (self._fate_of_raw(delivery) if delivery.send == "raw" else self._fate_of_event(delivery, sent))
        if fate is not None:
            self._fates[delivery.name] = fate

    async def _fate_of_event(self, delivery: Delivery, sent: tuple[str, ...]) -> Fate | None:
        row = self._row_of(delivery, sent)
        if row is None:
            return None
        fate = (await fate_of(self._broker, self._topics, self._model, row)).fate
        match fate.kind:
            case "decided":
                effects = Counter(one.effect for one in fate.workflows)
                return next((FATES[effect] for effect in effects if effect in FATES), None)
            case "dead_lettered":
                return "dead_letter"
            case "unwanted":
                return "unmatched"
            case _:
                return None

    def _row_of(self, delivery: Delivery, sent: tuple[str, ...]) -> EventRow | None:
        """The row of the delivery's record.

        A delivery that is sent twice has two rows, in the order in which they were sent.
        """
        same = [one.name for one in self._script.deliveries if one.delivery == delivery.delivery and one.name in sent]
        rows = queries.events_by_id(self._model.db, delivery.delivery)
        place = same.index(delivery.name)
        return rows[place] if place < len(rows) else None

    async def _fate_of_raw(self, delivery: Delivery) -> Fate | None:
        return "dead_letter" if await self.dead_letter_of(delivery) else None

    async def dead_letter_of(self, delivery: Delivery) -> bool:
        """Whether the delivery's bytes are in the dead letters, exactly as they were sent."""
        for row in queries.dead_letters(self._model.db):
            record = await read_record(self._broker, TopicPartition(self._topics.dlq, row.partition), row.offset)
            if record is not None and decode_dead_letter(record).original.value == delivery.raw:
                return True
        return False
