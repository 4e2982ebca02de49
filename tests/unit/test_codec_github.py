"""GitHub's `issues` payloads become CloudEvents by the published mapping.

Or the mapping says what is missing.
"""

from hashlib import sha256
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.codec.cloudevents import normal_event
from mesh.codec.github import read_payload, webhook_event
from mesh.errors import MalformedRecord


def payload(**changes: Any) -> dict[str, Any]:
    return {
        "action": "opened",
        "issue": {"number": 12, "title": "It stops", "body": None, "updated_at": "2026-03-01T09:30:00Z"},
        "repository": {"full_name": "octo/repo", "url": "https://api.github.com/repos/octo/repo"},
        **changes,
    }


def test_an_opened_issue_has_the_attributes_of_the_published_mapping() -> None:
    sent = payload()
    assert webhook_event(sent, delivery="72d3162e-cc78-11e3-81ab-4c9367dc0958", raw=b"") == {
        "specversion": "1.0",
        "id": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "source": "https://api.github.com/repos/octo/repo",
        "type": "com.github.issues.opened",
        "subject": "12",
        "time": "2026-03-01T09:30:00Z",
        "datacontenttype": "application/json",
        "data": sent,
    }


@pytest.mark.parametrize("action", ["opened", "labeled", "closed", "milestoned", "an_action_of_next_year"])
def test_any_action_is_the_end_of_the_type(action: str) -> None:
    assert webhook_event(payload(action=action), delivery="1", raw=b"")["type"] == f"com.github.issues.{action}"


@pytest.mark.parametrize("delivery", [None, ""])
def test_without_a_delivery_the_bytes_give_the_id(delivery: str | None) -> None:
    raw = orjson.dumps(payload())
    assert webhook_event(payload(), delivery=delivery, raw=raw)["id"] == f"sha256:{sha256(raw).hexdigest()}"


def test_an_issue_without_a_time_is_an_event_without_one() -> None:
    assert "time" not in webhook_event(payload(issue={"number": 3}), delivery="1", raw=b"")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"action": None}, "`action` is missing"),
        ({"action": "Opened!"}, "`action` is 'Opened!'"),
        ({"issue": None}, "`issue.number` is missing"),
        ({"issue": {"number": "12"}}, "`issue.number` is '12'"),
        ({"issue": {"number": True}}, "`issue.number` is True"),
        ({"issue": {"number": 1, "updated_at": "yesterday"}}, "`issue.updated_at` is 'yesterday'"),
        ({"issue": {"number": 1, "updated_at": "2026-03-01T09:30:00"}}, "`issue.updated_at`"),
        ({"issue": {"number": 1, "updated_at": {}}}, "`issue.updated_at` is an object"),
        ({"repository": {}}, "`repository.url` is missing"),
        ({"repository": {"url": []}}, "`repository.url` is an array"),
        ({"comment": {"id": 1}}, "another kind of event"),
    ],
)
def test_a_payload_that_lacks_something_is_refused_by_its_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(MalformedRecord) as refused:
        webhook_event(payload(**changes), delivery="72d3162e", raw=b"")
    assert named in str(refused.value)
    assert "72d3162e" in str(refused.value)


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b"null", b'"text"', b"\xff\xfe"])
def test_bytes_that_are_not_one_object_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedRecord):
        read_payload(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.dictionaries(st.sampled_from(["action", "issue", "repository", "x"]), JSON))
def test_any_object_is_mapped_or_refused(sent: dict[str, Any]) -> None:
    try:
        event = webhook_event(sent, delivery=None, raw=orjson.dumps(sent))
    except MalformedRecord:
        return
    assert event["data"] == sent


