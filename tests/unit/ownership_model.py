"""Every interleaving of a small case of "the log is the lock".

It is explored on the real code of `mesh.core.ownership` and `mesh.core.replay`.

One log partition. Routers take it over whenever they like, with no help from any group; they crash
at any moment; appends are pipelined and land late, after their router's death too; a change of
owner may land twice; acknowledgements come late or never. A router that never acts again is as one
that has crashed, so crashes are explored only where the next router needs the place. A router sends
the effects of what the log has confirmed to a receiver that expects them in order, and writes into
each decision up to where they are acknowledged. The search is breadth first, so what it finds is a
shortest way to it.

The world and the owner's service are modelled here. Which records count, what an acknowledgement
and a gap mean, and what a fold gives, the code itself answers.
"""

from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from reached import reached

from mesh.core.events import Cause, Decision, LogRecord, OwnerChanged
from mesh.core.ownership import Epochs, Gap, Lost, Ownership, Phase
from mesh.core.replay import PartitionFold


class Bounds(NamedTuple):
    routers: int
    inputs: int
    in_flight: int  # decisions that a router has on the wire
    takeovers: int  # in all; each has a token of its own
    every_crash: bool = False  # also those that make room for nobody


class Faults(NamedTuple):
    """What a router could do wrong. The model must find each."""

    epochs: type[Epochs] = Epochs
    ownership: type[Ownership] = Ownership
    restarts_mark: bool = False  # a new owner takes all effects before it for sent
    skips_failed_send: bool = False
    skips_input: bool = False  # it passes over an input that it only remembers


class Change(NamedTuple):
    """An `OwnerChanged` on the log."""

    token: str


class Ruling(NamedTuple):
    """A decision on the log: on one input, by an owner that has seen `base` decisions before it."""

    epoch: str
    input: int
    base: int
    mark: int
    position: int


Entry = Change | Ruling
Log = tuple[Entry, ...]
Effect = tuple[str, int]  # whose: epoch and input
NOT_LANDED = -1


class Hold(NamedTuple):
    """`Ownership`, as a value."""

    token: str
    expected: int
    in_flight: int
    seen: tuple[str, ...]


class Claiming(NamedTuple):
    token: str
    landings: int


class Catching(NamedTuple):
    offset: int  # not second: it would be equal to `Claiming`, as tuples are
    token: str


class Owning(NamedTuple):
    hold: Hold
    position: int
    base: int
    # decisions under way, each with the offset where it landed
    wire: tuple[tuple[Ruling, int], ...]
    # effects to be sent: which in the order of all, log offset, whose
    owed: tuple[tuple[int, int, Effect], ...]
    unacknowledged: tuple[int, ...]  # log offsets of effects that were sent
    mark: int
    may_land_again: bool


Router = Claiming | Catching | Owning | None


class World(NamedTuple):
    log: Log
    routers: tuple[Router, ...]
    received: tuple[Effect, ...] | None  # None: an effect came out of order
    tokens: int


class Folded(NamedTuple):
    effective: tuple[tuple[int, Ruling], ...]
    position: int
    mark: int
    seen: tuple[str, ...]
    current: str


