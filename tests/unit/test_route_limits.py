"""What a route says of limits and priority, from the document to what `decide` reads."""

from typing import Any

import pytest
from test_route_compile import problems, route_with, step_with

from mesh.core.limits import Limit
from mesh.core.route import AgentWork, StepLimit
from mesh.routes.compiler import compile_route

SHAPE = "limits: {openai: {concurrency: 10, rate: 100/1m}}"
STEP = "limit: NAME, or limit: {name: NAME, key: ${{ event.data.tenant }}}"
RATE = "write a number and a time, such as 100/1m or 5/1s"
ONE = {"one": {"concurrency": 1}}


def limited(limit: Any) -> dict[str, Any]:
    return {**step_with(limit=limit), "limits": ONE}


BAD: list[tuple[Any, list[str]]] = [
    (route_with(limits=5), [f"limits: limits must be a mapping, not a number ({SHAPE})"]),
    (route_with(limits={}), [f"limits: limits is empty ({SHAPE})"]),
    (route_with(limits={"one": 5}), [f"limits.one: one must be a mapping, not a number ({SHAPE})"]),
    (route_with(limits={"one": {}}), ["limits.one: the limit one limits nothing (write concurrency, rate, or both)"]),
    (
        route_with(limits={"agent": {"concurrency": 1}}),
        ["limits.agent: a limit can't be named agent (agents' own limits are kept under that name; choose another)"],
    ),
    (
        route_with(limits={"One": {"concurrency": 1}}),
        ["limits.One: a limit can't be named One (start with a-z, then a-z, 0-9 and -; at most 63 characters)"],
    ),
    (
        route_with(limits={"one": {"concurency": 1, "rate": "1/1s"}}),
        ["limits.one.concurency: unknown key concurency (did you mean concurrency?)"],
    ),
    (
        route_with(limits={"one": {"concurrency": 0}}),
        ["limits.one.concurrency: concurrency can't be 0 (write a whole number from 1 to 1000000)"],
    ),
    (
        route_with(limits={"one": {"concurrency": True}}),
        ["limits.one.concurrency: concurrency can't be true (write a whole number from 1 to 1000000)"],
    ),
    *[
        (route_with(limits={"one": {"rate": rate}}), [f"limits.one.rate: rate can't be {rate} ({RATE})"])
        for rate in ("100", 100, "0/1m", "5/1y", "5/99999d")
    ],
    (route_with(priority=True), ["priority: priority must be a number or a template, not true (priority: 5)"]),
    (route_with(priority=""), ["priority: priority must be a number or a template, not a string (priority: 5)"]),
    (
        route_with(priority="high"),
        ["priority: priority must be a number, and high is a text (priority: ${{ event.data.n }})"],
    ),
    (
        route_with(priority="${{ workflow.key }}"),
        [
            "priority: workflow can't be read here, at column 5 of: ${{ workflow.key }} (read event alone here, so that it stays what it is)"
        ],
    ),
    (limited(5), [f"steps.a.limit: limit must be a mapping, not a number ({STEP})"]),
    (limited({"key": "x"}), [f"steps.a.limit: name is missing ({STEP})"]),
    (limited("on"), ["steps.a.limit: the route has no limit on (did you mean one?)"]),
    (limited({"name": "two"}), ["steps.a.limit.name: the route has no limit two (there are: one)"]),
    (
        limited({"name": "one", "key": 5}),
        ["steps.a.limit.key: key must be a string, not a number (such as ${{ event.data.tenant }})"],
    ),
    (
        limited({"name": "one", "key": "${{ steps.a }}"}),
        [
            "steps.a.limit.key: steps can't be read here, at column 5 of: ${{ steps.a }} (read event alone here, so that it stays what it is)"
        ],
    ),
    (step_with(limit="one"), [f"steps.a.limit: the route has no limit one (add it at the top: {SHAPE})"]),
    (
        {**route_with(steps={"a": {"wait": "1s", "limit": "one"}}), "limits": ONE},
        ["steps.a.limit: limit belongs to an agent's step, not to a wait (remove it)"],
    ),
]


@pytest.mark.parametrize(("document", "messages"), BAD)
def test_a_bad_limit_is_refused_with_every_problem(document: Any, messages: list[str]) -> None:
    assert problems(document) == messages


def test_limits_and_priority_are_taken() -> None:
    limits = {"one": {"concurrency": 3, "rate": "100/1.5m"}, "two": {"rate": "5/100ms"}}
    found = compile_route({**step_with(limit={"name": "one", "key": "${{ event.data.x }}"}), "limits": limits})
    work = found.steps["a"].work
    assert isinstance(work, AgentWork)
    assert isinstance(work.limit, StepLimit)
    assert (work.limit.name, work.limit.limit) == ("one", Limit(concurrency=3, rate=100, per_ms=90_000))
    assert work.limit.key is not None
    assert work.limit.key.render({"event": {"data": {"x": 7}}}) == 7
    short = compile_route({**step_with(limit="two"), "limits": limits, "priority": 5}).steps["a"].work
    assert isinstance(short, AgentWork)
    assert short.limit == StepLimit(name="two", limit=Limit(rate=5, per_ms=100))


@pytest.mark.parametrize(("priority", "value"), [(5, 5), (-1.5, -1.5), ("${{ event.data.n }}", 7)])
def test_a_priority_is_a_number_or_made_of_the_event(priority: Any, value: float) -> None:
    found = compile_route(route_with(priority=priority)).priority
    assert found is not None
    assert found.render({"event": {"data": {"n": 7}}}) == value
