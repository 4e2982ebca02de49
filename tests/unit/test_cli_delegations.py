"""`mesh delegations` and `mesh absences`, as who grants roles uses them, and what answers say."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.sqlite import SqliteBroker
from mesh.adapters.system import SystemClock
from mesh.cli.app import mesh
from mesh.cli.approvals.commands import verdict
from mesh.codec.approvals import Personal, Receipt, decode_response
from mesh.codec.approvers_file import load_people
from mesh.codec.delegations import encode_personal
from mesh.codec.people import digest_of, encode_people, encode_people_activation
from mesh.core.delegations import Absence, Delegation, DelegationEnd, DelegationTimeline, why_invalid
from mesh.core.ids import is_person
from mesh.core.inputs import AnswerGiven2
from mesh.core.topics import Topics
from mesh.ports import OutRecord, TopicPartition
from mesh.services.people import PeopleReader
from mesh.services.topic_plan import topic_specs

TOPICS = Topics()
DAY_MS = 24 * 3_600_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mesh with ana, ben and fay, and nothing that runs."""
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{tmp_path}/mesh.db")
    monkeypatch.setenv("MESH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MESH_BY", "ops")
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people.yaml").write_text("finance: [ana, ben]\npeople: {ana: {names: 'slack:U1'}, fay: {}}\n")
    people = load_people(tmp_path / "people.yaml")
    active = encode_people_activation(digest_of(people), topics=TOPICS, activation_id="a", by="ops", at_ms=1)
    asyncio.run(_send(tmp_path, encode_people(people, TOPICS), active))
    return tmp_path


async def _send(folder: Path, *records: OutRecord) -> None:
    broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
    await broker.create_topics(topic_specs(TOPICS, partitions=1, agents=[]))
    assert not await broker.send(records)
    await broker.close()


