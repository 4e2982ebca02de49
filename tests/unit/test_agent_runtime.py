"""The agent runtime on the memory broker: tasks in, results out, and what is committed when."""

import asyncio
import json
import threading
import time
from contextvars import ContextVar
from math import inf, nan
from typing import Any, Literal

import pytest
from agent_mesh import GENEROUS_S, SETTINGS, TOPICS, AgentMesh, wait_until
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel, Field
from structlog.testing import capture_logs

from mesh import Context, HandOver, NonRetryable, Retry, agent
from mesh.adapters.system import SystemClock
from mesh.codec.cards import decode_card
from mesh.codec.dead_letters import decode_dead_letter
from mesh.codec.withdrawals import encode_withdrawal
from mesh.core.effects import WithdrawTask
from mesh.core.inputs import TaskError
from mesh.errors import AgentError, BrokerUnavailable
from mesh.observability import tracer_to
from mesh.ports import Committed, OutRecord, SendFailure, TopicPartition, TopicSpec
from mesh.services.agent_runtime.cards import CardKeeper
from mesh.services.agent_runtime.pulse import Pulse
from mesh.services.agent_runtime.runtime import run_agents
from mesh.services.agent_runtime.settings import AgentSettings
from mesh.services.agent_runtime.solitude import Solitude


class Issue(BaseModel):
    title: str
    size: int = 0


class Triage(BaseModel):
    severity: Literal["low", "high"]
    confidence: float = Field(alias="how_sure", default=1.0)


@agent("echo", version="1.2.0", concurrency=4)
async def echo(value: Any) -> Any:
    """Give back what comes."""
    return value


@agent("deepl", capabilities=["translate"])
async def translator(value: Any) -> Any:
    return value


@pytest.fixture
def mesh() -> AgentMesh:
    return AgentMesh()


# Results ------------------------------------------------------------------------------------------


async def test_each_task_gets_one_result_at_its_reply_to(mesh: AgentMesh) -> None:
    async with mesh.running(echo):
        await mesh.send("echo", *range(300))
        results = await mesh.wait_results(300)
    assert sorted(result.output for result in results) == list(range(300))
    assert {result.status for result in results} == {"succeeded"}
    one = results[0]
    assert (one.agent, one.agent_version, one.agent_instance, one.attempt) == ("echo", "1.2.0", "one", 1)
    assert one.task_id == f"{one.workflow_id}/00000001/step"
    assert one.duration_ms > 0
    record = mesh.records(TOPICS.results)[0]
    assert record.key == one.workflow_id.encode()
    assert dict(record.headers)["traceparent"] == b"00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    assert mesh.committed("echo") == Committed(300)


async def test_the_handler_gets_typed_input_and_the_tasks_context(mesh: AgentMesh) -> None:
    seen: list[Context] = []

    @agent("typed")
    async def typed(issue: Issue, ctx: Context) -> Triage:
        seen.append(ctx)
        return Triage(severity="low" if issue.size < 10 else "high", how_sure=0.5)

    async with mesh.running(typed):
        await mesh.send("typed", {"title": "t", "size": 12})
        result = await mesh.wait_result()
    assert result.output == {"severity": "high", "how_sure": 0.5}, "by alias, as the card's schema has it"
    (ctx,) = seen
    assert (ctx.workflow_id, ctx.run_id, ctx.route, ctx.step) == ("test:0", "00000001", "test", "step")
    assert (ctx.attempt, ctx.idempotency_key) == (1, "test:0/00000001/step")
    assert 0 < ctx.remaining_s <= 60


@pytest.mark.parametrize("fails", [False, True])
async def test_what_a_handler_used_goes_out_with_its_result_also_with_a_failure(mesh: AgentMesh, fails: bool) -> None:
    @agent("spender")
    async def spender(value: int, ctx: Context) -> dict[str, float]:
        ctx.used(tokens=100, usd=0.5)
        ctx.used(tokens=20)
        if fails:
            raise ValueError("too dear")
        return ctx.budget

    async with mesh.running(spender):
        await mesh.send("spender", 1, budget={"tokens": 500})
        result = await mesh.wait_result()
    assert result.usage == {"tokens": 120, "usd": 0.5}
    assert result.output == (None if fails else {"tokens": 500})


async def test_a_handler_hands_its_task_over(mesh: AgentMesh) -> None:
    @agent("dispatcher")
    async def dispatcher(issue: Issue) -> Triage:
        raise HandOver("billing", issue)

    @agent("odd")
    async def odd(value: int) -> int:
        raise HandOver("billing", object())

    async with mesh.running(dispatcher), mesh.running(odd):
        await mesh.send("dispatcher", {"title": "t", "size": 12})
        result = await mesh.wait_result()
        await mesh.send("odd", 1)
        _, refused = await mesh.wait_results(2)
    assert (result.status, result.output, result.error) == ("handed_over", None, None)
    assert result.handover is not None
    assert (result.handover.to, result.handover.input) == ("billing", {"title": "t", "size": 12})
    assert refused.error is not None
    assert (refused.error.kind, refused.error.retryable) == ("output_invalid", False)
    assert "input for billing" in refused.error.message