SAMPLES: dict[str, dict[str, Any]] = {
    "push": {"ref": "refs/heads/main"},
    "pull_request": {"action": "opened", "number": 7, "pull_request": {"updated_at": "2026-03-01T09:30:00Z"}},
    "issue_comment": {
        "action": "created",
        "issue": {"url": "https://api.github.com/repos/o/r/issues/7"},
        "comment": {"id": 99, "updated_at": "2026-03-01T09:30:00Z"},
    },
    "deployment_status": {
        "deployment": {"url": "https://api.github.com/d/1"},
        "deployment_status": {"state": "success", "url": "https://api.github.com/s/1"},
    },
    "commit_comment": {"action": "created", "comment": {"url": "https://c", "commit_id": "abc", "id": 3}},
    "security_advisory": {"action": "published", "security_advisory": {"ghsa_id": "GHSA-1"}},
    "membership": {"action": "added", "scope": "team", "team": {"url": "https://t"}, "member": {"login": "ana"}},
    "repository_dispatch": {"action": "on-demand-test"},
    "scan_of_next_year": {"action": "Not a word"},
    "organization": {"action": "renamed", "organization": {"url": "https://api.github.com/orgs/o"}},
    "meta": {"action": "deleted", "hook_id": 5, "hook": {"updated_at": 1_772_357_400}},
    "a_kind_of_next_year": {"action": "begun"},
    "ping": {"zen": "Keep it logically awesome."},
}


@pytest.mark.parametrize(
    ("kind", "type_", "source", "subject"),
    [
        ("push", "push", "https://api.github.com/repos/octo/repo", "refs/heads/main"),
        ("pull_request", "pull_request.opened", "https://api.github.com/repos/octo/repo", "7"),
        ("issue_comment", "issue_comment.created", "https://api.github.com/repos/o/r/issues/7", "99"),
        ("deployment_status", "deployment_status.success", "https://api.github.com/d/1", "https://api.github.com/s/1"),
        ("commit_comment", "commit_comment.created", "https://c/abc", "3"),
        ("security_advisory", "security_advisory.published", "https://github.com", "GHSA-1"),
        ("membership", "membership.team.added", "https://t", "ana"),
        ("repository_dispatch", "repository_dispatch", "https://api.github.com/repos/octo/repo", "on-demand-test"),
        ("scan_of_next_year", "scan_of_next_year", "https://api.github.com/repos/octo/repo", None),
        ("organization", "organization.renamed", "https://api.github.com/orgs/o", None),
        ("meta", "meta.deleted", "https://api.github.com/repos/octo/repo", "5"),
        ("a_kind_of_next_year", "a_kind_of_next_year.begun", "https://api.github.com/repos/octo/repo", None),
        ("ping", "ping", "https://api.github.com/repos/octo/repo", None),
    ],
)
def test_every_kind_is_mapped(kind: str, type_: str, source: str, subject: str | None) -> None:
    sent = {"repository": {"url": "https://api.github.com/repos/octo/repo"}, **SAMPLES[kind]}
    event = webhook_event(sent, kind=kind, delivery="d-1", raw=b"")
    normal_event(event)
    assert (event["type"], event["source"], event.get("subject")) == (f"com.github.{type_}", source, subject)
    assert event["data"] == sent
    if kind == "meta":
        assert event["time"] == "2026-03-01T09:30:00+00:00"


def test_a_membership_of_a_deleted_team_is_the_organizations() -> None:
    team, org = {"id": 1, "name": "old", "deleted": True}, {"url": "https://api.github.com/orgs/o"}
    sent = {"action": "removed", "scope": "team", "team": team, "organization": org, "member": {"login": "ana"}}
    event = webhook_event(sent, kind="membership", delivery="d-1", raw=b"")
    assert (event["type"], event["source"]) == ("com.github.membership.team.removed", org["url"])


@pytest.mark.parametrize("kind", ["", "Push", "push.x", "1"])
def test_a_kind_that_can_not_be_one_is_refused(kind: str) -> None:
    with pytest.raises(MalformedRecord, match="X-GitHub-Event"):
        webhook_event(payload(), kind=kind, delivery="d-1", raw=b"")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.sampled_from(sorted(SAMPLES)), st.dictionaries(st.sampled_from(["action", "ref", "number", "hook"]), JSON))
def test_any_object_of_any_kind_is_mapped_or_refused(kind: str, changes: dict[str, Any]) -> None:
    try:
        event = webhook_event({**SAMPLES[kind], **changes}, kind=kind, delivery="d-1", raw=b"")
    except MalformedRecord:
        return
    normal_event(event)
