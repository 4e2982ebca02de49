"""The command line with a token: the same words over the console's API as over the broker."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from click.testing import CliRunner, Result
from console_pages import OPERATOR_NAME, URL, Mesh, approval_id, small_mesh, until
from sample_mesh import TOPICS, approved, workflow
from test_console_api import order

from mesh.adapters.sqlite import SqliteBroker
from mesh.adapters.system import SystemClock
from mesh.cli import session
from mesh.cli.app import mesh as command
from mesh.cli.exit_codes import BROKER, FAILED, NOT_FOUND, TIMED_OUT, USAGE
from mesh.cli.remote.api import Api
from mesh.codec.commands import decode_command
from mesh.core import events as ev
from mesh.ports import TopicPartition
from mesh.settings import Settings

ANA = "ana@example.org"
WAIT_S = 60.0


class Served:
    """A console over a mesh in a file, in a thread with an event loop of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens: dict[str, Path] = {}
        self.is_away = False
        self.loop = asyncio.new_event_loop()
        self._ready, self._over = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self.loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(WAIT_S)

    async def _serve(self) -> None:
        broker = await SqliteBroker.open(self.folder / "mesh.db", client_id="test")
        (self.folder / "console").mkdir()
        url = f"sqlite://{self.folder}/mesh.db"
        async with small_mesh(self.folder / "console", broker=broker, broker_url=url, receipt_s=0.2) as mesh:
            await until(lambda: mesh.console.desk.projector.status is not None)
            self.mesh: Mesh = mesh
            await order(mesh)
            for name in (OPERATOR_NAME, ANA, "kim@example.org"):
                self.tokens[name] = self.folder / f"{name}.token"
                self.tokens[name].write_text(mesh.console.desk.tokens.make(name, days=1)[0] + "\n")
            self._ready.set()
            await self._over.wait()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join(WAIT_S)
        self.loop.close()


class Bridge(httpx.AsyncBaseTransport):
    """Asks the console in its own event loop."""

    def __init__(self, served: Served) -> None:
        self._served = served

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._served.is_away:
            raise httpx.ConnectError("connection refused")
        body = await request.aread()
        asked = asyncio.run_coroutine_threadsafe(self._ask(request, body), self._served.loop)
        return await asyncio.wrap_future(asked)

    async def _ask(self, request: httpx.Request, body: bytes) -> httpx.Response:
        transport = httpx.ASGITransport(self._served.mesh.console.app)
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
        async with httpx.AsyncClient(transport=transport) as client:
            found = await client.request(request.method, request.url, content=body, headers=headers)
        return httpx.Response(found.status_code, headers=found.headers, content=found.content)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    # so that two commands say the same of how long ago a thing was
    now_ms = SystemClock().now_ms()
    monkeypatch.setattr(SystemClock, "now_ms", lambda _: now_ms)
    monkeypatch.setattr("mesh.console.desk.SHOWN_S", WAIT_S)
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{tmp_path}/mesh.db")
    monkeypatch.setenv("MESH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MESH_APPROVERS", str(tmp_path / "console" / "approvers.yaml"))
    monkeypatch.setenv("MESH_CONSOLE_URL", URL)
    monkeypatch.chdir(tmp_path)
    found = Served(tmp_path)

    def api_of(settings: Settings, *, broker: str | None) -> Api | None:
        if settings.console_token_file is None or broker is not None:
            return None
        return Api(settings.console_url, settings.console_token_file, transport=Bridge(found))

    monkeypatch.setattr(session, "api_of", api_of)
    yield found
    found.close()


def call(*words: str, served: Served | None = None, name: str = OPERATOR_NAME) -> Result:
    """The command; with `served`, over the console, as this person."""
    env = {} if served is None else {"MESH_CONSOLE_TOKEN_FILE": str(served.tokens[name])}
    return CliRunner().invoke(command, words, env=env)


SAME = [
    "approvals",
    "approvals --role maintainer",
    "approvals --role nobody",
    "approvals --closed",
    "approvals --closed --since 2000-01-01",
    f"approvals show {approval_id()}",
    f"approvals show {workflow(1)}",
    "approvals show #1",
    "workflows",
    "workflows --status incident",
    "workflows --status running",
    "workflows --route issue-triage --limit 2",
    "workflows --where status=='completed'",
    "workflows --older-than 2000-01-01",
    f"workflow {workflow(1)}",
    f"workflow {workflow(3)} --payloads",
    "workflow #2",
    f"workflow {workflow(1)} --step review",
    "incidents",
    "incidents --route other",
    "incidents --since 2000-01-01",
    "status",
    "workflows --status paused",
    "workflows retry --status incident --dry-run",
    "workflows skip --cause CAUSE --dry-run",
    "workflows cancel --route issue-triage --why x --dry-run",
    "workflows pause --where status=='running' --why x --dry-run",
    "workflows cancel --older-than 1s --why x --dry-run",
    "dlq",
    "dlq --status all",
    "dlq --status redriven",
    "dlq --topic nothing",
    "dlq --since 2000-01-01 --limit 1",
    "dlq redrive --all --dry-run",
    "dlq redrive --id 0/0 --dry-run",
    "dlq discard --all --dry-run",
    "operations",
    "operations show op-known",
    "operations show known",
]


