"""Ingress and its watermark: no input is lost, and none is decided twice.

That holds for every interleaving of crashes, overlapping instances and repeated batches.

One source partition is copied into two inbox partitions. An instance copies from where the group
has committed, in the source's order for each inbox partition (but not between them). The next may
overtake it while it still lives. It may repeat what was not acknowledged, and commit, unfenced,
what it has copied. An instance that never acts again is as one that has crashed, so crashes are
explored only where the next instance needs the place. The receiver's rule, and what moves its
watermark, are the real code's.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import pytest
from reached import reached

from mesh.core.events import Cause, Decision
from mesh.core.inputs import CommandGiven
from mesh.core.replay import is_repeated, settle
from mesh.core.state import PartitionState

Copy = tuple[int, int]  # source offset, and which of the records that it becomes
Watermark = tuple[int, int] | None
COPIES: tuple[tuple[tuple[int, int], ...], ...] = (((0, 0), (1, 0)), ((0, 1),), ((0, 0), (1, 1)), ((0, 1),))
"""For each source offset its copies: (index, inbox partition).

The first becomes two inputs of one partition, the third one of each.
"""


class Flying(NamedTuple):
    copy: Copy
    to: int
    landed: bool


class Instance(NamedTuple):
    position: int
    flying: tuple[Flying, ...]
    rules: int  # which version of the routing rules it has


class World(NamedTuple):
    committed: int
    instances: tuple[Instance | None, ...]
    watermarks: tuple[Watermark, Watermark]
    decided: tuple[tuple[Copy, ...], tuple[Copy, ...]]
    starts: int
    problem: str = ""


class Faults(NamedTuple):
    skips_failed_send: bool = False
    commits_early: bool = False
    overtakes: bool = False  # not in order within an inbox partition
    mixes_rules: bool = False  # one instance sends to another partition than the next
    is_repeated: Callable[[PartitionState, CommandGiven], bool] = is_repeated


class Bounds(NamedTuple):
    sources: int
    instances: int
    flying: int
    starts: int
    every_crash: bool = False  # also those that make room for nobody


class Model:
    def __init__(self, bounds: Bounds, faults: Faults) -> None:
        self.bounds = bounds
        self.faults = faults
        self.receive = lru_cache(maxsize=10_000)(self._receive)

    def _receive(self, watermark: Watermark, copy: Copy) -> Watermark | str:
        """The watermark after this input is decided; "" where it is passed over.

        By the real code.
        """
        state = PartitionState(watermarks={"mesh.commands/0": watermark} if watermark else {})
        offset, index = copy
        given = CommandGiven(
            workflow_id="r:k",
            source_topic="mesh.commands",
            source_partition=0,
            source_offset=offset,
            source_index=index,
            source_at_ms=0,
            command_id="",
            command="cancel",
            by="",
        )
        if self.faults.is_repeated(state, given):
            return ""
        cause = Cause(
            kind="command",
            id="",
            source_topic="mesh.commands",
            source_partition=0,
            source_offset=offset,
            source_index=index,
        )
        ruling = Decision(epoch="", workflow_id="r:k", at_ms=0, cause=cause, positions={}, mark=0, events=())
        settle(state, ruling, None)
        return state.watermarks["mesh.commands/0"]

    def next(self, world: World) -> Iterator[World]:
        needed = world.starts < self.bounds.starts and None not in world.instances
        lacks_room = needed or self.bounds.every_crash
        for place, instance in enumerate(world.instances):
            if instance is None:
                if world.starts < self.bounds.starts:
                    for rules in (0, 1) if self.faults.mixes_rules else (0,):
                        begun = Instance(world.committed, (), rules)
                        yield _with(world, place, begun)._replace(starts=world.starts + 1)
                continue
            if lacks_room:
                yield _with(world, place, None)
            yield from self._take(world, place, instance)
            yield from self._land(world, place, instance)
            yield from self._acknowledge(world, place, instance)

    def _take(self, world: World, place: int, instance: Instance) -> Iterator[World]:
        """Send the copies of the next source record."""
        if instance.position >= self.bounds.sources:
            return
        new = tuple(
            Flying((instance.position, index), (to + instance.rules) % 2, landed=False)
            for index, to in COPIES[instance.position]
        )
        if len(instance.flying) + len(new) > self.bounds.flying:
            return
        position = instance.position + 1
        sent = _with(world, place, instance._replace(position=position, flying=instance.flying + new))
        yield sent._replace(committed=position) if self.faults.commits_early else sent

    def _land(self, world: World, place: int, instance: Instance) -> Iterator[World]:
        """The first one for an inbox partition that has not landed lands now.

        Those for the other partition may land earlier or later.
        """
        busy: set[int] = set()
        for number, one in enumerate(instance.flying):
            if one.landed or (one.to in busy and not self.faults.overtakes):
                continue
            busy.add(one.to)
            flying = (*instance.flying[:number], one._replace(landed=True), *instance.flying[number + 1 :])
            yield self._arrive(_with(world, place, instance._replace(flying=flying)), one)
            if self.faults.skips_failed_send:
                yield _with(world, place, instance._replace(flying=flying))

    def _arrive(self, world: World, one: Flying) -> World:
        after, decided = self.receive(world.watermarks[one.to], one.copy), world.decided[one.to]
        if isinstance(after, str):
            lost = "" if one.copy in decided else "an input that was never decided is taken for a repeat"
            return world._replace(problem=lost)
        twice = "an input is decided twice" if any(one.copy in both for both in world.decided) else ""
        watermarks, all_decided = list(world.watermarks), list(world.decided)
        watermarks[one.to], all_decided[one.to] = after, (*decided, one.copy)
        return world._replace(
            watermarks=(watermarks[0], watermarks[1]), decided=(all_decided[0], all_decided[1]), problem=twice
        )

    def _acknowledge(self, world: World, place: int, instance: Instance) -> Iterator[World]:
        flying = instance.flying
        if any(one.landed for one in flying):
            again = tuple(one._replace(landed=False) for one in flying)
            yield _with(
                world, place, instance._replace(flying=again)
            )  # acknowledgements are lost: the batch goes out again
        if flying and flying[0].landed:
            done = _with(world, place, instance._replace(flying=flying[1:]))
            yield done
            source = flying[0].copy[0]
            if all(one.copy[0] != source for one in flying[1:]):
                yield done._replace(committed=source + 1)

    def problem(self, world: World) -> str:
        if world.problem:
            return world.problem
        there = {copy for decided in world.decided for copy in decided}
        needed = {(source, index) for source in range(world.committed) for index, _ in COPIES[source]}
        return "" if needed <= there else "an input is lost: ingress has committed past it"


def begin(bounds: Bounds) -> World:
    return World(0, (None,) * bounds.instances, (None, None), ((), ()), 0)


def _with(world: World, place: int, instance: Instance | None) -> World:
    instances = (*world.instances[:place], instance, *world.instances[place + 1 :])
    return world._replace(instances=tuple(sorted(instances, key=lambda one: one or (-1,))))


def explore(bounds: Bounds, faults: Faults = Faults(), *, limit: int = 50_000_000) -> tuple[str, int]:  # noqa: B008 - a value
    """What was found to be wrong (empty: nothing), and how many states were seen."""
    model = Model(bounds, faults)
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


@pytest.mark.deep
def test_no_interleaving_loses_an_input_or_decides_one_twice() -> None:
    problem, states = explore(Bounds(sources=4, instances=2, flying=4, starts=3))
    assert problem == ""
    assert states > 10_000


@pytest.mark.slow
def test_no_interleaving_of_a_wider_case_loses_an_input_or_decides_one_twice() -> None:
    problem, states = explore(Bounds(sources=4, instances=3, flying=4, starts=4))
    assert problem == ""
    assert states > 10_000


@pytest.mark.parametrize("starts", [2, 3])
def test_crashes_that_make_room_for_nobody_lead_to_nothing_else(starts: int) -> None:
    def outcomes(bounds: Bounds) -> set[tuple[object, ...]]:
        worlds = reached(begin(bounds), Model(bounds, Faults()).next)
        return {(world.committed, world.watermarks, world.decided, world.problem) for world in worlds}

    bounds = Bounds(sources=2, instances=2, flying=3, starts=starts)
    assert outcomes(bounds) == outcomes(bounds._replace(every_crash=True))


def by_offset_alone(state: PartitionState, given: CommandGiven) -> bool:
    seen = state.watermarks.get("mesh.commands/0")
    return seen is not None and given.source_offset <= seen[0]


def never(state: PartitionState, given: CommandGiven) -> bool:
    return False


@pytest.mark.parametrize(
    ("faults", "found"),
    [
        (Faults(skips_failed_send=True), "an input is lost"),
        (Faults(commits_early=True), "an input is lost"),
        (Faults(overtakes=True), "an input that was never decided is taken for a repeat"),
        (Faults(mixes_rules=True), "an input"),
        (Faults(is_repeated=by_offset_alone), "an input that was never decided is taken for a repeat"),
        (Faults(is_repeated=never), "an input is decided twice"),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_each_fault_that_the_design_forbids_is_found(faults: Faults, found: str) -> None:
    problem, states = explore(Bounds(sources=3, instances=2, flying=3, starts=3), faults, limit=400_000)
    assert problem.startswith(found), (problem, states)
