"""The console's API: what it answers to whom, held against its own OpenAPI document."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
import pytest
from console_pages import OPERATOR_NAME, OWN, URL, Mesh, approval_id, small_mesh, until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_answers import Answers
from sample_mesh import approved, event_cause, started, workflow

from mesh.codec.operations import Ordered
from mesh.console.api.answers import JSON, PROBLEM
from mesh.console.api.document import document
from mesh.console.api.endpoint import Endpoint
from mesh.console.api.table import DOCUMENT, ENDPOINTS
from mesh.console.guard import HEADERS
from mesh.console.sessions import COOKIE
from mesh.console.tokens import Tokens
from mesh.core import events as ev

T = TypeVar("T")
ANA = "ana@example.org"
KIM = "kim@example.org"
WHOLE = document(ENDPOINTS)
CONFORM = Answers(WHOLE)
"""Some request of each endpoint that is answered with 200."""
KNOWN: dict[str, dict[str, str]] = {
    "/api/v1/approval": {"id": approval_id()},
    "/api/v1/workflow": {"id": workflow(1), "payloads": "1"},
    "/api/v1/dead-letter": {"id": "0/0"},
    "/api/v1/operation": {"id": "op-known"},
    "/api/v1/operation/results": {"id": "op-known"},
}


class Program:
    """A program that shows a person's token; None: no token."""

    def __init__(self, mesh: Mesh, name: str | None) -> None:
        self.mesh = mesh
        headers = {}
        if name is not None:
            secret, self.token = mesh.console.desk.tokens.make(name, days=1)
            headers = {"authorization": f"Bearer {secret}"}
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(mesh.console.app), base_url=URL, headers=headers)

    async def get(self, path: str, *, status: int = 200, **given: str) -> Any:
        """The value of an answer, which conforms to the document."""
        found = await self.client.get(path, params=given)
        assert found.status_code == status, (path, found.text)
        return CONFORM.check("GET", path, found)

    async def answer(self, *, status: int = 200, **body: Any) -> Any:
        found = await self.client.post("/api/v1/answers", json={"approval_id": approval_id(), **body})
        assert found.status_code == status, found.text
        return CONFORM.check("POST", "/api/v1/answers", found)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with small_mesh(tmp_path, receipt_s=0.05) as found:
        await until(lambda: found.console.desk.projector.status is not None)
        await order(found)
        yield found


async def order(mesh: Mesh) -> None:
    """Order something of a workflow, as the operation that requests ask for."""
    ordered = Ordered(
        operation="op-known", command="retry", total=1, chunks=0, rate=1, by=OPERATOR_NAME, reason="why", at_ms=1
    )
    await mesh.console.desk.order(ordered, [workflow(3)])
    assert await mesh.console.desk.find_operation("op-known") is not None


# The document -------------------------------------------------------------------------------------


def test_the_document_is_openapi_with_schemas_that_hold() -> None:
    assert WHOLE["openapi"] == "3.1.0"
    for schema in WHOLE["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for path in WHOLE["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names)) == len(ENDPOINTS)


async def test_the_document_is_served_to_everybody(mesh: Mesh) -> None:
    found = await Program(mesh, None).client.get(DOCUMENT)
    assert found.json() == WHOLE


async def test_every_endpoint_answers_as_the_document_says(mesh: Mesh) -> None:
    olga = Program(mesh, OPERATOR_NAME)
    cause = (await olga.get("/api/v1/incidents"))["items"][0]["cause"]
    for one in ENDPOINTS:
        if one.method == "GET":
            wanted = {"cause": cause} if one.path == "/api/v1/incident" else KNOWN.get(one.path, {})
            await olga.get(one.path, **wanted)