def test_every_command_says_the_same_over_the_console_as_over_the_broker(served: Served) -> None:
    [one] = json.loads(call("incidents", "--json").stdout)["causes"]
    cause = one["cause"]
    for line in SAME:
        for options in ((), ("--json",)):
            words = (*line.replace("CAUSE", cause).split(), *options)
            near, far = call(*words), call(*words, served=served)
            assert near.exit_code == 0, (line, near.output)
            assert (far.exit_code, far.stdout) == (0, near.stdout), (line, far.output)


def test_a_cause_is_named_by_its_first_digits(served: Served) -> None:
    [one] = json.loads(call("incidents", "--json").stdout)["causes"]
    words = ("incidents", "show", one["cause"][:6])
    assert call(*words, served=served).stdout == call(*words).stdout


def test_an_approver_lists_shows_and_filters_what_waits_for_them(served: Served) -> None:
    for words in (("approvals", "--mine"), ("approvals", "--mine", "--if", "payload != null")):
        found = call(*words, "--json", served=served, name=ANA)
        assert [one["approval_id"] for one in json.loads(found.stdout)["approvals"]] == [approval_id()], found.output
    assert "Nothing waits" in call("approvals", served=served, name="kim@example.org").stdout
    found = call("approvals", "show", approval_id(), served=served, name="kim@example.org")
    assert (found.exit_code, "Role maintainer" in found.output) == (FAILED, True)
    found = call("workflows", served=served, name=ANA)
    assert (found.exit_code, "Viewers, operators and authors" in found.output) == (FAILED, True)
    assert call("workflow", workflow(1), served=served, name=ANA).exit_code == 0


def test_an_answer_goes_through_the_console_in_the_name_of_the_token(served: Served) -> None:
    # nobody decides, so there is no receipt
    found = call("approve", approval_id(), "--reason", "fine", served=served, name=ANA)
    assert (found.exit_code, "no router has answered" in found.output) == (TIMED_OUT, True), found.output
    deciding = asyncio.run_coroutine_threadsafe(_decide(served), served.loop)
    deciding.result(WAIT_S)
    found = call("reject", approval_id(), "--reason", "late", served=served, name=ANA)
    assert (found.exit_code, "is closed: approved by ana@example.org" in found.output) == (FAILED, True), found.output
    found = call("approvals", "--closed", "--json", served=served, name=ANA)
    [one] = [one for one in json.loads(found.stdout)["approvals"] if one["approval_id"] == approval_id()]
    assert (one["verdict"], one["closed_by"]) == ("approved", ANA)


async def _decide(served: Served) -> None:
    await served.mesh.play_owner(lambda answer_id: (approved(1, answer_id),))
    desk = served.mesh.console.desk

    async def is_closed() -> bool:
        sql = "SELECT 1 FROM approvals WHERE approval_id = ? AND closed_at_ms IS NOT NULL"
        return bool(await desk.log(lambda db: db.execute(sql, (approval_id(),)).fetchall()))

    async with asyncio.timeout(WAIT_S):
        while not await is_closed():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)


def test_what_goes_wrong_is_said_in_one_line_with_an_exit_code(served: Served) -> None:
    for words, code, said in (
        (("workflow", "nothing"), NOT_FOUND, "no workflow has 'nothing' in its id"),
        (("approvals", "show", "nothing"), NOT_FOUND, "has the id 'nothing'"),
        (("incidents", "show", "zzzz"), NOT_FOUND, "no cause has 'zzzz' in its id"),
        (("workflows", "--where", "1 +"), USAGE, "column"),
        (("workflows", "--after", "x"), USAGE, "not the cursor of a page"),
        (("workflows", "cancel", workflow(2), "--reason", "x"), FAILED, "has ended: completed"),
        (("workflows", "cancel", "repo#1", "--reason", "x"), NOT_FOUND, "give that whole id"),
        (("workflows", "cancel", workflow(1), "--reason", "x"), TIMED_OUT, "not decided yet"),
        (("workflows", "retry", "--route", "none", "--why", "x"), NOT_FOUND, "No workflow fits"),
        (("operations", "stop", "op-none"), NOT_FOUND, "no operation has 'op-none'"),
        (("dlq", "redrive", "--id", "0/99"), NOT_FOUND, "no such dead letter"),
        (("agents",), USAGE, "give --broker URL"),
        (("approve", approval_id(), "--key", "none.pem"), USAGE, "leave out --key"),
    ):
        found = call(*words, served=served)
        assert (found.exit_code, said in found.output) == (code, True), (words, found.output)
        assert "Traceback" not in found.output
    served.is_away = True
    found = call("approvals", served=served)
    assert (found.exit_code, "does not answer: connection refused" in found.output) == (BROKER, True)


