"""`mesh routes ...` against files and a mesh on SQLite.

What people read, what programs read, and the exit code.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from one_partition import Partition, agent, approval, route

from mesh.adapters.sqlite import SqliteBroker
from mesh.adapters.system import SystemClock
from mesh.cli.app import mesh
from mesh.cli.routes.group import routes
from mesh.codec.cards import encode_card
from mesh.codec.commands import decode_command
from mesh.codec.definitions import encode_definition
from mesh.codec.route_file import load_route_text
from mesh.codec.router_cards import RouterCard, encode_router_card
from mesh.codec.times import rfc3339
from mesh.core.forks import KeptResult
from mesh.core.inputs import CommandGiven
from mesh.core.state import AgentCard
from mesh.core.topics import Topics
from mesh.ports import OutRecord, TopicPartition, TopicSpec

TOPICS = Topics()
STEPS: dict[str, Any] = {
    "a": agent("worker", "${{ event.data }}"),
    "ok": approval(needs="a", payload="${{ steps.a }}", deadline="1h"),
    "z": agent("worker", "${{ steps.ok.payload }}", needs="ok"),
}
OLD = route(STEPS, closed_retention="1d")
ROUTE = route(STEPS)
FILE = """\
route: r
on: {type: t}
key: ${{ event.subject }}
steps:
  a: {agent: worker, input: "${{ event.data }}", timeout: 1m}
  ok:
    needs: a
    if: event.data.n > 1
    approval: {ask: Good?, payload: "${{ steps.a }}", role: maintainer, deadline: 1h}
  z: {needs: ok, agent: worker, input: "${{ steps.ok.payload }}"}
