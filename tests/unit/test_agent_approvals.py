"""Agents that ask for an approval in the middle of their work: handler, record and fake."""

import asyncio
import json
from math import nan
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from agent_mesh import TOPICS, AgentMesh
from pydantic import BaseModel

from mesh import ApprovalNeeded, Context, NonRetryable, Verdict, agent
from mesh.codec.tasks import decode_result, decode_task, encode_task
from mesh.core.effects import SendTask
from mesh.core.json_values import digest
from mesh.core.tool_approvals import ToolVerdict, Wanted
from mesh.errors import MalformedRecord
from mesh.ports import Record
from mesh.testing.context import FakeContext

SCHEMAS = Path(__file__).parents[2] / "topics" / "schemas"


class Order(BaseModel):
    eur: int


@pytest.fixture
def mesh() -> AgentMesh:
    return AgentMesh()


def decided(asked: Any, **more: Any) -> ToolVerdict:
    about: dict[str, Any] = {"name": "pay", "verdict": "approved", "choice": "approve", "by": "ana", **more}
    return ToolVerdict(digest=digest(asked), approval_id="r:k/00000000/buy.tool-pay", **about)


@agent("buyer")
async def buyer(order: Order, ctx: Context) -> dict[str, Any]:
    ctx.used(tokens=3)
    verdict = await ctx.approve("pay", ask="Pay it?", payload=order)
    return {"approved": verdict.approved, "payload": verdict.payload, "edited": verdict.edited, "by": verdict.by}


async def test_without_a_verdict_the_attempt_ends_with_the_question(mesh: AgentMesh) -> None:
    async with mesh.running(buyer):
        await mesh.send("buyer", {"eur": 5})
        result = await mesh.wait_result()
        await mesh.wait_committed("buyer", 1)
    assert (result.status, result.output, result.error) == ("approval_wanted", None, None)
    assert result.approval == Wanted(name="pay", question="Pay it?", payload={"eur": 5})
    assert result.usage == {"tokens": 3}


@pytest.mark.parametrize(
    ("verdict", "output"),
    [
        (decided({"eur": 5}), {"approved": True, "payload": {"eur": 5}, "edited": False, "by": "ana"}),
        (decided({"eur": 5}, payload=None), {"approved": True, "payload": None, "edited": True, "by": "ana"}),
        (
            decided({"eur": 5}, verdict="rejected", by="", expired=True),
            {"approved": False, "payload": {"eur": 5}, "edited": False, "by": ""},
        ),
    ],
)
async def test_with_its_verdict_the_call_returns_at_once(
    mesh: AgentMesh, verdict: ToolVerdict, output: dict[str, Any]
) -> None:
    async with mesh.running(buyer):
        await mesh.send("buyer", {"eur": 5}, approvals=(verdict,))
        result = await mesh.wait_result()
    assert (result.status, result.output) == ("succeeded", output)


async def test_a_verdict_on_another_payload_does_not_count(mesh: AgentMesh) -> None:
    async with mesh.running(buyer):
        await mesh.send("buyer", {"eur": 500}, approvals=(decided({"eur": 5}),))
        result = await mesh.wait_result()
    assert result.status == "approval_wanted"


async def test_a_router_that_does_not_know_the_word_is_not_asked(mesh: AgentMesh) -> None:
    async with mesh.running(buyer):
        await mesh.send("buyer", {"eur": 5}, is_old=True)
        result = await mesh.wait_result()
    assert result.error is not None
    assert (result.error.kind, result.error.retryable) == ("router_too_old", False)
    assert "upgrade all routers" in result.error.message


@agent("plain")
def plain(value: int, ctx: Context) -> str:
    return "yes" if ctx.approve_blocking("pay", ask="Pay?", payload=value).approved else "no"


@agent("swallows")
async def swallows(value: int, ctx: Context) -> str:
    try:
        await ctx.approve("pay", ask="Pay?", payload=value)
    except BaseException:  # noqa: BLE001 - what must not happen to be taken for an approval
        return "done it anyway"
    return "yes"


@agent("careful")
async def careful(value: int, ctx: Context) -> str:
    try:
        await ctx.approve("pay", ask="Pay?", payload=value)
    except Exception:  # noqa: BLE001 - as a handler may do for its own calls
        return "failed"
    return "yes"


@agent("grouped")
async def grouped(value: int, ctx: Context) -> str:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.approve("pay", ask="Pay?", payload=value))
        group.create_task(asyncio.sleep(0))
    return "yes"


@agent("gathers")
async def gathers(value: int, ctx: Context) -> str:
    await asyncio.gather(ctx.approve("pay", ask="Pay?", payload=value), ctx.approve("ship", ask="Ship?", payload=value))
    return "yes"


@pytest.mark.parametrize("handler", [plain, swallows, careful, grouped, gathers], ids=lambda one: str(one.name))
async def test_however_the_handler_is_written_the_question_comes_out(mesh: AgentMesh, handler: Any) -> None:
    async with mesh.running(handler):
        await mesh.send(handler.name, 7)
        asked = await mesh.wait_result()
        await mesh.send(handler.name, 7, approvals=(decided(7), decided(7, name="ship")))
        _, result = await mesh.wait_results(2)
    assert asked.approval == Wanted(name="pay", question="Pay?", payload=7)
    assert (result.status, result.output) == ("succeeded", "yes")


