"""A batch of decisions on its way to the log.

Encoded and in order, with what is to be sent and remembered once the log has them.
"""

import asyncio

from mesh.codec.sealing import Key
from mesh.core.clock import ClockHold, Sighting
from mesh.core.effects import Effect
from mesh.core.events import Decision
from mesh.core.state import Workflow
from mesh.ports import OutRecord
from mesh.services.router.spans import Traced


class Batch:
    """Decisions of one partition that go to the log in one append.

    `first_offset`: where the first is expected. `changed`: the workflows as they are after the last
    decision of the batch (None: forgotten). `positions`, `watermarks`, `sequence`, and what is
    known of the clock (`hold`, `seen`): likewise after the last decision. `keys`: of private
    workflows, which the broker must have before the log has what is sealed with them. `leaving`:
    keys by workflow that are not needed once the log has the batch. `crosses`:
    some effects go to other workflows, or must keep their order otherwise. `places`: of each effect
    that says where it was decided, its index and that of its decision. `traced`: what the
    decisions' spans are made of, if there is a tracer.
    """

    __slots__ = (
        "changed",
        "crosses",
        "decisions",
        "effect_records",
        "effects",
        "first_offset",
        "hold",
        "keys",
        "leaving",
        "places",
        "positions",
        "records",
        "seen",
        "sequence",
        "traced",
        "watermarks",
    )

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.records: list[OutRecord] = []
        self.effects: list[Effect] = []
        self.effect_records: list[OutRecord] = []
        self.changed: dict[str, Workflow | None] = {}
        self.watermarks: dict[str, tuple[int, int]] = {}
        self.positions: dict[str, int] = {}
        self.places: list[tuple[int, int]] = []
        self.traced: list[Traced] = []
        self.keys: list[OutRecord] = []
        self.leaving: dict[str, Key] = {}
        self.first_offset = -1
        self.sequence = 0
        self.hold: ClockHold | None = None
        self.seen: Sighting | None = None
        self.crosses = False

    def __len__(self) -> int:
        return len(self.decisions)


class Flight:
    """A batch's place in the order of its partition.

    `jumps`: those of a clock that its owner had seen when it began. `left`: its append has begun;
    None where it need not wait for that of the flight before, nor that for keys.
    """

    __slots__ = ("batch", "confirmed", "done", "jumps", "left", "previous")

    def __init__(self, batch: Batch, previous: "Flight | None", jumps: int) -> None:
        loop = asyncio.get_running_loop()
        self.batch = batch
        self.confirmed: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.previous = previous
        self.jumps = jumps
        waits = previous is not None and previous.left is not None and not previous.left.done()
        self.left: asyncio.Future[None] | None = loop.create_future() if batch.keys or waits else None

    def end(self) -> None:
        """The flight is over, whatever happened: nobody waits for it any longer."""
        self.previous = None
        for future in (self.confirmed, self.done, self.left):
            if future is not None and not future.done():
                future.set_result(None)