"""
SAME = FILE.replace(", timeout: 1m", "").replace("    if: event.data.n > 1\n", "")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "MESH_BROKER": f"sqlite://{tmp_path}/mesh.db",
        "MESH_DATA_DIR": str(tmp_path / "data"),
        "COLUMNS": "120",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.yaml").write_text(FILE)
    (tmp_path / "same.yaml").write_text(SAME)
    return tmp_path


@pytest.fixture
def stored(folder: Path) -> Path:
    """A mesh with two versions of one route, a card, and two workflows.

    One workflow is completed, and one waits for an answer.
    """
    made = Partition(ROUTE)
    for key, n in (("one", 1), ("two", 2)):
        made.start(key, event_id=key, data={"n": n})
        made.now_ms += 40
        made.succeed("a", {"n": n}, key=key)
    made.now_ms += 4_000
    made.answer("ok", key="one")
    made.now_ms += 60
    made.succeed("z", key="one")
    asyncio.run(_write(folder, made))
    return folder


async def _write(folder: Path, made: Partition) -> None:
    broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
    names = (TOPICS.log, TOPICS.events, TOPICS.definitions, TOPICS.agents, TOPICS.dlq)
    await broker.create_topics([TopicSpec(name, 1) for name in names])
    card = AgentCard(
        name="worker",
        version="1",
        topic="mesh.tasks.worker",
        input_schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
        output_schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    )
    records: list[OutRecord] = [encode_definition(one, TOPICS) for one in (OLD, ROUTE, *made.routes.values())]
    assert not await broker.send([*records, encode_card(card, topics=TOPICS)])
    await broker.append(TopicPartition(TOPICS.log, 0), None, made.log, [])
    await broker.close()


def call(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(mesh, ["routes", *map(str, arguments)], input=stdin)


def call_json(*arguments: str | Path, code: int = 0, stdin: str | None = None) -> Any:
    result = call(*arguments, "--json", stdin=stdin)
    assert result.exit_code == code, result.output
    assert "\x1b" not in result.stdout
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", sorted(routes.commands))
def test_every_command_has_help_and_json(name: str) -> None:
    result = call(name, "--help")
    assert (result.exit_code, "--json" in result.output) == (0, True)


# check --------------------------------------------------------------------------------------------


def test_check_tells_each_finding_with_its_line(folder: Path) -> None:
    (folder / "same.yaml").write_text(SAME.replace(", deadline: 1h", "").replace("route: r", "route: q"))
    result = call("check", folder)
    assert result.exit_code == 0
    assert result.stdout == (
        f"{folder}/same.yaml:8: warning: step ok: the approval has no deadline: it may wait without end"
        " (write deadline: 24h, or deadline: never if that is intended) [no_deadline]\n"
    )
    assert "2 files, 2 routes: 0 errors, 1 warning; not checked: agents" in result.stderr


def test_check_finds_two_routes_of_one_name(folder: Path) -> None:
    found = call_json("check", folder, code=1)["findings"]
    assert [(Path(one["file"]).name, one["line"], one["code"]) for one in found] == [("same.yaml", 1, "invalid")]


def test_check_exits_with_1_on_errors_and_with_strict_on_warnings(folder: Path) -> None:
    assert call("check", "new.yaml").exit_code == 0
    (folder / "new.yaml").write_text(FILE.replace(", deadline: 1h", ""))
    assert call("check", "new.yaml").exit_code == 0
    assert call("check", "new.yaml", "--strict").exit_code == 1
    (folder / "new.yaml").write_text(FILE.replace("agent: worker", "agnet: worker"))
    found = call_json("check", "new.yaml", code=1)
    assert (found["ok"], found["errors"] > 0) == (False, True)
    assert found["findings"][0] | {"message": ""} == {
        "file": "new.yaml",
        "line": 5,
        "severity": "error",
        "code": "invalid",
        "message": "",
    }


def test_check_holds_routes_against_approvers(folder: Path) -> None:
    (folder / "people.yaml").write_text("boss: [ana]\n")
    found = call_json("check", "new.yaml", "--approvers", "people.yaml", code=1)
    assert [one["code"] for one in found["findings"]] == ["unknown_role"]


def test_check_takes_the_approvers_file_that_a_router_would_take(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not call_json("check", "new.yaml")["roles_checked"]
    (folder / "approvers.yaml").write_text("maintainer: [ana]\n")
    assert call_json("check", "new.yaml")["roles_checked"]
    (folder / "people.yaml").write_text("boss: [ana]\n")
    monkeypatch.setenv("MESH_APPROVERS", "people.yaml")
    found = call_json("check", "new.yaml", code=1)
    assert [one["code"] for one in found["findings"]] == ["unknown_role"]


def test_check_holds_routes_against_the_agents_of_the_broker(stored: Path) -> None:
    (stored / "new.yaml").write_text(
        FILE.replace('agent: worker, input: "${{ steps.ok', 'agent: wroker, input: "${{ steps.ok')
    )
    found = call_json("check", "new.yaml", "--online", code=1)
    assert [(one["line"], one["code"]) for one in found["findings"]] == [(10, "unknown_agent")]
    assert call_json("check", "new.yaml", "--broker", f"sqlite://{stored}/mesh.db", code=1)["agents_checked"]
    assert not call_json("check", "new.yaml")["agents_checked"]


async def _send(folder: Path, *records: OutRecord) -> None:
    broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
    await broker.create_topics([TopicSpec(TOPICS.routers, 1)])
    assert not await broker.send(records)
    await broker.close()


def test_check_tells_of_replicas_whose_cards_disagree(stored: Path) -> None:
    other = AgentCard(name="worker", version="2", topic="mesh.tasks.worker", instance="two")
    asyncio.run(_send(stored, encode_card(other, topics=TOPICS)))
    found = call_json("check", "new.yaml", "--online")["findings"]
    assert [(one["line"], one["severity"]) for one in found if one["code"] == "schemas_differ"] == [
        (5, "warning"),
        (10, "warning"),
    ]
    assert "replicas of worker have different input schemas and output schemas" in found[0]["message"]
    [worker] = json.loads(CliRunner().invoke(mesh, ["agents", "--json"]).stdout)["agents"]
    assert worker["schemas_differ"] in found[0]["message"]
    assert "different input schemas" in CliRunner().invoke(mesh, ["agents"]).stdout
    status = json.loads(CliRunner().invoke(mesh, ["status", "--json"]).stdout)
    assert any("replicas of worker have different" in one["what"] for one in status["stuck"])


def test_roles_are_those_that_every_living_router_knows_where_there_is_no_file(stored: Path) -> None:
    now = rfc3339(SystemClock().now_ms())
    cards = [
        RouterCard(
            instance=name, started_at=now, renewed_at=now, expires_after_s=600.0, roles=roles, approvers="people"
        )
        for name, roles in (("one", ("boss", "maintainer")), ("two", ("boss",)), ("old", None))
    ]
    asyncio.run(_send(stored, *(encode_router_card(card, topics=TOPICS) for card in cards)))
    for command in (("check", "new.yaml", "--online"), ("apply", "new.yaml", "--dry-run")):
        found = call_json(*command, code=1)["findings"]
        assert [one["code"] for one in found if one["severity"] == "error"] == ["unknown_role"]
    (stored / "approvers.yaml").write_text("maintainer: ana\n")
    assert call_json("check", "new.yaml", "--online")["ok"]
    status = json.loads(CliRunner().invoke(mesh, ["status", "--json"]).stdout)
    said = [one for one in status["stuck"] if "nobody has the role maintainer" in one["what"]]
    assert [one["next"] for one in said] == ["give it to somebody in people of router two"]
    assert {one["instance"]: one["people"] for one in status["routers"]}["two"] == {"source": "people", "version": None}
    assert "people (a file)" in CliRunner().invoke(mesh, ["status"]).stdout


def test_status_says_which_version_of_the_people_rules(stored: Path) -> None:
    now = rfc3339(SystemClock().now_ms())
    card = RouterCard(instance="one", started_at=now, renewed_at=now, expires_after_s=600.0, roles=())
    ruled = msgspec.structs.replace(card, approvers=TOPICS.people, people="sha256:" + "0" * 64)
    asyncio.run(_send(stored, encode_router_card(ruled, topics=TOPICS)))
    assert f"{TOPICS.people}, version sha256:000000000000" in CliRunner().invoke(mesh, ["status"]).stdout
    status = json.loads(CliRunner().invoke(mesh, ["status", "--json"]).stdout)
    said = [one["next"] for one in status["stuck"] if "nobody has the role maintainer" in one["what"]]
    assert said == ["give it to somebody: `mesh people apply FILE`, with all people and their roles"]
    (stored / "approvers.yaml").write_text("maintainer: ana\n")
    found = call_json("check", "new.yaml", "--online", code=1)["findings"]
    assert "unknown_role" in [one["code"] for one in found], "the file does not count"
    other = msgspec.structs.replace(card, instance="two", approvers="/etc/approvers.yaml")
    asyncio.run(_send(stored, encode_router_card(other, topics=TOPICS)))
    assert "routers differ" in CliRunner().invoke(mesh, ["status"]).stdout


def test_check_holds_routes_against_modules(folder: Path) -> None:
    (folder / "new.yaml").write_text(FILE.replace("agent: worker", "agent: classifier"))
    found = call_json("check", "new.yaml", "--agents", "agents.issue_triage.classifier", code=1)
    assert found["agents_checked"]
    assert {one["code"] for one in found["findings"]} == {"input_misfit"}


# explain ------------------------------------------------------------------------------------------

EVENT = json.dumps({"id": "e", "source": "/s", "type": "t", "subject": "three", "data": {"n": 1}})


def test_explain_says_what_matches_and_what_comes_first(folder: Path) -> None:
    found = call_json("explain", "-", "--routes", "new.yaml", stdin=EVENT)
    [one] = found["routes"]
    assert (one["matched"], one["workflow_id"]) == (True, "r:three")
    assert [(first["what"], first["step"], first["to"]) for first in one["first"]] == [("dispatch", "a", "worker")]
    result = call("explain", "-", "--routes", "new.yaml", stdin=EVENT)
    assert "+ r  it starts r:three" in result.stdout
    assert 'a: dispatched to worker  {"n":1}' in result.stdout


def test_explain_and_check_know_that_extensions_are_text(folder: Path) -> None:
    route = "route: typed\non: {type: t, if: %s}\nkey: k\nsteps: {a: {value: 1}}\n"
    (folder / "number.yaml").write_text(route % "event.rank > 3")
    (folder / "text.yaml").write_text(route % "int(event.rank) > 3")
    event = json.dumps({"source": "/s", "type": "t", "rank": 5, "subject": None})
    for name, matched in (("number.yaml", False), ("text.yaml", True)):
        found = call_json("explain", "-", "--routes", name, stdin=event)
        assert found["routes"][0]["matched"] is matched
        assert found["event"]["rank"] == "5"
        assert "subject" not in found["event"]
        result = call("check", name)
        assert (result.exit_code == 0) is matched
    said = call("check", "number.yaml").stdout
    assert "event.rank is text, and can't be compared with 3 (write int(event.rank)) [attribute_is_text]" in said


def test_explain_knows_the_workflows_of_the_broker(stored: Path) -> None:
    event = EVENT.replace('"three"', '"two"')
    result = call("explain", "-", stdin=event)
    assert result.exit_code == 0, result.output
    assert "nothing would happen: run" in result.stdout
    assert "is still going" in result.stdout


WAITING = """\
route: shop
on: {type: ordered}
key: ${{ event.subject }}
steps:
  paid: {wait: {event: paid, if: event.data.n > 1, timeout: 1d}}
  tell: {needs: paid, emit: {type: told, data: 1}}
