"""What operators order over the API, and that a repeat under the same key does nothing twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from console_pages import OPERATOR_NAME, URL, Mesh, approval_id, small_mesh, until
from one_partition import route
from openapi_answers import Answers
from sample_mesh import TOPICS, approved, workflow

from mesh.codec.commands import decode_command
from mesh.codec.definitions import encode_definition
from mesh.codec.operations import Progress, encode_operation
from mesh.console.api.document import document
from mesh.console.api.table import ENDPOINTS
from mesh.core import events as ev
from mesh.core.inputs import CommandGiven
from mesh.inspection.read_model import queries
from mesh.ports import Record, TopicPartition

ANA = "ana@example.org"
CONFORM = Answers(document(ENDPOINTS))
WRITES = [one for one in ENDPOINTS if one.writes]


class Operator:
    """A program with a token, which checks that each answer conforms to the document."""

    def __init__(self, mesh: Mesh, name: str = OPERATOR_NAME) -> None:
        secret, _ = mesh.console.desk.tokens.make(name, days=1)
        transport = httpx.ASGITransport(mesh.console.app)
        headers = {"authorization": f"Bearer {secret}"}
        self._client = httpx.AsyncClient(transport=transport, base_url=URL, headers=headers)

    async def post(self, path: str, answers: int = 200, /, *, key: str | None = None, **body: Any) -> Any:
        headers = {} if key is None else {"idempotency-key": key}
        found = await self._client.post(f"/api/v1/{path}", json=body, headers=headers)
        assert found.status_code == answers, found.text
        return CONFORM.check("POST", f"/api/v1/{path}", found)

    async def get(self, path: str, **given: str) -> Any:
        found = await self._client.get(f"/api/v1/{path}", params=given)
        assert found.status_code == 200, found.text
        return CONFORM.check("GET", f"/api/v1/{path}", found)


ROUTE = route(
    {
        "classify": {"agent": "classifier", "input": "${{ event.data }}"},
        "draft": {"needs": "classify", "agent": "drafter", "input": "${{ steps.classify }}"},
    },
    route="issue-triage",
)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the console waits for is waited for, however busy the machine is."""
    monkeypatch.setattr("mesh.console.desk.SHOWN_S", 60.0)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with small_mesh(tmp_path, receipt_s=30.0) as found:
        await found.broker.send([encode_definition(ROUTE, TOPICS)])
        yield found


async def records(mesh: Mesh, topic: str) -> list[Record]:
    reader = await mesh.broker.reader()
    try:
        reader.assign({TopicPartition(topic, 0): 0})
        return [one for one in await reader.poll(max_records=100, timeout_s=0.2) if isinstance(one, Record)]
    finally:
        await reader.close()


