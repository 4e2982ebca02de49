"""`mesh approvals show ID --audit`: the rows that an approval's decisions make."""

from io import StringIO
from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import Partition, agent, route
from rich.console import Console
from voting_kit import CROWD, asked, code

from mesh.cli.approvals.audit import _document, _table, audit_of


def documents(p: Partition, place: str = "review") -> list[dict[str, Any]]:
    return [_document(row) for row in audit_of(p.decisions, p.task_id(place))]


def shown(p: Partition, place: str = "review") -> str:
    console = Console(file=StringIO(), width=300, no_color=True)
    console.print(_table(audit_of(p.decisions, p.task_id(place))))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def p() -> Partition:
    """Two managers, who ask a clerk and an agent before they approve."""
    p = asked(quorum=2, ask_back={"to": [{"role": "clerk"}, {"agent": "researcher"}]})
    code(p, "ana", "ask", text="since when?", to="clerk")
    code(p, "dan", "inform", text="since Monday")
    code(p, "ana", "ask", text="how much?", to="researcher")
    p.succeed("review.ask2", {"text": "90", "proposal": {"n": 90}})
    code(p, "ben", "ask", text="and why?", to="clerk")
    code(p, "ana")
    code(p, "ben")
    return p


def test_questions_are_there_with_their_answers(p: Partition) -> None:
    notes = [row["note"] for row in documents(p) if row["note"] is not None]
    assert [(one["kind"], one["question"], one["text"], one["to"], one["agent"]) for one in notes] == [
        ("question", 1, "since when?", "clerk", None),
        ("answer", 1, "since Monday", None, None),
        ("question", 2, "how much?", "researcher", None),
        ("answer", 2, "90", None, "researcher"),
        ("question", 3, "and why?", "clerk", None),
    ]
    assert notes[3]["proposal"] == {"n": 90}


def test_a_question_that_the_verdict_leaves_open_is_told(p: Partition) -> None:
    assert [row["unanswered"] for row in documents(p)][-1] == [3]
    text = shown(p)
    for part in ("question 1 to clerk by ana", "since Monday", 'proposes {"n":90}', "question 3 has no answer"):
        assert part in text


def test_an_agent_that_has_no_answer_is_told() -> None:
    p = asked(ask_back={"to": {"agent": "researcher"}})
    code(p, "ana", "ask", text="how much?")
    p.fail("review.ask1", retryable=False)
    assert documents(p)[-1]["note"]["failed"]
    p.vote("ana", "comment", text="then not")
    assert documents(p)[-1]["note"] == {"kind": "comment", "number": 3, "text": "then not"}


def test_what_an_agent_wants_to_do_has_its_story_too() -> None:
    p = Partition(route({"buy": agent("buyer", approve={"role": "manager"})}), directory=replace(CROWD))
    p.start()
    p.want("buy", payload={"eur": 5})
    code(p, "ana", step="buy.tool-pay", payload={"eur": 4})
    text = shown(p, "buy.tool-pay")
    for part in ("asks 1 of manager: May I?", "buyer wants it", '+  "eur": 4', "by the rule: 1 of manager"):
        assert part in text