"""
PAID = '{"id": "p1", "source": "/s", "type": "paid", "subject": "k", "data": {"n": 2}}'


def test_explain_tells_which_workflow_an_event_moves(folder: Path) -> None:
    (folder / "shop.yaml").write_text(WAITING)
    result = call("explain", "-", "--routes", "shop.yaml", stdin=PAID)
    assert "~ it moves shop:k if its step paid waits for it" in result.stdout
    assert "true  event.data.n > 1" in result.stdout
    assert "no route wants it" not in result.stdout
    asyncio.run(_write(folder, _waiting()))
    [online] = [one for one in call_json("explain", "-", stdin=PAID)["routes"] if one["route"] == "shop"]
    [awaited] = online["awaited"]
    assert (awaited["takes"], [one["what"] for one in awaited["first"]]) == (True, ["take", "emit", "ended"])
    shown = call("explain", "-", stdin=PAID).stdout
    assert "~ it moves shop:k: its step paid waits for it" in shown
    assert "tell: emits told" in shown


PAYING = """\
route: shop
on: {type: ordered}
key: ${{ event.subject }}
limits: {psp: {concurrency: 1}}
steps:
  charge: {agent: psp, input: 1, limit: psp, alias: "${{ steps.charge.payment }}"}
  settled: {needs: charge, wait: {event: settled, alias: charge, key: "${{ event.data.payment }}"}}
  tell: {needs: settled, emit: {type: told, data: 1}}