async def test_every_endpoint_needs_a_person_and_knows_its_parameters(mesh: Mesh) -> None:
    nobody, olga = Program(mesh, None), Program(mesh, OPERATOR_NAME)
    for one in ENDPOINTS:
        found = await nobody.client.request(one.method, one.path, headers={"content-length": "0"} | OWN)
        assert found.status_code == 401
        assert found.headers["www-authenticate"] == "Bearer"
        CONFORM.check(one.method, one.path, found)
        if one.method == "GET":
            assert "no parameter 'statee'" in (await olga.get(one.path, status=400, statee="open"))["detail"]


async def test_every_answer_has_the_headers_of_pages(mesh: Mesh) -> None:
    found = await Program(mesh, ANA).client.get("/api/v1/approvals")
    assert {name: found.headers[name] for name in HEADERS} == HEADERS
    assert found.headers["cache-control"] == "no-store"


async def test_what_is_not_there_is_a_problem_that_says_what_is(mesh: Mesh) -> None:
    olga = Program(mesh, OPERATOR_NAME)
    for path, wanted in {
        "/api/v1/approval": {"id": "no"},
        "/api/v1/workflow": {"id": "no"},
        "/api/v1/incident": {"cause": "no"},
        "/api/v1/dead-letter": {"id": "0/99"},
        "/api/v1/operation": {"id": "no"},
    }.items():
        assert "no" in (await olga.get(path, status=404, **wanted))["detail"].lower()
    found = await olga.client.get("/api/v1/nothing")
    assert (found.status_code, found.headers["content-type"]) == (404, PROBLEM)
    found = await olga.client.delete("/api/v1/answers", headers={"content-length": "0"})
    assert (found.status_code, found.headers["allow"]) == (405, "POST")


BAD_VALUES = [
    ("/api/v1/workflows?state=stuck", "state can't be 'stuck'"),
    ("/api/v1/workflows?limit=0", "a number from 1 to 1,000"),
    ("/api/v1/workflows?limit=1e3", "a number from 1 to 1,000"),
    ("/api/v1/workflows?limit=9999", "a number from 1 to 1,000"),
    ("/api/v1/workflows?older_than=soon", "write 2h, 7d"),
    ("/api/v1/workflows?where=1%2B", "column"),
    ("/api/v1/workflows?after=nonsense", "not the cursor of a page"),
    ("/api/v1/workflows?built_in=yes", "built_in can't be"),
    ("/api/v1/approvals?due=x", "write a time such as"),
    ("/api/v1/approvals?role=a&state=closed", "role goes with state=open"),
    ("/api/v1/approvals?since=2h", "since goes with state=closed"),
    ("/api/v1/approval", "needs the parameter 'id'"),
    ("/api/v1/dead-letter?id=7", "PARTITION/OFFSET"),
    ("/api/v1/incidents?since=2026-13-01", "write 2h, 7d"),
]


@pytest.mark.parametrize(("path", "said"), BAD_VALUES)
async def test_a_value_that_a_parameter_cannot_have_is_said(mesh: Mesh, path: str, said: str) -> None:
    found = await Program(mesh, OPERATOR_NAME).client.get(path)
    assert found.status_code == 400
    assert said in CONFORM.check("GET", path.partition("?")[0], found)["detail"]


