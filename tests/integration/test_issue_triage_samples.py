"""The demo's samples come to the ends that their manifest names, by the agents alone.

How the mesh handles them is tested elsewhere.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from agents.issue_triage.classifier import classify
from agents.issue_triage.drafter import draft
from agents.issue_triage.duplicate_finder import find_duplicates
from agents.issue_triage.faults import DemoFault
from agents.issue_triage.models import DraftRequest, Duplicates, Issue, PublishRequest, Reply, Triage
from agents.issue_triage.publisher import publish
from mesh.codec.approvers_file import load_approvers
from mesh.codec.github import read_payload, webhook_event
from mesh.codec.route_file import load_routes
from mesh.core.route import AgentWork, ApprovalWork
from mesh.errors import MalformedRecord
from mesh.testing.context import FakeContext

DESK = Path(__file__).parents[2] / "agents" / "issue_triage"
SAMPLES = DESK / "samples"
MANIFEST: dict[str, Any] = YAML(typ="safe", pure=True).load(SAMPLES / "manifest.yaml")
DELIVERIES: list[dict[str, Any]] = MANIFEST["deliveries"]
ENDS = {"completed", "rejected", "repeated", "unmatched", "dead_letter"}


@pytest.fixture(autouse=True)
def _own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_DUPLICATES_INDEX", str(tmp_path / "duplicates.db"))
    monkeypatch.setenv("MESH_OUTBOX", str(tmp_path / "outbox.jsonl"))
    monkeypatch.delenv("MESH_DEMO_FAULT", raising=False)


def event(delivery: dict[str, Any]) -> dict[str, Any]:
    raw = (SAMPLES / delivery["file"]).read_bytes()
    return webhook_event(read_payload(raw), delivery=delivery["delivery"], raw=raw)


def in_order() -> list[dict[str, Any]]:
    """Those with a workflow. One that comes `after` another is later in the manifest too."""
    return [delivery for delivery in DELIVERIES if delivery["end"] in {"completed", "rejected"}]


def triaged(sent: dict[str, Any]) -> tuple[Issue, Triage, Duplicates]:
    issue = Issue.model_validate(sent["data"]["issue"])
    context = FakeContext(workflow_id=f"issue-triage:{sent['subject']}")
    return issue, classify(issue, context), find_duplicates(issue, context)


def test_the_manifest_is_sound() -> None:
    names = [delivery["name"] for delivery in DELIVERIES]
    assert len(set(names)) == len(names)
    assert {delivery["end"] for delivery in DELIVERIES} == ENDS
    assert {delivery["file"] for delivery in DELIVERIES} == {path.name for path in SAMPLES.glob("*.json")}
    for place, delivery in enumerate(DELIVERIES):
        assert delivery.get("after", names[0]) in names[: max(1, place)]
        assert ("review" in delivery) == ("workflow" in delivery and delivery["end"] != "repeated")


def test_a_dozen_different_issues_are_opened() -> None:
    opened = [event(delivery) for delivery in in_order()]
    assert len(opened) >= 12
    assert {sent["type"] for sent in opened} == {"com.github.issues.opened"}
    assert len({sent["data"]["issue"]["title"] for sent in opened}) == len(opened)


def test_each_workflow_id_is_the_routes_key() -> None:
    for delivery in in_order():
        sent = event(delivery)
        assert delivery["workflow"] == f"issue-triage:{sent['data']['repository']['full_name']}#{sent['subject']}"


def test_each_issue_is_reviewed_where_the_manifest_says_so() -> None:
    reviewed: dict[str, bool] = {}
    for delivery in in_order():
        _, triage, duplicates = triaged(event(delivery))
        reviewed[delivery["name"]] = triage.severity == "high" or triage.confidence < 0.7 or bool(duplicates.matches)
    assert reviewed == {delivery["name"]: delivery["review"] != "skipped" for delivery in in_order()}


def test_the_duplicate_issue_is_found_and_no_other() -> None:
    found = {delivery["name"]: triaged(event(delivery))[2].matches for delivery in in_order()}
    assert {name: [match.number for match in matches] for name, matches in found.items() if matches} == {
        "resume-duplicate": [412]
    }


def test_the_repeated_delivery_is_the_same_event() -> None:
    repeated = next(delivery for delivery in DELIVERIES if delivery["end"] == "repeated")
    first = next(delivery for delivery in DELIVERIES if delivery.get("workflow") == repeated["workflow"])
    assert event(repeated) == event(first)


def test_the_event_that_nobody_wants_is_a_proper_one() -> None:
    unmatched = [delivery for delivery in DELIVERIES if delivery["end"] == "unmatched"]
    assert [event(delivery)["type"] for delivery in unmatched] == ["com.github.issues.labeled"]


def test_the_malformed_one_cannot_be_read() -> None:
    (malformed,) = (delivery for delivery in DELIVERIES if delivery["end"] == "dead_letter")
    with pytest.raises(MalformedRecord):
        read_payload((SAMPLES / malformed["file"]).read_bytes())


def test_every_reply_is_posted_once_and_edits_fit_the_drafts_type(tmp_path: Path) -> None:
    for delivery in in_order():
        sent = event(delivery)
        issue, triage, duplicates = triaged(sent)
        reply = draft(DraftRequest(issue=issue, triage=triage, duplicates=duplicates))
        edited = Reply.model_validate({**reply.model_dump(), **delivery.get("edit", {})})
        request = PublishRequest(repository=sent["data"]["repository"]["full_name"], number=issue.number, reply=edited)
        for _ in range(2):
            publish(request, FakeContext(workflow_id=delivery["workflow"], step="publish"))
    assert len((tmp_path / "outbox.jsonl").read_bytes().splitlines()) == len(in_order())


def test_the_fault_of_the_demo_is_cured_by_its_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_DEMO_FAULT", MANIFEST["fault"])
    failed: Counter[str] = Counter()
    for delivery in in_order():
        issue = Issue.model_validate(event(delivery)["data"]["issue"])
        try:
            classify(issue, FakeContext(attempt=1))
        except DemoFault:
            failed[delivery["name"]] += 1
            classify(issue, FakeContext(attempt=2))
    assert failed == {"path-traversal": 1}


def test_the_route_holds_and_its_steps_are_as_documented() -> None:
    (loaded,) = load_routes([DESK / "routes"])
    route = loaded.route
    assert route.on is not None
    assert (route.name, route.on.type) == ("issue-triage", "com.github.issues.opened")
    assert list(route.steps) == ["classify", "duplicates", "draft", "review", "publish"]
    work = [step.work for step in route.steps.values() if isinstance(step.work, AgentWork)]
    assert [one.agent for one in work] == [one.name for one in (classify, find_duplicates, draft, publish)]


def test_the_approver_of_the_demo_has_the_routes_role() -> None:
    (loaded,) = load_routes([DESK / "routes"])
    review = loaded.route.steps["review"].work
    assert isinstance(review, ApprovalWork)
    assert review.role in load_approvers(DESK / "approvers.yaml")[MANIFEST["approver"]]
