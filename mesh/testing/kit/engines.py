"""Engines: what a test's mesh runs on, and how its time passes.

    VirtualEngine   a memory broker and an event loop in virtual time: days take milliseconds, and
                    equal tests give equal logs
    RealEngine      a broker by its URL, in real time

Owns the passing of time. It must not know what a test expects: `kit` does. Both run the router as
it is, with its ingress, owners and timers. A plain function drives them step by step, so nothing
happens while the test's own code runs. `settle` lets everything happen that needs no time, and
`flow` lets time pass.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache
from random import Random
from threading import Lock
from typing import Any, Final, Protocol, TypeVar

import structlog

from mesh import defaults, wiring
from mesh.adapters.memory import MemoryCluster
from mesh.adapters.system import SystemEntropy
from mesh.core.people import People
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.ports import Broker, OutRecord, TopicPartition, TopicSpec
from mesh.services.router.config import RouterConfig
from mesh.services.router.router import Router
from mesh.services.topic_plan import topic_specs
from mesh.settings import load_settings
from mesh.testing.kit.errors import KitError, is_for_the_test
from mesh.testing.kit.stage import Stage
from mesh.testing.virtual_time.loop import SeededEntropy, VirtualClock, VirtualTimeLoop

__tracebackhide__ = is_for_the_test

T = TypeVar("T")

_PARTITIONS: Final = defaults.PARTITIONS
_STARTING_S: Final = 1.0  # of virtual time, before the test's own begins
# of virtual time, in which every poll of a router comes round; without news in it there will be
# none before the next time that is due
_CALM_S: Final = 1.0
_GRACE_STEP_S: Final = 0.01
_GRACE_STEPS: Final = 200
_WARNING: Final = 30
_LOOK_EVERY_S: Final = 0.02  # of real time
# a reply that comes later comes by the loop's time, and no later than this after it
_LONGEST_LOOK_S: Final = 0.25
# a deadline that inputs could beat fires a millisecond late, and owners are a millisecond off
_DUE_MS: Final = 3


class Engine(Protocol):
    is_virtual: bool
    stage: Stage

    def start(self, routes: Sequence[Route], roles: Mapping[str, frozenset[str]]) -> None:
        """Begin with these routes, and with the agents that the stage has."""
        ...

    def set_roles(self, roles: Mapping[str, frozenset[str]], people: People | None = None) -> None: ...

    def renew(self) -> None:
        """Take in the agents that the stage has got since the start."""
        ...

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run something that needs no time beyond what the broker takes."""
        ...

    def now_ms(self) -> int: ...

    def settle(self) -> None:
        """Let everything happen that needs no time."""
        ...

    def flow(self, for_s: float, done: Callable[[], bool]) -> bool:
        """Let time pass until `done()`, or for `for_s`. True if `done()` came first."""
        ...

    def catch_up(self) -> None:
        """Let everything happen whose time has come, up to this very moment."""
        ...

    def close(self) -> None: ...


@cache
def _specs(prefix: str) -> tuple[TopicSpec, ...]:
    return tuple(topic_specs(Topics(prefix), _PARTITIONS, []))