class Owner:
    """Obeys commands as the workflows' owner would: one of each operation."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh, self._known = mesh, set[str]()
        self.obeyed = list[CommandGiven]()

    async def run(self) -> None:
        reader = await self._mesh.broker.reader()
        try:
            reader.assign({TopicPartition(TOPICS.commands, 0): 0})
            while True:
                for record in await reader.poll(max_records=10, timeout_s=0.05):
                    await self._decide(decode_command(record))
        finally:
            await reader.close()

    async def _decide(self, given: CommandGiven) -> None:
        # each workflow knows the operations of its own
        is_repeated = given.operation != "" and given.command_id in self._known
        self._known.add(given.command_id)
        common: dict[str, Any] = {"command_id": given.command_id, "command": given.command, "by": given.by}
        event: ev.Event = ev.CommandAccepted(**common, operation=given.operation, reason=given.reason)
        if is_repeated:
            event = ev.CommandRefused(**common, code="repeated", message="was decided on here before")
        await self._mesh.writer.obey(given, event)
        if not is_repeated:
            self.obeyed.append(given)


@pytest.fixture
async def owner(mesh: Mesh) -> AsyncIterator[Owner]:
    found = Owner(mesh)
    running = asyncio.create_task(found.run())
    yield found
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


RETRY = {"command": "retry", "workflow_id": workflow(3), "step": "classify", "reason": "the disk is larger"}


# One workflow -------------------------------------------------------------------------------------


async def test_a_command_is_sent_in_the_name_of_the_token_and_its_decision_is_the_answer(
    mesh: Mesh, owner: Owner
) -> None:
    olga = Operator(mesh)
    found = await olga.post("commands", **RETRY)
    assert (found["accepted"], found["code"], found["by"]) == (True, "accepted", OPERATOR_NAME)
    await olga.post("commands", command="complete", workflow_id=workflow(3), step="classify", output=1, reason="r")
    await olga.post("commands", command="pause", workflow_id=workflow(1), reason="r")
    said = [(one.command, one.step, one.by, one.reason) for one in owner.obeyed]
    assert said == [
        ("retry", "classify", OPERATOR_NAME, "the disk is larger"),
        ("complete", "classify", OPERATOR_NAME, "r"),
        ("pause", None, OPERATOR_NAME, "r"),
    ]


async def test_a_repeat_under_a_key_has_the_same_answer_and_sends_nothing(mesh: Mesh, owner: Owner) -> None:
    olga = Operator(mesh)
    first = await olga.post("commands", key="k1", **RETRY)
    assert await olga.post("commands", key="k1", **RETRY) == first
    assert len(await records(mesh, TOPICS.commands)) == 1
    await olga.post("commands", key="k2", **RETRY)
    assert len(owner.obeyed) == 2
    for other in ({"workflow_id": workflow(1)}, {"command": "skip"}):
        said = await olga.post("commands", 422, key="k1", **RETRY | other)
        assert "was used for another request" in said["detail"]


async def test_two_requests_at_once_under_a_key_are_obeyed_once(mesh: Mesh, owner: Owner) -> None:
    olga = Operator(mesh)
    found = await asyncio.gather(*(olga.post("commands", key="k", **RETRY) for _ in range(4)))
    assert all(one == found[0] for one in found)
    assert len(owner.obeyed) == 1


async def test_the_keys_of_two_people_are_two_keys(mesh: Mesh, tmp_path: Path, owner: Owner) -> None:
    (tmp_path / "approvers.yaml").write_text("mesh.operator: [ana@example.org]\n")
    await mesh.settle()
    olga, ana = Operator(mesh), Operator(mesh, ANA)
    first = await olga.post("commands", key="k", **RETRY)
    await until_operator(ana)
    second = await ana.post("commands", key="k", **RETRY)
    assert first["command_id"] != second["command_id"]
    assert [one.by for one in owner.obeyed] == [OPERATOR_NAME, ANA]


async def until_operator(who: Operator) -> None:
    async with asyncio.timeout(30):
        while not (await who.get("me"))["sees_all"]:  # noqa: ASYNC110 - nothing tells when the file is read
            await asyncio.sleep(0.01)


async def test_a_command_that_nobody_has_decided_on_is_202_and_its_repeat_has_the_decision(tmp_path: Path) -> None:
    async with small_mesh(tmp_path, receipt_s=0.05) as mesh:
        olga = Operator(mesh)
        assert "not decided yet" in (await olga.post("commands", 202, key="k", **RETRY))["message"]
        owner = Owner(mesh)
        running = asyncio.create_task(owner.run())
        await until(lambda: bool(owner.obeyed))
        name = owner.obeyed[0].command_id
        assert await mesh.console.desk.wait_shown(lambda db: queries.command(db, name))
        assert (await olga.post("commands", key="k", **RETRY))["accepted"]
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        assert len(owner.obeyed) == 1


BAD = [
    ({"workflow_id": "no-id"}, 422, "is not a workflow's id"),
    ({"workflow_id": "nobody:1"}, 404, "There is no workflow nobody:1"),
    ({"command": "cancel", "reason": " "}, 422, "cancel needs a `reason`"),
    ({"command": "cancel"}, 422, "leave out `step`"),
    ({"command": "complete"}, 422, "`output` goes with complete"),
    ({"output": 1}, 422, "`output` goes with complete"),
    ({"command": "skip", "input": 1}, 422, "`input` goes with retry"),
    ({"command": "migrate", "to": "sha256:1"}, 422, "whole digest"),
    ({"reason": "x" * 2_001}, 422, "2,000 are possible"),
    ({"command": "fork"}, 400, "fork"),
    ({"workflowid": "x"}, 400, "workflowid"),
]


@pytest.mark.parametrize(("change", "status", "said"), BAD)
async def test_a_command_that_can_not_be_meant_is_refused_before_it_is_sent(
    mesh: Mesh, change: dict[str, Any], status: int, said: str
) -> None:
    assert said in (await Operator(mesh).post("commands", status, **RETRY | change))["detail"]
    assert await records(mesh, TOPICS.commands) == []


async def test_who_is_no_operator_orders_nothing(mesh: Mesh) -> None:
    ana = Operator(mesh, ANA)
    letters = {"ids": ["0/0"], "reason": "r"}
    for path, body in (
        ("commands", RETRY),
        ("operations/preview", {"command": "retry", "route": "issue-triage"}),
        ("operations", {"preview": "x", "reason": "r"}),
        ("operations/stop", {"operation": "x"}),
        ("dead-letters/redrive", letters),
        ("dead-letters/discard", letters),
    ):
        assert "mesh.operator" in (await ana.post(path, 403, **body))["detail"]


@pytest.mark.parametrize("key", ["", "k" * 256, "caf\xe9"])
async def test_a_key_that_is_none_is_refused(mesh: Mesh, key: str) -> None:
    secret, _ = mesh.console.desk.tokens.make(OPERATOR_NAME, days=1)
    headers = [(b"authorization", f"Bearer {secret}".encode()), (b"idempotency-key", key.encode("latin-1"))]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(mesh.console.app), base_url=URL) as client:
        found = await client.post("/api/v1/commands", json=RETRY, headers=headers)
    assert (found.status_code, "Idempotency-Key" in found.text) == (400, True)


def test_every_request_that_sends_something_takes_a_key() -> None:
    assert {one.name for one in ENDPOINTS if one.takes is not None and not one.writes} == {"previewOperation"}
    whole = document(ENDPOINTS)
    for one in WRITES:
        names = [given["name"] for given in whole["paths"][one.path]["post"]["parameters"]]
        assert "Idempotency-Key" in names


# Answers ------------------------------------------------------------------------------------------


async def test_an_answer_under_a_key_counts_once_and_its_repeat_has_the_same_receipt(mesh: Mesh) -> None:
    ana, body = Operator(mesh, ANA), {"approval_id": approval_id(), "decision": "approve", "reason": "fine"}
    deciding = asyncio.create_task(mesh.play_owner(lambda answer_id: (approved(1, answer_id),)))
    first = await ana.post("answers", key="k", **body)
    await deciding
    await mesh.settle()
    assert await ana.post("answers", key="k", **body) == first
    assert len(await records(mesh, TOPICS.responses)) == 1
    # without the key it is another answer, and too late
    assert (await ana.post("answers", 409, **body))["kind"] == "closed"
    assert (await ana.post("answers", 422, key="k", **body | {"approval_id": "a:b/c/d"}))["detail"]


async def test_an_answer_that_was_refused_is_refused_again_with_the_same_receipt(mesh: Mesh) -> None:
    ana, body = Operator(mesh, ANA), {"approval_id": approval_id(), "decision": "approve"}
    deciding = asyncio.create_task(mesh.play_owner(refused))
    first = await ana.post("answers", 409, key="k", **body)
    await deciding
    await mesh.settle()
    assert await ana.post("answers", 409, key="k", **body) == first
    assert len(await records(mesh, TOPICS.responses)) == 1


def refused(answer_id: str) -> tuple[ev.Event, ...]:
    return (
        ev.AnswerRefused(
            answer_id=answer_id, approval_id=approval_id(), code="role", message="you lack the role", by=ANA
        ),
    )


# Many ---------------------------------------------------------------------------------------------


async def test_many_are_previewed_ordered_once_followed_and_stopped(mesh: Mesh) -> None:
    olga = Operator(mesh)
    preview = await olga.post("operations/preview", command="retry", status="incident")
    assert (preview["total"], preview["workflows"]) == (1, [workflow(3)])
    assert preview["kinds"] == [{"route": "issue-triage", "step": "classify", "workflows": 1}]
    assert await records(mesh, TOPICS.operations) == []

    body = {"preview": preview["id"], "reason": "the disk is larger", "rate": 5}
    first = await olga.post("operations", key="k", **body)
    assert (first["total"], first["status"], first["by"], first["filter"]) == (
        1,
        "running",
        OPERATOR_NAME,
        "--status incident",
    )
    assert await olga.post("operations", key="k", **body) == first
    # a console that has started since knows no preview, and the topic has the operation
    mesh.console.desk.previews = type(mesh.console.desk.previews)()
    assert await olga.post("operations", key="k", **body) == first
    assert (await olga.post("operations", 422, key="k", **body | {"reason": "other"}))["detail"]
    assert len(await records(mesh, TOPICS.operations)) == 2

    [listed] = (await olga.get("operations"))["items"]
    assert listed == first
    [result] = (await olga.get("operation/results", id=first["id"]))["items"]
    assert (result["workflow_id"], result["result"]) == (workflow(3), "waiting")
    stopped = await olga.post("operations/stop", key="s", operation=first["id"], reason="wrong ones")
    assert (stopped["status"], stopped["stopped"]["reason"]) == ("stopped", "wrong ones")
    assert await olga.post("operations/stop", key="s", operation=first["id"], reason="wrong ones") == stopped


async def test_an_operation_is_followed_until_it_is_done(mesh: Mesh) -> None:
    olga = Operator(mesh)
    preview = await olga.post("operations/preview", command="retry", route="issue-triage")
    one = await olga.post("operations", preview=preview["id"], reason="r")
    assert (await olga.post("operations", 409, preview=preview["id"], reason="r"))["detail"]
    await mesh.broker.send([encode_operation(Progress(operation=one["id"], sent=1), topics=TOPICS)])
    command = ev.CommandAccepted(command_id=f"{one['id']}/{workflow(3)}", command="retry", by=OPERATOR_NAME)
    cause = ev.Cause(kind="command", id="c", source_topic=TOPICS.commands, source_partition=0, source_offset=900)
    await mesh.writer.decide(workflow(3), cause, command)
    await mesh.settle()
    await mesh.console.desk.projector.read_operations()
    done = await olga.get("operation", id=one["id"])
    assert (done["status"], done["sent"], done["counts"]["done"]) == ("finished", 1, 1)


async def test_what_an_order_of_many_lacks_is_said(mesh: Mesh) -> None:
    olga = Operator(mesh)
    assert "say which workflows" in (await olga.post("operations/preview", 422, command="retry"))["detail"]
    assert (await olga.post("operations/preview", 404, command="retry", route="none"))["detail"]
    assert (await olga.post("operations/preview", 400, command="retry", where="1 +"))["detail"]
    assert (await olga.post("operations/preview", 400, command="retry", older_than="soon"))["detail"]
    preview = (await olga.post("operations/preview", command="complete", status="incident"))["id"]
    for change, status in (
        ({"reason": " "}, 422),
        ({"rate": 0}, 422),
        ({}, 422),
        ({"output": 1}, 422),
        ({"preview": "x"}, 404),
    ):
        body = {"preview": preview, "reason": "r", **change}
        assert (await olga.post("operations", status, **body))["detail"]
    assert await records(mesh, TOPICS.operations) == []


# Dead letters -------------------------------------------------------------------------------------


async def test_letters_are_sent_again_once_under_a_key(mesh: Mesh) -> None:
    olga = Operator(mesh)
    letters = (await olga.get("dead-letters"))["items"]
    ids = [one["id"] for one in letters]
    plan = await olga.post("dead-letters/redrive", ids=ids, dry_run=True)
    assert (plan["operation"], len(plan["dead_letters"])) == (None, len(ids))
    events = await records(mesh, TOPICS.events)
    first = await olga.post("dead-letters/redrive", key="k", ids=ids, reason="r")
    assert first["counts"] == plan["counts"]
    assert first["counts"]["redriven"] > 0
    await mesh.settle()
    assert await olga.post("dead-letters/redrive", key="k", ids=ids, reason="r") == first
    again = await records(mesh, TOPICS.events)
    assert len(again) - len(events) == sum(one["to"] == TOPICS.events for one in first["dead_letters"])


async def test_letters_are_discarded_with_a_reason(mesh: Mesh) -> None:
    olga = Operator(mesh)
    name = (await olga.get("dead-letters"))["items"][0]["id"]
    assert (await olga.post("dead-letters/discard", 422, ids=[name]))["detail"]
    assert (await olga.post("dead-letters/discard", 422, ids=[], reason="r"))["detail"]
    assert "0/99" in (await olga.post("dead-letters/discard", 404, ids=[name, "0/99"], reason="r"))["detail"]
    first = await olga.post("dead-letters/discard", key="k", ids=[name], reason="old")
    assert first["counts"] == {"redriven": 0, "discarded": 1, "stays": 0}
    assert await olga.post("dead-letters/discard", key="k", ids=[name], reason="old") == first
    # another key is another operation, and finds it discarded
    assert (await olga.post("dead-letters/discard", key="l", ids=[name], reason="old"))["counts"]["stays"] == 1
    await mesh.settle()
    [one] = (await olga.get("dead-letters", state="discarded"))["items"]
    assert (one["id"], one["handled"]["by"], one["handled"]["reason"]) == (name, OPERATOR_NAME, "old")


# Forks --------------------------------------------------------------------------------------------


async def test_a_fork_is_planned_of_the_log_and_begun_once_under_a_key(mesh: Mesh, owner: Owner) -> None:
    olga, of = Operator(mesh), {"of": workflow(2), "step": "draft", "to": ROUTE.digest}
    plan = await olga.post("forks", **of, dry_run=True)
    assert (plan["dry_run"], plan["workflow_id"], plan["from"], plan["kept"]) == (True, None, "draft", ["classify"])
    assert await records(mesh, TOPICS.commands) == []
    first = await olga.post("forks", key="k", **of, reason="the price was wrong")
    assert (first["accepted"], first["of"]) == (True, workflow(2))
    assert first["workflow_id"].startswith(f"{workflow(2)}~")
    await mesh.settle()
    assert await olga.post("forks", key="k", **of, reason="the price was wrong") == first
    # to the new workflow alone: its owner tells the other one
    [new] = owner.obeyed
    assert (new.workflow_id, new.command, new.step, new.to) == (first["workflow_id"], "fork", "draft", ROUTE.digest)
    assert new.fork is not None
    assert (list(new.fork.steps), new.fork.of) == (["classify"], workflow(2))


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"of": "nobody:1"}, 404, "no run"),
        ({"step": "nothing"}, 400, "no step nothing"),
        ({"to": "sha256:1"}, 422, "whole digest"),
        ({"to": ""}, 404, "can't be read here"),
        ({"reason": ""}, 422, "reason"),
    ],
)
async def test_a_fork_that_can_not_be_is_refused(mesh: Mesh, change: dict[str, Any], status: int, said: str) -> None:
    body = {"of": workflow(2), "step": "draft", "to": ROUTE.digest, "reason": "r", **change}
    assert said in (await Operator(mesh).post("forks", status, **body))["detail"]
    assert await records(mesh, TOPICS.commands) == []