class _Model:
    def __init__(self, bounds: Bounds, faults: Faults) -> None:
        self.bounds = bounds
        self.faults = faults
        self.fold = lru_cache(maxsize=200_000)(self._fold)

    def _fold(self, log: Log) -> Folded:
        """What the log says, by the real fold."""
        fold = PartitionFold(0, epochs=self.faults.epochs())
        effective = [
            (offset, entry)
            for offset, entry in enumerate(log)
            if fold.apply(offset, _record(entry)) and isinstance(entry, Ruling)
        ]
        seen = tuple(fold.epochs.seen())
        return Folded(tuple(effective), fold.state.positions.get("in", 0), fold.state.mark, seen, fold.epochs.current)

    # What may happen next -------------------------------------------------------------------------

    def next(self, world: World) -> Iterator[World]:
        for place, router in enumerate(world.routers):
            match router:
                case None:
                    if world.tokens < self.bounds.takeovers:
                        claim = Claiming(f"t{world.tokens}", 0)
                        yield _with(world, place, claim)._replace(tokens=world.tokens + 1)
                case Claiming():
                    yield from self._claim(world, place, router)
                case Catching():
                    if self._lacks_room(world):
                        yield _with(world, place, None)
                    yield _with(world, place, self._caught_up(world.log, router))
                case Owning():
                    if self._lacks_room(world):
                        yield from self._crash(world, place, router)
                    yield from self._land_again(world, place, router)
                    yield from self._decide(world, place, router)
                    yield from self._land(world, place, router)
                    yield from self._acknowledge(world, place, router)
                    yield from self._send(world, place, router)

    def _lacks_room(self, world: World) -> bool:
        """Whether a router must have crashed before the next one can begin."""
        needed = world.tokens < self.bounds.takeovers and None not in world.routers
        return needed or self.bounds.every_crash

    def _claim(self, world: World, place: int, router: Claiming) -> Iterator[World]:
        landed = world._replace(log=(*world.log, Change(router.token)))
        if self._lacks_room(world):
            yield _with(world, place, None)
            yield _with(landed, place, None)  # its acknowledgement is lost, and the router gives up
        yield _with(landed, place, Catching(len(world.log), router.token))
        if not router.landings:
            yield _with(landed, place, Claiming(router.token, 1))  # likewise, and it is sent again

    def _caught_up(self, log: Log, router: Catching) -> Router:
        folded = self.fold(log[: router.offset + 1])
        ownership = self.faults.ownership(router.token)
        ownership.claimed(router.offset)
        if ownership.caught_up(self.faults.epochs(folded.seen, folded.current)) is not None:
            return None
        mark = router.offset + 1 if self.faults.restarts_mark else folded.mark
        owed = tuple(
            (number, offset, (ruling.epoch, ruling.input))
            for number, (offset, ruling) in enumerate(folded.effective)
            if offset >= mark
        )
        hold = Hold(router.token, ownership.expected, ownership.in_flight, folded.seen)
        return Owning(hold, folded.position, len(folded.effective), (), owed, (), mark, may_land_again=True)

    def _crash(self, world: World, place: int, router: Owning) -> Iterator[World]:
        """It dies; what was on the wire lands yet, or does not."""
        yield _with(world, place, None)
        rest = tuple(ruling for ruling, landed in router.wire if landed == NOT_LANDED)
        if rest:
            yield _with(world._replace(log=world.log + rest), place, None)

    def _land_again(self, world: World, place: int, router: Owning) -> Iterator[World]:
        if router.may_land_again:
            again = world._replace(log=(*world.log, Change(router.hold.token)))
            yield _with(again, place, router._replace(may_land_again=False))

    def _decide(self, world: World, place: int, router: Owning) -> Iterator[World]:
        if router.position >= self.bounds.inputs or len(router.wire) >= self.bounds.in_flight:
            return
        if self.faults.skips_input:
            yield _with(world, place, router._replace(position=router.position + 1))
        ownership = self._restore(router.hold)
        ownership.appending(1)
        position = router.position + 1
        ruling = Ruling(router.hold.token, router.position, router.base, router.mark, position)
        yield _with(
            world,
            place,
            router._replace(
                hold=router.hold._replace(in_flight=ownership.in_flight),
                position=position,
                base=router.base + 1,
                wire=(*router.wire, (ruling, NOT_LANDED)),
            ),
        )

    def _land(self, world: World, place: int, router: Owning) -> Iterator[World]:
        """The first decision that has not landed does, in the order in which they were sent."""
        for number, (ruling, landed) in enumerate(router.wire):
            if landed == NOT_LANDED:
                wire = (*router.wire[:number], (ruling, len(world.log)), *router.wire[number + 1 :])
                yield _with(world._replace(log=(*world.log, ruling)), place, router._replace(wire=wire))
                return

    def _acknowledge(self, world: World, place: int, router: Owning) -> Iterator[World]:
        if not router.wire or router.wire[0][1] == NOT_LANDED:
            return
        ruling, offset = router.wire[0]
        ownership = self._restore(router.hold)
        gaps = ownership.acknowledged([(offset, 1)])
        if isinstance(gaps, Lost) or not self._pass_over(world.log, ownership, gaps):
            if self._lacks_room(world):
                yield from self._crash(world, place, router)
            return
        hold = router.hold._replace(expected=ownership.expected, in_flight=ownership.in_flight)
        owed = (*router.owed, (ruling.base, offset, (ruling.epoch, ruling.input)))
        yield _with(world, place, router._replace(hold=hold, wire=router.wire[1:], owed=owed))

    def _pass_over(self, log: Log, ownership: Ownership, gaps: list[Gap]) -> bool:
        for gap in gaps:
            records = [_record(entry) for entry in log[gap.start : gap.stop]]
            if ownership.gap_read(gap, records) is not None:
                return False
        return True

    def _send(self, world: World, place: int, router: Owning) -> Iterator[World]:
        if router.owed:
            number, offset, effect = router.owed[0]
            sent = router._replace(owed=router.owed[1:], unacknowledged=(*router.unacknowledged, offset))
            yield _with(world._replace(received=_receive(world.received, number, effect)), place, sent)
            if self.faults.skips_failed_send:
                yield _with(world, place, sent)
        if router.unacknowledged:
            mark = router.unacknowledged[0] + 1
            yield _with(world, place, router._replace(mark=mark, unacknowledged=router.unacknowledged[1:]))

    def _restore(self, hold: Hold) -> Ownership:
        ownership = self.faults.ownership(hold.token)
        ownership.phase = Phase.OWNING
        ownership.expected = hold.expected
        ownership.in_flight = hold.in_flight
        ownership._epochs = Epochs(hold.seen, hold.token)
        return ownership

    # What must hold -------------------------------------------------------------------------------

    def problem(self, world: World) -> str:
        folded = self.fold(world.log)
        decided = [ruling.input for _, ruling in folded.effective]
        if len(decided) != len(set(decided)):
            return "an input has two effective decisions"
        if any(ruling.base != number for number, (_, ruling) in enumerate(folded.effective)):
            return "a decision rests on a state that the log does not have there"
        if any(number not in decided for number in range(folded.position)):
            return "an input is lost: the position has passed it, and nothing decides it"
        if world.received is None:
            return "effects came out of order: one would be dropped as a repeat"
        wanted = [(ruling.epoch, ruling.input) for _, ruling in folded.effective]
        if list(world.received) != wanted[: len(world.received)]:
            return "an effect left for a decision that the log does not have"
        if sum(offset < folded.mark for offset, _ in folded.effective) > len(world.received):
            return "an effect is lost: the mark covers it, and it never arrived"
        return ""