"""
SETTLED = '{"id": "s1", "source": "/psp", "type": "settled", "data": {"payment": "p1"}}'


def _paying() -> Partition:
    [loaded] = load_route_text(PAYING, name="shop")
    return Partition(loaded.route)


def _charged(made: Partition) -> Partition:
    made.start()
    made.pass_on()
    made.succeed("charge", {"payment": "p1"})
    made.pass_on()
    return made


def test_explain_finds_the_workflow_that_has_the_alias(folder: Path) -> None:
    (folder / "shop.yaml").write_text(PAYING)
    offline = call("explain", "-", "--routes", "shop.yaml", stdin=SETTLED).stdout
    assert (
        "~ it moves the workflow that has the alias mesh.alias:shop.charge/p1 if its step settled waits for it"
        in offline
    )
    asyncio.run(_write(folder, _charged(_paying())))
    shown = call("explain", "-", stdin=SETTLED).stdout
    assert "~ it moves shop:k: its step settled waits for it (by the alias mesh.alias:shop.charge/p1)" in shown
    assert "tell: emits told" in shown


def test_explain_knows_that_an_alias_was_given_back(folder: Path) -> None:
    made = _charged(_paying())
    made.offer_by_alias("settled", "charge", "p1", data={"payment": "p1"})
    made.pass_on()
    asyncio.run(_write(folder, made))
    shown = call("explain", "-", stdin=SETTLED.replace("s1", "s2")).stdout
    assert "~ no workflow has the alias mesh.alias:shop.charge/p1 yet: it is kept until one has" in shown


def test_graph_draws_a_workflow_that_waits_for_its_limit_and_nothing_of_the_mesh_itself(folder: Path) -> None:
    made = _paying()
    made.start()
    for asked in made.crossing():
        made.give(asked)
    asyncio.run(_write(folder, made))
    assert "class s_charge queued" in call("graph", "shop:k").stdout
    built_in = call("graph", "mesh.limit:psp")
    assert built_in.exit_code == 3
    assert "a workflow of the mesh itself" in built_in.stderr


def _waiting() -> Partition:
    steps: dict[str, Any] = {
        "paid": {"wait": {"event": "paid", "if": "event.data.n > 1", "timeout": "1d"}},
        "tell": {"needs": "paid", "emit": {"type": "told", "data": 1}},
    }
    made = Partition(route(steps, route="shop", on={"type": "ordered"}))
    # An event of today must come before the time-out of the wait.
    made.now_ms = SystemClock().now_ms()
    made.start()
    return made


def test_explain_takes_github_payloads_and_says_when_one_is_given_without_the_option() -> None:
    desk = Path(__file__).parents[2] / "agents" / "issue_triage"
    payload = desk / "samples" / "05-docs-typo.json"
    [one] = call_json("explain", payload, "--github", "--routes", desk / "routes")["routes"]
    assert [first["step"] for first in one["first"]] == ["classify", "duplicates"]
    result = call("explain", payload, "--routes", desk / "routes")
    assert result.exit_code == 1
    assert "give --github" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "code"),
    [
        (["-"], "[]", 1),
        (["-"], "{", 1),
        (["-"], '{"id": "1"}', 1),
        (["none.json"], None, 2),
        (["-", "--delivery", "x"], "{}", 2),
    ],
)
def test_explain_refuses_what_is_no_event(folder: Path, arguments: list[str], stdin: str | None, code: int) -> None:
    result = call("explain", *arguments, "--routes", "new.yaml", stdin=stdin)
    assert result.exit_code == code, result.output


# apply, rollback ----------------------------------------------------------------------------------


def active(name: str = "r") -> list[str]:
    return [one["digest"] for one in call_json("list", "--route", name)["versions"] if one["in_use"]]


def changes_of(*arguments: str | Path, code: int = 0) -> Any:
    """What `apply` and `rollback` did to each route."""
    found = call_json(*arguments, "--by", "ana", "--no-wait", code=code)
    return found, [(one["route"], one["change"]) for one in found["routes"]]


def test_the_first_routes_applied_hold_from_the_beginning_and_later_ones_from_a_time(stored: Path) -> None:
    found, steps = changes_of("apply", "same.yaml", "--reason", "first of all")
    assert steps == [("r", "new")]
    assert (found["applied"], found["activation"]["by"], found["activation"]["reason"]) == (True, "ana", "first of all")
    assert found["activation"]["in_effect_from"] is None
    [one] = [one for one in call_json("list")["versions"] if one["in_use"]]
    assert (one["digest"], one["active_since"], one["activated_by"]) == (ROUTE.digest, None, "ana")
    found, steps = changes_of("apply", "new.yaml")
    assert steps == [("r", "changed")]
    assert found["routes"][0]["before"] == ROUTE.digest
    assert [change["path"] for change in found["routes"][0]["changes"]] == [
        ["steps", "a", "timeout"],
        ["steps", "ok", "if"],
    ]
    since = found["activation"]["in_effect_from"]
    assert since > found["activation"]["at"]
    [one] = [one for one in call_json("list")["versions"] if one["in_use"]]
    assert (one["digest"], one["active_since"]) == (found["routes"][0]["digest"], since)


def test_people_are_told_what_changes_and_from_when(stored: Path) -> None:
    result = call("apply", "same.yaml")
    assert result.stdout.splitlines() == [
        f"+ r  new  {ROUTE.digest[7:19]}",
        "In effect from the beginning: nothing was active here before.",
    ]
    result = call("apply", "new.yaml", "--no-wait")
    assert "~ r  changed" in result.stdout
    assert "  + steps.ok.if  event.data.n > 1" in result.stdout
    assert "In effect for events that the broker takes at 20" in result.stdout
    assert "workflows that run now end under the version they started with" in result.stdout
    assert "in 1." in call("list").stdout
    again = call("apply", "new.yaml")
    assert again.stdout.startswith("= r  unchanged")
    assert "1 route, nothing to change" in again.stderr


def test_a_dry_run_and_a_failed_check_send_nothing(stored: Path) -> None:
    before = (stored / "mesh.db").read_bytes()
    result = call("apply", "new.yaml", "--dry-run")
    assert (result.exit_code, "+ r  new" in result.stdout, "nothing is applied" in result.stderr) == (0, True, True)
    assert call_json("apply", "new.yaml", "--dry-run")["applied"] is False
    (stored / "bad.yaml").write_text(FILE.replace("agent: worker", "agent: wroker"))
    result = call("apply", "bad.yaml")
    assert result.exit_code == 1
    assert "bad.yaml:5: error: " in result.stderr
    assert "Nothing is applied" in result.stderr
    found = call_json("apply", "bad.yaml", code=1)
    assert (found["applied"], {one["code"] for one in found["findings"]}) == (False, {"unknown_agent"})
    assert (stored / "mesh.db").read_bytes() == before
    assert changes_of("apply", "bad.yaml", "--force")[1] == [("r", "new")]


def test_a_route_is_withdrawn_and_comes_back(stored: Path) -> None:
    assert call("apply", "--withdraw", "r").exit_code == 3
    changes_of("apply", "same.yaml")
    assert changes_of("apply", "--withdraw", "r")[1] == [("r", "withdrawn")]
    assert active() == []
    assert "withdrawn" in call("list").stdout
    assert changes_of("apply", "--withdraw", "r")[1] == [("r", "unchanged")]
    assert changes_of("rollback", "r")[1] == [("r", "new")]
    assert active() == [ROUTE.digest]


def test_a_rollback_goes_to_the_version_before_and_again_is_back(stored: Path) -> None:
    changes_of("apply", "same.yaml")
    changes_of("apply", "new.yaml")
    [new] = active()
    assert call_json("rollback", "r", "--dry-run")["routes"][0]["digest"] == ROUTE.digest
    assert active() == [new]
    assert changes_of("rollback", "r")[1] == [("r", "changed")]
    assert active() == [ROUTE.digest]
    changes_of("rollback", "r")
    assert active() == [new]
    changes_of("rollback", "r", OLD.digest[7:19])
    assert active() == [OLD.digest]


def test_a_rollback_that_has_nowhere_to_go_lists_what_is_stored(stored: Path) -> None:
    assert call("rollback", "r").exit_code == 3
    changes_of("apply", "same.yaml")
    result = call("rollback", "r")
    assert result.exit_code == 3
    assert f"no other version of r was active before {ROUTE.digest[7:19]}" in result.stderr
    for digest, said in ((OLD.digest, "stored 20"), (ROUTE.digest, ", active")):
        [line] = [line for line in result.stderr.splitlines() if line.startswith(f"  {digest[7:19]}")]
        assert said in line
    unknown = call("rollback", "r", "sha256:none")
    assert (unknown.exit_code, "has no version sha256:none. Stored are:" in unknown.stderr) == (3, True)
    nobody = call("rollback", "nobody", "12")
    assert (nobody.exit_code, "No version of it is stored" in nobody.stderr) == (3, True)


@pytest.mark.parametrize("arguments", [[], ["same.yaml", "--withdraw", "r"], ["missing.yaml"]])
def test_apply_refuses_what_it_cant_mean(stored: Path, arguments: list[str]) -> None:
    result = call("apply", *arguments)
    assert result.exit_code in {1, 2}, result.output


# migrate ------------------------------------------------------------------------------------------


def move(*arguments: str) -> Result:
    return CliRunner().invoke(mesh, ["workflows", "migrate", *arguments])


def verdicts(*arguments: str, code: int = 0) -> list[tuple[str, str]]:
    result = move(*arguments, "--json")
    assert result.exit_code == code, result.output
    found = json.loads(result.stdout)
    assert sum(found["counts"].values()) == len(found["workflows"])
    return [(one["workflow_id"], one["verdict"]) for one in found["workflows"]]


def test_a_dry_run_tells_what_would_be_decided_and_what_would_begin(stored: Path) -> None:
    """r:two waits for an answer, r:one has ended."""
    changes_of("apply", "same.yaml")
    (stored / "more.yaml").write_text(FILE + """  log: {needs: a, agent: worker, input: "${{ steps.a }}"}\n""")
    changes_of("apply", "more.yaml")
    before = (stored / "mesh.db").read_bytes()
    result = move("two", "--to", "active", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("migrated   r:two")
    assert "then: log to worker" in result.stdout
    assert "1 migrated; this was a dry run, nothing is sent" in result.stderr
    assert verdicts("--route", "r", "--to", "active", "--dry-run") == [("r:two", "migrated")]
    assert verdicts("r:one", "r:two", "--to", "active", "--dry-run", code=1) == [
        ("r:one", "refused"),
        ("r:two", "migrated"),
    ]
    assert verdicts("two", "--to", ROUTE.digest[7:20], "--dry-run") == [("r:two", "already")]
    assert (stored / "mesh.db").read_bytes() == before
    (stored / "other.yaml").write_text(FILE.replace("ok:", "fine:").replace("ok", "fine"))
    changes_of("apply", "other.yaml")
    refused = move("two", "--to", "active", "--dry-run")
    assert (refused.exit_code, "step ok (asking) is not in the new version" in refused.stdout) == (1, True)


def test_a_migration_that_no_router_decides_times_out_and_says_so(stored: Path) -> None:
    async def create() -> None:
        broker = await SqliteBroker.open(stored / "mesh.db", client_id="test", durability="normal")
        await broker.create_topics([TopicSpec(TOPICS.commands, 1), TopicSpec(TOPICS.command_receipts, 1)])
        await broker.close()

    asyncio.run(create())
    changes_of("apply", "new.yaml")
    result = move("r:two", "--to", "active", "--timeout", "0.05")
    assert result.exit_code == 5
    assert result.stdout.startswith("undecided  r:two")
    assert "no receipt on mesh.commands.receipts for 1 command to migrate (r:two) after 0.05 s" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--to", "active"], 2, "say which workflows: an ID, or a filter"),
        (["two", "--route", "r", "--to", "active"], 2, "an ID is one workflow, and --route means many"),
        (["two"], 2, "--to"),
        (["nobody", "--to", "active"], 3, "no workflow has 'nobody'"),
        (["--route", "none", "--to", "active"], 3, "--route none alone fits no workflow"),
        (["two", "--to", "none"], 3, "no stored version has 'none'"),
        (["two", "--to", OLD.digest[7:]], 2, "was never active"),
    ],
)
def test_migrate_refuses_what_it_cant_mean(stored: Path, arguments: list[str], code: int, said: str) -> None:
    changes_of("apply", "same.yaml")
    result = move(*arguments, "--dry-run")
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr


def test_there_is_no_active_version_to_go_to_where_the_route_is_withdrawn(stored: Path) -> None:
    changes_of("apply", "same.yaml")
    changes_of("apply", "--withdraw", "r")
    result = move("two", "--to", "active", "--dry-run")
    assert (result.exit_code, "no version of r is active" in result.stderr) == (3, True)


# fork ---------------------------------------------------------------------------------------------


def forked(*arguments: str) -> Result:
    return CliRunner().invoke(mesh, ["workflows", "fork", *arguments, "--why", "x"])


def test_a_dry_run_of_a_fork_says_which_results_it_would_keep(stored: Path) -> None:
    before = (stored / "mesh.db").read_bytes()
    # it has ended, and its state has no outputs any more
    found = json.loads(forked("r:one", "--from", "ok", "--dry-run", "--json").stdout)
    assert (found["of"], found["from"], found["kept"], found["accepted"]) == ("r:one", "ok", ["a"], False)
    result = forked("r:two", "--from", "a", "--dry-run")
    assert "keeps the results of: no step" in result.stdout
    assert "this was a dry run, nothing is sent" in result.stderr
    assert (stored / "mesh.db").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["r:one", "--from", "nosuch"], 2, "route r has no step nosuch: a, ok, z"),
        (["nobody", "--from", "a"], 3, "no workflow has 'nobody'"),
        (["r:one", "--from", "a", "--to", "nosuch"], 3, "no stored version has 'nosuch'"),
    ],
)
def test_a_fork_that_can_not_be_says_why(stored: Path, arguments: list[str], code: int, said: str) -> None:
    result = forked(*arguments)
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr


def test_a_fork_is_ordered_with_the_results_of_the_log(stored: Path) -> None:
    async def create() -> None:
        broker = await SqliteBroker.open(stored / "mesh.db", client_id="test", durability="normal")
        await broker.create_topics([TopicSpec(TOPICS.commands, 1), TopicSpec(TOPICS.command_receipts, 1)])
        await broker.close()

    async def sent() -> CommandGiven:
        broker = await SqliteBroker.open(stored / "mesh.db", client_id="test", durability="normal")
        reader = await broker.reader()
        reader.assign({TopicPartition(TOPICS.commands, 0): 0})
        [record] = await reader.poll(max_records=10, timeout_s=0)
        await reader.close()
        await broker.close()
        return decode_command(record)

    asyncio.run(create())
    late = forked("r:one", "--from", "ok", "--timeout", "0.05")
    assert (late.exit_code, "for `fork` of r:one~" in late.stderr) == (5, True)
    given = asyncio.run(sent())
    assert (given.command, given.step, given.to) == ("fork", "ok", ROUTE.digest)
    assert given.fork is not None
    assert given.fork.steps == {"a": KeptResult(status="succeeded", output={"n": 1})}
    assert given.fork.event["data"] == {"n": 1}


# list, show, diff ---------------------------------------------------------------------------------


def test_list_has_every_version_the_newest_last_with_its_workflows(stored: Path) -> None:
    found = call_json("list")["versions"]
    assert {(one["digest"], one["running"], one["ended"]) for one in found} == {
        (OLD.digest, 0, 0),
        (ROUTE.digest, 1, 1),
    }
    assert [one["in_use"] for one in found].count(True) == 1
    assert call_json("list", "--route", "none")["versions"] == []
    assert ROUTE.digest[7:19] in call("list").stdout


def test_show_prints_a_version_that_compiles_to_itself(stored: Path) -> None:
    result = call("show", ROUTE.digest[7:15])
    assert result.exit_code == 0
    (stored / "again.yaml").write_text(result.stdout)
    assert call("diff", ROUTE.digest, "again.yaml").exit_code == 0
    assert call_json("show", ROUTE.digest)["definition"] == ROUTE.definition
    missing = call("show", "nothing-like-it")
    assert missing.exit_code == 3
    assert "`mesh routes list`" in missing.stderr


def test_diff_compares_a_file_with_a_version_and_says_what_it_means(stored: Path) -> None:
    found = call_json("diff", OLD.digest, ROUTE.digest, code=1)["compared"][0]
    assert [(one["kind"], one["path"]) for one in found["changes"]] == [("removed", ["closed_retention"])]
    (stored / "new.yaml").write_text(FILE.replace("event.subject", "event.id").replace("type: t", "type: u"))
    result = call("diff", "new.yaml")
    assert result.exit_code == 1
    assert "~ key  ${{ event.subject }} -> ${{ event.id }}" in result.stdout
    assert "other workflow ids" in result.stdout
    assert "other events" in result.stdout


def test_diff_of_files_needs_no_broker(folder: Path) -> None:
    result = call("diff", "same.yaml", "new.yaml")
    assert result.exit_code == 1
    assert "+ steps.ok.if  event.data.n > 1" in result.stdout
    assert "+ steps.a.timeout  1m" in result.stdout
    assert call("diff", "same.yaml", "same.yaml").exit_code == 0
    assert not (folder / "mesh.db").exists()


def test_diff_says_when_there_is_nothing_to_compare_with(stored: Path) -> None:
    (stored / "new.yaml").write_text(FILE.replace("route: r", "route: fresh"))
    result = call("diff", "new.yaml")
    assert (result.exit_code, "it is new" in result.stderr) == (3, True)


# graph --------------------------------------------------------------------------------------------


def test_graph_draws_files_routes_and_workflows(stored: Path) -> None:
    assert call("graph", "new.yaml").stdout.startswith("%% r, rules ")
    assert "flowchart TD" in call("graph", "r").stdout
    [drawn] = call_json("graph", "r:one")["graphs"]
    assert (drawn["workflow_id"], drawn["digest"]) == ("r:one", ROUTE.digest)
    assert "succeeded, 40 ms" in drawn["mermaid"]
    missing = call("graph", "nothing")
    assert (missing.exit_code, "a stored route" in missing.stderr) == (3, True)


# replay -------------------------------------------------------------------------------------------


def test_replay_shows_which_workflows_would_go_otherwise(stored: Path) -> None:
    (stored / "new.yaml").write_text(call("show", ROUTE.digest).stdout)
    assert call_json("replay", "new.yaml")["counts"] == {"differs": 0, "unknown": 0, "same": 2}
    (stored / "new.yaml").write_text(
        call("show", ROUTE.digest).stdout.replace("    needs: a\n", "    needs: a\n    if: event.data.n > 1\n")
    )
    found = call_json("replay", "new.yaml")
    assert {one["workflow_id"]: one["verdict"] for one in found["workflows"]} == {"r:one": "differs", "r:two": "same"}
    result = call("replay", "new.yaml")
    assert result.exit_code == 0
    assert "ok: asked maintainer -> skipped" in result.stdout
    assert "r:two" not in result.stdout
    assert "r:two" in call("replay", "new.yaml", "--all").stdout
    assert "2 workflows: 1 would go differently, 1 the same; nothing was sent" in result.stderr
    assert call("replay", "new.yaml", "--exit-code").exit_code == 1
    assert call("replay", "new.yaml", "--exit-code", "--workflow", "two").exit_code == 0


def test_replay_begins_when_it_is_told_to(stored: Path) -> None:
    assert call_json("replay", "new.yaml", "--since", "1h")["workflows"] == []
    assert len(call_json("replay", "new.yaml", "--since", "2025-11-20")["workflows"]) == 2
    assert len(call_json("replay", "new.yaml", "--since", "2025-11-20T00:00:00Z")["workflows"]) == 2
    assert call("replay", "new.yaml", "--since", "lately").exit_code == 2
    assert call("replay", "new.yaml", "--workflow", "nobody").exit_code == 3


def test_replay_sends_nothing(stored: Path) -> None:
    before = (stored / "mesh.db").read_bytes()
    call("replay", "new.yaml")
    assert (stored / "mesh.db").read_bytes() == before