def test_an_operator_without_a_broker_orders_follows_and_stops(served: Served) -> None:
    words = ("workflows", "retry", "--status", "incident", "--why", "the disk is larger", "--detach", "--yes", "--json")
    found = json.loads(call(*words, served=served).stdout)
    name = found["operation"]["id"]
    assert (found["operation"]["by"], found["operation"]["total"]) == (OPERATOR_NAME, 1)
    assert [one["workflow_id"] for one in found["workflows"]] == [workflow(3)]
    for line in (("operations",), ("operations", "show", name)):
        assert call(*line, "--json", served=served).stdout == call(*line, "--json").stdout
    assert call("operations", "stop", name, "--why", "wrong ones", served=served).exit_code == 0
    shown = json.loads(call("operations", "show", name, "--json").stdout)
    assert (shown["operation"]["status"], shown["operation"]["stopped"]["by"]) == ("stopped", OPERATOR_NAME)
    again = call("operations", "stop", name, served=served)
    assert (again.exit_code, "was stopped by" in again.output) == (USAGE, True)


def test_an_operator_without_a_broker_commands_a_workflow(served: Served) -> None:
    desk = served.mesh.console.desk
    desk.config = msgspec.structs.replace(desk.config, receipt_s=WAIT_S)
    owner = asyncio.run_coroutine_threadsafe(obey(served), served.loop)
    words = ("workflows", "retry", workflow(3), "--step", "classify", "--why", "the disk is larger", "--json")
    found = call(*words, "--timeout", "0", served=served)
    owner.result(WAIT_S)
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert (said["command"], said["accepted"], said["workflow_status"]) == ("retry", True, "running")
    timeline = json.loads(call("workflow", workflow(3), "--json").stdout)["timeline"]
    assert any(event.get("by") == OPERATOR_NAME for one in timeline for event in one["events"])


async def obey(served: Served) -> None:
    """Obey the next command, as the workflow's owner would."""
    mesh = served.mesh
    reader = await mesh.broker.reader()
    try:
        reader.assign({TopicPartition(TOPICS.commands, 0): 0})
        async with asyncio.timeout(WAIT_S):
            while not (records := await reader.poll(max_records=1, timeout_s=0.05)):
                pass
    finally:
        await reader.close()
    given = decode_command(records[0])
    accepted = ev.CommandAccepted(
        command_id=given.command_id, command=given.command, by=given.by, operation=given.operation
    )
    await mesh.writer.obey(given, accepted)


def test_an_operator_without_a_broker_settles_dead_letters(served: Served) -> None:
    for words, done in (
        (("dlq", "redrive", "--all"), "redriven"),
        (("dlq", "discard", "--id", "0/0", "--again", "--why", "old"), "discarded"),
    ):
        found = call(*words, "--yes", "--json", served=served)
        assert json.loads(found.stdout)["counts"][done] == 1, found.output
        for line in (f"dlq --status {done}", "dlq --status all"):
            assert call(*line.split(), "--json", served=served).stdout == call(*line.split(), "--json").stdout
    [one] = json.loads(call("dlq", "--status", "discarded", "--json").stdout)["dead_letters"]
    assert (one["id"], one["handled"]["by"]) == ("0/0", OPERATOR_NAME)
    found = call("dlq", "redrive", "--all", "--yes", served=served)
    assert (found.exit_code, "no open dead letter" in found.output) == (NOT_FOUND, True)


def test_an_approver_orders_nothing(served: Served) -> None:
    for words in (
        ("workflows", "cancel", workflow(1), "--why", "x"),
        ("workflows", "retry", "--status", "incident", "--why", "x", "--yes"),
        ("dlq", "redrive", "--id", "0/0", "--yes"),
    ):
        found = call(*words, served=served, name=ANA)
        assert (found.exit_code, "mesh.operator" in found.output) == (FAILED, True), found.output


def test_a_token_that_ended_and_a_file_without_one_are_said(served: Served, tmp_path: Path) -> None:
    served.tokens[ANA].write_text("mesh_old")
    found = call("approvals", served=served, name=ANA)
    assert (found.exit_code, "does not take this token" in found.output) == (USAGE, True)
    for content in ("", "a\x00b"):
        served.tokens[ANA].write_text(content)
        found = call("approvals", served=served, name=ANA)
        assert (found.exit_code, "holds no token" in found.output) == (USAGE, True)
    served.tokens[ANA] = tmp_path / "missing"
    assert "can't be read" in call("approvals", served=served, name=ANA).output


def test_a_broker_that_is_named_wins(served: Served, tmp_path: Path) -> None:
    served.is_away = True
    assert call("approvals", "--broker", f"sqlite://{tmp_path}/mesh.db", served=served).exit_code == 0


def test_a_token_is_never_sent_in_the_clear_to_another_machine(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("mesh_secret")
    env = {"MESH_CONSOLE_URL": "http://console.example", "MESH_CONSOLE_TOKEN_FILE": str(tmp_path / "token")}
    found = CliRunner().invoke(command, ["approvals"], env=env)
    assert (found.exit_code, "must begin with https://" in found.output) == (USAGE, True)
    env.pop("MESH_CONSOLE_URL")
    found = CliRunner().invoke(command, ["approvals"], env=env)
    assert (found.exit_code, "without MESH_CONSOLE_URL" in found.output) == (USAGE, True)
