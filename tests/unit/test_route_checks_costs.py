"""`mesh routes check` warns of what may cost too much, and of patterns that can't be used."""

from typing import Any

import pytest

from mesh.core.state import AgentCard
from mesh.inspection.checks import Known, findings_of
from mesh.routes.compiler import compile_route

A, B = "event.data.a", "event.data.b"


def found(
    steps: dict[str, Any], *, agents: list[AgentCard] | None = None, guard: str = "true"
) -> list[tuple[str, str]]:
    route = compile_route(
        {"route": "r", "on": {"type": "t", "if": guard}, "key": "${{ event.subject }}", "steps": steps}
    )
    known = Known(agents={card.name: card for card in agents or []} if agents is not None else None)
    codes = ("costly_expression", "unusable_schema")
    return [(one.code, one.message) for one in findings_of(route, known) if one.code in codes]


@pytest.mark.parametrize(
    ("source", "lists"),
    [
        (f"{A}.map(x, {B}.map(y, x + y))", (A, B)),
        (f"{A}.filter(x, {A}.exists(y, y > x))", (A, A)),
        (f"{A}.map(x, x > 1, [1].map(z, {B}.all(y, y == x)))", (A, B)),
        (f"size({A}.filter(x, x > 1)) + size({B}.filter(x, x > 1))", None),
        (f"{A}.map(x, x.labels.map(y, y.name))", None),
        (f"{A}.map(x, [1, 2].exists(y, y == x))", None),
        (f"[1, 2].map(x, {A}.exists(y, y == x))", None),
        (f"{A}.map(x, x + 1)", None),
    ],
)
def test_lists_that_multiply_are_warned_of(source: str, lists: tuple[str, str] | None) -> None:
    wanted = [] if lists is None else [f"{lists[1]} is gone through for each item of {lists[0]}"]
    for steps in (
        {"s": {"value": f"${{{{ {source} }}}}"}},
        {"s": {"value": {"deep": [f"it is ${{{{ {source} }}}}!"]}}},
    ):
        messages = [message for _, message in found(steps)]
        assert [message.split(", so")[0] for message in messages] == wanted


def test_a_condition_is_looked_at_too() -> None:
    guard = f"{A}.exists(x, {B}.exists(y, x == y))"
    assert [code for code, _ in found({"s": {"value": 1}}, guard=guard)] == ["costly_expression"]


def test_a_pattern_of_an_agents_schema_is_told_where_edits_are_held_against_it() -> None:
    schema = {"type": "object", "properties": {"code": {"type": "string", "pattern": "(?=a)a"}}}
    drafter = AgentCard(name="drafter", version="1", topic="t", output_schema=schema)
    draft = {"agent": "drafter", "input": 1}
    ask = {"ask": "?", "payload": "${{ steps.draft }}", "role": "lead"}
    steps = {"draft": draft, "review": {"needs": "draft", "approval": ask}}
    [(code, message)] = found(steps, agents=[drafter])
    assert code == "unusable_schema"
    assert message.startswith("edits are held against the output schema of drafter, and the pattern '(?=a)a' can't be")
    own = {"draft": draft, "review": {"needs": "draft", "approval": {**ask, "payload_schema": {"type": "object"}}}}
    assert found(own, agents=[drafter]) == []
    assert found(steps, agents=[]) == []
    assert found(steps) == []
