"""The classifier knows kinds and severity, says how sure it is, and takes any text."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from draws import draws
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.issue_triage.anatomy import MAX_CHARACTERS, anatomy
from agents.issue_triage.classifier import classify
from agents.issue_triage.faults import DemoFault
from agents.issue_triage.models import Issue, Triage
from agents.issue_triage.triage import triage
from mesh import NonRetryable

CORPUS: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "issue_triage_corpus.json").read_text("utf-8"))
SURE = 0.7  # the route asks a maintainer below it


def issue(title: str, body: str | None = None) -> Issue:
    return Issue(number=7, title=title, body=body)


def verdicts(part: str) -> list[tuple[dict[str, str], Triage]]:
    return [(sample, triage(issue(sample["title"], sample["body"]))) for sample in CORPUS[part]]


def test_kinds_and_severities_of_the_weighed_issues_are_right() -> None:
    found = verdicts("weighed")
    assert [sample["title"] for sample, said in found if said.kind != sample["kind"]] == []
    assert [sample["title"] for sample, said in found if said.severity != sample["severity"]] == []


def test_most_kinds_of_fresh_issues_are_right_and_the_rest_are_left_open() -> None:
    found = verdicts("fresh")
    right = [said.kind == sample["kind"] for sample, said in found]
    assert sum(right) >= 0.75 * len(found)
    assert all(said.kind in {sample["kind"], "unclear"} for sample, said in found)


def test_what_it_is_sure_of_is_right_nine_times_in_ten() -> None:
    sure = [
        (sample, said) for part in ("weighed", "fresh") for sample, said in verdicts(part) if said.confidence >= SURE
    ]
    assert len(sure) >= 0.5 * sum(len(CORPUS[part]) for part in ("weighed", "fresh"))
    assert sum(said.kind == sample["kind"] for sample, said in sure) >= 0.9 * len(sure)


@pytest.mark.parametrize(
    ("title", "body"),
    [
        ("Not working", None),
        ("help", ""),
        ("?", "  \n"),
        ("😀😀😀", "🎉" * 50),
        ("起動しない", "アップデート後にアプリが起動しません。再インストールしても同じです。"),
        (
            "No funciona el inicio de sesión",
            "Después de actualizar ya no puedo entrar con mi cuenta, la página queda en blanco.",
        ),
        (
            "Das Programm startet nicht mehr",
            "Seit gestern lässt sich das Programm nicht mehr öffnen, es erscheint nur ein leeres Fenster.",
        ),
        ("Great product!!!", "Visit our shop for more offers and win prizes today"),
    ],
)
def test_what_it_cannot_read_goes_to_a_person(title: str, body: str | None) -> None:
    assert triage(issue(title, body)).confidence < SURE


def test_an_issue_form_that_was_not_filled_in_is_no_evidence() -> None:
    form = "<!-- Is it a bug? Does it crash? Please attach the traceback. -->\n### Steps to reproduce\n\n### Expected behaviour\n"
    assert triage(issue("Something", form)).confidence < SURE
    assert not anatomy(issue("Something", form)).has_steps


def test_a_negated_word_speaks_against_its_label() -> None:
    said = triage(
        issue("Add a quiet mode", "This is not a bug and nothing crashes. It would be nice to have less output.")
    )
    assert said.kind == "feature"
    assert "crash" not in said.labels


def test_a_negation_ends_with_its_clause() -> None:
    assert "crash" in triage(issue("It is not my disk, the daemon crashes", "It crashes each hour.")).labels


def test_a_question_about_a_danger_is_not_the_danger() -> None:
    assert (
        triage(issue("How do I avoid data loss when two people edit a file?", "Is there a recommended way?")).severity
        == "low"
    )


@pytest.mark.parametrize(
    "trace",
    [
        'Traceback (most recent call last):\n  File "a.py", line 3, in f\nKeyError: 1',
        "java.lang.IllegalStateException: no\n\tat org.x.Main.run(Main.java:12)",
        "TypeError: x\n    at load (/srv/app.js:10:5)",
        "thread 'main' panicked at src/main.rs:4:5",
        "panic: runtime error\n\ngoroutine 1 [running]:",
        "Segmentation fault (core dumped)",
        "#0  0x00007f3b in raise () from libc.so.6",
    ],
)
def test_stack_traces_of_many_languages_are_seen(trace: str) -> None:
    assert anatomy(issue("x", f"```\n{trace}\n```")).has_trace
    assert "bug" in triage(issue("x", f"```\n{trace}\n```")).labels


def test_words_in_code_and_quotations_are_not_the_authors() -> None:
    parts = anatomy(issue("x", "I agree.\n> it crashes\n\n```\nsecurity vulnerability\n```\n\n    slow code\n"))
    assert "crashes" not in parts.prose
    assert "vulnerability" not in parts.prose
    assert "slow" in parts.code


def test_each_label_can_be_traced_to_words() -> None:
    said = triage(issue("Upload is very slow", "It takes 40 minutes for 2 GB. It is a regression since 3.1."))
    assert "performance" in said.labels
    assert "performance: 'slow' in the title" in said.reasons


HOSTILE = [
    "[",
    "\n",
    " ",
    "a.",
    "not ",
    "<!--",
    "leak ",
    "`",
    "1",
    "token ",
    "deletes a ",
    "version ",
    "(x",
    'File "a',
    "\t",
    "1. ",
    "A",
    "<",
    "> ",
    "is not ",
    "thread '",
    "@",
    "\x00",
]


@pytest.mark.deep
@pytest.mark.parametrize("unit", HOSTILE)
def test_a_giant_body_takes_no_giant_time(unit: str) -> None:
    giant = issue(unit * 5, unit * (1_000_000 // len(unit)))
    before = time.process_time()
    triage(giant)
    assert time.process_time() - before < 5.0  # a quadratic pattern takes minutes


def test_the_end_of_a_giant_body_is_read() -> None:
    parts = anatomy(issue("x", "word " * MAX_CHARACTERS + "\nSegmentation fault"))
    assert parts.has_trace


# the machine may be busy
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=draws(200))
@given(st.text(max_size=60), st.none() | st.text(max_size=400))
def test_any_text_gets_a_verdict_in_range(title: str, body: str | None) -> None:
    said = triage(issue(title, body))
    assert 0 <= said.confidence <= 1
    assert said.labels
    assert said == triage(issue(title, body))


@pytest.mark.parametrize(
    "changes",
    [
        {"user": None},
        {"body": None},
        {"labels": [{"name": "bug", "color": "fff"}, "plain", {"name": None}, 3]},
        {"labels": None},
        {"pull_request": {"url": "x"}, "type": {"name": "Bug"}, "a_member_of_next_year": [1]},
        {"repository_url": "", "html_url": "https://github.com/Octo/Repo/issues/7"},
    ],
)
def test_any_issue_of_the_published_shape_is_taken(changes: dict[str, Any]) -> None:
    raw = {"number": 7, "title": "t", "repository_url": "https://api.github.com/repos/octo/repo", **changes}
    assert Issue.model_validate(raw).repository == "octo/repo"


@pytest.mark.parametrize(
    ("urls", "repository"),
    [
        ({"repository_url": "https://git.corp.test/api/v3/repos/a/B"}, "git.corp.test/a/b"),
        ({"html_url": "https://Git.corp.test/a/b/issues/7"}, "git.corp.test/a/b"),
        ({"repository_url": "https://api.corp.ghe.com/repos/a/b"}, "corp.ghe.com/a/b"),
        ({"html_url": "https://corp.ghe.com/a/b/issues/7"}, "corp.ghe.com/a/b"),
        ({"html_url": "https://www.github.com/a/b/issues/7"}, "a/b"),
        ({}, ""),
    ],
)
def test_a_repository_of_another_server_has_its_host(urls: dict[str, str], repository: str) -> None:
    assert Issue.model_validate({"number": 1, "title": "t", **urls}).repository == repository


def test_an_issue_without_a_title_is_not_tried_again() -> None:
    with pytest.raises(NonRetryable) as refused:
        classify(issue("  "))
    assert refused.value.kind == "no_title"


def test_the_demo_fault_hits_the_first_attempt_of_the_named_issue_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_DEMO_FAULT", "drafter:1, classifier:7")
    with pytest.raises(DemoFault):
        classify(issue("It crashes"))
    assert classify(Issue(number=8, title="It crashes")).kind == "bug"
    monkeypatch.delenv("MESH_DEMO_FAULT")
    assert classify(issue("It crashes")).kind == "bug"