async def test_a_plain_function_runs_in_a_thread(mesh: AgentMesh) -> None:
    threads: set[str] = set()

    @agent("plain", concurrency=3)
    def plain(value: int, ctx: Context) -> int:
        threads.add(threading.current_thread().name)
        return value + ctx.attempt

    async with mesh.running(plain):
        await mesh.send("plain", *range(50))
        results = await mesh.wait_results(50)
    assert sorted(result.output for result in results) == list(range(1, 51))
    assert threads <= {"agent-plain-1", "agent-plain-2", "agent-plain-3"}


# Failures -----------------------------------------------------------------------------------------


class Odd(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


FAILURES: list[tuple[BaseException, str, str, bool]] = [
    (NonRetryable("no title", kind="no_title"), "no_title", "no title", False),
    (NonRetryable("no title"), "non_retryable", "no title", False),
    (ValueError("broken"), "ValueError", "broken", True),
    (KeyError(), "KeyError", "KeyError", True),
    (TimeoutError("slow"), "TimeoutError", "slow", True),
    (asyncio.CancelledError(), "CancelledError", "cancelled from within", True),
    (SystemExit(3), "SystemExit", "3", True),
    (Odd(), "Odd", "Odd", True),
    (ValueError("x" * 5000 + "\ud800"), "ValueError", "xxx…", True),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure[1])
@pytest.mark.parametrize("in_thread", [False, True])
async def test_what_a_handler_raises_becomes_a_failed_result(
    mesh: AgentMesh, failure: tuple[BaseException, str, str, bool], in_thread: bool
) -> None:
    error, kind, message, retryable = failure

    @agent("failing")
    async def failing(value: int) -> int:
        raise error

    @agent("failing")
    def failing_thread(value: int) -> int:
        raise error

    async with mesh.running(failing_thread if in_thread else failing):
        await mesh.send("failing", 1)
        result = await mesh.wait_result()
    assert result.error is not None
    assert (result.status, result.error.kind, result.error.retryable) == ("failed", kind, retryable)
    assert message in result.error.message
    assert len(result.error.message) <= 2000


async def test_an_input_of_the_wrong_shape_is_a_failure_that_names_the_fields_and_no_retry_helps(
    mesh: AgentMesh,
) -> None:
    @agent("typed")
    async def typed(issue: Issue) -> str:
        return issue.title

    async with mesh.running(typed):
        await mesh.send("typed", {"size": "secret"})
        result = await mesh.wait_result()
    assert result.error is not None
    assert (result.error.kind, result.error.retryable) == ("input_invalid", False)
    assert "title: Field required; size: Input should be a valid integer" in result.error.message
    assert "secret" not in result.error.message


@pytest.mark.parametrize("output", [{"severity": "none"}, None, "text", object()])
async def test_an_output_of_the_wrong_shape_is_a_failure_and_no_retry_helps(mesh: AgentMesh, output: Any) -> None:
    @agent("wrong")
    async def wrong(value: int) -> Triage:
        found: Triage = output
        return found

    async with mesh.running(wrong):
        await mesh.send("wrong", 1)
        result = await mesh.wait_result()
    assert result.error is not None
    assert (result.error.kind, result.error.retryable) == ("output_invalid", False)
    assert "'wrong'" in result.error.message


async def test_an_output_that_the_broker_would_not_take_is_a_failure_and_no_retry_helps() -> None:
    mesh = AgentMesh(max_record_bytes=10_000)

    @agent("large")
    async def large(value: int) -> str:
        return "x" * value

    async with mesh.running(large):
        await mesh.send("large", 20_000, 10)
        results = await mesh.wait_results(2)
    errors = {result.workflow_id: result.error for result in results}
    assert errors["test:1"] is None
    error = errors["test:0"]
    assert error is not None
    assert (error.kind, error.retryable) == ("output_too_large", False)


@pytest.mark.parametrize("value", [b"not json", None, b'{"task_id": "only"}'])
async def test_a_record_that_is_no_task_goes_to_the_dead_letters_as_it_came_and_stops_nothing(
    mesh: AgentMesh, value: bytes | None
) -> None:
    mesh.create_tasks_topic("echo")
    await mesh.send_raw("echo", value)
    await mesh.send("echo", "after it")
    async with mesh.running(echo) as runtime:
        result = await mesh.wait_result()
        await wait_until(lambda: len(mesh.records(TOPICS.dlq)) == 1)
    assert result.output == "after it"
    letter = decode_dead_letter(mesh.records(TOPICS.dlq)[0])
    assert (letter.original.value, letter.original.key) == (value, b"key")
    assert (letter.code, letter.component, letter.group) == ("malformed_task", "agent", "mesh.agent.echo")
    assert mesh.committed("echo") == Committed(2)
    assert runtime.counts.dead_lettered == 1


# Time ---------------------------------------------------------------------------------------------


async def test_a_task_past_its_deadline_is_not_begun(mesh: AgentMesh) -> None:
    mesh.create_tasks_topic("echo")
    await mesh.send("echo", "late", timeout_s=-1)
    await mesh.send("echo", "in time", first=1)
    async with mesh.running(echo) as runtime:
        result = await mesh.wait_result()
    assert result.output == "in time"
    assert (runtime.counts.expired, runtime.counts.succeeded) == (1, 1)
    assert mesh.committed("echo") == Committed(2)


async def test_expired_tasks_are_warned_of_at_once_and_then_once_a_minute_with_their_count(mesh: AgentMesh) -> None:
    mesh.create_tasks_topic("echo")
    now_s = 0.0
    await mesh.send("echo", 0, 1, 2, timeout_s=-1)
    with capture_logs() as logs:
        async with mesh.running(echo, ticks=lambda: now_s) as runtime:
            await mesh.wait_committed("echo", 3)
            now_s = 61.0
            await mesh.send("echo", 3, first=3, timeout_s=-1)
            await mesh.wait_committed("echo", 4)
    warned = [line for line in logs if line["event"] == "tasks_expired"]
    assert [line["count"] for line in warned] == [1, 3]
    assert [line["log_level"] for line in warned] == ["warning"] * 2
    assert (warned[0]["workflow_id"], runtime.counts.expired) == ("test:0", 4)


async def test_a_clock_ahead_of_the_brokers_shows_in_the_warning(mesh: AgentMesh) -> None:
    class Ahead(SystemClock):
        def now_ms(self) -> int:
            return super().now_ms() + 600_000

    mesh.create_tasks_topic("echo")
    await mesh.send("echo", 0, timeout_s=60)
    mesh.clock = Ahead()  # the agent's; the broker keeps its own
    with capture_logs() as logs:
        async with mesh.running(echo):
            await mesh.wait_committed("echo", 1)
    [line] = [line for line in logs if line["event"] == "tasks_expired"]
    assert 540 <= line["late_s"] < 600 <= line["ahead_of_record_s"]
    assert "clock is ahead" in line["hint"]


async def test_an_async_handler_is_cancelled_at_its_deadline(mesh: AgentMesh) -> None:
    cancelled: list[int] = []

    @agent("slow", concurrency=1)
    async def slow(value: int) -> int:
        try:
            await asyncio.sleep(GENEROUS_S * value)
        except asyncio.CancelledError:
            cancelled.append(value)
            raise
        return value

    async with mesh.running(slow) as runtime:
        await mesh.send("slow", 1, timeout_s=0.2)
        result = await mesh.wait_result()
        await mesh.send("slow", 0, first=1)
        after = (await mesh.wait_results(2))[1]
    assert result.error is not None
    assert (result.error.kind, result.error.retryable) == ("timeout", True)
    assert cancelled == [1]
    assert after.output == 0, "its worker goes on with the next one"
    assert runtime.counts.timed_out == 1


async def test_a_handler_that_will_not_be_cancelled_has_its_late_output_ignored(mesh: AgentMesh) -> None:
    @agent("stubborn", concurrency=1)
    async def stubborn(value: int) -> int:
        try:
            await asyncio.sleep(GENEROUS_S * value)
        except asyncio.CancelledError:
            return 99
        return value

    async with mesh.running(stubborn):
        await mesh.send("stubborn", 1, timeout_s=0.2)
        await mesh.wait_results(1)
        await mesh.send("stubborn", 0, first=1)
        results = await mesh.wait_results(2)
    assert [result.output for result in results] == [None, 0]


async def test_a_thread_past_its_deadline_keeps_its_slot_until_it_ends(mesh: AgentMesh) -> None:
    go_on = threading.Event()
    begun: list[int] = []

    @agent("stuck", concurrency=1)
    def stuck(value: int) -> int:
        begun.append(value)
        if value == 1:
            go_on.wait(GENEROUS_S)
        return value

    async with mesh.running(stuck):
        await mesh.send("stuck", 1, timeout_s=0.2)
        result = await mesh.wait_result()
        await mesh.send("stuck", 2, first=1)
        await mesh.wait_committed("stuck", 1)
        assert begun == [1]
        go_on.set()
        await mesh.wait_results(2)
    assert result.error is not None
    assert result.error.kind == "timeout"
    assert [result.output for result in mesh.results()] == [None, 2]


# Concurrency --------------------------------------------------------------------------------------


async def test_no_more_than_concurrency_run_at_once_over_all_partitions() -> None:
    mesh = AgentMesh(partitions=4)
    running, most = 0, 0

    @agent("counted", concurrency=3)
    async def counted(value: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running -= 1
        return value

    async with mesh.running(counted):
        await mesh.send("counted", *range(60))
        await mesh.wait_results(60)
    assert most == 3


async def test_more_tasks_than_fit_in_hand_are_all_done(mesh: AgentMesh) -> None:
    settings = AgentSettings(buffer_records=4, poll_records=3, poll_s=0.05, commit_every_s=0.01)

    @agent("small", concurrency=2)
    async def small(value: int) -> int:
        await asyncio.sleep(0)
        return value

    async with mesh.running(small, settings=settings):
        await mesh.send("small", *range(100))
        results = await mesh.wait_results(100)
    assert sorted(result.output for result in results) == list(range(100))


async def test_the_member_is_heard_of_while_all_its_handlers_are_busy(mesh: AgentMesh) -> None:
    settings = AgentSettings(buffer_records=1, session_timeout_s=0.3, poll_s=0.05, commit_every_s=0.01)
    begun: list[int] = []
    go_on = asyncio.Event()

    @agent("busy", concurrency=1)
    async def busy(value: int) -> int:
        begun.append(value)
        await go_on.wait()
        return value

    async with mesh.running(busy, settings=settings):
        await mesh.send("busy", 1, 2, 3)
        await wait_until(lambda: bool(begun))
        # three session time-outs: a member that is not heard of would have lost its share
        for _ in range(10):
            await asyncio.sleep(0.1)
        go_on.set()
        await mesh.wait_results(3)
    assert begun == [1, 2, 3]


async def test_a_handlers_context_variables_are_not_seen_by_the_next_task(mesh: AgentMesh) -> None:
    variable: ContextVar[int] = ContextVar("variable", default=0)
    seen: list[int] = []

    @agent("marked", concurrency=1)
    async def marked(value: int) -> int:
        seen.append(variable.get())
        variable.set(value)
        return value

    async with mesh.running(marked):
        await mesh.send("marked", *range(1, 6))
        await mesh.wait_results(5)
    assert seen == [0] * 5


async def test_a_time_out_within_a_handler_hits_that_handler_alone(mesh: AgentMesh) -> None:
    @agent("limited", concurrency=2)
    async def limited(value: int) -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(GENEROUS_S * value)
        except TimeoutError:
            return "timed out"
        return "ended"

    async with mesh.running(limited):
        await mesh.send("limited", 1, 0, 1, 0)
        results = await mesh.wait_results(4)
    assert sorted(result.output for result in results) == ["ended", "ended", "timed out", "timed out"]


# Commits, crashes, rebalances ---------------------------------------------------------------------


async def test_after_a_crash_what_is_done_stays_done_and_what_was_under_way_is_told_to_the_router(
    mesh: AgentMesh,
) -> None:
    begun: list[tuple[str, int]] = []
    release = asyncio.Event()

    @agent("first", concurrency=4)
    async def work(value: int, ctx: Context) -> int:
        begun.append(("first", value))
        if value in {0, 2}:
            await release.wait()
        return value

    mesh.create_tasks_topic("first")
    await mesh.send("first", *range(5))
    connection = mesh.cluster.connect("doomed")
    short = AgentSettings(poll_s=0.05, commit_every_s=0.01, session_timeout_s=0.5)
    doomed = mesh.runtime(work, broker=connection, instance="doomed", settings=short)
    task = asyncio.create_task(doomed.run())
    await mesh.wait_results(3)
    await wait_until(lambda: (mesh.committed("first") or Committed(0)).metadata.startswith("t1:1+1,1+2,;odoomed~"))
    connection.kill()
    task.cancel()
    await asyncio.wait([task])
    begun.clear()
    release.set()
    settings = AgentSettings(poll_s=0.05, commit_every_s=0.01)
    async with mesh.running(work, instance="heir", settings=settings):
        await mesh.wait_results(5)
        await mesh.wait_committed("first", 5)
    assert begun == []
    assert sorted(result.output for result in mesh.results() if result.status == "succeeded") == [1, 3, 4]
    interrupted = [result for result in mesh.results() if result.status == "interrupted"]
    assert sorted(result.workflow_id for result in interrupted) == ["test:0", "test:2"]
    assert {result.agent_instance for result in interrupted} == {"doomed"}


class FaultyBroker:
    """Passes on to a memory broker; `send` fails as told."""

    def __init__(self, broker: Any) -> None:
        self._broker = broker
        self.unavailable = 0
        self.refuse: dict[str, SendFailure] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    async def send(self, records: list[OutRecord]) -> list[SendFailure]:
        if any(record.topic == TOPICS.results for record in records) and self.unavailable:
            self.unavailable -= 1
            raise BrokerUnavailable("nobody answers")
        refused = [i for i, record in enumerate(records) if record.topic in self.refuse]
        landing = [record for i, record in enumerate(records) if i not in refused]
        assert not await self._broker.send(landing)
        return [SendFailure(i, self.refuse[records[i].topic].code, "refused by the test") for i in refused]


async def test_results_are_sent_again_until_the_broker_has_them_and_only_then_committed(mesh: AgentMesh) -> None:
    broker = FaultyBroker(mesh.cluster.connect("one"))
    broker.unavailable = 2
    async with mesh.running(echo, broker=broker):
        await mesh.send("echo", 1, 2)
        await wait_until(lambda: broker.unavailable == 1)
        assert (mesh.committed("echo") or Committed(0)).offset == 0
        assert mesh.results() == []
        await mesh.wait_results(2)
    assert mesh.committed("echo") == Committed(2)


async def test_a_result_that_is_refused_for_good_leaves_the_task_in_the_dead_letters(mesh: AgentMesh) -> None:
    from mesh.ports import Delivery  # noqa: PLC0415 - beside its one use

    broker = FaultyBroker(mesh.cluster.connect("one"))
    broker.refuse[TOPICS.results] = SendFailure(0, Delivery.REFUSED, "")
    async with mesh.running(echo, broker=broker):
        await mesh.send("echo", 1)
        await wait_until(lambda: len(mesh.records(TOPICS.dlq)) == 1)
    letter = decode_dead_letter(mesh.records(TOPICS.dlq)[0])
    assert letter.code == "result_undeliverable"
    assert json.loads(letter.original.value or b"")["input"] == 1
    assert mesh.committed("echo") == Committed(1)


async def test_a_second_replica_takes_part_of_the_partitions_and_every_task_is_done_once() -> None:
    mesh = AgentMesh(partitions=4)
    begun: list[int] = []

    @agent("shared", concurrency=2)
    async def shared(value: int) -> int:
        begun.append(value)
        await asyncio.sleep(0.001)
        return value

    async with mesh.running(shared, instance="one") as one:
        await mesh.send("shared", *range(100))
        await mesh.wait_results(10)
        async with mesh.running(shared, instance="two") as two:
            await wait_until(lambda: len(mesh.records(TOPICS.results)) >= 100)
            await mesh.send("shared", *range(100, 300), first=100)
            await mesh.wait_results(300)
    assert sorted(begun) == list(range(300))
    assert one.counts.succeeded + two.counts.succeeded == 300
    assert two.counts.succeeded > 0


async def test_a_handler_that_runs_through_a_rebalance_which_gives_its_partition_back_is_not_begun_again() -> None:
    from mesh.adapters.memory import WeakBehaviour  # noqa: PLC0415 - beside its one use

    mesh = AgentMesh(partitions=2)
    # eager rebalances: all partitions are revoked, then most come back
    mesh.cluster.weak = WeakBehaviour()
    begun: list[str] = []
    go_on = asyncio.Event()

    @agent("long", concurrency=4)
    async def long(value: str) -> str:
        begun.append(value)
        if value != "short":
            await go_on.wait()
        return value

    async with mesh.running(long, instance="one"):
        await mesh.send("long", "a", partition=0)
        await mesh.send("long", "b", partition=1, first=1)
        await wait_until(lambda: len(begun) == 2)
        await mesh.send("long", "short", partition=0, first=2)
        await mesh.wait_results(1)
        group = mesh.cluster.groups[TOPICS.agent_group("long")]
        group.rebalance(afresh=True)
        await mesh.send("long", "c", partition=0, first=3)
        await wait_until(lambda: len(begun) == 4)
        go_on.set()
        await mesh.wait_results(4)
        await wait_until(lambda: [(mesh.committed("long", p) or Committed(0)).offset for p in range(2)] == [3, 1])
    assert sorted(begun) == ["a", "b", "c", "short"]


# Start and stop -----------------------------------------------------------------------------------


async def test_a_stop_finishes_what_runs_sends_its_result_and_commits(mesh: AgentMesh) -> None:
    begun: list[int] = []
    go_on = asyncio.Event()

    @agent("draining", concurrency=2)
    async def draining(value: int) -> int:
        begun.append(value)
        await go_on.wait()
        return value

    async with mesh.running(draining) as runtime:
        await mesh.send("draining", *range(10))
        await wait_until(lambda: len(begun) == 2)
        runtime.stop()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    assert begun == [0, 1], "what was not begun is left to the next one"
    assert [result.output for result in mesh.results()] == [0, 1]
    assert mesh.committed("draining") == Committed(2)


async def test_a_stop_abandons_what_does_not_end_in_time(mesh: AgentMesh) -> None:
    begun = threading.Event()

    @agent("endless", concurrency=2)
    def endless(value: int) -> int:
        begun.set()
        time.sleep(GENEROUS_S * 2)
        return value

    settings = AgentSettings(poll_s=0.05, drain_s=0.1)
    async with mesh.running(endless, settings=settings) as runtime:
        await mesh.send("endless", 1)
        await wait_until(begun.is_set)
    assert mesh.results() == []
    assert mesh.committed("endless") in {None, Committed(0)}
    assert runtime.counts.abandoned == 1


async def test_the_card_is_published_renewed_and_withdrawn(mesh: AgentMesh) -> None:
    settings = AgentSettings(poll_s=0.05, card_every_s=0.005)
    async with mesh.running(echo, settings=settings):
        await wait_until(lambda: len(mesh.records(TOPICS.agents)) >= 4)
    cards = [card for record in mesh.records(TOPICS.agents) if not (card := decode_card(record)).registration]
    assert (cards[0].name, cards[0].version, cards[0].topic) == ("echo", "1.2.0", "mesh.tasks.echo")
    assert (cards[0].description, cards[0].concurrency, cards[0].instance) == ("Give back what comes.", 4, "one")
    assert cards[0].renewed_at < cards[2].renewed_at
    assert [card.stopped for card in cards[-2:]] == [False, True]


async def test_a_registration_is_written_at_the_start_and_outlasts_the_process(mesh: AgentMesh) -> None:
    async with mesh.running(translator):
        await wait_until(lambda: len(mesh.records(TOPICS.agents)) >= 2)
    one, registration, withdrawn = [decode_card(record) for record in mesh.records(TOPICS.agents)]
    assert (one.capabilities, one.registration, one.instance) == (("translate",), False, "one")
    assert (registration.name, registration.instance, registration.capabilities) == ("deepl", "", ("translate",))
    assert (registration.registration, registration.stopped) == (True, False)
    assert mesh.records(TOPICS.agents)[1].key == b"deepl"
    assert (withdrawn.stopped, withdrawn.registration) == (True, False)


async def test_a_registration_is_written_again_now_and_then(mesh: AgentMesh) -> None:
    async with mesh.running(translator, settings=AgentSettings(poll_s=0.05, card_every_s=0.001)):
        await wait_until(lambda: sum(record.key == b"deepl" for record in mesh.records(TOPICS.agents)) >= 3)
    keys = [record.key for record in mesh.records(TOPICS.agents)]
    assert keys.count(b"deepl/one") > 30


async def test_a_version_without_capabilities_withdraws_what_an_older_one_registered(mesh: AgentMesh) -> None:
    async with mesh.running(echo):
        await wait_until(lambda: len(mesh.records(TOPICS.agents)) >= 2)
    withdrawal = mesh.records(TOPICS.agents)[1]
    assert (withdrawal.key, withdrawal.value) == (b"echo", None)


async def test_a_registration_that_could_not_be_written_is_tried_again(mesh: AgentMesh) -> None:
    sent: list[OutRecord] = []

    class Unwell(CardKeeper):
        async def _send(self, record: OutRecord) -> bool:
            sent.append(record)
            return len(sent) > 4

    keeper = Unwell(
        mesh.cluster.connect("x"), translator, topics=TOPICS, clock=mesh.clock, instance="i", every_s=0.001, log=None
    )
    running = asyncio.create_task(keeper.run())
    await wait_until(lambda: len(sent) > 10)
    running.cancel()
    assert [record.key for record in sent[:9]] == [b"deepl/i", b"deepl"] * 3 + [b"deepl/i"] * 3


async def test_without_its_topic_the_runtime_creates_it(mesh: AgentMesh) -> None:
    runtime = mesh.runtime(echo, settings=AgentSettings(task_partitions=5, poll_s=0.05))
    task = asyncio.create_task(runtime.run())
    await wait_until(lambda: "mesh.tasks.echo" in mesh.cluster.topics())
    runtime.stop()
    await task
    topic = mesh.cluster.topics()["mesh.tasks.echo"]
    assert (topic.partitions, topic.config) == (5, {"message.timestamp.type": "LogAppendTime"})


async def test_several_agents_run_in_one_process(mesh: AgentMesh) -> None:
    @agent("double")
    async def double(value: int) -> int:
        return value * 2

    mesh.create_tasks_topic("echo")
    mesh.create_tasks_topic("double")
    run = run_agents(
        mesh.cluster.connect("both"),
        [echo, double],
        topics=TOPICS,
        clock=mesh.clock,
        instance="both",
        settings=SETTINGS,
        handle_signals=False,
    )
    task = asyncio.create_task(run)
    await mesh.send("echo", 5)
    await mesh.send("double", 5, first=1)
    await mesh.wait_results(2)
    task.cancel()
    await asyncio.wait([task])
    assert mesh.outputs() == ["10", "5"]


async def test_the_agents_of_one_process_read_withdrawals_once_and_each_hears_its_own(mesh: AgentMesh) -> None:
    mesh.cluster.create_topics([TopicSpec(TOPICS.withdrawals, 1)])
    begun = list[str]()

    @agent("left")
    async def left(value: int) -> int:
        begun.append(f"left {value}")
        return value

    @agent("right")
    async def right(value: int) -> int:
        begun.append(f"right {value}")
        return value

    class Counting(FaultyBroker):
        readers = 0

        async def reader(self) -> Any:
            self.readers += 1
            return await self._broker.reader()

    for name in ("left", "right"):
        mesh.create_tasks_topic(name)
    await mesh.send("left", 0, 1)
    await mesh.send("right", 0, 1)
    # the same attempt of either agent has one id: only the one that is named must hear of it
    effects = [
        WithdrawTask(workflow_id=f"test:{n}", task_id=f"test:{n}/00000001/step", attempt=1, agent=name, at_ms=0)
        for n, name in enumerate(("left", "right"))
    ]
    sender = mesh.cluster.connect("router")
    assert not await sender.send([encode_withdrawal(effect, topics=TOPICS) for effect in effects])
    broker = Counting(mesh.cluster.connect("both"))
    run = run_agents(
        broker,  # type: ignore[arg-type] # a fake broker
        [left, right],
        topics=TOPICS,
        clock=mesh.clock,
        instance="both",
        settings=SETTINGS,
        handle_signals=False,
    )
    task = asyncio.create_task(run)
    await mesh.wait_results(2)
    await mesh.wait_committed("left", 2)
    await mesh.wait_committed("right", 2)
    task.cancel()
    await asyncio.wait([task])
    assert sorted(begun) == ["left 1", "right 0"]
    assert broker.readers == 2  # one for what was said before, and one that follows


async def test_two_agents_of_one_name_in_one_process_are_refused(mesh: AgentMesh) -> None:
    with pytest.raises(AgentError, match="'echo'"):
        await run_agents(mesh.cluster.connect("x"), [echo, echo], topics=TOPICS, clock=mesh.clock, instance="x")


async def test_a_broker_that_is_not_there_at_the_start_is_one_clear_error(mesh: AgentMesh) -> None:
    class Away(FaultyBroker):
        async def subscribe(self, *arguments: Any, **options: Any) -> Any:
            raise BrokerUnavailable("no broker at localhost:9092")

    with pytest.raises(BrokerUnavailable, match="localhost:9092"):
        await mesh.runtime(echo, broker=Away(mesh.cluster.connect("one"))).run()  # type: ignore[arg-type] # a fake broker


# Traces -------------------------------------------------------------------------------------------


async def test_with_tracing_each_task_is_a_span_beneath_the_routers_and_the_result_carries_it_on(
    mesh: AgentMesh,
) -> None:
    exporter = InMemorySpanExporter()
    tracer = tracer_to(exporter, "test", batch=False)

    @agent("traced", version="1")
    async def traced(value: int) -> int:
        if value == 0:
            raise ValueError("no")
        return value

    async with mesh.running(traced, tracer=tracer):
        await mesh.send("traced", 0, 1)
        await mesh.wait_results(2)
    tracer.shutdown()
    spans = {span.context.span_id: span for span in exporter.get_finished_spans() if span.context is not None}
    carried = [dict(record.headers)["traceparent"].decode() for record in mesh.records(TOPICS.results)]
    assert {f"00-{'0123456789abcdef' * 2}-{span_id:016x}-01" for span_id in spans} == set(carried)
    failed = next(span for span in spans.values() if not span.status.is_ok)
    assert failed.name == "invoke_agent traced"
    assert failed.parent is not None
    assert failed.parent.span_id == 0x0123456789ABCDEF
    assert dict(failed.attributes or {})["error.type"] == "ValueError"


# Before a task begins -----------------------------------------------------------------------------


async def test_after_an_absence_nothing_begins_before_the_broker_has_confirmed_the_share(mesh: AgentMesh) -> None:
    now_s = 0.0
    begun: list[int] = []

    @agent("sleeper", concurrency=2)
    async def sleeper(value: int) -> int:
        begun.append(value)
        return value

    pulse = Pulse(10.0, lambda: now_s)
    async with mesh.running(sleeper) as runtime:
        await mesh.send("sleeper", 1)
        await mesh.wait_results(1)
        runtime._pulse = pulse
        runtime._workers._is_in_doubt = pulse.is_in_doubt
        asked = asyncio.Event()
        subscription = runtime._assignment.subscription
        assert subscription is not None
        confirm = subscription.confirm

        async def confirmed() -> Any:
            assert begun == [1]
            asked.set()
            await asyncio.sleep(0.05)
            assert begun == [1], "nothing begins while the answer is on its way"
            return await confirm()

        subscription.confirm = confirmed  # type: ignore[method-assign] # to see when it is asked
        now_s = 100.0
        await mesh.send("sleeper", 2, 3, first=1)
        await mesh.wait_results(3)
        assert asked.is_set()


async def test_after_an_absence_nothing_begins_that_another_replica_has_by_now(mesh: AgentMesh) -> None:
    begun: list[int] = []

    @agent("sleeper")
    async def sleeper(value: int) -> int:
        begun.append(value)
        return value

    async with mesh.running(sleeper) as runtime:
        await mesh.send("sleeper", 1)
        await mesh.wait_results(1)
        assignment, in_doubt = runtime._assignment, [True]
        assert assignment.subscription is not None
        let_go = asyncio.Event()

        async def confirmed() -> frozenset[TopicPartition]:
            in_doubt.clear()
            let_go.set()
            return frozenset()

        assignment.subscription.confirm = confirmed  # type: ignore[method-assign] # all of it is another's
        runtime._workers._is_in_doubt = lambda: bool(in_doubt)
        runtime._workers._confirm = assignment.confirm
        await mesh.send("sleeper", 2, 3, first=1)
        await let_go.wait()
        while assignment.held:  # noqa: ASYNC110 - no event tells of what is dropped
            await asyncio.sleep(0.001)
    assert begun == [1]


def test_a_pulse_is_in_doubt_after_an_absence_until_it_is_trusted() -> None:
    now_s = 0.0
    pulse = Pulse(10.0, lambda: now_s)
    now_s = 2.5
    assert not pulse.is_in_doubt()
    now_s = 2.6
    assert pulse.is_in_doubt(), "asked before the next beat"
    pulse.beat()
    assert pulse.is_in_doubt(), "asked after it"
    asked_after = pulse.absences
    now_s = 9.0
    pulse.trust(asked_after)
    assert pulse.is_in_doubt(), "we were away again before the answer came"
    pulse.trust(pulse.absences)
    assert not pulse.is_in_doubt()


async def test_a_withdrawn_task_is_not_begun_and_one_that_runs_is_cut_short(mesh: AgentMesh) -> None:
    mesh.cluster.create_topics([TopicSpec(TOPICS.withdrawals, 1)])
    begun, cut = [], []

    @agent("wanted", concurrency=2)
    async def wanted(value: int) -> int:
        begun.append(value)
        if value == 3:
            try:
                await asyncio.Event().wait()
            finally:
                cut.append(value)
        return value

    async def withdraw(*numbers: int) -> None:
        effects = [
            WithdrawTask(workflow_id=f"test:{n}", task_id=f"test:{n}/00000001/step", attempt=1, agent="wanted", at_ms=0)
            for n in numbers
        ]
        sender = mesh.cluster.connect("router")
        assert not await sender.send([encode_withdrawal(effect, topics=TOPICS) for effect in effects])

    mesh.create_tasks_topic("wanted")
    await mesh.send("wanted", 0, 1, 2)
    await withdraw(0, 2)
    async with mesh.running(wanted) as runtime:
        await mesh.wait_results(1)
        await mesh.wait_committed("wanted", 3)
        assert begun == [1]
        await mesh.send("wanted", 3, first=3)
        await wait_until(lambda: 3 in begun)
        await withdraw(3)
        await wait_until(lambda: cut == [3])
        await mesh.wait_committed("wanted", 4)
        assert runtime.counts.withdrawn == 3
    assert len(mesh.results()) == 1


async def test_a_strong_suspect_runs_alone() -> None:
    solitude, order = Solitude(), []
    solitude.running = 1
    lone = asyncio.ensure_future(solitude.wait_alone(lambda: False))
    await asyncio.sleep(0)
    other = asyncio.ensure_future(solitude.wait_open())
    await asyncio.sleep(0)
    assert not lone.done()
    assert not other.done(), "nothing begins beside it"
    solitude.running = 0
    solitude.changed()
    assert await lone
    order.append("lone")
    await asyncio.sleep(0)
    assert not other.done()
    solitude.leave()
    await other
    assert order == ["lone"]


async def test_whoever_seeks_to_be_alone_gives_up_where_its_task_is_not_wanted() -> None:
    solitude = Solitude()
    solitude.running = 1
    assert not await solitude.wait_alone(lambda: True)
    assert not solitude.is_sought


@pytest.mark.parametrize("value", [nan, inf, -inf])
async def test_a_number_that_json_does_not_have_is_an_invalid_output(mesh: AgentMesh, value: float) -> None:
    @agent("numbers")
    async def numbers(_: int) -> dict[str, Any]:
        return {"scores": [1.0, None, value]}

    async with mesh.running(numbers):
        await mesh.send("numbers", 1)
        result = await mesh.wait_result()
    assert result.error is not None
    assert (result.error.kind, result.error.retryable) == ("output_invalid", False)
    assert "scores[2]" in result.error.message


async def test_an_agent_says_when_to_try_again(mesh: AgentMesh) -> None:
    @agent("busy")
    async def busy(_: int) -> int:
        raise Retry("too many requests", after_s=30, kind="rate_limited")

    async with mesh.running(busy):
        await mesh.send("busy", 1)
        result = await mesh.wait_result()
    assert result.error == TaskError(
        kind="rate_limited", message="too many requests", retryable=True, retry_after_s=30.0
    )
