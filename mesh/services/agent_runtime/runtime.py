"""One agent in one process: takes its tasks, works on them, sends the results, commits.

Owns the turns between the broker and the parts, and the start and stop of all. It must not know
what a handler does (`call`, `workers`), how a result gets out (`replies`, `outbox`) or what a
commit says (`assignment`, `offsets`). The command line and tests call it.

How it hangs together
---------------------
* One loop polls. It polls on while handlers run, for a poll also serves the membership. With
  `buffer_records` in hand it pauses its partitions, so a handler may take longer than any
  `max.poll.interval`.
* Up to `concurrency` workers, each an asyncio task that lives on: a task record costs no asyncio
  task of its own. A handler that leaves context variables changed ends its worker, and the next
  record gets a fresh one.
* A result goes to the outbox; when the broker has it, its task is settled; what is settled is
  committed, at most every `commit_every_s`. So a commit never passes a result that is not at the
  broker.
* If a task asks for signs of life, they are sent beside the results (`heartbeats`); nothing waits
  for them.
* At its deadline a task's result is `timeout`, whatever its handler does next. An async handler is
  cancelled; a thread can't be, so it keeps its worker until it ends.
* A partition that is revoked is drained for `revoke_drain_s`. What still runs then runs on: the
  last commit and the card name it as kept, and nobody else begins it while the card does
  (`keepers`). What could not be named is cancelled if the partition does not come back within the
  session's time-out.
* What may begin is committed before it begins (`begins`). A task that a dead process may have had
  in its hands is not begun; its router hears of it, counts the deaths and sends the task again
  (docs/adr/0012).
* After an absence (`pulse`) nothing begins before the broker has said which partitions are ours.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from mesh.agent.definition import Agent
from mesh.core.topics import Topics
from mesh.errors import AgentError, BrokerUnavailable, TopicMissing
from mesh.observability import Tracer
from mesh.ports import Broker, Clock, Subscription, TopicSpec
from mesh.services.agent_runtime.assignment import Assignment
from mesh.services.agent_runtime.begins import Life
from mesh.services.agent_runtime.call import AgentCall
from mesh.services.agent_runtime.cards import CardKeeper
from mesh.services.agent_runtime.heartbeats import Heartbeats
from mesh.services.agent_runtime.keepers import Keepers
from mesh.services.agent_runtime.metrics import AgentMetrics
from mesh.services.agent_runtime.outbox import Outbox
from mesh.services.agent_runtime.pulse import Pulse, boot_s
from mesh.services.agent_runtime.replies import Replies
from mesh.services.agent_runtime.settings import AgentSettings, Counts
from mesh.services.agent_runtime.solitude import Solitude
from mesh.services.agent_runtime.threads import DaemonThreads
from mesh.services.agent_runtime.withdrawals import Withdrawals
from mesh.services.agent_runtime.work import Work
from mesh.services.agent_runtime.workers import Workers

if TYPE_CHECKING:
    from mesh.metrics.metering import Metering

_PAUSED_POLL_S: Final = 0.5  # between polls that only serve the membership
_FLUSH_S: Final = 5.0  # at a stop, for results that are made and not yet sent
_LONGEST_PAUSE_S: Final = 5.0
_CONFIRM_AGAIN_S: Final = 0.2
_TELL_S: Final = 1.0  # within a revocation, which is bounded by the session


class AgentRuntime:
    """Runs one agent against a broker.

    `instance` names this process to operators. `ticks`: seconds, for how long a handler took (a
    simulation brings its own). `solitude`, `metrics`, `withdrawals`: one for all agents of a
    process. Who gives `withdrawals` runs them as well.
    """

    def __init__(
        self,
        broker: Broker,
        agent: Agent[Any, Any],
        *,
        topics: Topics,
        clock: Clock,
        instance: str,
        settings: AgentSettings | None = None,
        tracer: Tracer | None = None,
        ticks: Callable[[], float] = time.perf_counter,
        solitude: Solitude | None = None,
        metrics: AgentMetrics | None = None,
        withdrawals: Withdrawals | None = None,
    ) -> None:
        self.agent: Final = agent
        self.counts: Final = Counts()
        self._broker = broker
        self._topics = topics
        self._instance = instance
        self._settings = settings or AgentSettings()
        # at least twice what runs at once, so that no worker waits for the next poll
        self._limit = max(self._settings.buffer_records, 2 * agent.concurrency)
        self._stopping = asyncio.Event()
        self._is_paused = False
        self.waits_for = "it has not subscribed to its tasks yet"
        """Why it takes no tasks just now; empty if it does."""
        self._log: structlog.stdlib.BoundLogger = structlog.get_logger("mesh.agent").bind(
            agent=agent.name, instance=instance
        )
        self._pulse = Pulse(self._settings.session_timeout_s, boot_s if ticks is time.perf_counter else ticks)
        self._confirming = asyncio.Lock()
        self._replies = replies = Replies(
            agent, topics=topics, clock=clock, instance=instance, max_record_bytes=broker.max_record_bytes, ticks=ticks
        )
        life = Life(instance, str(clock.now_ms()))
        self._keepers = Keepers(broker, topics.agents, agent=agent.name, log=self._log)
        self._assignment = Assignment(
            self._settings,
            life=life,
            concurrency=agent.concurrency,
            begin=self._begin,
            interrupt=self._interrupt,
            abandon=self._abandon,
            keepers=self._keepers,
            tell_kept=self._tell_kept,
            kept_less=self._kept_less,
            log=self._log,
        )
        self._outbox = Outbox(broker, settled=self._assignment.settle, instead=replies.instead, log=self._log)
        self._threads = DaemonThreads(agent.concurrency, f"agent-{agent.name}")
        self._signs = Heartbeats(
            broker,
            version=agent.version,
            instance=instance,
            every_s=self._settings.watch_every_s,
            log=self._log,
            ticks=ticks,
        )
        self._has_own_withdrawals = withdrawals is None
        self._withdrawals = withdrawals or Withdrawals(broker, topics.withdrawals, log=self._log)
        self._workers = Workers(
            AgentCall(agent, threads=self._threads, tracer=tracer),
            replies,
            self._signs,
            concurrency=agent.concurrency,
            can_cancel=agent.is_async,
            is_traced=tracer is not None,
            clock=clock,
            counts=self.counts,
            deliver=self._outbox.put,
            settle=self._assignment.settle,
            drop=self._assignment.drop,
            is_in_doubt=self._pulse.is_in_doubt,
            confirm=self._confirm,
            name=self._assignment.name,
            name_now=self._assignment.name_now,
            near_line=self._assignment.near_line,
            solitude=solitude or Solitude(),
            withdrawals=self._withdrawals,
            withdrawn=self._withdrawals.watch(agent.name, self._withdraw),
            log=self._log,
            measure=None if metrics is None else partial(metrics.ended, agent.name),
            ticks=ticks,
        )
        self._metrics = metrics
        self._card = CardKeeper(
            broker,
            agent,
            topics=topics,
            clock=clock,
            instance=instance,
            every_s=self._settings.card_every_s,
            log=self._log,
            life=life.text,
            keeps=self._assignment.kept_places,
        )

    async def run(self) -> None:
        """Work until `stop`, then drain.

        Raises `BrokerError` if the broker or the topic is not there at the start.
        """
        await self._ensure_topic()
        async with _group() as group:
            self._workers.start(group)
            parts = [
                self._outbox.run(),
                self._signs.run(),
                self._assignment.keep_committed(),
                self._watch(),
                self._keepers.run(self._assignment.look_after_kept),
                self._card.run(),
            ]
            if self._has_own_withdrawals:
                parts.append(self._withdrawals.run())
            background = [group.create_task(part) for part in parts]
            try:
                await self._serve()
            finally:
                # The task group waits for its tasks, and these have no end of their own.
                self._threads.close()
                self._workers.dismiss()
                for task in background:
                    task.cancel()
        self._log.info("agent_stopped", **msgspec.structs.asdict(self.counts))

    def sample(self) -> None:
        """Read into its metrics how things are now, if it has any."""
        if self._metrics is not None:
            self._metrics.sample(
                self.agent.name, self.counts, running=self._workers.running, held=self._assignment.held
            )

    def stop(self) -> None:
        """Take no more tasks, finish what is in hand within `drain_s`, and let `run` return."""
        self._stopping.set()
        self._assignment.nudge()

    async def _ensure_topic(self) -> None:
        topic = self._topics.tasks(self.agent.name)
        if topic in await self._broker.topics():
            return
        settings = self._settings
        spec = TopicSpec(topic, settings.task_partitions, settings.task_replicas, dict(settings.task_topic_config()))
        await self._broker.create_topics([spec])
        if topic not in await self._broker.topics():
            raise TopicMissing(
                f"the topic {topic} is not there and could not be created (create it with `mesh topics apply`)"
            )

    async def _serve(self) -> None:
        subscription = await self._broker.subscribe(
            self._topics.agent_group(self.agent.name),
            [self._topics.tasks(self.agent.name)],
            self._assignment,
            member=self._instance,
            session_timeout_s=self._settings.session_timeout_s,
        )
        self._assignment.subscription = subscription
        try:
            self._log.info("agent_started", version=self.agent.version, concurrency=self.agent.concurrency)
            await self._take_tasks(subscription)
            await self._drain(subscription)
            # after the drain: until then the agent is at work, and its card should say so
            await self._card.withdraw()
        finally:
            await subscription.close()

    # Taking tasks ---------------------------------------------------------------------------------

    async def _take_tasks(self, subscription: Subscription) -> None:
        pause_s, loop = 0.1, asyncio.get_running_loop()
        # a member that gets no partition may not hear of that
        in_by_s = loop.time() + self._settings.session_timeout_s
        while not self._stopping.is_set():
            try:
                await self._turn(subscription)
                pause_s = 0.1
                if self.waits_for and (self._assignment.has_heard or loop.time() >= in_by_s):
                    self.waits_for = ""
            except BrokerUnavailable as error:
                self.waits_for = str(error)
                self._log.warning("broker_unavailable", error=str(error), retry_in_s=pause_s)
                # not a plain sleep: a stop ends it
                await self._assignment.wait_progress(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)

    async def _turn(self, subscription: Subscription) -> None:
        """One poll; with enough in hand, one that hands out nothing."""
        if self._is_full():
            self._is_paused = True
            await self._serve_membership(subscription)
            return
        if self._is_paused:
            self._is_paused = False
            subscription.resume(list(subscription.assignment()))
        room = min(self._settings.poll_records, self._limit - self._assignment.held)
        records = await subscription.poll(max_records=room, timeout_s=self._settings.poll_s)
        # What this poll has lost goes first: its tasks belong to another member by now.
        self._assignment.reconcile(subscription.assignment())
        if records:
            self._assignment.take(records)

    def _is_full(self) -> bool:
        """Whether enough work is in hand."""
        held = self._assignment.held
        # From the limit on it stays full until half is done, or partitions would be
        # paused and resumed for each record.
        if self._is_paused:
            return held > self._limit // 2 or self._waiting_bytes() > self._settings.buffer_bytes // 2
        return held >= self._limit or self._waiting_bytes() >= self._settings.buffer_bytes

    def _waiting_bytes(self) -> int:
        return self._workers.waiting_bytes + self._assignment.blocked_bytes

    async def _serve_membership(self, subscription: Subscription) -> None:
        subscription.pause(list(subscription.assignment()))
        await self._assignment.wait_progress(_PAUSED_POLL_S)
        # Also with enough in hand: members hear of rebalances in their polls.
        records = await subscription.poll(max_records=1, timeout_s=0)
        self._assignment.reconcile(subscription.assignment())
        # of a partition that came while we were paused
        self._assignment.take(records)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._settings.watch_every_s)
            self._pulse.beat()
            self._workers.time_out()

    def _begin(self, works: Sequence[Work]) -> None:
        self._workers.add(works)

    def _interrupt(self, work: Work, instance: str) -> None:
        assert work.task is not None  # noqa: S101 - it was decoded to know that it accepts this
        task = work.task
        self.counts.interrupted += 1
        self._log.warning(
            "task_interrupted",
            workflow_id=task.workflow_id,
            step=task.step,
            attempt=task.attempt,
            deaths=task.deaths + 1,
            died=instance,
        )
        work.is_over = True
        self._outbox.put(work, self._replies.interrupted(work, instance))

    async def _confirm(self) -> None:
        """Ask the broker which partitions are ours, until it answers: this process was away."""
        # Many workers may be in doubt at once; one question answers for all of them.
        async with self._confirming:
            while self._pulse.is_in_doubt():
                self._pulse.beat()
                # before the question: an absence while it is on its way makes its answer old
                absences = self._pulse.absences
                self._withdrawals.doubt()
                try:
                    await self._assignment.confirm()
                except BrokerUnavailable as error:
                    self._log.warning("membership_unconfirmed", error=str(error))
                    await asyncio.sleep(_CONFIRM_AGAIN_S)
                else:
                    self._pulse.trust(absences)

    async def _tell_kept(self) -> bool:
        """Publish what we keep; false if it is not known to be at the broker in time."""
        telling = asyncio.create_task(self._card.tell(), name="agent tells what it keeps")
        await asyncio.wait({telling}, timeout=_TELL_S)
        return telling.done() and telling.result()

    def _kept_less(self) -> None:
        self._card.hasten()

    def _withdraw(self, attempt_id: str) -> None:
        self._workers.withdraw(attempt_id)

    def _abandon(self, work: Work) -> None:
        self._workers.abandon(work)

    # Stopping -------------------------------------------------------------------------------------

    async def _drain(self, subscription: Subscription) -> None:
        self._log.info("agent_drains", held=self._assignment.held, drain_s=self._settings.drain_s)
        # What is not begun costs the next holder nothing. What runs may
        # have cost a model call already.
        self._drop_waiting()
        await self._wait_empty(subscription, self._settings.drain_s)
        self._workers.abandon_all()
        # results that are made may still be on their way
        await self._wait_empty(subscription, _FLUSH_S)
        await self._assignment.commit()

    async def _wait_empty(self, subscription: Subscription, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while self._assignment.held and loop.time() < until_s:
            try:
                await self._serve_membership(subscription)
            except BrokerUnavailable as error:
                self._log.warning("broker_unavailable", error=str(error))
            # the poll may have brought tasks of a partition that came meanwhile
            self._drop_waiting()

    def _drop_waiting(self) -> None:
        self._assignment.drop_blocked()
        self._workers.drop_waiting()


async def run_agents(
    broker: Broker,
    agents: Sequence[Agent[Any, Any]],
    *,
    topics: Topics,
    clock: Clock,
    instance: str,
    settings: AgentSettings | None = None,
    tracer: Tracer | None = None,
    metering: "Metering | None" = None,
    handle_signals: bool = True,
    on_runtimes: Callable[[Sequence[AgentRuntime]], None] = lambda _: None,
) -> None:
    """Run several agents in this process until SIGTERM or SIGINT, then drain them.

    `on_runtimes` gets them before they start, to ask each what it waits for.

    A second signal ends the process at once. Raises `AgentError` if two have one name,
    `BrokerError` as `AgentRuntime.run`.
    """
    names = [agent.name for agent in agents]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        trouble = (
            f"two agents are named {twice[0]!r} (give one of them another name)"
            if twice
            else "there is no agent to run"
        )
        raise AgentError(trouble)
    # One for all: a task that kills the process takes the other agents' tasks with it.
    solitude = Solitude()
    metrics = None if metering is None else AgentMetrics(metering.meters)
    log = structlog.get_logger("mesh.agent").bind(instance=instance)
    # one reader for all: each costs its wake-ups and its looks at the broker
    withdrawals = Withdrawals(broker, topics.withdrawals, log=log)
    runtimes = [
        AgentRuntime(
            broker,
            agent,
            topics=topics,
            clock=clock,
            instance=instance,
            settings=settings,
            tracer=tracer,
            solitude=solitude,
            metrics=metrics,
            withdrawals=withdrawals,
        )
        for agent in agents
    ]
    on_runtimes(runtimes)
    if metering is not None:
        for runtime in runtimes:
            metering.sample(runtime.sample)
    with _signals(runtimes, handle=handle_signals):
        async with _group() as group:
            following = group.create_task(withdrawals.run(), name="withdrawals")
            running = [group.create_task(runtime.run()) for runtime in runtimes]
            # an agent that fails ends the others through the group, and this wait with them
            await asyncio.wait(running)
            following.cancel()


@asynccontextmanager
async def _group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises a single error as itself, because it is meant for people."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        if len(errors.exceptions) == 1:
            raise errors.exceptions[0] from None
        raise


@contextmanager
def _signals(runtimes: Sequence[AgentRuntime], *, handle: bool) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handled = (signal.SIGTERM, signal.SIGINT) if handle else ()

    def stop() -> None:
        for number in handled:
            # A second signal then has its usual effect, and ends the process.
            loop.remove_signal_handler(number)
        for runtime in runtimes:
            runtime.stop()

    for number in handled:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