async def test_an_error_of_the_console_has_an_id_and_no_trace(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(mesh.console.desk, "log", broken)
    found = await Program(mesh, OPERATOR_NAME).client.get("/api/v1/workflows")
    assert (found.status_code, found.headers["content-type"]) == (500, PROBLEM)
    assert "secret" not in found.text
    assert found.json()["id"]


# What it answers ----------------------------------------------------------------------------------


async def test_filters_mean_what_they_mean_on_the_page(mesh: Mesh) -> None:
    olga = Program(mesh, OPERATOR_NAME)
    wanted: list[tuple[dict[str, Any], set[int]]] = [
        ({}, {1, 2, 3}),
        ({"state": "incident"}, {3}),
        ({"state": "asking"}, {1}),
        ({"state": "ended"}, {2}),
        ({"q": "repo#2"}, {2}),
        ({"route": "issue-triage", "state": "open"}, {1, 3}),
        ({"step": "review"}, {1}),
        ({"age": "1d", "state": "incident"}, {3}),
        ({"where": "status == 'completed'"}, {2}),
        ({"older_than": "2000-01-01"}, set[int]()),
        ({"attr": "customer:acme"}, set[int]()),
    ]
    for filters, numbers in wanted:
        found = await olga.get("/api/v1/workflows", **filters)
        assert {one["workflow_id"] for one in found["items"]} == {workflow(number) for number in numbers}, filters


async def test_a_list_is_cut_into_pages_that_together_have_every_row_once(mesh: Mesh) -> None:
    for number in range(100, 125):
        await mesh.writer.decide(workflow(number), event_cause(number, number), started(number))
    await mesh.settle()
    olga, seen = Program(mesh, OPERATOR_NAME), list[str]()
    after: Any = ""
    for _ in range(3):
        page = await olga.get("/api/v1/workflows", limit="10", after=after)
        assert page["total"] == 28
        seen += [one["workflow_id"] for one in page["items"]]
        after = page["next"]
    assert after is None
    assert sorted(seen) == sorted({*map(workflow, [1, 2, 3, *range(100, 125)])})


async def test_payloads_are_left_out_unless_they_are_asked_for(mesh: Mesh) -> None:
    ana = Program(mesh, ANA)
    asked = [one for one in (await ana.get("/api/v1/workflow", id=workflow(1)))["timeline"] if one["events"]]
    assert not any("payload" in event for one in asked for event in one["events"])
    whole = await ana.get("/api/v1/workflow", id=workflow(1), payloads="1")
    assert any("payload" in event for one in whole["timeline"] for event in one["events"])


# Who may ------------------------------------------------------------------------------------------


async def test_an_approver_sees_their_approvals_and_workflows_alone(mesh: Mesh) -> None:
    ana = Program(mesh, ANA)
    assert await ana.get("/api/v1/me") == {
        "name": ANA,
        "names": [ANA],
        "roles": ["maintainer"],
        "sees_all": False,
        "answers_for": [],
    }
    [one] = (await ana.get("/api/v1/approvals"))["items"]
    assert (one["approval_id"], one["for"], one["closed"]) == (approval_id(), [None], None)
    await ana.get("/api/v1/approval", id=approval_id())
    await ana.get("/api/v1/workflow", id=workflow(1))
    await ana.get("/api/v1/workflow", status=403, id=workflow(2))
    await ana.get("/api/v1/approvals", status=403, **{"for": "all"})
    await ana.get("/api/v1/approvals", status=403, state="closed", by="ben@example.org")
    for one in ENDPOINTS:
        if one.needs_all:
            await ana.get(one.path, status=403, **KNOWN.get(one.path, {}))


async def test_who_lacks_the_role_sees_nothing_and_cannot_answer(mesh: Mesh) -> None:
    kim = Program(mesh, KIM)
    assert (await kim.get("/api/v1/approvals"))["items"] == []
    assert "Role maintainer" in (await kim.get("/api/v1/approval", status=403, id=approval_id()))["detail"]
    await kim.answer(status=403, decision="approve")


async def test_the_session_of_a_browser_counts_too_but_not_from_another_site(mesh: Mesh) -> None:
    client = mesh.browser(ANA).client
    assert (await client.get("/api/v1/me")).json()["name"] == ANA
    body = {"approval_id": approval_id(), "decision": "approve"}
    for headers in ({}, {"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        found = await client.post("/api/v1/answers", json=body, headers=headers)
        assert (found.status_code, found.headers["content-type"]) == (403, PROBLEM)
    assert (await client.post("/api/v1/answers", json=body, headers=OWN)).status_code == 202
    # what a form of another site can send without being asked
    found = await client.post("/api/v1/answers", content=b"{}", headers=OWN | {"content-type": "text/plain"})
    assert found.status_code == 415


async def test_a_token_that_does_not_count_is_not_helped_by_a_session(mesh: Mesh) -> None:
    client = mesh.browser(ANA).client
    for shown in ("Bearer mesh_guess", "Bearer", "Basic YTpi", "", f"Bearer {client.cookies[COOKIE]}"):
        assert (await client.get("/api/v1/me", headers={"authorization": shown})).status_code == 401


async def test_a_token_counts_until_it_is_revoked_or_its_time_is_over(mesh: Mesh) -> None:
    ana, tokens = Program(mesh, ANA), mesh.console.desk.tokens
    await ana.get("/api/v1/me")
    assert [one.person for one in tokens.valid()] == [ANA]
    assert tokens.revoke(ana.token.id)
    assert not tokens.revoke(ana.token.id)
    await ana.get("/api/v1/me", status=401)
    secret, _ = tokens.make(ANA, days=0)
    assert tokens.person(secret) is None
    assert tokens.valid() == []


async def test_another_console_of_the_folder_knows_the_token_and_the_file_does_not_hold_it(
    mesh: Mesh, tmp_path: Path
) -> None:
    secret, _ = mesh.console.desk.tokens.make(ANA, days=1, note="nightly report")
    other = Tokens(tmp_path / "tokens.sqlite", mesh.console.desk.clock)
    assert other.person(secret) == ANA
    assert [one.note for one in other.valid()] == ["nightly report"]
    other.close()
    names = ("tokens.sqlite", "tokens.sqlite-wal")
    kept = b"".join((tmp_path / name).read_bytes() for name in names)
    assert secret.encode() not in kept
    assert (tmp_path / "tokens.sqlite").stat().st_mode & 0o077 == 0


# Answering ----------------------------------------------------------------------------------------


async def test_an_answer_counts_once_its_receipt_is_there(tmp_path: Path) -> None:
    async with small_mesh(tmp_path, receipt_s=30.0) as mesh:
        ana = Program(mesh, ANA)
        digest = (await ana.get("/api/v1/approval", id=approval_id()))["asked"]["digest"]
        deciding = asyncio.create_task(mesh.play_owner(lambda answer_id: (approved(1, answer_id),)))
        receipt = await ana.answer(decision="approve", digest=digest, reason="fine")
        await deciding
        assert (receipt["status"], receipt["by"]) == ("accepted", ANA)
        await mesh.settle()
        closed = (await ana.get("/api/v1/approval", id=approval_id()))["closed"]
        assert (closed["verdict"], closed["by"]) == ("approved", ANA)
        assert (await ana.answer(status=409, decision="approve"))["kind"] == "closed"
        [one] = [
            one
            for one in (await ana.get("/api/v1/approvals", state="closed"))["items"]
            if one["approval_id"] == approval_id()
        ]
        assert one["closed"] == closed


async def test_an_answer_that_does_not_count_is_a_conflict_with_its_receipt(tmp_path: Path) -> None:
    async with small_mesh(tmp_path, receipt_s=30.0) as mesh:
        deciding = asyncio.create_task(mesh.play_owner(refused))
        found = await Program(mesh, ANA).answer(status=409, decision="approve")
        await deciding
        assert (found["kind"], found["detail"]) == ("role", "you lack the role")
        assert found["receipt"]["status"] == "refused"


def refused(answer_id: str) -> tuple[ev.Event, ...]:
    return (
        ev.AnswerRefused(
            answer_id=answer_id, approval_id=approval_id(), code="role", message="you lack the role", by=ANA
        ),
    )


async def test_what_an_answer_lacks_is_said_before_anything_is_sent(mesh: Mesh) -> None:
    ana = Program(mesh, ANA)
    for status, body, said in (
        (422, {"decision": "reject"}, "reason"),
        (422, {"decision": "comment", "text": "x" * 20_001}, "20,000 characters"),
        (400, {"decision": "maybe"}, "decision"),
        (400, {}, "decision"),
        (400, {"decision": "approve", "digets": "x"}, "digets"),
        (404, {"decision": "approve", "approval_id": "no"}, "no approval"),
    ):
        assert said in (await ana.answer(status=status, **body))["detail"]
    for raw in (b"", b"{", b"[]", b'{"decision": 1e400}', b"\xff"):
        found = await ana.client.post("/api/v1/answers", content=raw, headers={"content-type": JSON})
        assert found.status_code == 400
        CONFORM.check("POST", "/api/v1/answers", found)
    # nobody decides here
    assert "no router has answered" in (await ana.answer(status=202, decision="approve"))["message"]


async def test_a_program_cannot_send_answers_without_end(mesh: Mesh) -> None:
    for _ in range(20):
        assert mesh.console.desk.may_answer_now(ANA)
    assert "many answers" in (await Program(mesh, ANA).answer(status=429, decision="approve"))["detail"]


# Anything -----------------------------------------------------------------------------------------


class Loop:
    """A mesh in an event loop that is entered for one request at a time."""

    def __init__(self, folder: Path) -> None:
        self._runner, self._stack = asyncio.Runner(), AsyncExitStack()
        self.mesh = self.run(self._stack.enter_async_context(small_mesh(folder, receipt_s=0.0)))
        self.run(until(lambda: self.mesh.console.desk.projector.status is not None))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._runner.close()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    found = Loop(tmp_path)
    yield found
    found.close()


TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["1", "2h", "7d", "0/0", "me", "all", "closed", "open", "incident", approval_id(), workflow(1)]),
    st.sampled_from(["status == 'running'", "2026-11-20", "WzAsICIiXQ", "customer:acme", "\x00", "-1", "9" * 30]),
)
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
BODIES = st.one_of(
    st.binary(max_size=30),
    st.fixed_dictionaries(
        {"approval_id": st.sampled_from([approval_id(), "no"]), "decision": st.sampled_from(["approve", "reject"])},
        optional=dict.fromkeys(["digest", "reason", "payload", "choice", "form", "text", "to", "for"], JSON_VALUES),
    ),
    JSON_VALUES,
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[Endpoint, str, Any]:
    """A request that somebody may send: an endpoint, its query, its body."""
    one = draw(st.sampled_from(ENDPOINTS))
    names = [parameter.name for parameter in one.parameters] or ["odd"]
    needed = [parameter.name for parameter in one.parameters if parameter.is_needed]
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), TEXTS), max_size=4, unique_by=lambda pair: pair[0]))
    pairs += [(name, draw(TEXTS)) for name in needed if name not in dict(pairs)]
    return one, urlencode(pairs, errors="surrogatepass"), draw(BODIES) if one.takes is not None else None


# receipts are not waited for here, so no answer is held against a clock
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(asked=requests(), name=st.sampled_from([OPERATOR_NAME, ANA, KIM]))
def test_no_request_is_an_error_of_the_console_and_every_answer_conforms(
    loop: Loop, asked: tuple[Endpoint, str, Any], name: str
) -> None:
    one, query, body = asked
    found = loop.run(_asked(loop.mesh, one, query, body, name))
    assert found.status_code != 500, found.text
    CONFORM.check(one.method, one.path, found)


async def _asked(mesh: Mesh, one: Endpoint, query: str, body: Any, name: str) -> httpx.Response:
    headers = {"cookie": f"{COOKIE}={mesh.console.desk.sessions.begin(name)}", "content-type": JSON} | OWN
    transport = httpx.ASGITransport(mesh.console.app)
    async with httpx.AsyncClient(transport=transport, base_url=URL, headers=headers) as client:
        if one.method == "GET":
            return await client.get(f"{one.path}?{query}")
        content = body if isinstance(body, bytes) else _json(body)
        return await client.post(one.path, content=content)


def _json(body: Any) -> bytes:
    # as another language would write it: NaN, lone surrogates, long numbers
    import json  # noqa: PLC0415

    return json.dumps(body).encode()
