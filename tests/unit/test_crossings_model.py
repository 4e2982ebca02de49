"""Records between partitions: none is lost, and none is decided twice.

That holds for every interleaving of crashes, take-overs, and late and double landings.

One sender partition, one receiver. The owner pipelines: it decides while earlier flights are on
their way, and its appends land behind inert ones of an owner before it, which may live on. What a
flight tells the other partition goes out in one call, lands in order, late or twice, and is
acknowledged or not. An owner that never acts again is as one that has crashed, so crashes are
explored only where they leave an older owner to the next one. A new owner folds the log, sends
again from the mark on, and goes on. That the log says who owns it is `test_ownership_model`'s part.
What a decision tells which workflow, its place in the sequence, and what the receiver takes for a
repeat, is the real code's.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

import pytest
from msgspec.structs import replace
from reached import reached

from mesh.core.calls import Caller
from mesh.core.crossings import inputs_between
from mesh.core.events import CallRefused, Cause, Decision, OwnerChanged
from mesh.core.inputs import CallEnded
from mesh.core.replay import PartitionFold, is_repeated, settle
from mesh.core.state import PartitionState

SENDS = (1, 0, 2, 1)
"""How many records each decision sends to the other partition."""

Told = tuple[int, int]  # decision, and which of its records
Record = tuple[Told, int]  # with what the receiver's watermark stands on


class Entry(NamedTuple):
    """A record of the sender's log.

    `number`: of the decision; none for a change of owner, and for what landed too late to be
    effective.
    """

    number: int | None
    sequence: int
    mark: int
    owner: int  # its epoch


class Flight(NamedTuple):
    number: int
    sequence: int
    expected: int  # the log offset, when its records were made
    at: int  # ... and where it stands
    stage: Literal["appending", "confirmed", "sending", "landed", "acknowledged"]
    left: int  # records of it that have not landed


class Owner(NamedTuple):
    epoch: int
    sequence: int  # as decided so far
    position: int  # the next decision
    expected: int
    mark: int
    owed: tuple[Record, ...]  # to be sent again, and not landed yet
    is_ready: bool
    flights: tuple[Flight, ...]


class World(NamedTuple):
    log: tuple[Entry, ...]
    owners: tuple[Owner, ...]  # the last in force; those before it do not know yet
    # calls of owners that are gone: they may land yet, each in order
    wire: tuple[tuple[Record, ...], ...]
    watermark: tuple[int, int] | None
    decided: tuple[Told, ...]
    epochs: int
    twice: int  # double landings so far
    problem: str = ""


FIRST = World((), (), (), None, (), 0, 0)


class Faults(NamedTuple):
    offset_as_watermark: bool = False
    overtakes: bool = False  # a flight sends before the one before it is done
    new_before_old: bool = False  # a new owner decides and sends while it sends again
    starts_sequence_afresh: bool = False  # with each owner
    skips_what_is_sent_again: bool = False


class Bounds(NamedTuple):
    decisions: int
    flights: int
    epochs: int
    twice: int
    every_crash: bool = False  # also those that change nothing for the owners to come


class Model:
    def __init__(self, bounds: Bounds, faults: Faults) -> None:
        self.bounds = bounds
        self.faults = faults
        self.receive = lru_cache(maxsize=10_000)(self._receive)
        self.fold = lru_cache(maxsize=50_000)(self._fold)

    # By the real code -----------------------------------------------------------------------------

    def records(self, number: int, sequence: int, at: int) -> tuple[Record, ...]:
        """What the decision tells the other partition.

        `at`: the log offset that its owner knows.
        """
        told = inputs_between(_decision(Entry(number, sequence, 0, 0)))
        return tuple(
            ((number, index), at * 10 + index if self.faults.offset_as_watermark else one.source_offset)
            for index, one in enumerate(told)
        )

    def _receive(self, watermark: tuple[int, int] | None, place: int) -> tuple[int, int] | None:
        """The watermark after this record is decided; None where it is passed over."""
        state = PartitionState(watermarks={"mesh.log/0": watermark} if watermark else {})
        [one] = inputs_between(_decision(Entry(0, place, 0, 0)))
        assert isinstance(one, CallEnded)
        given = replace(one, source_topic="mesh.log", source_partition=0)
        if is_repeated(state, given):
            return None
        cause = Cause(kind="", id="", source_topic="mesh.log", source_partition=0, source_offset=given.source_offset)
        ruling = Decision(epoch="", workflow_id="x:y", at_ms=0, cause=cause, positions={}, mark=0, events=())
        settle(state, ruling, None)
        return state.watermarks["mesh.log/0"]

    def _fold(self, log: tuple[Entry, ...]) -> tuple[int, int, tuple[tuple[int, Entry], ...]]:
        """Sequence, mark, and the effective decisions with their offsets."""
        fold, effective = PartitionFold(0), []
        for offset, entry in enumerate(log):
            if fold.apply(offset, _record(entry)) and entry.number is not None:
                effective.append((offset, entry))
        return fold.state.sequence, fold.state.mark, tuple(effective)

    # What may happen next -------------------------------------------------------------------------

    def next(self, world: World) -> Iterator[World]:
        if world.epochs < self.bounds.epochs:
            yield self._take_over(world)
        for place, owner in enumerate(world.owners):
            leaves_an_older_one = place > 0 and world.epochs < self.bounds.epochs
            if leaves_an_older_one or self.bounds.every_crash:
                yield from self._crash(world, place, owner)
            if owner.owed or not owner.is_ready:
                yield from self._send_again(world, place, owner)
            if owner.is_ready or self.faults.new_before_old:
                yield from self._decide(world, place, owner)
                yield from self._move(world, place, owner)
        for place, batch in enumerate(world.wire):
            rest = (batch[1:],) if len(batch) > 1 else ()
            left = world._replace(wire=tuple(sorted((*world.wire[:place], *rest, *world.wire[place + 1 :]))))
            yield self._land(left, batch[0])

    def _take_over(self, world: World) -> World:
        epoch, until = world.epochs, len(world.log)
        log = (*world.log, Entry(None, 0, 0, epoch))
        sequence, mark, effective = self.fold(log)
        owed = tuple(
            record
            for offset, entry in effective
            if offset >= mark and entry.number is not None
            for record in self.records(entry.number, entry.sequence, offset)
        )
        new = Owner(
            epoch,
            0 if self.faults.starts_sequence_afresh else sequence,
            len(effective),
            until + 1,
            mark,
            () if self.faults.skips_what_is_sent_again else owed,
            is_ready=False,
            flights=(),
        )
        return world._replace(log=log, owners=(*world.owners[-1:], new), epochs=epoch + 1)._replace(
            wire=_with_calls(world.wire, world.owners[:-1], self)
        )

    def _crash(self, world: World, place: int, owner: Owner) -> Iterator[World]:
        """It dies, or gives up for an outcome that it can't know.

        What it has on the wire lands yet, or does not.
        """
        gone = world._replace(owners=(*world.owners[:place], *world.owners[place + 1 :]))
        gone = gone._replace(wire=_with_calls(world.wire, (owner,), self))
        yield gone
        appending = [flight for flight in owner.flights if flight.stage == "appending"]
        if appending:
            first = appending[0]
            late = Entry(first.number, first.sequence, owner.mark, owner.epoch)
            yield gone._replace(log=(*gone.log, late))

    def _send_again(self, world: World, place: int, owner: Owner) -> Iterator[World]:
        if owner.owed:
            yield self._land(_with(world, place, owner._replace(owed=owner.owed[1:])), owner.owed[0])
        else:
            yield _with(world, place, owner._replace(is_ready=True, mark=owner.expected))

    def _decide(self, world: World, place: int, owner: Owner) -> Iterator[World]:
        if owner.position >= self.bounds.decisions or len(owner.flights) >= self.bounds.flights:
            return
        number = owner.position
        under_way = sum(flight.stage == "appending" for flight in owner.flights)
        expected = owner.expected + under_way
        flight = Flight(number, owner.sequence, expected, expected, "appending", SENDS[number])
        yield _with(
            world,
            place,
            owner._replace(
                position=number + 1, sequence=owner.sequence + SENDS[number], flights=(*owner.flights, flight)
            ),
        )

    def _move(self, world: World, place: int, owner: Owner) -> Iterator[World]:
        """Move each flight on by one stage.

        Its append lands, it is sent, its records land one by one, it is acknowledged.
        """
        for index, flight in enumerate(owner.flights):

            def put(after: Flight, index: int = index) -> Owner:
                return owner._replace(flights=(*owner.flights[:index], after, *owner.flights[index + 1 :]))

            is_first = index == 0
            match flight.stage:
                case "appending":
                    yield self._append(world, place, owner, flight, put)
                    return  # the next can't land before it
                case "confirmed" if is_first or not flight.left or self.faults.overtakes:
                    yield _with(world, place, put(flight._replace(stage="sending" if flight.left else "acknowledged")))
                case "sending":
                    record = self.records(flight.number, flight.sequence, flight.expected)[-flight.left]
                    stage: Literal["sending", "landed"] = "sending" if flight.left > 1 else "landed"
                    yield self._land(
                        _with(world, place, put(flight._replace(left=flight.left - 1, stage=stage))), record
                    )
                case "landed":
                    yield _with(world, place, put(flight._replace(stage="acknowledged")))
                    if world.twice < self.bounds.twice:
                        again = flight._replace(left=SENDS[flight.number], stage="sending")
                        yield _with(world, place, put(again))._replace(twice=world.twice + 1)
                case "acknowledged" if is_first:
                    mark = flight.at + 1
                    yield _with(world, place, owner._replace(flights=owner.flights[1:], mark=mark))
                case _:
                    pass

    def _append(self, world: World, place: int, owner: Owner, flight: Flight, put: Callable[[Flight], Owner]) -> World:
        """At the log's end.

        Behind another owner's change it is inert, and the acknowledgement says so.
        """
        entry = Entry(flight.number, flight.sequence, owner.mark, owner.epoch)
        at, landed = len(world.log), world._replace(log=(*world.log, entry))
        if owner.epoch != max(one.owner for one in world.log if one.number is None):
            gone = landed._replace(owners=(*world.owners[:place], *world.owners[place + 1 :]))
            return gone._replace(wire=_with_calls(world.wire, (owner,), self))
        confirmed = put(flight._replace(stage="confirmed", at=at))
        return _with(landed, place, confirmed._replace(expected=at + 1))

    def _land(self, world: World, record: Record) -> World:
        told, place = record
        after = self.receive(world.watermark, place)
        if after is None:
            lost = "" if told in world.decided else "a record that was never decided is taken for a repeat"
            return world._replace(problem=lost)
        twice = "a record is decided twice" if told in world.decided else ""
        return world._replace(watermark=after, decided=(*world.decided, told), problem=twice)

    def problem(self, world: World) -> str:
        if world.problem:
            return world.problem
        _, mark, effective = self.fold(world.log)
        owed = {
            (e.number, n) for at, e in effective if at < mark and e.number is not None for n in range(SENDS[e.number])
        }
        return "" if owed <= set(world.decided) else "a record is lost: the mark covers it, and it never arrived"


def _with(world: World, place: int, owner: Owner) -> World:
    return world._replace(owners=(*world.owners[:place], owner, *world.owners[place + 1 :]))


def _with_calls(
    wire: tuple[tuple[Record, ...], ...], owners: tuple[Owner, ...], model: Model
) -> tuple[tuple[Record, ...], ...]:
    """What these owners had sent and nobody acknowledged."""
    calls = [
        model.records(flight.number, flight.sequence, flight.at)[-flight.left :]
        for owner in owners
        for flight in owner.flights
        if flight.stage == "sending"
    ]
    return tuple(sorted((*wire, *calls, *(owner.owed for owner in owners if owner.owed and not owner.is_ready))))


def _decision(entry: Entry) -> Decision:
    number = entry.number or 0
    events = tuple(
        CallRefused(caller=Caller(workflow_id="x:y", task_id=f"x:y/1/{number}.{index}"), code="", message="")
        for index in range(SENDS[number])
    )
    return Decision(
        epoch=str(entry.owner),
        workflow_id="r:k",
        at_ms=0,
        cause=Cause(kind="mark", id=""),
        positions={},
        mark=entry.mark,
        events=events,
        sequence=entry.sequence if events else 0,
    )


@lru_cache(maxsize=50_000)
def _record(entry: Entry) -> Decision | OwnerChanged:
    if entry.number is not None:
        return _decision(entry)
    return OwnerChanged(token=str(entry.owner), owner="", partitions=2, format_level=1, at_ms=0)


def explore(bounds: Bounds, faults: Faults = Faults(), *, limit: int = 50_000_000) -> tuple[str, int]:  # noqa: B008 - a value
    """What was found to be wrong (empty: nothing), and how many states were seen."""
    model = Model(bounds, faults)
    seen = {FIRST}
    todo = deque(seen)
    while todo and len(seen) < limit:
        for world in model.next(todo.popleft()):
            if world in seen:
                continue
            problem = model.problem(world)
            if problem:
                return f"{problem}: {world}", len(seen)
            seen.add(world)
            todo.append(world)
    return "", len(seen)


@pytest.mark.no_cover  # it says nothing of branches, and tracing doubles its time
def test_no_interleaving_loses_a_record_or_decides_one_twice() -> None:
    problem, states = explore(Bounds(decisions=3, flights=2, epochs=2, twice=1))
    assert problem == ""
    assert states > 2_000


@pytest.mark.slow
def test_no_interleaving_of_a_wider_case_loses_a_record_or_decides_one_twice() -> None:
    problem, states = explore(Bounds(decisions=4, flights=3, epochs=3, twice=0))
    assert problem == ""
    assert states > 100_000


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(decisions=2, flights=2, epochs=2, twice=1),
        Bounds(decisions=3, flights=2, epochs=2, twice=0),
        Bounds(decisions=1, flights=1, epochs=4, twice=0),
    ],
    ids=str,
)
def test_crashes_that_leave_no_older_owner_lead_to_nothing_else(bounds: Bounds) -> None:
    def outcomes(bounds: Bounds) -> set[tuple[object, ...]]:
        worlds = reached(FIRST, Model(bounds, Faults()).next)
        return {(world.log, world.watermark, world.decided, world.problem) for world in worlds}

    assert outcomes(bounds) == outcomes(bounds._replace(every_crash=True))


@pytest.mark.parametrize(
    ("faults", "found"),
    [
        (Faults(offset_as_watermark=True), "a record"),
        (Faults(overtakes=True), "a record that was never decided is taken for a repeat"),
        (Faults(new_before_old=True), "a record"),
        (Faults(starts_sequence_afresh=True), "a record that was never decided is taken for a repeat"),
        (Faults(skips_what_is_sent_again=True), "a record"),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_each_fault_that_the_design_forbids_is_found(faults: Faults, found: str) -> None:
    problem, states = explore(Bounds(decisions=4, flights=3, epochs=3, twice=1), faults, limit=400_000)
    assert problem.startswith(found), (problem, states)