def call(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(mesh, arguments)
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


def call_json(*arguments: str, code: int = 0) -> Any:
    return json.loads(call(*arguments, "--json", code=code).stdout)


def test_who_grants_roles_lets_somebody_answer_for_another_and_ends_it(folder: Path) -> None:
    assert "No delegations" in call("delegations").stdout
    scope = ("--role", "finance", "--route", "pay")
    given = call_json("delegations", "add", "--from", "slack:U1", "--to", "fay", "--until", "7d", *scope)
    assert (given["from"], given["to"], given["roles"], given["routes"]) == ("ana", "fay", ["finance"], ["pay"])
    assert (given["by"], given["signed"], given["state"], given["ended"]) == ("ops", "own", "later", None)
    assert given["id"].startswith("o-")
    shown = call("delegations", "list", "--person", "fay").stdout
    assert all(word in shown for word in (given["id"], "ana", "fay", "role finance, route pay"))
    assert call_json("delegations", "--person", "ben")["total"] == 0
    assert "no delegation" in call("delegations", "end", given["id"], "--from", "ben", code=3).stderr
    assert "has ended" in call("delegations", "end", given["id"], "--from", "ana", "--reason", "back").stdout
    assert "has ended" in call("delegations", "end", given["id"], "--from", "ana", code=2).stderr
    [ended] = call_json("delegations", "--all")["delegations"]
    assert (ended["ended"]["by"], ended["ended"]["reason"]) == ("ops", "back")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--to", "zoe", "--until", "7d"), 3, "nobody is called 'zoe'"),
        (("--to", "slack:U1", "--until", "7d"), 2, "to themself"),
        (("--to", "fay", "--until", "91d"), 2, "longer than 90 days"),
        (("--to", "fay", "--until", "1d", "--start", "2d"), 2, "before it begins"),
        (("--to", "fay", "--until", "soon"), 2, "is not a time"),
    ],
)
def test_what_nobody_may_delegate_is_refused(folder: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    assert said in call("delegations", "add", "--from", "ana", *arguments, code=code).stderr
    assert call_json("delegations")["total"] == 0


def test_who_is_away_is_listed_with_who_answers_for_them(folder: Path) -> None:
    assert "Nobody is away" in call("absences").stdout
    call("delegations", "add", "--from", "ana", "--to", "fay", "--until", "7d")
    assert "ana is away" in call("absences", "add", "--person", "slack:U1", "--until", "3d", "--reason", "ill").stdout
    [away] = call_json("absences")["absences"]
    assert (away["person"], away["delegates"], away["reason"]) == ("ana", ["fay"], "ill")
    assert "fay" in call("absences").stdout
    assert "ana is back" in call("absences", "end", "--person", "ana").stdout
    assert call_json("absences")["total"] == 0
    assert "ends before" in call("absences", "add", "--until", "1d", "--start", "2d", code=2).stderr


def test_what_a_person_says_of_themself_goes_out_as_an_answer(folder: Path) -> None:
    """Nobody runs who would answer, so the command gives up; the answer is there."""
    call("delegate", "--to", "fay", "--until", "2d", "--role", "finance", "--by", "ana", "--timeout", "0", code=5)
    call("absent", "--until", "2d", "--by", "ana", "--timeout", "0", code=5)
    call("delegations", "end", "d-1", "--by", "ana", "--timeout", "0", code=5)
    delegate, absent, end = asyncio.run(_answers(folder))
    assert (delegate.decision, delegate.by, delegate.to, delegate.roles) == ("delegate", "ana", "fay", ("finance",))
    assert delegate.until_ms == pytest.approx(time.time() * 1000 + 2 * DAY_MS, abs=600_000)
    assert (absent.decision, absent.workflow_id) == ("absent", "mesh.person:ana")
    assert is_person(absent.workflow_id)
    assert (end.decision, end.delegation) == ("end", "d-1")


async def _answers(folder: Path) -> list[AnswerGiven2]:
    broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
    reader = await broker.reader()
    try:
        reader.assign({TopicPartition(TOPICS.responses, p): 0 for p in range(4)})
        found = [decode_response(one) for one in await reader.poll(max_records=10, timeout_s=5)]
    finally:
        await reader.close()
        await broker.close()
    return sorted((one for one in found if isinstance(one, AnswerGiven2)), key=lambda one: one.source_at_ms)


def test_a_receipt_says_for_whom_it_is() -> None:
    about: dict[str, Any] = {"approval_id": "r:1/4f2a9c01/review", "answer_id": "a", "by": "ana", "verdict": ""}
    counted = Receipt(status="accepted", code="counted", closed=False, have=1, need=2, on_behalf="ben", **about)
    assert verdict(counted).plain == "counted (1 of 2)  r:1/4f2a9c01/review  ana for ben"
    refused = Receipt(status="refused", code="delegation", closed=False, message="no", **about)
    assert "mesh delegations" in verdict(refused).plain


def test_an_edit_is_in_ones_own_name(folder: Path) -> None:
    assert "own name" in call("approve", "x", "--for", "ben", "--payload", "1", code=2).stderr


# The records --------------------------------------------------------------------------------------


def given(**more: Any) -> Delegation:
    return Delegation(**{"id": "o-1", "giver": "ana", "to": "fay", "start_ms": 0, "until_ms": DAY_MS, **more})


def test_the_first_record_of_a_delegation_counts_and_each_topic_has_its_own_names() -> None:
    timeline = DelegationTimeline()
    timeline.add(DelegationEnd(id="o-1", by="ana"), 9_000, is_said=True)  # its topic may be read first
    timeline.add(given(id="d-forged"), 1_000)
    timeline.add(given(id="o-forged"), 1_000, is_said=True)
    timeline.add(given(), 1_000)
    timeline.add(given(to="ben"), 2_000)
    [known] = timeline.all()
    assert (known.delegation.to, known.from_ms, known.ended_ms) == ("fay", 3_000, 11_000)
    assert [one.ended_ms for one in timeline.as_of(10_999)] == [None]
    assert timeline.as_of(2_999) == ()
    assert timeline.get("o-1") == known
    assert timeline.get("o-2") is None


def test_of_two_absences_the_last_word_counts() -> None:
    timeline = DelegationTimeline()
    for said_ms, until_ms in ((5, 100), (4, 200)):
        timeline.add(Absence(person="ana", start_ms=10, until_ms=until_ms, said_ms=said_ms), 1)
    assert [one.until_ms for one in timeline.absences()] == [100]
    assert [sorted(timeline.absent(at_ms)) for at_ms in (9, 10, 99, 100)] == [[], ["ana"], ["ana"], []]


def test_a_delegation_names_so_many_roles_and_no_more() -> None:
    assert why_invalid(given(roles=tuple(map(str, range(101))))) != ""
    assert why_invalid(given(roles=tuple(map(str, range(100))))) == ""
    assert encode_personal(given(), topics=TOPICS, at_ms=1).topic == TOPICS.people
    assert encode_personal(given(), topics=TOPICS, at_ms=1, is_said=True).topic == TOPICS.delegations
    assert Personal().fields()["start"] == ""


async def test_a_reader_that_began_before_the_topic_was_there_reads_it_once_it_is() -> None:
    """Else routers that were started before and after `mesh topics apply` would judge otherwise."""
    cluster = MemoryCluster(SystemClock())
    everything = topic_specs(TOPICS, partitions=1, agents=[])
    cluster.create_topics([spec for spec in everything if spec.name != TOPICS.delegations])
    broker = MemoryBroker(cluster, "r")
    reader = PeopleReader(broker, TOPICS)
    await reader.start()
    cluster.create_topics(everything)
    said = Absence(person="ana", start_ms=1, until_ms=9, said_ms=1)
    assert not await broker.send([encode_personal(said, topics=TOPICS, at_ms=1, is_said=True)])
    await reader.refresh()
    assert list(reader.delegations.absent(5)) == ["ana"]
    await reader.close()
