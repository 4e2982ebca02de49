"""The signs of life that an agent's process gives: which, how often, and for whom."""

import asyncio
import threading
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from agent_mesh import SETTINGS, TOPICS, AgentMesh, wait_until
from structlog.testing import capture_logs

from mesh import Context, agent
from mesh.adapters.memory import MemoryBroker
from mesh.codec.tasks import decode_reply
from mesh.core.inputs import ResultReceived, SignReceived
from mesh.core.route import Periods
from mesh.errors import BrokerUnavailable
from mesh.ports import Delivery, OutRecord, SendFailure
from mesh.testing.context import FakeContext


@pytest.fixture
def mesh() -> AgentMesh:
    _gates.clear()
    return AgentMesh()


def replies(mesh: AgentMesh) -> list[SignReceived | ResultReceived]:
    return [decode_reply(record) for record in mesh.records(TOPICS.results)]


def signs(mesh: AgentMesh) -> Counter[str]:
    return Counter(reply.status for reply in replies(mesh) if isinstance(reply, SignReceived))


def results(mesh: AgentMesh) -> list[ResultReceived]:
    return [reply for reply in replies(mesh) if isinstance(reply, ResultReceived)]


async def wait_results(mesh: AgentMesh, count: int = 1) -> list[ResultReceived]:
    await wait_until(lambda: len(results(mesh)) >= count)
    return results(mesh)


@agent("patient")
async def patient(until: str, ctx: Context) -> str:
    """Works until it is let go."""
    await gate(until).wait()
    return until


_gates: dict[str, asyncio.Event] = {}


def gate(name: str) -> asyncio.Event:
    return _gates.setdefault(name, asyncio.Event())


async def test_a_task_that_asks_for_no_signs_gets_none(mesh: AgentMesh) -> None:
    async with mesh.running(patient):
        await mesh.send("patient", "quiet")
        await mesh.send("patient", "heard", first=1, periods=Periods(heartbeat_s=0.05))
        await wait_until(lambda: signs(mesh)["heartbeat"] >= 3)
        assert {reply.workflow_id for reply in replies(mesh)} == {"test:1"}
        gate("quiet").set()
        gate("heard").set()
        await wait_results(mesh, 2)


async def test_a_sign_says_whose_it_is_and_how_long_it_has_run(mesh: AgentMesh) -> None:
    async with mesh.running(patient):
        await mesh.send("patient", "named", periods=Periods(heartbeat_s=0.05))
        await wait_until(lambda: signs(mesh)["heartbeat"] >= 2)
        gate("named").set()
        await wait_results(mesh)
    first, second, third, *_ = (reply for reply in replies(mesh) if isinstance(reply, SignReceived))
    assert (first.status, second.status) == ("started", "heartbeat")
    assert (first.task_id, first.attempt, first.agent) == ("test:0/00000001/step", 1, "patient")
    assert (first.agent_version, first.agent_instance) == (patient.version, "one")
    assert 0 <= first.duration_ms < second.duration_ms < third.duration_ms
    assert second.duration_ms >= 1000 * 0.05 / 3


@pytest.mark.parametrize("periods", [Periods(start_timeout_s=30.0), Periods(run_timeout_s=30.0)])
async def test_the_begin_is_said_once_while_its_period_is_long(mesh: AgentMesh, periods: Periods) -> None:
    async with mesh.running(patient):
        await mesh.send("patient", "once", periods=periods)
        await mesh.send("patient", "beating", first=1, periods=Periods(heartbeat_s=0.03))
        await wait_until(lambda: signs(mesh)["heartbeat"] >= 5)
        assert [reply.status for reply in replies(mesh) if reply.workflow_id == "test:0"] == ["started"]
        gate("once").set()
        gate("beating").set()
        await wait_results(mesh, 2)


@pytest.mark.parametrize("periods", [Periods(start_timeout_s=3.0), Periods(run_timeout_s=20.0, start_timeout_s=3.0)])
async def test_the_begin_is_said_again_for_routers_that_have_not_heard_it(mesh: AgentMesh, periods: Periods) -> None:
    async with mesh.running(patient):
        await mesh.send("patient", "again", periods=periods)
        await wait_until(lambda: signs(mesh)["started"] >= 3)
        gate("again").set()
        await wait_results(mesh)
    assert signs(mesh)["heartbeat"] == 0


async def test_signs_end_with_the_handler(mesh: AgentMesh) -> None:
    async with mesh.running(patient):
        await mesh.send("patient", "ends", periods=Periods(heartbeat_s=0.03))
        await wait_until(lambda: signs(mesh)["heartbeat"] >= 1)
        gate("ends").set()
        await wait_results(mesh)
        await mesh.send("patient", "other", first=1, periods=Periods(heartbeat_s=0.03))
        await wait_until(lambda: signs(mesh)["heartbeat"] >= 10)
        gate("other").set()
        await wait_results(mesh, 2)
    after = [reply.workflow_id for reply in replies(mesh)]
    assert set(after[after.index("test:1") :]) == {"test:1"}


# The handler's own --------------------------------------------------------------------------------