@agent("wrong")
async def wrong(value: dict[str, Any], ctx: Context) -> str:
    payload = {"odd": object(), "nan": nan}.get(value["name"]) or value.get("payload", "") * value.get("times", 1)
    await ctx.approve(value["name"], ask="Pay?", payload=payload)
    return "yes"


@agent("raises")
async def raises(value: Any) -> str:
    raise ApprovalNeeded(Wanted(name="pay", question="Pay?", payload=value))


async def test_a_name_or_a_payload_that_no_question_can_have_fails_for_good(mesh: AgentMesh) -> None:
    async with mesh.running(wrong), mesh.running(raises):
        await mesh.send("wrong", {"name": "Not a name"}, {"name": "odd"}, {"name": "nan"})
        results = await mesh.wait_results(3)
        await mesh.send("raises", 1)
        *_, last = await mesh.wait_results(4)
    errors = [result.error for result in results if result.error is not None]
    assert [(error.kind, error.retryable) for error in errors] == [("approval_invalid", False)] * 3
    assert last.error is not None
    assert last.error.kind == "ApprovalNeeded"


async def test_a_question_that_is_larger_than_a_record_fails() -> None:
    mesh = AgentMesh(max_record_bytes=50_000)
    async with mesh.running(wrong):
        await mesh.send("wrong", {"name": "pay", "payload": "x" * 30_000, "times": 2})
        result = await mesh.wait_result()
    assert result.error is not None
    assert result.error.kind == "output_too_large"


async def test_a_handler_is_tested_with_the_verdict_that_the_test_gives() -> None:
    assert (await buyer(Order(eur=5), FakeContext(verdicts={"pay": True})))["approved"]
    assert not (await buyer(Order(eur=5), FakeContext(verdicts={"pay": False})))["approved"]
    edited = Verdict(approved=True, payload={"eur": 4}, edited=True, by="ana")
    assert (await buyer(Order(eur=5), FakeContext(verdicts={"pay": edited})))["payload"] == {"eur": 4}


async def test_a_test_sees_the_question() -> None:
    ctx = FakeContext()
    with pytest.raises(ApprovalNeeded) as raised:
        await buyer(Order(eur=5), ctx)
    assert ctx.wanted == [raised.value.wanted]
    assert raised.value.wanted.payload == {"eur": 5}


async def test_a_handler_that_is_called_without_a_mesh_says_that_nobody_can_be_asked() -> None:
    with pytest.raises(NonRetryable, match="FakeContext"):
        await buyer(Order(eur=5))


# The records --------------------------------------------------------------------------------------

RESULT = {"task_id": "r:k/00000000/buy", "attempt": 1, "workflow_id": "r:k", "status": "approval_wanted"}
WANTED: dict[str, Any] = {"name": "pay", "question": "Pay?", "payload": {"eur": 5}}


def record(value: dict[str, Any]) -> Record:
    return Record("mesh.results", 0, 7, 0, b"r:k", json.dumps(value).encode(), ())


def fits(schema: str, value: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(json.loads((SCHEMAS / schema).read_text())).is_valid(value))


def test_a_question_that_another_client_sends_is_read_and_fits_the_schema() -> None:
    assert fits("result.json", {**RESULT, "approval": WANTED})
    assert decode_result(record({**RESULT, "approval": WANTED})).approval == Wanted(**WANTED)
    assert decode_result(record({**RESULT, "approval": {"name": "pay", "question": "?"}})).approval is not None


@pytest.mark.parametrize(
    "value",
    [RESULT, {**RESULT, "status": "succeeded", "approval": WANTED}, {**RESULT, "approval": {"name": "pay"}}],
)
def test_a_result_that_is_half_a_question_is_none(value: dict[str, Any]) -> None:
    with pytest.raises(MalformedRecord, match="is not a result"):
        decode_result(record(value))


def test_a_number_that_would_change_is_refused_in_a_payload_too() -> None:
    large = b'{"task_id":"r:k/0/b","attempt":1,"workflow_id":"r:k","status":"approval_wanted","approval":'
    value = large + b'{"name":"pay","question":"?","payload":123456789012345678901234567890}}'
    with pytest.raises(MalformedRecord):
        decode_result(Record("mesh.results", 0, 7, 0, b"r:k", value, ()))


@pytest.mark.parametrize("verdict", [decided(1), decided(1, payload=None), decided(1, expired=True, by="")])
def test_a_task_with_verdicts_fits_its_schema_and_is_read_back(verdict: ToolVerdict) -> None:
    about: dict[str, Any] = {"workflow_id": "r:k", "run_id": "00000000", "route": "r", "step": "buy", "agent": "buyer"}
    sent: dict[str, Any] = {
        "task_id": "r:k/00000000/buy",
        "attempt": 2,
        "input": 1,
        "at_ms": 1,
        "due_at_ms": 2,
        "traceparent": "t",
    }
    made = encode_task(SendTask(**about, **sent, approvals=(verdict,)), topics=TOPICS, reply_partition=0)
    assert fits("task.json", json.loads(made.value or b""))
    task = decode_task(Record(made.topic, 0, 7, 0, made.key, made.value, made.headers))
    assert task.approvals == (verdict,)
    assert "approval_wanted" in task.accepts
