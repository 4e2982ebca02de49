"""The routes that ship as examples (docs/examples.md).

They run with their real agents, on files of their own.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from agents.document_review.agents import criticise, write
from agents.incident_response import agents as responders
from agents.incident_response.fleet import open_fleet
from agents.refund.desk import assess, pay
from agents.refund.ledger import open_ledger
from agents.three_designs import agents as tickets
from mesh.testing import MeshKit, Refused, fails

AGENTS = Path(__file__).parents[2] / "agents"


def sample(example: str, name: str) -> Any:
    return json.loads((AGENTS / example / "samples" / name).read_text())


@pytest.fixture(autouse=True)
def _own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_LEDGER", str(tmp_path / "refunds.db"))
    monkeypatch.setenv("INCIDENT_FLEET", str(tmp_path / "fleet.db"))


# Refund -------------------------------------------------------------------------------------------


@pytest.fixture
def refunds(mesh_kit: MeshKit) -> MeshKit:
    mesh_kit.route(AGENTS / "refund" / "routes")
    mesh_kit.people(AGENTS / "refund" / "approvers.yaml")
    mesh_kit.calendar(AGENTS / "refund" / "calendar.yaml")
    mesh_kit.agent(assess)
    mesh_kit.agent(pay)
    return mesh_kit


def request(kit: MeshKit, **data: Any) -> Any:
    return kit.publish(type="com.example.refund.requested", data={**sample("refund", "refund.json"), **data})


def paid() -> list[tuple[str, int]]:
    with open_ledger() as ledger:
        return ledger.of("c-17")


def test_a_small_and_harmless_refund_is_paid_without_a_person(refunds: MeshKit) -> None:
    assert request(refunds).outcome.status == "completed"
    assert paid() == [("A-1001", 1999)]


def test_a_lead_is_enough_for_a_middling_one(refunds: MeshKit) -> None:
    run = request(refunds, cents=20_000)
    run.approve("lead", by="lea@example.org")
    assert run.outcome.status == "completed"
    assert run.steps["patience"] == "cancelled"
    assert run.steps["manager"] == run.steps["finance"] == "skipped"


def test_when_no_lead_answers_a_manager_is_asked_and_finance_has_the_last_word(refunds: MeshKit) -> None:
    run = request(refunds, cents=80_000, reason="because")
    assert run.waits_for("lead").role == "support-lead"
    refunds.advance("4h")
    assert run.steps["lead"] == "cancelled"
    run.approve("manager", by="max@example.org")
    run.approve("finance", by="fay@example.org", reason="seen")
    with pytest.raises(Refused, match="took part in manager"):
        run.approve("finance", by="max@example.org")
    run.approve("finance", by="fin@example.org")
    assert run.outcome.status == "completed"
    assert paid() == [("A-1001", 80_000)]
    refunds.matches("a-refund-that-escalates.txt")


def test_after_four_working_hours_the_director_of_finance_may_fill_a_seat(refunds: MeshKit) -> None:
    run = request(refunds, cents=80_000, reason="because")
    refunds.advance("4h")
    run.approve("manager", by="max@example.org")
    run.approve("finance", by="fay@example.org")
    with pytest.raises(Refused, match="role"):
        run.approve("finance", by="dora@example.org")
    # it was asked at 05:00 of a Thursday in Berlin, so four working hours are over at 13:00
    refunds.advance("10h")
    run.approve("finance", by="dora@example.org", reason="fin is on leave")
    assert run.outcome.status == "completed"
    assert paid() == [("A-1001", 80_000)]


def test_a_rejection_pays_nothing(refunds: MeshKit) -> None:
    run = request(refunds, cents=20_000)
    run.reject("lead", by="lea@example.org", reason="twice already")
    assert run.outcome.status == "rejected"
    assert paid() == []


def test_an_order_that_was_refunded_before_is_looked_at(refunds: MeshKit) -> None:
    assert request(refunds).outcome.status == "completed"
    run = request(refunds)
    assert run.waits_for("lead").role == "support-lead"


# Production change --------------------------------------------------------------------------------


@pytest.fixture
def changes(mesh_kit: MeshKit) -> MeshKit:
    mesh_kit.route(AGENTS / "production_change" / "routes")
    mesh_kit.people(AGENTS / "production_change" / "approvers.yaml")
    return mesh_kit


def propose(kit: MeshKit) -> Any:
    return kit.publish(type="com.example.change.proposed", data=sample("production_change", "change.json"))


def test_four_eyes_look_at_a_change_to_production(changes: MeshKit) -> None:
    run = propose(changes)
    plan = {"steps": ["drain", "deploy", "watch"], "rollback": "redeploy 42"}
    run.edit("plan", plan, by="ines@example.org", reason="41 is broken")
    run.approve("plan", by="olga@example.org")
    for who in ("emil", "olga", "ines"):
        with pytest.raises(Refused) as refusal:
            run.choose("release", "now", by=f"{who}@example.org")
        assert refusal.value.code == "excluded"
    assert run.steps["release"] == "asking"


def test_a_change_goes_out_when_an_engineer_and_security_agree(changes: MeshKit) -> None:
    run = propose(changes)
    run.approve("plan", by="olga@example.org")
    run.choose("release", "tonight", by="ines@example.org")
    run.choose("release", "now", by="sven@example.org")
    run.choose("release", "tonight", by="sven@example.org")
    assert run.steps["wait"] == "waiting"
    changes.advance("8h")
    assert run.outcome.status == "completed"
    changes.matches("a-change-to-production.txt")


# Document review ----------------------------------------------------------------------------------


@pytest.fixture
def desk(mesh_kit: MeshKit) -> MeshKit:
    mesh_kit.route(AGENTS / "document_review" / "routes")
    mesh_kit.people(AGENTS / "document_review" / "approvers.yaml")
    mesh_kit.agent(write)
    return mesh_kit


def submit(kit: MeshKit) -> Any:
    notice = sample("document_review", "notice.json")
    return kit.publish(type="com.example.document.submitted", subject="notice", data=notice)


def test_a_document_goes_round_until_it_is_plain(desk: MeshKit) -> None:
    desk.agent(criticise)
    outcome = submit(desk).outcome
    assert outcome.status == "completed"
    assert outcome.data["score"] >= 9
    assert 1 < outcome.data["rounds"] <= 5
    assert "utilize" not in outcome.data["text"]
    desk.matches("a-document-that-goes-round.txt")


def test_after_five_rounds_an_editor_decides(desk: MeshKit) -> None:
    critic = desk.agent("plain-critic", {"score": 3.0, "findings": []})
    run = submit(desk)
    assert run.waits_for("edit").role == "editor"
    assert len(critic.inputs) == 5
    run.approve("edit", by="eda@example.org")
    assert run.outcome.data["rounds"] == 5


# Incident response --------------------------------------------------------------------------------


@pytest.fixture
def pager(mesh_kit: MeshKit) -> MeshKit:
    mesh_kit.route(AGENTS / "incident_response" / "routes")
    for one in (responders.diagnose, responders.drain, responders.restore, responders.deploy, responders.verify):
        mesh_kit.agent(one)
    return mesh_kit


def fire(kit: MeshKit, *, broken: list[str]) -> Any:
    with open_fleet() as fleet:
        fleet.add("checkout", release="v2", previous="v1", hosts=["a", "b"], broken=broken)
    return kit.publish(type="com.example.alert.fired", data=sample("incident_response", "alert.json"))


def fleet() -> tuple[str, list[tuple[str, bool]]]:
    with open_fleet() as found:
        return found.releases("checkout")[0], found.hosts("checkout")


def test_a_bad_release_is_rolled_back_and_the_monitor_has_the_last_word(pager: MeshKit) -> None:
    run = fire(pager, broken=["v2"])
    assert run.steps["resolved"] == "waiting"
    pager.publish(type="com.example.alert.resolved", data={"service": "checkout"})
    assert run.outcome.data == {"service": "checkout", "release": "v1", "bad_release": "v2"}
    assert fleet() == ("v1", [("a", False), ("b", False)])


def test_what_did_not_help_is_undone_the_last_first(pager: MeshKit) -> None:
    outcome = fire(pager, broken=["v1", "v2"]).outcome
    assert outcome.status == "failed"
    assert "still ill" in outcome.reason
    assert fleet() == ("v2", [("a", False), ("b", False)]), "as it was before"
    pager.matches("a-release-that-could-not-be-helped.txt")


def test_a_false_alarm_ends_at_once(pager: MeshKit) -> None:
    outcome = fire(pager, broken=[]).outcome
    assert outcome.status == "completed"
    assert outcome.reason.endswith("checkout is well")


def test_a_monitor_that_says_nothing_is_an_operators_matter(pager: MeshKit) -> None:
    run = fire(pager, broken=["v2"])
    pager.advance("15m")
    assert run.steps["resolved"] == "incident"


# Three designs ------------------------------------------------------------------------------------

CREW = (
    tickets.intake,
    tickets.find,
    tickets.look_back,
    tickets.write,
    tickets.check,
    tickets.dispatch,
    tickets.billing,
    tickets.technical,
    tickets.account,
)


@pytest.fixture
def help_desk(mesh_kit: MeshKit) -> MeshKit:
    mesh_kit.route(AGENTS / "three_designs" / "routes")
    for one in CREW:
        mesh_kit.agent(one)
    return mesh_kit


def ask(kit: MeshKit, design: str, subject: str, ticket: Any) -> Any:
    return kit.publish(type=f"com.example.ticket.{design}", subject=subject, data=ticket)


def test_all_three_designs_give_the_same_answers(help_desk: MeshKit) -> None:
    for number, ticket in enumerate(sample("three_designs", "tickets.json")):
        answers = [ask(help_desk, d, str(number), ticket).outcome.data for d in ("chain", "dag", "mesh")]
        assert answers[0]["sources"]
        assert answers[0] == answers[1] == answers[2]


def test_the_mesh_hands_over_again_where_the_first_look_was_wrong(help_desk: MeshKit) -> None:
    text = "Something is wrong with my account. I was charged twice on my card, and want one charge refunded."
    run = ask(help_desk, "mesh", "1", {"text": text, "customer": "Ada"})
    assert run.outcome.data["topic"] == "billing"
    help_desk.matches("a-ticket-that-is-handed-over-twice.txt")


def test_the_dag_ends_early_where_there_is_nothing_to_answer_from(help_desk: MeshKit) -> None:
    outcome = ask(help_desk, "dag", "1", {"text": "Qwertz!", "customer": "Ada"}).outcome
    assert outcome.status == "failed"
    assert outcome.reason == "unknown: no article speaks of it"


@pytest.mark.parametrize("design", ["chain", "dag", "mesh"])
def test_an_agent_that_fails_now_and_then_changes_no_answer(mesh_kit: MeshKit, design: str) -> None:
    mesh_kit.route(AGENTS / "three_designs" / "routes")
    for one in CREW:
        mesh_kit.agent(one.name, fails("ConnectError", times=1), then=one) if one is tickets.check else mesh_kit.agent(
            one
        )
    outcome = ask(mesh_kit, design, "1", {"text": "Where is the invoice for October?", "customer": "Flo"}).outcome
    assert outcome.data["sources"] == ["kb-1"]
