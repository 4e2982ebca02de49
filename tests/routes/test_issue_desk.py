"""The route of the issue desk, tested as a team would test its own.

Played agents test the rules, and the real ones test the whole. docs/testing-routes.md takes its
examples from here.
"""

from pathlib import Path
from typing import Any

import pytest

from agents.issue_triage.classifier import classify
from agents.issue_triage.drafter import draft
from agents.issue_triage.duplicate_finder import find_duplicates
from agents.issue_triage.publisher import publish
from mesh.codec.github import read_payload, webhook_event
from mesh.testing import MeshKit, approves, fails, silent

DESK = Path(__file__).parents[2] / "agents" / "issue_triage"
CLEAR = {"labels": ["bug"], "severity": "low", "confidence": 0.9}
ISSUE = {"repository": {"full_name": "octo/ferry"}, "issue": {"number": 7, "title": "It crashes"}}


@pytest.fixture
def desk(mesh_kit: MeshKit) -> MeshKit:
    """A clear, harmless and new issue, and agents that are all well."""
    mesh_kit.route(DESK / "routes" / "issue-triage.yaml")
    mesh_kit.people(DESK / "approvers.yaml")
    mesh_kit.agent("classifier", CLEAR)
    mesh_kit.agent("duplicate-finder", {"matches": []})
    mesh_kit.agent("drafter", {"text": "Thanks!"})
    mesh_kit.agent("publisher", {"url": "https://example.org/7#1"})
    return mesh_kit


def opened(desk: MeshKit) -> Any:
    return desk.publish(type="com.github.issues.opened", subject="7", data=ISSUE)


def test_a_clear_issue_is_answered_without_a_person(desk: MeshKit) -> None:
    run = opened(desk)
    assert run.outcome.status == "completed"
    assert run.steps["review"] == "skipped"
    desk.matches()


@pytest.mark.parametrize(
    ("classifier", "finder"),
    [
        ({**CLEAR, "severity": "high"}, {"matches": []}),
        ({**CLEAR, "confidence": 0.5}, {"matches": []}),
        (CLEAR, {"matches": [{"number": 3}]}),
    ],
)
def test_a_severe_unclear_or_known_issue_asks_a_maintainer(desk: MeshKit, classifier: Any, finder: Any) -> None:
    desk.agent("classifier", classifier)
    desk.agent("duplicate-finder", finder)
    assert opened(desk).waits_for("review").role == "maintainer"


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("https://api.github.com/repos/octo/ferry", "octo/ferry"),
        ("https://github.com/octo/ferry", "octo/ferry"),
        ("/by/hand", "octo/ferry"),
        ("https://git.corp.test/api/v3/repos/octo/ferry", "https://git.corp.test/api/v3/repos/octo/ferry"),
        ("https://api.corp.ghe.com/repos/octo/ferry", "https://api.corp.ghe.com/repos/octo/ferry"),
        ("https://github.com.evil.test/octo/ferry", "https://github.com.evil.test/octo/ferry"),
    ],
)
def test_repositories_of_one_name_on_two_servers_are_two(desk: MeshKit, source: str, key: str) -> None:
    publisher = desk.agent("publisher", {"url": "https://example.org/7#1"})
    run = desk.publish(type="com.github.issues.opened", source=source, subject="7", data=ISSUE)
    assert run.outcome.status == "completed"
    assert run.id == f"issue-triage:{key}#7"
    assert [posted["source"] for posted in publisher.inputs] == [source]


def test_a_maintainer_edits_the_reply(desk: MeshKit) -> None:
    desk.agent("classifier", {**CLEAR, "severity": "high"})
    publisher = desk.agent("publisher", {"url": "https://example.org/7#1"})
    run = opened(desk)
    assert run.waits_for("review").payload == {"text": "Thanks!"}
    desk.advance("23h")
    run.approve("review", by="ana@example.org", payload={"text": "We are on it."}, reason="say more")
    assert run.outcome.data == {"publish": {"url": "https://example.org/7#1"}}
    [posted] = publisher.inputs
    assert posted.pop("source")
    assert posted == {"repository": "octo/ferry", "number": 7, "reply": {"text": "We are on it."}}
    desk.matches()


def test_what_no_maintainer_has_answered_in_a_day_is_not_posted(desk: MeshKit) -> None:
    desk.agent("classifier", {**CLEAR, "severity": "high"})
    publisher = desk.agent("publisher", {"url": "never"})
    run = opened(desk)
    desk.advance("24h")
    assert run.outcome.status == "rejected"
    assert not publisher.calls


def test_a_classifier_that_is_down_or_silent_for_a_while_holds_nothing_up(desk: MeshKit) -> None:
    desk.agent("classifier", [fails("ConnectError", times=2), silent, CLEAR])
    assert opened(desk).outcome.status == "completed"
    desk.matches()


def test_the_real_agents_on_a_real_event(mesh_kit: MeshKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_DUPLICATES_INDEX", str(tmp_path / "duplicates.db"))
    monkeypatch.setenv("MESH_OUTBOX", str(tmp_path / "outbox.jsonl"))
    mesh_kit.route(DESK / "routes" / "issue-triage.yaml")
    mesh_kit.person("ana@example.org", roles="maintainer", answers=approves(after="3h"))
    for real in (classify, find_duplicates, draft, publish):
        mesh_kit.agent(real)
    raw = (DESK / "samples" / "02-conflict-overwrites-files.json").read_bytes()
    run = mesh_kit.publish(webhook_event(read_payload(raw), delivery="d-1", raw=raw))
    assert run.outcome.status == "completed"
    assert run.output("classify")["severity"] == "high"
    assert len((tmp_path / "outbox.jsonl").read_bytes().splitlines()) == 1
