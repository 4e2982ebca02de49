"""`mesh people`, on a mesh on SQLite: what people read, what programs read, and the exit code."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mesh.adapters.sqlite import SqliteBroker
from mesh.adapters.system import SystemClock
from mesh.cli.app import mesh
from mesh.cli.approvals.filters import Wanted, filters_of
from mesh.cli.session import Session
from mesh.codec.route_file import load_route_text
from mesh.codec.router_cards import RouterCard, encode_router_card
from mesh.codec.times import rfc3339
from mesh.core.topics import Topics
from mesh.inspection.inbox import Mine
from mesh.ports import OutRecord
from mesh.services.definitions import DefinitionsReader, activate
from mesh.services.topic_plan import topic_specs
from mesh.settings import load_settings

TOPICS = Topics()
ROUTE = """\
route: pay
on: {type: t}
steps:
  review: {approval: {ask: Pay?, payload: 1, role: finance, quorum: 2}}
  sign: {needs: review, approval: {ask: Sign?, payload: 1, role: boss}}
"""
BOTH = "finance: [ana, ben]\nboss: ana\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mesh whose route asks for the roles finance and boss."""
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{tmp_path}/mesh.db")
    monkeypatch.setenv("MESH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MESH_BY", "ops")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    asyncio.run(_begin(tmp_path))
    return tmp_path


async def _begin(folder: Path) -> None:
    broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
    await broker.create_topics(topic_specs(TOPICS, partitions=1, agents=[]))
    known = DefinitionsReader(broker, TOPICS)
    await known.start()
    route = load_route_text(ROUTE, name="r.yaml")[0].route
    await activate(known, broker, TOPICS, routes=[route], activation_id="a", by="x", at_ms=1)
    await known.close()
    await broker.close()


async def _send(folder: Path, *records: OutRecord) -> None:
    broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
    assert not await broker.send(records)
    await broker.close()


def call(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(mesh, ["people", *arguments])
    assert result.exit_code == code, (result.stdout, result.stderr)
    return result


def call_json(*arguments: str, code: int = 0) -> Any:
    return json.loads(call(*arguments, "--json", code=code).stdout)


def apply(folder: Path, text: str, *more: str) -> Any:
    (folder / "people.yaml").write_text(text)
    return call_json("apply", "people.yaml", "--yes", *more)


def test_before_the_first_version_it_says_that_files_rule(folder: Path) -> None:
    assert "its own approvers' file" in call().stderr
    assert call_json() == {
        "source": "file",
        "activation": None,
        "next": None,
        "people": [],
        "total": 0,
    }


def test_the_first_version_holds_from_the_beginning_and_is_shown(folder: Path) -> None:
    found = apply(folder, BOTH, "--reason", "the first")
    assert (found["applied"], found["activation"]["in_effect_from"]) == (True, None)
    assert (found["activation"]["by"], found["activation"]["reason"]) == ("ops", "the first")
    shown = call_json("show")
    assert (shown["source"], shown["activation"]["version"]) == (TOPICS.people, found["version"])
    assert shown["people"] == [
        {"id": "ana", "names": [], "roles": ["boss", "finance"]},
        {"id": "ben", "names": [], "roles": ["finance"]},
    ]
    said = call().stdout
    assert "applied by ops: the first; in effect from the beginning" in said
    assert [line.split()[0] for line in said.splitlines()[1:3]] == ["ana", "ben"]


def test_the_same_people_again_change_nothing(folder: Path) -> None:
    first = apply(folder, BOTH)
    again = apply(folder, "boss: ana\nfinance: [ben, ana]\n")
    assert (again["applied"], again["unchanged"], again["version"]) == (False, True, first["version"])
    assert "nothing to change" in call("apply", "people.yaml").stderr


def test_a_plan_says_who_gains_and_loses_what(folder: Path) -> None:
    apply(folder, BOTH)
    (folder / "new.yaml").write_text("boss: dan\nfinance: dan\npeople: {ana: {names: 'slack:U1', roles: finance}}\n")
    said = call("plan", "new.yaml").stdout.splitlines()
    assert said == ["~ ana  loses boss  is also slack:U1", "- ben  loses finance", "+ dan  gets boss, finance"]
    assert not call_json("plan", "new.yaml")["applied"]
    assert call_json()["total"] == 2, "a plan applies nothing"


def test_a_later_version_says_from_when_it_holds_and_is_shown_as_the_next_until_then(folder: Path) -> None:
    first = apply(folder, BOTH)
    later = apply(folder, "finance: [ana, ben, cem]\nboss: ana\n")
    assert later["activation"]["in_effect_from"] is not None
    before = call_json("show", "--at", "1h")
    assert before["activation"]["version"] == first["version"]
    assert before["next"]["version"] == later["version"]
    (folder / "old.yaml").write_text(BOTH)
    assert "In effect for answers that the broker takes at" in call("apply", "old.yaml", "--yes").stdout


def test_a_role_that_a_route_asks_for_is_not_emptied_without_force(folder: Path) -> None:
    apply(folder, BOTH)
    (folder / "less.yaml").write_text("finance: [ana, ben]\n")
    for verb, options in (("plan", ()), ("apply", ("--yes",))):
        refused = call(verb, "less.yaml", *options, code=1)
        assert "the role boss would lose its last person" in refused.stderr
        assert "--force" in refused.stderr
    found = call_json("apply", "less.yaml", "--yes", code=1)
    assert (found["applied"], found["roles_emptied"]) == (False, ["boss"])
    assert found["roles_lost"] == [{"role": "boss", "route": "pay", "step": "sign"}]
    assert call_json("apply", "less.yaml", "--yes", "--force")["applied"]


def test_a_role_that_nobody_had_is_said_and_refuses_nothing(folder: Path) -> None:
    found = apply(folder, "finance: [ana, ben]\nother: ana\n")
    assert (found["applied"], found["roles_lost"]) == (True, [])
    assert found["roles_unheld"] == [{"role": "boss", "route": "pay", "step": "sign"}]
    gone = apply(folder, "finance: [ana, ben]\n")
    assert (gone["applied"], gone["roles_emptied"]) == (True, ["other"])


def test_the_first_version_does_not_empty_a_role_that_somebody_has_by_the_routers_files(folder: Path) -> None:
    now = rfc3339(SystemClock().now_ms())
    card = RouterCard(instance="r", started_at=now, renewed_at=now, expires_after_s=600.0, roles=("boss", "finance"))
    asyncio.run(_send(folder, encode_router_card(card, topics=TOPICS)))
    (folder / "less.yaml").write_text("finance: [ana, ben]\n")
    assert [lost["role"] for lost in call_json("plan", "less.yaml", code=1)["roles_lost"]] == ["boss"]


def test_without_a_terminal_it_needs_yes(folder: Path) -> None:
    (folder / "people.yaml").write_text(BOTH)
    assert "it needs --yes" in call("apply", "people.yaml", code=2).stderr
    assert call_json()["source"] == "file"


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2)])
def test_on_a_terminal_it_asks(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int) -> None:
    monkeypatch.setattr("mesh.cli.session.Session.is_interactive", True)
    (folder / "people.yaml").write_text(BOTH)
    result = CliRunner().invoke(mesh, ["people", "apply", "people.yaml"], input=answer)
    assert (result.exit_code, "Apply this?" in result.stderr) == (code, True)
    assert call_json()["total"] == (2 if code == 0 else 0)