class _Quiet:
    """A context in which services log warnings and errors only.

    What they log is for operators, and a test has none. Kits in several threads may use it at once.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._within = 0
        self._before: Any = None

    def __enter__(self) -> None:
        with self._lock:
            self._within += 1
            if self._within == 1:
                self._before = structlog.get_config()["wrapper_class"]
                structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_WARNING))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if self._within == 0:
                structlog.configure(wrapper_class=self._before)


_quiet: Final = _Quiet()


def _real_ms() -> int:
    return time.time_ns() // 1_000_000


def _check_loop() -> None:
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 - there is no public way to ask without raising
        raise KitError("the kit drives an event loop of its own: write the test as `def`, not as `async def`")


class _WithRouter:
    """What both engines do in the same way with the one router that they run."""

    _router: Router | None = None

    def set_roles(self, roles: Mapping[str, frozenset[str]], people: People | None = None) -> None:
        if self._router is not None:
            self._router.set_roles(roles, people)


class VirtualEngine(_WithRouter):
    """A memory broker in virtual time. `begins_at_ms`: the time at which the test begins."""

    is_virtual = True

    def __init__(self, begins_at_ms: int) -> None:
        self.loop = VirtualTimeLoop(step_s=0.0)
        self.clock = VirtualClock(self.loop, epoch_ms=begins_at_ms - int(_STARTING_S * 1000))
        topics = Topics()
        self._cluster = _CountingCluster(self.clock)
        self._router_life = self.loop.incarnation("router")
        self._reading = self.loop.incarnation("reading")
        self._cast = self.loop.incarnation("cast")
        self._running: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._topics = topics
        self.stage = Stage(self._cluster.connect("test"), topics, self.clock, self._cast.start)

    def start(self, routes: Sequence[Route], roles: Mapping[str, frozenset[str]]) -> None:
        _check_loop()
        self._cluster.create_topics(_specs(self._topics.prefix))
        self._router = router = Router(
            self._cluster.connect("router"),
            topics=self._topics,
            routes=routes,
            roles=roles,
            config=RouterConfig(instance="router", partitions=_PARTITIONS),
            clock=self.clock,
            entropy=SeededEntropy(Random(0)),  # noqa: S311 - a test's chance
        )
        self.run(self.stage.prepare())
        self._running = self._router_life.start(self._router.run())
        self._watching = self._reading.start(self.stage.watch())
        if not self._until(_STARTING_S / 2, lambda: router.is_owning):
            raise KitError("the router has not taken its partitions over")
        self.loop.leap(_STARTING_S)
        self.settle()

    def renew(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self.run(self.stage.prepare())
        self._watching = self._reading.start(self.stage.watch())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        _check_loop()
        with _quiet:
            result: T = self.loop.run_until_complete(coroutine)
        return result

    def now_ms(self) -> int:
        return self.clock.now_ms()

    def settle(self) -> None:
        self._until(self.loop.time())

    def flow(self, for_s: float, done: Callable[[], bool]) -> bool:
        """Let time pass, and leap over stretches in which nothing happens.

        During a leap the router is like a machine that sleeps until it has something to do.
        """
        until_s = self.loop.time() + for_s
        while self.loop.time() < until_s:
            now_s = self.loop.time()
            due_s = min(self._due_s(), until_s)
            calm_until_s = min(now_s + _CALM_S, until_s if due_s <= now_s else due_s)
            landed = self._cluster.landed
            if self._until(calm_until_s, done):
                return True
            # nothing happened in a round of all polls, so nothing will before the next time that is
            # due
            if self._cluster.landed == landed and self._due_s() > self.loop.time():
                self.loop.leap(min(self._due_s(), until_s))
        return self._until(until_s, done)

    def _due_s(self) -> float:
        """When the router or one of the cast next has something to do of its own accord."""
        due_ms = self._router.next_due_at_ms() if self._router is not None else None
        due_s = float("inf") if due_ms is None else self.loop.time() + (due_ms - self.clock.now_ms()) / 1000
        cast_s = self.loop.next_timer_s(of=self._cast)
        return due_s if cast_s is None else min(due_s, cast_s)

    def catch_up(self) -> None:
        for _ in range(_GRACE_STEPS):
            if self._due_s() > self.loop.time():
                return
            self._until(self.loop.time() + _GRACE_STEP_S)

    def _until(self, until_s: float, done: Callable[[], bool] = lambda: False) -> bool:
        _check_loop()
        with _quiet:
            found = self.loop.run_until(until_s, lambda: bool(self.stage.faults) or done())
        self.stage.raise_fault()
        broken = self._broken()
        if broken is not None:
            raise broken
        return found

    def _broken(self) -> BaseException | None:
        for task in (self._running, self._watching):
            if task is not None and task.done() and not task.cancelled():
                return task.exception()
        return self.loop.unhandled[0] if self.loop.unhandled else None

    def close(self) -> None:
        if not self.loop.is_closed():
            with _quiet:
                self.loop.unwind()


class _CountingCluster(MemoryCluster):
    """A memory cluster that counts. `landed`: how many records it has taken."""

    landed = 0

    def land(self, at: TopicPartition, records: Sequence[OutRecord]) -> int:
        self.landed += len(records)
        return super().land(at, records)


class HaltedClock:
    """A router's clock that moves only when `flow` lets time pass.

    So however slow the broker is, no time-out comes before what needs no time.

    The clock falls behind the broker's by the time that all the settling took. The router is set up
    not to take that for a jump of the clock.
    """

    def __init__(self) -> None:
        self._behind_ms = 0
        self._halted_at_ms: int | None = _real_ms()

    def now_ms(self) -> int:
        return (_real_ms() if self._halted_at_ms is None else self._halted_at_ms) - self._behind_ms

    def go(self) -> None:
        if self._halted_at_ms is not None:
            self._behind_ms += _real_ms() - self._halted_at_ms
            self._halted_at_ms = None

    def halt(self) -> None:
        if self._halted_at_ms is None:
            self._halted_at_ms = _real_ms()


class RealEngine(_WithRouter):
    """The mesh at `url`, under `prefix`: topics and a router in this process, in real time.

    `patience_s`: how long anything may take that needs no time.
    """

    is_virtual = False

    def __init__(self, url: str, *, prefix: str, patience_s: float = 60.0) -> None:
        _check_loop()
        # before the loop, which nobody would close if these are refused
        self._settings = load_settings(
            broker=url,
            topic_prefix=prefix,
            partitions=_PARTITIONS,
            instance="test",
            # a test that fails because its machine is busy says nothing
            request_timeout_s=patience_s,
        )
        self.loop = asyncio.new_event_loop()
        self.clock = HaltedClock()
        self._url = url
        self._patience_s = patience_s
        self._topics = Topics(prefix)
        self._brokers: list[Broker] = []
        self._read: list[TopicPartition] = []
        self._sources: list[TopicPartition] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        try:
            self._broker = self._open("test")
        except BaseException:
            self.close()
            raise
        self.stage = Stage(self._broker, self._topics, self.clock, self._spawn)

    def _open(self, client_id: str) -> Broker:
        broker = self.run(wiring.open_broker(self._url, client_id=client_id, settings=self._settings))
        self._brokers.append(broker)
        return broker

    def _spawn(self, coroutine: Coroutine[Any, Any, None], /) -> asyncio.Task[None]:
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def start(self, routes: Sequence[Route], roles: Mapping[str, frozenset[str]]) -> None:
        self.run(wiring.make_topics(self._broker, self._settings, list(self.stage.agents)))
        self.run(self.stage.prepare())
        self.run(self._find_partitions())
        self._router = router = Router(
            self._open("router"),
            topics=self._topics,
            routes=routes,
            roles=roles,
            config=RouterConfig(instance="router", partitions=_PARTITIONS, clock_jump_s=float("inf")),
            clock=self.clock,
            entropy=SystemEntropy(),
        )
        self._running = self.loop.create_task(self._router.run())
        self._watching = self.loop.create_task(self.stage.watch())
        self._wait(lambda: router.is_owning and len(router.owners) == _PARTITIONS)
        self.settle()

    def renew(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self.run(self.stage.prepare())
        self.run(self._find_partitions())
        self._watching = self.loop.create_task(self.stage.watch())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        _check_loop()
        with _quiet:
            return self.loop.run_until_complete(asyncio.wait_for(coroutine, self._patience_s))

    def now_ms(self) -> int:
        return self.clock.now_ms()

    def flow(self, for_s: float, done: Callable[[], bool]) -> bool:
        until_ms = self.now_ms() + int(for_s * 1000)
        while True:
            self.settle()
            if done():
                return True
            left_s = (min(until_ms, self._next_due_ms() + _DUE_MS) - self.now_ms()) / 1000
            if self.now_ms() >= until_ms:
                return False
            self.clock.go()
            try:
                self.run(asyncio.sleep(min(max(left_s, 0.0), _LONGEST_LOOK_S)))
            finally:
                self.clock.halt()

    def catch_up(self) -> None:
        self.flow(2 * _DUE_MS / 1000, lambda: False)

    def _next_due_ms(self) -> float:
        due = self._router.next_due_at_ms() if self._router is not None else None
        return float("inf") if due is None else due

    def _wait(self, done: Callable[[], bool]) -> None:
        give_up_s = time.monotonic() + self._patience_s
        while not done():
            self._check(give_up_s)
            self.run(asyncio.sleep(_LOOK_EVERY_S))
        self._check(give_up_s)

    def _check(self, give_up_s: float) -> None:
        self.stage.raise_fault()
        for task in (self._running, self._watching):
            if task is not None and task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if time.monotonic() > give_up_s:
            raise KitError(f"the mesh at {self._url} has not come to rest within {self._patience_s:g} s")

    def settle(self) -> None:
        """Wait until every record that anybody has sent is read and acted on.

        The broker is asked twice, so that nothing can be in flight between the two answers.
        """
        give_up_s = time.monotonic() + self._patience_s
        seen: Mapping[TopicPartition, int] | None = None
        while True:
            self._check(give_up_s)
            ends = self.run(self._ends_at_rest())
            # the same ends twice, so nothing was in flight between the two questions
            if ends is not None and ends == seen:
                return
            seen = ends
            if ends is None:
                self.run(asyncio.sleep(_LOOK_EVERY_S))

    async def _ends_at_rest(self) -> Mapping[TopicPartition, int] | None:
        """The ends of all partitions, or None if some reader has not come to its end.

        What this process knows is asked before what the broker knows.
        """
        router, topics = self._router, self._topics
        if router is None:
            return {}
        owners = router.owners
        is_busy = any(owner.flights or owner.inputs for owner in owners.values())
        if is_busy or not self.stage.is_idle() or self._next_due_ms() + _DUE_MS <= self.now_ms():
            return None
        ends = await self._broker.end_offsets(self._read)
        copied = await self._broker.committed(topics.ingress_group, self._sources)
        is_copied = all(ends[tp] <= (done.offset if (done := copied[tp]) is not None else 0) for tp in self._sources)
        is_decided = all(
            ends[tp] <= owners[tp.partition].state.positions.get(tp.topic, 0)
            for tp in self._read
            if tp.topic in {topics.inbox, topics.results} and tp.partition in owners
        )
        is_seen = all(position >= ends[tp] for tp, position in self.stage.positions.items())
        return ends if is_copied and is_decided and is_seen else None

    async def _find_partitions(self) -> None:
        """Find the partitions that somebody reads, and those of them that ingress copies."""
        topics, info = self._topics, await self._broker.topics()
        sources = (topics.events, topics.responses, topics.commands)
        found = {
            TopicPartition(name, number)
            for name in (*sources, topics.inbox, topics.results)
            for number in range(info[name].partitions)
        }
        self._sources = sorted(at for at in found if at.topic in sources)
        self._read = sorted(found | self.stage.positions.keys())

    def close(self) -> None:
        if self.loop.is_closed():
            return
        with _quiet:
            self.loop.run_until_complete(self._end())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    async def _end(self) -> None:
        tasks = [task for task in (self._running, self._watching, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for broker in self._brokers:
            await broker.close()
