"""The router process: the loop that serves all owners, and what runs beside it.

One loop: one poll, one batch of decisions for each partition that has inputs, one append each, and
the next poll while those are on the wire. `membership` only says which partitions to take, and
`holdings` has their owners. Who may write a partition is decided by the log
(`mesh.core.ownership`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

import structlog

from mesh.core.people import People
from mesh.core.route import Route
from mesh.core.state import Workflow
from mesh.core.topics import Topics
from mesh.errors import BrokerError, BrokerUnavailable, MeshError
from mesh.observability import Tracer
from mesh.ports import Broker, CheckpointStore, Clock, Entropy, Reader, Record, TopicPartition
from mesh.services.router.barrier import raise_barriers
from mesh.services.router.checkpoint import Checkpoints
from mesh.services.router.clock import ClockWatch, Sight, blind
from mesh.services.router.config import RouterConfig
from mesh.services.router.definitions import Definitions
from mesh.services.router.directory import DirectoryFollower
from mesh.services.router.flight import begin_flight, fly, wait_landed
from mesh.services.router.holdings import Holdings
from mesh.services.router.ingress import Ingress
from mesh.services.router.membership import Membership, check_topics
from mesh.services.router.metrics import RouterMetrics
from mesh.services.router.operations import OperationRunner
from mesh.services.router.owner import Owner
from mesh.services.router.people import PeopleFollower
from mesh.services.router.schedules import ScheduleAnnouncer
from mesh.services.router.spans import RouterSpans
from mesh.services.router.takeover import take_over

_log = structlog.get_logger()
_BARRIER_POLL_S = 0.005  # how late an answer about a barrier may be noticed while no record comes


class Router:
    """One router.

    `run` returns after `stop`, or raises what no retry can repair (`PartitionsDiffer`,
    `TopicMissing`, `UnknownFormat`).

    `routes`: of the router's own files; those that are new it makes active. `open_checkpoint` gives
    the place for a partition's checkpoint; None: none are kept. `tracer`: where spans go; None:
    there are none. `metrics`: what counts; None: nothing does. `sight`: reads this machine's
    clocks. `ready` is set once it is at work, and its own routes are in effect.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        topics: Topics,
        routes: Sequence[Route],
        roles: Mapping[str, frozenset[str]],
        config: RouterConfig,
        clock: Clock,
        entropy: Entropy,
        open_checkpoint: Callable[[int], CheckpointStore] | None = None,
        tracer: Tracer | None = None,
        metrics: RouterMetrics | None = None,
        ready: asyncio.Event | None = None,
        sight: Sight = blind,
    ) -> None:
        self._watch = ClockWatch(clock, sight, config.clock_jump_s)
        self._broker = broker
        self._topics = topics
        self._routes = routes
        self._config = config
        self._clock = clock
        self._entropy = entropy
        self.checkpoints = Checkpoints(open_checkpoint, config)
        self._tracing = RouterSpans(tracer, topics) if tracer is not None else None
        self._metrics = metrics
        self._definitions = Definitions(broker, topics, instance=config.instance, clock=clock, entropy=entropy)
        self._schedules = ScheduleAnnouncer(
            broker, topics, self._definitions.known, instance=config.instance, clock=clock, entropy=entropy
        )
        self._directory = DirectoryFollower(
            broker, topics, roles, clock, roles_from=config.approvers, answers=config.answers
        )
        self._people = PeopleFollower(broker, topics, clock)
        self.ingress = Ingress(broker, topics, self._definitions, config, clock)
        self._holdings = Holdings(config.retry_pause_s, entropy)
        self._membership = Membership(broker, topics, config, self._holdings, self._land)
        self.owners = self._holdings.owners
        # at most one of each kind: taking over, barriers, definitions
        self._background: dict[str, asyncio.Task[None]] = {}
        self._flying: set[asyncio.Task[None]] = set()
        self._saturated = False  # the last poll took all it could
        self._ready = ready or asyncio.Event()
        self._stopping = asyncio.Event()
        self._draining = asyncio.Event()
        self._drained = asyncio.Event()

    def stop(self) -> None:
        """Stop gracefully.

        Finish what is under way, write marks and checkpoints, leave the groups.
        """
        self._stopping.set()

    def set_roles(self, roles: Mapping[str, frozenset[str]], people: People | None = None) -> None:
        """Set people's roles, and their further names, by the approvers' file from now on."""
        self._directory.set_roles(roles, people)

    def people(self) -> People | None:
        """The people in effect by their topic; None: the approvers' file rules."""
        return self._people.current()

    def active_routes(self) -> list[Route]:
        """The routes that are active, or about to be, as far as they can be read here."""
        return self._definitions.active_routes()

    def workflows(self) -> Iterable[Workflow]:
        """The live states, as decided so far."""
        return [workflow for owner in self.owners.values() for workflow in owner.state.workflows.values()]

    @property
    def is_owning(self) -> bool:
        """Whether it owns every partition that the group gives it, and the group gives it some."""
        return self._holdings.is_complete

    def waits_for(self) -> str:
        """Why it is not ready for work; empty if it is.

        It is also ready if the group has no partition left for it.
        """
        if not self._ready.is_set():
            return "it has not read definitions and people yet, or its own routes are not in effect yet"
        missing = sorted(self._holdings.missing)
        return self._membership.waits_for or (f"it takes over the partitions {missing}" if missing else "")

    async def run(self) -> None:
        try:
            in_effect_after_s = await self._begin()
            if in_effect_after_s is not None:
                await self._work(in_effect_after_s)
        finally:
            self.checkpoints.close()
            await self._definitions.close()
            await self._directory.close()
            await self._people.close()
        _log.info("router_stopped", instance=self._config.instance)

    async def _begin(self) -> float | None:
        """Read what must be known before the first input, however long the broker takes.

        Returns the seconds until our own routes are in effect; None: stopped before that.
        """
        in_effect_after_s = 0.0

        async def activate() -> None:
            nonlocal in_effect_after_s
            in_effect_after_s = await self._definitions.start(self._routes)

        # The order matters: a router set to another number of partitions must activate nothing.
        check = partial(check_topics, self._broker, self._topics, self._config.partitions)
        for step in (check, activate, self._directory.start, self._people.start):
            if not await self._until_answered(step):
                return None
        self._directory.set_routes(self._definitions.active())
        people = self._people.current()
        if people is not None:
            self._directory.set_people(people)
        return in_effect_after_s

    async def _until_answered(self, step: Callable[[], Awaitable[None]]) -> bool:
        """Repeat `step` until the broker answers. False: stopped before that."""
        while not self._stopping.is_set():
            try:
                await step()
            # every other error passes: no retry repairs a missing topic or
            # a wrong number of partitions
            except BrokerUnavailable as error:
                _log.warning(
                    "router_waits", error=str(error), next="it begins when the broker answers; look whether it is well"
                )
                await asyncio.sleep(self._config.retry_pause_s)
            else:
                return True
        return False

    async def _work(self, in_effect_after_s: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            following = [
                tasks.create_task(self._directory.follow()),
                tasks.create_task(self._definitions.follow(self._directory.set_routes)),
                tasks.create_task(self._schedules.follow()),
                tasks.create_task(self._people.follow(self._directory.set_people)),
                tasks.create_task(OperationRunner(self._broker, self._topics, lambda: 0 in self.owners).follow()),
            ]
            if self._metrics is not None:
                following.append(tasks.create_task(self._metrics.follow_lag(self.owners, self.ingress)))
            copying = tasks.create_task(self.ingress.run())
            owning = tasks.create_task(self._own())
            taking_part = tasks.create_task(self._membership.take_part(self._drained))
            announcing = tasks.create_task(self._announce(in_effect_after_s))
            await self._stopping.wait()
            announcing.cancel()
            # Ingress first: nothing new goes into the inboxes while their owners drain.
            self.ingress.stop()
            await self._end(copying)
            self._draining.set()
            await asyncio.wait([owning])  # bounded by itself
            # The membership ends last: the group gives our partitions away as soon as we leave it.
            await self._end(taking_part)
            for task in following:
                task.cancel()

    async def _announce(self, in_effect_after_s: float) -> None:
        """Say that the router is at work.

        From then on an event that is published meets the routes that it was started with.
        """
        await asyncio.sleep(in_effect_after_s)
        self._ready.set()
        _log.info("router_starts", instance=self._config.instance, routes=self._definitions.names())

    async def _end(self, task: asyncio.Task[None]) -> None:
        """Wait for a task that was asked to end.

        Cancel it if the broker holds it up for too long.
        """
        await asyncio.wait([task], timeout=self._config.drain_timeout_s)
        task.cancel()

    # Owning ---------------------------------------------------------------------------------------

    async def _own(self) -> None:
        reader = await self._broker.reader()
        try:
            async with asyncio.TaskGroup() as flights:
                while not self._draining.is_set():
                    self._change_owners(flights, reader)
                    try:
                        records = await self._poll(reader)
                    except BrokerUnavailable as error:
                        _log.warning("inputs_unread", error=str(error))
                        await asyncio.sleep(self._config.retry_pause_s)
                        continue
                    if self._decide(records, flights, reader):
                        # appends begin, and on the embedded log are done, before the next poll
                        await asyncio.sleep(0)
                    self._look_after(flights, len(records))
                # a take-over that is not done has nothing to land: the next owner claims for itself
                for task in self._background.values():
                    task.cancel()
                await self._land(list(self.owners.values()))
                for task in self._flying:
                    task.cancel()
        finally:
            self._drained.set()
            await reader.close()

    async def _poll(self, reader: Reader) -> Sequence[Record]:
        """The next inputs. Results come first when there is more than one poll can take."""
        stalled = [owner.flights[0].done for owner in self.owners.values() if owner.is_stalled]
        if stalled:
            await asyncio.wait(stalled, timeout=self._config.idle_poll_s, return_when=asyncio.FIRST_COMPLETED)
        looking = self._background.get("people")
        if looking is not None and not looking.done():
            # an answer waits for the broker's reply, which may be here sooner than a record
            await asyncio.wait([looking], timeout=_BARRIER_POLL_S)
        # An owner with a full backlog is not read for: the broker has more room than this process.
        hungry = [owner.partition for owner in self.owners.values() if owner.wants_records]
        if not hungry:
            await asyncio.sleep(0 if stalled else self._config.idle_poll_s)
            return ()
        results = [TopicPartition(self._topics.results, p) for p in hungry]
        inbox = [TopicPartition(self._topics.inbox, p) for p in hungry]
        limit = self._config.max_poll_records
        # Two polls cost more than one, so only while there is more than one can take.
        if self._saturated:
            # results end work that is under way, so they go before inputs that may begin more
            first = await reader.poll(max_records=limit, timeout_s=0, partitions=results)
            if len(first) == limit:
                return first
            rest = await reader.poll(max_records=limit - len(first), timeout_s=0, partitions=inbox)
            records = [*first, *rest]
        else:
            # what is read already must not wait for more records
            can_decide = any(o.inputs and o.wants_people_ms is None for o in self.owners.values())
            is_trial = self.ingress.is_on_trial or not self.ingress.may_read.is_set()
            timeout_s = _BARRIER_POLL_S if is_trial else 0.0 if can_decide else self._idle_s()
            records = list(await reader.poll(max_records=limit, timeout_s=timeout_s, partitions=results + inbox))
        self._saturated = len(records) == limit
        await asyncio.sleep(0)
        return records

    def next_due_at_ms(self) -> int | None:
        """The next time, by this machine's clock, at which this router has to act by itself.

        None: it only waits for records. A time that is missing here is noticed only by chance:
        after `idle_poll_s` on a running machine, and much later in virtual time, where nobody polls
        for nothing.
        """
        dues = [due for owner in self.owners.values() if (due := owner.next_due_at_ms()) is not None]
        return min(dues, default=None)

    def _idle_s(self) -> float:
        """How long to wait for records while nothing else is due."""
        # a saving goes on by one portion a turn, and an answer waits for a look: turns must not be
        # long
        if self.checkpoints.is_saving or any(o.wants_people_ms is not None for o in self.owners.values()):
            return _BARRIER_POLL_S
        due = self.next_due_at_ms()
        if due is None:
            return self._config.idle_poll_s
        # a timer that waits for inputs fires the millisecond after
        wait_s = (due + 1 - self._clock.now_ms()) / 1000
        return min(max(wait_s, _BARRIER_POLL_S), self._config.idle_poll_s)

    def _decide(self, records: Sequence[Record], flights: asyncio.TaskGroup, reader: Reader) -> bool:
        """Decide one batch for each partition that has inputs.

        True if any batch is now on its way.
        """
        launched = False
        for record in records:
            owner = self.owners.get(record.partition)
            if owner is not None:
                owner.inputs.offer(record)
        if self._holdings.is_assigned:  # else the reader does not read for all owners yet
            for owner in self.owners.values():
                if owner.awaits_position:
                    owner.inputs.note_positions(reader.position)
        # Before the time is read: no timer may fire by a clock that has just jumped.
        jump_ms = self._watch.jump_ms()
        if jump_ms:
            # Those that sleep, too: one that wakes again would take the
            # jump for time that has passed.
            for owner in self._holdings.all_owners():
                owner.clock.own_jumped(jump_ms, self._watch.sight())
        now_ms = self._clock.now_ms()
        for owner in self._may_decide():
            batch = None if owner.is_idle(now_ms) else owner.next_batch(now_ms)
            if batch is not None:
                # Not in the task: flights must take their places in the order in which
                # their batches were decided.
                flight = begin_flight(owner, batch)
                flying = flights.create_task(fly(self._broker, owner, flight, self._clock, self._watch.sight))
                self._flying.add(flying)
                flying.add_done_callback(self._flying.discard)
                launched = True
        return launched

    def _may_decide(self) -> Iterable[Owner]:
        """The owners that may decide now; one alone while it has an input on trial.

        Ingress reads nothing meanwhile. What kills us would be counted against that input.
        """
        if self.ingress.is_on_trial:
            return ()
        owners = list(self.owners.values())
        if any(owner.careful.is_on for owner in owners):
            return self._may_decide_with_care(owners)
        self.ingress.may_read.set()
        return owners

    def _may_decide_with_care(self, owners: Sequence[Owner]) -> Iterator[Owner]:
        for owner in [owner for owner in owners if owner.is_on_trial] or owners:
            yield owner
            if owner.is_on_trial:
                break
        if any(owner.is_on_trial for owner in owners):
            self.ingress.may_read.clear()
        else:
            self.ingress.may_read.set()

    # Looking after owners -------------------------------------------------------------------------

    def _change_owners(self, tasks: asyncio.TaskGroup, reader: Reader) -> None:
        missing = self._holdings.renew()
        if missing:
            self._in_background("taking_over", lambda: self._take(missing), tasks)
        self._holdings.assign(reader)

    async def _land(self, owners: Sequence[Owner]) -> None:
        """Let what is under way land, write the marks, save the checkpoints; bounded."""
        try:
            async with asyncio.timeout(self._config.drain_timeout_s):
                # Marks come after everything has landed: an earlier mark would be lower, and the
                # next owner would send effects again that the broker has.
                await asyncio.gather(*(wait_landed(owner) for owner in owners))
                await asyncio.gather(*(self._write_mark(owner) for owner in owners))
        except TimeoutError:
            _log.warning("drain_timed_out", partitions=[owner.partition for owner in owners if owner.flights])
        # also after a time-out: what is saved is only what the log has confirmed
        for owner in owners:
            self.checkpoints.save(owner)

    async def _write_mark(self, owner: Owner) -> None:
        batch = owner.mark_batch(self._clock.now_ms())
        if batch is not None:
            await fly(self._broker, owner, begin_flight(owner, batch), self._clock, self._watch.sight)

    def _in_background(
        self, kind: str, work: "Callable[[], asyncio._CoroutineLike[None]]", tasks: asyncio.TaskGroup
    ) -> None:
        running = self._background.get(kind)
        if running is None or running.done():
            self._background[kind] = tasks.create_task(work())

    async def _take(self, partitions: Collection[int]) -> None:
        owners = [self._new_owner(partition) for partition in sorted(partitions)]
        await take_over(
            owners,
            broker=self._broker,
            topics=self._topics,
            config=self._config,
            clock=self._clock,
            stores=self.checkpoints.stores,
            sight=self._watch.sight,
        )
        self._holdings.take_in(owners)
        if self._metrics is not None:
            self._metrics.taken_over(owners)

    def _new_owner(self, partition: int) -> Owner:
        self.checkpoints.open(partition)
        owner = Owner(
            partition,
            broker=self._broker,
            topics=self._topics,
            config=self._config,
            route_of=self._definitions.get,
            directory=lambda: self._directory.current,
            token=self._entropy.token(),
            entropy=self._entropy,
            tracing=self._tracing,
            people=self._people,
        )
        owner.careful.outlived = self._holdings.outlived.get(partition)
        if self._metrics is not None:
            owner.metrics = self._metrics.of_partition()
        return owner

    def _look_after(self, tasks: asyncio.TaskGroup, records: int) -> None:
        now_ms = self._clock.now_ms()
        waiting = [
            (owner, up_to) for owner in self.owners.values() if (up_to := owner.wants_barrier(now_ms)) is not None
        ]
        if waiting:
            # In the background: other partitions must not wait while the broker answers.
            self._in_background("barriers", lambda: self._raise_barriers(waiting), tasks)
        wanting = [owner for owner in self.owners.values() if owner.wanted_digest is not None]
        if wanting:
            self._in_background("definitions", lambda: self._find_definitions(wanting), tasks)
        unjudged = [owner for owner in self.owners.values() if owner.wants_people_ms is not None]
        if unjudged:
            self._in_background("people", lambda: self._look_at_people(unjudged), tasks)
        self.checkpoints.save_some(self.owners, records)

    async def _look_at_people(self, owners: Sequence[Owner]) -> None:
        """Look at the end of the people's topic, once for all answers that wait for it."""
        read = [(owner, dict(owner.inputs.read)) for owner in owners]
        newest_ms = max(owner.wants_people_ms or 0 for owner in owners)
        try:
            await self._people.look(newest_ms)
        except MeshError as error:
            _log.warning("answers_wait", error=str(error), effect="answers to approvals are judged when it can be read")
            await asyncio.sleep(self._config.retry_pause_s)
            return
        for owner, below in read:
            owner.note_look(below)

    async def _raise_barriers(self, waiting: Sequence[tuple[Owner, int]]) -> None:
        try:
            await raise_barriers(waiting, self._broker, self._topics)
        except BrokerError as error:
            _log.warning("timers_wait", error=str(error))
            # while this sleeps no other of its kind begins, so it is the pause between two tries
            await asyncio.sleep(self._config.retry_pause_s)

    async def _find_definitions(self, wanting: Sequence[Owner]) -> None:
        """Look for the route versions that inputs wait for.

        Inputs whose version can't be found are parked.
        """
        try:
            await self._definitions.refresh()
        except BrokerError as error:
            _log.warning("definitions_unread", error=str(error))
            await asyncio.sleep(self._config.retry_pause_s)
            return
        for owner in wanting:
            # Looked for once: if it is missing, the next try to decide on
            # the input fails, and parks it.
            digest, owner.wanted_digest = owner.wanted_digest, None
            if digest is not None and self._definitions.get(digest) is None:
                owner.versions.missing.add(digest)
