"""One simulated run: routers that die, come back and overlap, with everybody around them.

After the faults it becomes calm, and then everything must end.

Owns the course of a run and what it is judged by at its end. `mesh.testing.promises.judge` has the
promises during the run, and `parties` what others do.

    faults  (`chaos_s`)   routers live and die by chance, at times all at once; the network is weak
    calm                  the network behaves, each router lives on; within `calm_s` all must end
    stop                  every router stops gracefully
"""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Final

from mesh.adapters.memory import MemoryBroker, WeakBehaviour
from mesh.agent.context import Context
from mesh.codec.jws_bodies import mesh_of
from mesh.codec.open_approvals import OPEN_PARTITIONS
from mesh.codec.state import canonical_workflow, decode_workflow
from mesh.codec.tasks import decode_task
from mesh.core import ids
from mesh.core.clock import Sighting
from mesh.core.replay import PartitionFold
from mesh.core.route import Route
from mesh.core.state import Workflow
from mesh.core.topics import Topics
from mesh.errors import BrokerError
from mesh.ports import Record, TopicPartition, TopicSpec
from mesh.services.agent_runtime.runtime import AgentRuntime
from mesh.services.router.clock import blind
from mesh.services.router.config import RouterConfig
from mesh.services.router.router import Router
from mesh.testing.promises.judge import Promises
from mesh.testing.simulation.agents import SETTINGS, scripted_agent
from mesh.testing.simulation.cluster import RouterConnection, WatchedCluster
from mesh.testing.simulation.deadly import make_mortal
from mesh.testing.simulation.drawn import draw_routes
from mesh.testing.simulation.ground import Ground
from mesh.testing.simulation.life import Life
from mesh.testing.simulation.parties import Met, Parties, met_by
from mesh.testing.simulation.plan import Plan
from mesh.testing.simulation.repertoire import Repertoire
from mesh.testing.simulation.routes import AGENTS, ROLES, UNKNOWN_AGENT
from mesh.testing.simulation.stores import MemoryCheckpointStore
from mesh.testing.simulation.transcript import Transcript
from mesh.testing.virtual_time.incarnation import Incarnation
from mesh.testing.virtual_time.loop import SeededEntropy, VirtualClock, VirtualTimeLoop

_EPOCH_MS: Final = (
    # 2026-01-01T00:00:40Z: schedules fire 20 s after the begin, while there are faults
    1_767_225_640_000
)
# large enough to work off what has piled up, although each call takes a step
_CALM_LATENCY_S: Final = 0.05
_AHEAD: Final = 1_000_000  # offsets of a log: more than any run has
_STOP_S: Final = 60.0  # of virtual time, for a graceful stop


class _Slot:
    """A place where a router runs, life after life. Its disk and its clock outlive the router."""

    def __init__(self, number: int, clock: VirtualClock) -> None:
        self.name = f"router-{number}"
        self.clock = clock
        self.stores: dict[int, MemoryCheckpointStore] = {}
        self.lives = 0
        self.life: Life | None = None