@lru_cache(maxsize=100_000)
def _record(entry: Entry) -> LogRecord:
    if isinstance(entry, Change):
        return OwnerChanged(token=entry.token, owner=entry.token, partitions=1, format_level=1, at_ms=0)
    return Decision(
        epoch=entry.epoch,
        workflow_id="",
        at_ms=0,
        cause=Cause(kind="mark", id=""),
        positions={"in": entry.position},
        mark=entry.mark,
        events=(),
    )


def _with(world: World, place: int, router: Router) -> World:
    """Routers have no names, so their order makes no difference."""
    routers = (*world.routers[:place], router, *world.routers[place + 1 :])
    return world._replace(routers=tuple(sorted(routers, key=_order)))


def _order(router: Router) -> tuple[int, str]:
    match router:
        case None:
            return 0, ""
        case Claiming():
            return 1, router.token
        case Catching():
            return 2, router.token
        case Owning():
            return 3, router.hold.token


def _receive(received: tuple[Effect, ...] | None, number: int, effect: Effect) -> tuple[Effect, ...] | None:
    """A receiver with one watermark.

    It drops what it has had. It can't know of what it has missed.
    """
    if received is None or number > len(received):
        return None
    return received if number < len(received) else (*received, effect)


def begin(bounds: Bounds) -> World:
    return World((), (None,) * bounds.routers, (), 0)


def outcomes(bounds: Bounds) -> set[tuple[Log, tuple[Effect, ...] | None]]:
    """What the log and the receiver can come to hold."""
    model = _Model(bounds, Faults())
    return {(world.log, world.received) for world in reached(begin(bounds), model.next)}


def explore(bounds: Bounds, faults: Faults = Faults(), *, limit: int = 50_000_000) -> tuple[str, int]:  # noqa: B008 - a value
    """What was found to be wrong (empty: nothing), and how many states were seen."""
    model = _Model(bounds, faults)
    seen = {begin(bounds)}
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
