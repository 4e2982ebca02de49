"""The reply asks for what an issue lacks, and links what it resembles.

It repeats nothing that could do harm.
"""

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from agents.issue_triage.drafter import draft
from agents.issue_triage.models import DraftRequest, Duplicates, Issue, Match, PublishRequest, Reply, User
from agents.issue_triage.reply import compose
from agents.issue_triage.terms import cosine, rarity, terms_of
from agents.issue_triage.triage import triage

COMPLETE = """Version 2.1.0 on Ubuntu 24.04.

1. Open a file
2. Press save

I expected a message, but it closes.

```
Traceback (most recent call last):
  File "app.py", line 3, in save
KeyError: 'name'
```
"""


def reply_to(
    title: str, body: str | None, *, login: str | None = "octocat", matches: list[Match] | None = None
) -> Reply:
    issue = Issue(number=7, title=title, body=body, user=User(login=login) if login else None)
    return compose(DraftRequest(issue=issue, triage=triage(issue), duplicates=Duplicates(matches=matches or [])))


def test_a_bare_fault_is_asked_for_all_that_is_missing() -> None:
    reply = reply_to("Saving crashes", "It crashes when I save.")
    for asked in ("version", "Where it runs", "Steps to reproduce", "error output"):
        assert asked in reply.body
    assert "needs-info" in reply.labels


def test_a_complete_report_is_asked_for_nothing() -> None:
    reply = reply_to("Saving crashes", COMPLETE)
    assert "we need" not in reply.body
    assert "`KeyError`" in reply.body
    assert "needs-info" not in reply.labels


@pytest.mark.parametrize(
    ("left_out", "asked"),
    [
        ("Version 2.1.0 on", "The version"),
        (" on Ubuntu 24.04", "Where it runs"),
        ("1. Open a file\n2. Press save", "Steps to reproduce"),
    ],
)
def test_it_asks_for_the_one_thing_that_is_missing(left_out: str, asked: str) -> None:
    body = reply_to("Saving crashes", COMPLETE.replace(left_out, "")).body
    assert [line for line in body.splitlines() if line.startswith("- **")] == [
        line for line in body.splitlines() if asked in line
    ]


def test_a_security_report_is_sent_to_the_private_way_and_asked_for_no_details() -> None:
    reply = reply_to("SQL injection in search", "Anyone can read all users by `' OR 1=1`.")
    assert "security policy" in reply.body
    assert "Steps to reproduce" not in reply.body
    assert "severity: high" in reply.labels


def test_a_close_duplicate_is_called_the_same_and_a_far_one_is_not() -> None:
    near = reply_to("Saving crashes", COMPLETE, matches=[Match(number=3, title="Crash on save", score=0.8, url="u")])
    far = reply_to("Saving crashes", COMPLETE, matches=[Match(number=3, title="Crash on save", score=0.45, url="u")])
    assert "same as #3" in near.body
    assert "possible duplicate" in near.labels
    assert "same as" not in far.body
    assert "#3 Crash on save (45% alike)" in far.body
    assert "possible duplicate" not in far.labels


def test_an_issue_is_never_a_duplicate_of_itself() -> None:
    assert "#7" not in reply_to("x y", None, matches=[Match(number=7, title="x", score=1.0, url="u")]).body


@pytest.mark.parametrize("login", [None, "", "bad name", "[click](http://x)", "a" * 60])
def test_an_author_without_a_proper_name_is_not_addressed(login: str | None) -> None:
    assert "@" not in reply_to("Saving crashes", None, login=login).body


@pytest.mark.parametrize(
    "title",
    [
        "@octocat @org/team look",
        "[free](https://evil.example.com)",
        "<img src=x onerror=y>",
        "a\n# b",
        "fixes #1",
        "`code`",
        "https://evil.example.com",
    ],
)
def test_a_title_stays_text(title: str) -> None:
    body = reply_to(title, None, login=None, matches=[Match(number=3, title=title, score=0.9, url="u")]).body
    assert not re.search(r"@\w", body)
    assert not re.search(r"(?<!\\)[\[<`]", body.replace("<!--", ""))
    assert "https://" not in body
    assert not re.search(r"fixes #", body)
    assert not re.search(r"^# ", body, re.MULTILINE)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.text(max_size=60), st.none() | st.text(max_size=300))
def test_any_issue_gets_a_reply_that_can_be_posted(title: str, body: str | None) -> None:
    reply = reply_to(title, body)
    assert Reply.model_validate(reply.model_dump()) == reply
    assert len(reply.labels) == len(set(reply.labels))
    assert all(0 < len(label) <= 50 for label in reply.labels)  # GitHub's limit


def test_the_agent_answers_the_routes_input_with_or_without_duplicates() -> None:
    raw: dict[str, Any] = {
        "issue": {"number": 7, "title": "Add a dark theme", "body": None},
        "triage": {"labels": ["feature"], "severity": "low", "confidence": 0.9},
    }
    assert draft(DraftRequest.model_validate(raw)).labels
    assert draft(DraftRequest.model_validate({**raw, "duplicates": {"matches": []}})).labels


@pytest.mark.parametrize(
    "repository", ["", "octo", "a/b/c", "a/b\n", "../x/y", "a b/c", "a/..", "../b", "a/b?c", "-a/b"]
)
def test_a_repository_that_could_lead_elsewhere_is_refused(repository: str) -> None:
    with pytest.raises(ValidationError):
        PublishRequest.model_validate({"repository": repository, "number": 1, "reply": {"body": "b"}})


def test_an_edit_with_unknown_members_or_no_body_is_refused() -> None:
    edits: list[dict[str, Any]] = [{"body": "b", "lables": []}, {"body": ""}, {"labels": []}]
    for edit in edits:
        with pytest.raises(ValidationError):
            Reply.model_validate(edit)


def alike(one: tuple[str, str], other: tuple[str, str]) -> float:
    a, b = (terms_of(Issue(number=1, title=title, body=body)) for title, body in (one, other))
    return cosine(a, b, {term: rarity(100, 0, term) for term in {*a, *b}})


def test_likeness_is_symmetric_one_for_the_same_and_nought_for_strangers() -> None:
    one = ("Upload stops at 99%", "The upload of a large video stops at 99 percent.")
    other = ("Video uploads stop near the end", "Uploading large videos stops at 99%.")
    assert alike(one, one) == pytest.approx(1.0)
    assert alike(one, other) == pytest.approx(alike(other, one))
    assert alike(one, other) > 0.4
    assert alike(one, ("Dark theme please", "My eyes hurt at night")) == 0.0
    assert alike(("", ""), one) == 0.0


def test_a_script_without_spaces_is_compared_too() -> None:
    one = ("再起動後に同期が始まらない", "PCを再起動すると同期が始まりません")
    assert alike(one, ("再起動すると同期が始まらない", "再起動の後、同期が自動で始まりません")) > 0.4
    assert alike(one, ("画面が暗い", "文字が読めません")) < 0.2


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.text(max_size=200), st.text(max_size=200))
def test_likeness_of_any_texts_is_in_range(one: str, other: str) -> None:
    assert 0.0 <= alike(("t", one), ("t", other)) <= 1.0