class World:
    """A simulated run.

    `router_class` may be one that is broken on purpose, to see whether the simulation notices.
    """

    router_class = Router

    def __init__(self, loop: VirtualTimeLoop, plan: Plan, transcript: Transcript) -> None:
        self.plan = plan
        self.topics = Topics()
        self.loop = loop
        self.transcript = transcript
        transcript.now_s = loop.time
        self.broken = asyncio.Event()
        self.repertoire = Repertoire.of(plan.kinds, draw_routes(plan.seed, plan.drawn), beside=plan.heavy)
        self._versions = {route.digest: route for route in self.repertoire.every()}
        self._clock = VirtualClock(loop, epoch_ms=_EPOCH_MS)
        self.cluster = WatchedCluster(
            self._clock,
            # the broker that shares a machine's clock is a file of that machine
            weak=None if plan.jumps else plan.weak,
            latency_s=plan.weak.latency_s,
            rng=random.Random(f"cluster {plan.seed}"),  # noqa: S311 - a simulation's chance
            on_landed=self._landed,
        )
        self.promises = Promises(
            self.topics,
            routes=list(self._versions.values()),
            roles=ROLES,
            on_finding=self._found,
            passed_ms=self._passed_ms if plan.jumps else None,
            mesh=mesh_of(self.topics.prefix, self.cluster.cluster_id),
            answers=plan.answers,
        )
        self._rng = random.Random(f"world {plan.seed}")  # noqa: S311 - a simulation's chance
        self.cluster.has_own_clock = not plan.jumps
        ground = Ground(
            self.cluster,
            self.promises,
            topics=self.topics,
            clock=self._clock,
            seed=plan.seed,
            partitions=plan.partitions,
            repertoire=self.repertoire,
            note=self.transcript.note,
        )
        self.parties = Parties(ground, plays_agents=not plan.real_agents)
        self._events: list[Record] = []
        # by an event's place, and the digest of a version
        self._mets: dict[tuple[int, int, str], Met] = {}
        self._is_calm = False
        self._copies = Counter[str]()  # of each attempt: routers may send one again
        self._begun = Counter[str]()  # attempts, by real agents
        self._killed = Counter[str]()  # processes, by the attempt that ended them
        self._is_over = False
        self._dark_until_s = 0.0
        self._slots = [_Slot(n + 1, self._clock if plan.jumps else self._skewed()) for n in range(plan.routers)]

    def _skewed(self) -> VirtualClock:
        return VirtualClock(self.loop, epoch_ms=_EPOCH_MS, skew_ms=self._rng.randint(-2_000, 2_000))

    def _passed_ms(self) -> int:
        """A clock that never jumps."""
        return _EPOCH_MS + int(self.loop.time() * 1000)

    def _sight(self) -> Sighting:
        """The clocks of the machine that all share."""
        return Sighting(boot="machine", uptime_ms=int(self.loop.time() * 1000), at_ms=self._clock.now_ms())

    def _found(self, finding: str) -> None:
        self.transcript.note("PROMISE", finding)
        self.broken.set()

    def _landed(self, record: Record) -> None:
        self.transcript.landed(record)
        self.promises.landed(record)
        if record.topic == self.topics.events:
            self._events.append(record)
        elif record.topic.startswith(self.topics.tasks("")):
            self._copies[decode_task(record).attempt_id] += 1
        self.parties.landed(record)

    # The course of a run --------------------------------------------------------------------------

    async def run(self) -> None:
        course = asyncio.ensure_future(self._course())
        broken = asyncio.ensure_future(self.broken.wait())
        await asyncio.wait([course, broken], return_when=asyncio.FIRST_COMPLETED)
        for task in (course, broken):
            task.cancel()
        if course.done() and not course.cancelled():
            course.result()

    async def _course(self) -> None:
        plan = self.plan
        self._create_topics()
        self.parties.begin(
            workflows=plan.workflows,
            chaos_s=plan.chaos_s,
            outstanding=plan.outstanding,
            people_change=plan.people_change and not plan.is_put_back,
            organised=plan.organised,
            pauses=plan.pauses,
            routes_change=not plan.is_put_back,
        )
        self.parties.send_deadly(plan.deadly)
        self.parties.send_heavy(plan.heavy)
        async with asyncio.TaskGroup() as tasks:
            parts = [tasks.create_task(self._live(slot)) for slot in self._slots]
            if plan.real_agents:
                parts += [tasks.create_task(self._live_agent(agent, n)) for agent in AGENTS for n in range(2)]
            if plan.blackout_at_s is not None:
                parts.append(tasks.create_task(self._black_out(plan.blackout_at_s, plan.blackout_s)))
            parts += [tasks.create_task(self._jump(at_s, by_s)) for at_s, by_s in plan.jumps]
            await asyncio.sleep(plan.chaos_s)
            self._calm_down()
            await self._wait_done()
            self._compare_live_states()
            await self._stop_all()
            for part in parts:
                part.cancel()

    def _create_topics(self) -> None:
        topics, count = self.topics, self.plan.partitions
        specs = [TopicSpec(name, count) for name in (topics.inbox, topics.results, topics.log, topics.keys)]
        specs += [TopicSpec(name, 2) for name in (topics.events, topics.responses)]
        specs += [TopicSpec(topics.open_approvals, OPEN_PARTITIONS)]
        of_people = (topics.requests, topics.receipts, topics.people, topics.delegations)
        rest = (topics.commands, topics.command_receipts, topics.outcomes, topics.agents, topics.dlq)
        specs += [TopicSpec(name, 1) for name in (*of_people, *rest, topics.withdrawals, topics.definitions)]
        specs += [TopicSpec(topics.tasks(agent), 2) for agent in AGENTS]
        self.cluster.create_topics(specs)

    def _calm_down(self) -> None:
        self.transcript.note("world", "the faults stop")
        low, high = self.plan.weak.latency_s
        if self.cluster.weak is not None:
            self.cluster.weak = WeakBehaviour(latency_s=(low, min(high, _CALM_LATENCY_S)))
        self.cluster.create_topics([TopicSpec(self.topics.tasks(UNKNOWN_AGENT), 2)])
        self._is_calm = True
        self.parties.calm_down()

    async def _wait_done(self) -> None:
        # deadlines are later by what the clock is put back
        calm_s = self.plan.calm_s + sum(abs(by_s) for _, by_s in self.plan.jumps if by_s < 0)
        until_s = self.loop.time() + calm_s
        missing: list[str] = []
        while self.loop.time() < until_s:
            await asyncio.sleep(2.0)
            missing = self._missing()
            if not missing:
                return
        for finding in missing:
            self.promises.find(f"not at an end {calm_s:g} s after the last fault: {finding}")

    def _missing(self) -> list[str]:
        started = {workflow for workflow, _ in self.promises.ended} | {w.workflow_id for w in self.promises.workflows()}
        started |= {decision.workflow_id for _, _, decision in self.promises.effective}
        wanted = self._wanted()
        return self.promises.unfinished() + [f"lost: {name} has never started" for name in sorted(wanted - started)]

    def _wanted(self) -> set[str]:
        """The workflows that the events so far must start, by the routes in effect at their times.

        An event that starts none owes nothing.
        """
        timeline, wanted = self.promises.timeline, set[str]()
        for record in self._events:
            found = [self._met(record, digest) for digest in timeline.at(record.timestamp_ms).values()]
            wanted = wanted.union(*(met.started for met in found))
            if not any(met.is_wanted for met in found):
                self.promises.unwanted(record)
        return wanted

    def _met(self, record: Record, digest: str) -> Met:
        """What this event is to this version: costly to find out, and asked for time and again."""
        place = (record.partition, record.offset, digest)
        if place not in self._mets:
            self._mets[place] = met_by(record, self._versions[digest])
        return self._mets[place]

    # Routers --------------------------------------------------------------------------------------

    async def _live(self, slot: _Slot) -> None:
        """Run a router's lives one after the other, until the end of the run."""
        await asyncio.sleep(self._rng.uniform(0, 3))
        while not self._is_over:
            await asyncio.sleep(max(0.0, self._dark_until_s - self.loop.time()))
            life = self._start(slot)
            await self._until_death(life)
            await asyncio.sleep(self._rng.choice([0.0, 0.2, self._rng.uniform(0, 8)]))
            self._harm_stores(slot)

    def _start(self, slot: _Slot) -> Life:
        slot.lives += 1
        name = f"{slot.name}.{slot.lives}"
        self.transcript.note(name, "starts")
        incarnation = self.loop.incarnation(name)
        connection = RouterConnection(self.cluster, name, topics=self.topics, promises=self.promises)
        incarnation.on_kill(connection.kill)
        rng = self._rng
        router = self.router_class(
            connection,
            topics=self.topics,
            routes=self._files(),
            roles=ROLES,
            config=RouterConfig(
                instance=name,
                answers=self.plan.answers,
                partitions=self.plan.partitions,
                session_timeout_s=4.0,
                idle_poll_s=0.5,
                membership_poll_s=1.0,
                max_poll_records=rng.choice([1, 3, 100]),
                max_flights=rng.choice([1, 2, 4]),
                checkpoint_interval_s=rng.choice([0.5, 3.0]),
                checkpoint_portion=rng.choice([1, 3, 64]),
                drain_timeout_s=2.0,
            ),
            clock=slot.clock,
            entropy=SeededEntropy(random.Random(f"entropy {self.plan.seed} {name}")),  # noqa: S311 - as above
            sight=self._sight if self.plan.jumps else blind,
            open_checkpoint=lambda partition: slot.stores.setdefault(partition, MemoryCheckpointStore()),
        )
        if self.plan.deadly:
            make_mortal(router, incarnation, self.topics)
        slot.life = Life(router, incarnation)
        return slot.life

    def _files(self) -> list[Route]:
        """Draw the route files beside a router: the first ones, some of other versions, or none.

        Only once routes were activated can a router do without the first files.
        """
        draw = self._rng.random()
        if self.promises.timeline.is_empty or draw < 0.6 or self.plan.is_put_back:
            return self.repertoire.first()
        some = list(self._versions.values())
        return [] if draw < 0.8 else self._rng.sample(some, min(3, len(some)))

    async def _until_death(self, life: Life) -> None:
        rng, left_s = self._rng, self.plan.chaos_s - self.loop.time()
        life_s = rng.expovariate(1 / self.plan.mean_life_s)
        await life.wait_over(life_s if life_s < left_s else None)
        if not life.is_over() and rng.random() < 0.3:
            self.transcript.note(life.name, "is told to stop")
            life.router.stop()
            await life.wait_over(15.0)
        error = life.error()
        if error is not None:
            self._judge_end(life, error)
        self._kill(life)

    def _judge_end(self, life: Life, error: BaseException) -> None:
        """Check why a router ended: only a broker that is away may end it."""
        self.transcript.note(life.name, f"ends: {error!r}")
        causes = [error]
        while causes:
            cause = causes.pop()
            if isinstance(cause, BaseExceptionGroup):
                causes.extend(cause.exceptions)
            elif not isinstance(cause, BrokerError):
                self.promises.find(f"{life.name} died of {cause!r}")

    def _kill(self, life: Life) -> None:
        if not life.incarnation.is_killed:
            self.transcript.note(life.name, "is dead")
            life.incarnation.kill()

    def _harm_stores(self, slot: _Slot) -> None:
        """Damage checkpoints: lose one, or put an older, a newer or another log's in its place."""
        for store in slot.stores.values():
            draw = self._rng.random()
            if draw < 0.1:
                store.delete()
            elif draw < 0.3:
                store.turn_back(self._rng.randint(1, 5))
            elif draw < 0.35:
                store.become(self._rng.choice(list(slot.stores.values())))
            elif draw < 0.4:
                store.run_ahead(_AHEAD)

    async def _black_out(self, at_s: float, for_s: float) -> None:
        await asyncio.sleep(at_s)
        self.transcript.note("world", f"no router for {for_s:.1f} s")
        self._dark_until_s = self.loop.time() + for_s
        for slot in self._slots:
            if slot.life is not None:
                self._kill(slot.life)

    async def _jump(self, at_s: float, by_s: float) -> None:
        """Put the machine's clock forward or back, whoever lives."""
        await asyncio.sleep(at_s)
        self.transcript.note("world", f"the clock jumps by {by_s:+.1f} s")
        self.promises.counts["clock put forward" if by_s > 0 else "clock put back"] += 1
        self._clock.skew_ms += int(by_s * 1000)
        self.parties.clock_jumped()

    async def _stop_all(self) -> None:
        """Stop every router gracefully.

        Then the log's mark covers all effects, and each checkpoint is the log's state up to its
        offset.
        """
        self._is_over = True
        lives = [slot.life for slot in self._slots if slot.life is not None]
        for life in lives:
            life.router.stop()
        for life in lives:
            await life.wait_over(_STOP_S)
            if not life.is_over():
                self.promises.find(f"{life.name} has not stopped {_STOP_S:g} s after it was told to")
        for slot in self._slots:
            for partition, store in slot.stores.items():
                self._compare_checkpoint(slot, partition, store)

    # Agents ---------------------------------------------------------------------------------------

    async def _live_agent(self, name: str, number: int) -> None:
        """Run the lives of one replica of a real agent runtime, one after the other."""
        rng = random.Random(f"agent {self.plan.seed} {name} {number}")  # noqa: S311 - as above
        for life in itertools.count(1):
            instance = f"{name}-{number}.{life}"
            incarnation = self.loop.incarnation(instance)
            connection = self.cluster.connect(instance)
            incarnation.on_kill(connection.kill)
            agent = scripted_agent(
                name,
                seed=self.plan.seed,
                outstanding=self.plan.outstanding.get(name),
                killers=self.plan.killers,
                is_calm=lambda: self._is_calm,
                begins=self._agent_begins,
                kill=partial(self._kill_agent, incarnation),
            )
            runtime = AgentRuntime(
                connection,
                agent,
                topics=self.topics,
                clock=self._clock,
                instance=instance,
                settings=SETTINGS,
                ticks=self.loop.time,
            )
            running = incarnation.start(runtime.run())
            life_s = rng.expovariate(1 / (2 * self.plan.mean_life_s))
            died = asyncio.Event()
            incarnation.on_kill(died.set)
            ends_s = life_s if life_s < self.plan.chaos_s - self.loop.time() else None
            if rng.random() < self.plan.paused and ends_s is not None:
                await self._pause_agent(incarnation, connection, rng)
            ended = asyncio.ensure_future(died.wait())
            await asyncio.wait([running, ended], timeout=ends_s, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            incarnation.kill()
            await asyncio.sleep(rng.uniform(0, 5))

    async def _pause_agent(self, incarnation: Incarnation, connection: MemoryBroker, rng: random.Random) -> None:
        """Stop the replica at some time, for less or more than its session, and let it go on."""
        await asyncio.sleep(rng.uniform(0, 5))
        self.transcript.note(incarnation.name, "is stopped")
        self.promises.counts["agents stopped for a time"] += 1
        connection.stand_still(is_still=True)
        incarnation.pause()
        await asyncio.sleep(rng.choice([0.5, 3.0, 6.0, 15.0]))
        self.transcript.note(incarnation.name, "goes on")
        connection.stand_still(is_still=False)
        incarnation.resume()

    def _agent_begins(self, ctx: Context) -> None:
        """Check that each copy of an attempt is begun once.

        A replica that was stopped may have lost its partitions meanwhile, so it asks first. Where
        calls fail or members are forgotten, a copy may be begun again.
        """
        attempt, weak = ids.attempt_id(ctx.task_id, ctx.attempt), self.plan.weak
        self._begun[attempt] += 1
        is_sound = not (weak.undead or weak.rebalance or weak.failed_call)
        if is_sound and self._begun[attempt] > self._copies[attempt]:
            self.promises.find(f"{attempt} is begun {self._begun[attempt]} times, of {self._copies[attempt]} copies")

    def _kill_agent(self, incarnation: Incarnation, ctx: Context) -> None:
        """Let a task end the process that works on it, at most once for each copy of an attempt."""
        attempt = ids.attempt_id(ctx.task_id, ctx.attempt)
        self.transcript.note(incarnation.name, f"is dead, of {attempt}")
        self.promises.counts["agents killed by a task"] += 1
        self._killed[attempt] += 1
        if self._killed[attempt] > self._copies[attempt] and not self.plan.weak.undead:
            self.promises.find(f"{attempt} has killed its agent, and is begun again under the same number")
        incarnation.kill()

    # The end --------------------------------------------------------------------------------------

    def _compare_live_states(self) -> None:
        """Check that each owner in force has in memory exactly what a fold of its log gives."""
        for slot in self._slots:
            owners = slot.life.router.owners if slot.life else {}
            for partition, owner in owners.items():
                fold = self.promises.fold(partition)
                is_in_force = owner.ownership.token == fold.epochs.current and not owner.is_lost()
                if is_in_force and not owner.flights:
                    self.promises.counts["live states compared"] += 1
                    self._compare(f"{slot.name}, partition {partition}", owner.state.workflows, fold)

    def _compare_checkpoint(self, slot: _Slot, partition: int, store: MemoryCheckpointStore) -> None:
        saved = store.last()
        if saved is None or store.is_foreign:
            return
        fold, seals = PartitionFold(partition), self.promises.seals
        for record in self.cluster.records(TopicPartition(self.topics.log, partition))[: saved.offset]:
            fold.apply(record.offset, seals.decode(record))
        self.promises.counts["checkpoints compared"] += 1
        states = {name: seals.state(value, name) for name, value in saved.workflows.items()}
        kept = {name: decode_workflow(value) for name, value in states.items() if value is not None}
        self._compare(f"the checkpoint of {slot.name}, partition {partition}, at {saved.offset}", kept, fold)

    def _compare(self, what: str, given: Mapping[str, Workflow], fold: PartitionFold) -> None:
        live = {name: canonical_workflow(workflow) for name, workflow in given.items()}
        folded = {name: canonical_workflow(workflow) for name, workflow in fold.state.workflows.items()}
        wrong = sorted(name for name in live.keys() | folded.keys() if live.get(name) != folded.get(name))
        if wrong:
            self.promises.find(f"{what}: not what the log gives for {wrong}")