def test_an_id_is_permanent(folder: Path) -> None:
    """Votes are counted by ids, so a person with a new one could vote twice."""
    apply(folder, "finance: [ana, ben]\nboss: [ana, old@example.org]\n")
    (folder / "new.yaml").write_text(BOTH + "people: {new@example.org: {names: OLD@example.org, roles: boss}}\n")
    refused = call("apply", "new.yaml", "--yes", "--force", code=1)
    assert "keep old@example.org as the id, and give new@example.org as a further name" in refused.stderr


def test_a_version_in_which_two_share_a_name_is_refused_and_names_both_and_the_line(folder: Path) -> None:
    (folder / "new.yaml").write_text("people:\n  ana: {names: 'slack:U1'}\n  ben: {names: ['SLACK:u1']}\n")
    assert "new.yaml:3: ana and ben share the name SLACK:u1" in call("plan", "new.yaml", code=2).stderr


def test_a_time_that_is_none_is_refused(folder: Path) -> None:
    assert "is not a time" in call("show", "--at", "soon", code=2).stderr


def mine(folder: Path, name: str) -> tuple[set[str], set[str]]:
    async def found() -> Mine | None:
        broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
        try:
            return (await filters_of(Session(load_settings(), as_json=True), broker, Wanted(mine=True), name)).mine
        finally:
            await broker.close()

    one = asyncio.run(found())
    assert one is not None
    return set(one.names), set(one.roles)


def test_mine_goes_by_the_file_until_the_topic_has_people(folder: Path) -> None:
    (folder / "approvers.yaml").write_text("finance: [Ben]\n")
    assert mine(folder, "ben") == ({"ben"}, {"finance"})
    apply(folder, "people: {ana: {names: ['slack:U1'], roles: [finance, boss]}}\n")
    assert mine(folder, "slack:u1") == ({"ana", "slack:u1"}, {"finance", "boss"})
    assert mine(folder, "ben") == ({"ben"}, set())
