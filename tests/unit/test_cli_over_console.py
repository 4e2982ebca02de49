"""The command line with a token: the same words over the console's API as over the broker."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from console_pages import OPERATOR_NAME, URL, Mesh, approval_id, small_mesh, until
from sample_mesh import approved, workflow

from mesh.adapters.sqlite import SqliteBroker
from mesh.adapters.system import SystemClock
from mesh.cli import session
from mesh.cli.app import mesh as command
from mesh.cli.exit_codes import BROKER, FAILED, NOT_FOUND, TIMED_OUT, USAGE
from mesh.cli.remote.api import Api
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
]


def test_every_command_says_the_same_over_the_console_as_over_the_broker(served: Served) -> None:
    for line in SAME:
        for options in ((), ("--json",)):
            words = (*line.split(), *options)
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
        (("workflows", "cancel", workflow(1), "--reason", "x"), USAGE, "give --broker URL"),
        (("dlq",), USAGE, "give --broker URL"),
        (("approve", approval_id(), "--key", "none.pem"), USAGE, "leave out --key"),
    ):
        found = call(*words, served=served)
        assert (found.exit_code, said in found.output) == (code, True), (words, found.output)
        assert "Traceback" not in found.output
    served.is_away = True
    found = call("approvals", served=served)
    assert (found.exit_code, "does not answer: connection refused" in found.output) == (BROKER, True)


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