async def test_from_its_first_heartbeat_on_a_handler_speaks_for_itself(mesh: AgentMesh) -> None:
    go, gone = asyncio.Event(), asyncio.Event()

    @agent("own")
    async def own(value: str, ctx: Context) -> None:
        if value == "own":
            ctx.heartbeat()
        await (go if value == "own" else gone).wait()
        if value == "own":
            ctx.heartbeat()
            await gone.wait()

    async with mesh.running(own):
        await mesh.send("own", "own", "runtime", periods=Periods(heartbeat_s=0.03))

        def beats(workflow: str) -> int:
            return sum(r.status == "heartbeat" for r in replies(mesh) if r.workflow_id == workflow)

        await wait_until(lambda: beats("test:0") == 1)
        there = beats("test:1")
        await wait_until(lambda: beats("test:1") >= there + 10)
        assert beats("test:0") == 1
        go.set()
        await wait_until(lambda: beats("test:0") == 2)
        gone.set()
        await wait_results(mesh, 2)


async def test_many_heartbeats_of_a_handler_make_no_more_signs_than_one_a_third_of_the_period(mesh: AgentMesh) -> None:
    @agent("eager")
    async def eager(value: str, ctx: Context) -> int:
        calls = 0
        while signs(mesh)["heartbeat"] < 4:
            ctx.heartbeat()
            calls += 1
            await asyncio.sleep(0)
        return calls

    async with mesh.running(eager):
        await mesh.send("eager", "", periods=Periods(heartbeat_s=0.15))
        (result,) = await wait_results(mesh)
    assert result.output > 20
    times = [r.duration_ms for r in replies(mesh) if r.status == "heartbeat"]
    assert all(later - sooner >= 49 for sooner, later in pairwise(times))


async def test_a_plain_function_beats_from_its_thread(mesh: AgentMesh) -> None:
    go = threading.Event()

    @agent("threaded")
    def threaded(value: str, ctx: Context) -> bool:
        ctx.heartbeat()
        return go.wait(30)

    async with mesh.running(threaded):
        await mesh.send("threaded", "", periods=Periods(heartbeat_s=0.03))
        await wait_until(lambda: signs(mesh)["heartbeat"] == 1)
        go.set()
        await wait_results(mesh)


async def test_a_heartbeat_that_nobody_asked_for_does_nothing(mesh: AgentMesh) -> None:
    @agent("needless")
    async def needless(value: str, ctx: Context) -> None:
        ctx.heartbeat()

    async with mesh.running(needless):
        await mesh.send("needless", "")
        await wait_results(mesh)
    assert signs(mesh) == {}
    Context.local("anything").heartbeat()


def test_the_fake_context_counts_heartbeats() -> None:
    heard: list[int] = []
    ctx = FakeContext(on_heartbeat=lambda: heard.append(1))
    ctx.heartbeat()
    ctx.heartbeat()
    assert (ctx.heartbeats, len(heard)) == (2, 2)


# Times --------------------------------------------------------------------------------------------


async def test_a_handler_is_cut_off_where_its_run_time_is_over(mesh: AgentMesh) -> None:
    seen: list[float] = []

    @agent("endless")
    async def endless(value: str, ctx: Context) -> None:
        seen.append(ctx.remaining_s)
        await asyncio.Event().wait()

    async with mesh.running(endless):
        await mesh.send("endless", "", periods=Periods(run_timeout_s=0.1))
        (result,) = await wait_results(mesh)
    assert result.error is not None
    assert (result.error.kind, result.error.retryable) == ("run_timeout", True)
    assert seen[0] <= 0.1


async def test_the_deadline_stays_where_the_run_may_be_longer(mesh: AgentMesh) -> None:
    @agent("hurried")
    async def hurried(value: str) -> None:
        await asyncio.Event().wait()

    async with mesh.running(hurried):
        await mesh.send("hurried", "", timeout_s=0.2, periods=Periods(run_timeout_s=50.0))
        (result,) = await wait_results(mesh)
    assert result.error is not None
    assert result.error.kind == "timeout"


async def test_a_task_that_nobody_began_in_time_is_not_begun(mesh: AgentMesh) -> None:
    mesh.create_tasks_topic("patient")
    await mesh.send("patient", "stale", periods=Periods(start_timeout_s=0.001))
    await asyncio.sleep(0.005)
    async with mesh.running(patient) as runtime:
        await mesh.wait_committed("patient", 1)
    assert runtime.counts.expired == 1
    assert replies(mesh) == []


# Trouble ------------------------------------------------------------------------------------------


class Deaf(MemoryBroker):
    """Takes no signs at first: it is down `down` times, then refuses `refused` batches."""

    down = 0
    refused = 0

    async def send(self, records: Any) -> Any:
        if any(_is_sign(record) for record in records):
            if self.down:
                self.down -= 1
                raise BrokerUnavailable("not now")
            if self.refused:
                self.refused -= 1
                return [SendFailure(0, Delivery.TOPIC_MISSING, "no such topic")]
        return await super().send(records)


def _is_sign(record: OutRecord) -> bool:
    return dict(record.headers).get("ce_type") == b"mesh.sign"


async def test_signs_that_could_not_be_sent_are_made_up_for_by_the_next(mesh: AgentMesh) -> None:
    broker = Deaf(mesh.cluster, "deaf")
    broker.down, broker.refused = 2, 1
    with capture_logs() as logs:
        async with mesh.running(patient, broker=broker, settings=SETTINGS):
            await mesh.send("patient", "deaf", periods=Periods(heartbeat_s=0.05))
            await wait_until(lambda: signs(mesh)["heartbeat"] >= 1)
            gate("deaf").set()
            await wait_results(mesh)
    said = Counter(line["event"] for line in logs)
    assert (said["signs_not_sent"], said["sign_refused"]) == (2, 1)
