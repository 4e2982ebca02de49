"""Routes: what a document compiles to.

Also the exact message of everything that can be wrong with one.
"""

import json
from copy import deepcopy
from typing import Any

import pytest

from mesh.core.json_values import digest
from mesh.core.route import AgentWork, ApprovalWork, CallWork, Periods, Retry, Trigger
from mesh.core.schedules import Schedule
from mesh.routes.compiler import compile_route
from mesh.routes.graph import find_cycle, ordered
from mesh.routes.problems import RouteRefused

ISSUE_TRIAGE: dict[str, Any] = {
    "route": "issue-triage",
    "on": {"type": "com.github.issues.opened"},
    "key": "${{ event.data.repository.full_name + '#' + event.subject }}",
    "steps": {
        "classify": {
            "agent": "classifier",
            "input": "${{ event.data.issue }}",
            "timeout": "30s",
            "retry": {"attempts": 4, "backoff": "1s"},
        },
        "duplicates": {"agent": "duplicate-finder", "input": "${{ event.data.issue }}"},
        "draft": {
            "needs": ["classify", "duplicates"],
            "agent": "drafter",
            "input": {"issue": "${{ event.data.issue }}", "triage": "${{ steps.classify }}"},
        },
        "review": {
            "needs": "draft",
            "if": "steps.classify.severity == 'high' || steps.classify.confidence < 0.7",
            "approval": {
                "ask": "Post this reply?",
                "payload": "${{ steps.draft }}",
                "role": "maintainer",
                "deadline": "24h",
                "on_expiry": "reject",
            },
        },
        "publish": {"needs": "review", "agent": "publisher", "input": "${{ steps.review.payload }}"},
    },
}


def route_with(**changes: Any) -> dict[str, Any]:
    """A small good route, with keys changed; `None` takes one out."""
    document = {"route": "r", "on": {"type": "t"}, "steps": {"a": {"agent": "x", "input": 1}}, **changes}
    return {key: value for key, value in document.items() if value is not None}


def step_with(**changes: Any) -> dict[str, Any]:
    step = {"agent": "x", "input": 1, **changes}
    return route_with(steps={"a": {key: value for key, value in step.items() if value is not None}})


def call_with(**changes: Any) -> dict[str, Any]:
    return route_with(steps={"a": {"workflow": "sub", "input": 1, **changes}})


def only_agent(document: dict[str, Any]) -> AgentWork:
    work = compile_route(document).steps["a"].work
    assert isinstance(work, AgentWork)
    return work


def approval_with(**changes: Any) -> dict[str, Any]:
    work = {"ask": "Good?", "payload": 1, "role": "boss", **changes}
    return route_with(steps={"a": {"approval": {key: value for key, value in work.items() if value is not None}}})


def graph(**needs: Any) -> dict[str, Any]:
    return route_with(steps={name: {"agent": "x", "input": 1, "needs": needed} for name, needed in needs.items()})


def problems(document: Any) -> list[str]:
    with pytest.raises(RouteRefused) as caught:
        compile_route(document)
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


def test_the_issue_triage_route_compiles() -> None:
    route = compile_route(ISSUE_TRIAGE)
    assert route.name == "issue-triage"
    assert route.on is not None
    assert route.on.type == "com.github.issues.opened"
    assert list(route.steps) == ["classify", "duplicates", "draft", "review", "publish"]
    assert route.dependents == {
        "classify": ("draft",),
        "duplicates": ("draft",),
        "draft": ("review",),
        "review": ("publish",),
        "publish": (),
    }
    assert route.digest == digest(ISSUE_TRIAGE)
    classify, review = route.steps["classify"].work, route.steps["review"].work
    assert isinstance(classify, AgentWork)
    assert (classify.timeout_s, classify.retry) == (30.0, Retry(attempts=4, backoff_s=1.0))
    assert isinstance(review, ApprovalWork)
    assert (review.deadline_s, review.payload_from, review.role) == (86_400.0, "drafter", "maintainer")
    condition = route.steps["review"].condition
    assert condition is not None
    assert condition.paths == {"steps.classify.severity", "steps.classify.confidence"}


def test_defaults_are_those_of_the_docs() -> None:
    route = compile_route(
        route_with(
            steps={"a": {"agent": "x", "input": None}, "b": {"approval": {"ask": "?", "payload": 1, "role": "r"}}}
        )
    )
    agent, approval = route.steps["a"].work, route.steps["b"].work
    assert isinstance(agent, AgentWork)
    assert isinstance(approval, ApprovalWork)
    assert (agent.timeout_s, agent.on_exhausted, agent.retry) == (300.0, "incident", Retry())
    assert agent.retry == Retry(attempts=3, backoff_s=1, factor=2, max_backoff_s=60, jitter=0.2)
    assert (approval.deadline_s, approval.on_expiry, approval.payload_schema) == (None, "reject", None)
    assert (route.key, route.on_repeat, route.closed_retention_s, route.output) == (None, "ignore", 30 * 86_400.0, None)
    assert route.on is not None
    assert route.on.condition is None


def test_every_key_is_taken() -> None:
    route = compile_route(
        {
            "route": "r-2",
            "on": {"type": "t", "if": "event.data.n > 1"},
            "key": "${{ event.data.n }}",
            "on_repeat": "new_run_after_end",
            "closed_retention": "7d",
            "output": {"answer": "${{ steps.ok.payload }}", "id": "${{ workflow.id }}"},
            "steps": {
                "a_1": {
                    "agent": "x-y",
                    "input": 1,
                    "if": "event.data.n > 2",
                    "timeout": "1.5m",
                    "start_timeout": "20s",
                    "run_timeout": "1m",
                    "heartbeat": "500ms",
                    "on_exhausted": "fail",
                    "retry": {
                        "attempts": 1,
                        "backoff": "500ms",
                        "factor": 1.5,
                        "max_backoff": "2h",
                        "jitter": 0,
                        "non_retryable": ["no_title"],
                    },
                },
                "ok": {
                    "needs": ["a_1"],
                    "approval": {
                        "ask": "Good, ${{ event.data.n }}?",
                        "payload": {"x": "${{ steps.a_1 }}"},
                        "payload_schema": {
                            "type": "object",
                            "properties": {"x": {"$ref": "#/$defs/x"}},
                            "$defs": {"x": {}},
                        },
                        "role": "boss",
                        "deadline": "never",
                        "on_expiry": "incident",
                    },
                },
            },
        }
    )
    work = route.steps["a_1"].work
    assert isinstance(work, AgentWork)
    assert (work.timeout_s, work.on_exhausted) == (90.0, "fail")
    assert work.periods == Periods(start_timeout_s=20, run_timeout_s=60, heartbeat_s=0.5)
    assert work.retry == Retry(
        attempts=1, backoff_s=0.5, factor=1.5, max_backoff_s=7_200, jitter=0, non_retryable=frozenset({"no_title"})
    )
    assert (route.on_repeat, route.closed_retention_s) == ("new_run_after_end", 7 * 86_400.0)
    approval = route.steps["ok"].work
    assert isinstance(approval, ApprovalWork)
    assert (approval.deadline_s, approval.on_expiry, approval.payload_from) == (None, "incident", None)
    assert route.output is not None
    assert route.output.render({"steps": {"ok": {"payload": 1}}, "workflow": {"id": "w"}}) == {"answer": 1, "id": "w"}


def test_a_step_may_call_another_route_and_a_route_need_not_be_started_by_events() -> None:
    route = compile_route(
        {
            "route": "r",
            "steps": {
                "a": {"workflow": "sub", "input": {"n": 1}},
                "b": {
                    "workflow": "sub",
                    "input": "${{ steps.a.x }}",
                    "needs": "a",
                    "timeout": "2h",
                    "on_exhausted": "fail",
                },
            },
        }
    )
    a, b = (step.work for step in route.steps.values())
    assert isinstance(a, CallWork)
    assert isinstance(b, CallWork)
    assert (route.on, a.route, a.input.source, a.timeout_s, a.on_exhausted) == (None, "sub", {"n": 1}, None, "incident")
    assert (b.timeout_s, b.on_exhausted) == (7_200.0, "fail")


def scheduled(**on: Any) -> dict[str, Any]:
    return route_with(on={"schedule": "0 9 * * 1-5", **on})


def test_a_schedule_starts_the_route() -> None:
    utc, berlin = (compile_route(scheduled(**more)).on for more in ({}, {"timezone": "Europe/Berlin"}))
    assert utc == Trigger(schedule=Schedule(cron="0 9 * * 1-5", timezone="UTC"))
    assert berlin == Trigger(schedule=Schedule(cron="0 9 * * 1-5", timezone="Europe/Berlin"))


def alias_with(wait: dict[str, Any] | None = None, **charge: Any) -> dict[str, Any]:
    """A step with an alias, and one that waits for an event of it."""
    wait = {"event": "t", "alias": "charge", "key": "${{ event.data.id }}", **(wait or {})}
    wait = {key: value for key, value in wait.items() if value is not None}
    step = {"agent": "x", "input": 1, "alias": "${{ steps.charge.id }}", **charge}
    step = {key: value for key, value in step.items() if value is not None}
    return route_with(steps={"charge": step, "paid": {"wait": wait}})


def test_a_step_gives_an_alias_that_a_wait_names() -> None:
    route = compile_route(alias_with())
    alias, [awaited] = route.steps["charge"].alias, route.awaited
    assert alias is not None
    assert alias.paths == {"steps.charge.id"}
    assert (awaited.type, awaited.alias) == ("t", "charge")
    assert route.steps["paid"].alias is None


def test_a_stored_definition_compiles_to_an_equal_route() -> None:
    route = compile_route(ISSUE_TRIAGE)
    again = compile_route(json.loads(json.dumps(ISSUE_TRIAGE, sort_keys=True)))
    assert again == route
    assert list(again.steps) == list(route.steps)
    assert again.dependents == route.dependents


def test_compiling_leaves_the_document_alone() -> None:
    document = deepcopy(ISSUE_TRIAGE)
    compile_route(document)
    assert document == ISSUE_TRIAGE


def test_a_long_backoff_raises_the_longest() -> None:
    work = compile_route(step_with(retry={"backoff": "5m"})).steps["a"].work
    assert isinstance(work, AgentWork)
    assert work.retry.max_backoff_s == 300


def test_times_that_nobody_has_written_are_not_watched() -> None:
    assert only_agent(step_with()).periods is None
    work = only_agent(step_with(heartbeat="10s"))
    assert (work.timeout_s, work.periods) == (300, Periods(heartbeat_s=10))


def test_the_time_out_is_as_long_as_start_and_run_need() -> None:
    work = only_agent(step_with(start_timeout="10m", run_timeout="1h", heartbeat="1h"))
    assert work.timeout_s == 4_200
    assert work.periods == Periods(start_timeout_s=600, run_timeout_s=3_600, heartbeat_s=3_600)
    assert only_agent(step_with(start_timeout="1s", run_timeout="1s", timeout="2s")).timeout_s == 2


def test_one_kind_may_stand_without_a_list() -> None:
    work = compile_route(step_with(retry={"non_retryable": "no_title"})).steps["a"].work
    assert isinstance(work, AgentWork)
    assert work.retry.non_retryable == {"no_title"}


@pytest.mark.parametrize(
    ("payload", "agent"),
    [
        ("${{ steps.a }}", "x"),
        ("${{ steps['a'] }}", None),
        ("${{ steps.a.text }}", None),
        ("${{ [steps.a] }}", None),
        ("a ${{ steps.a }}", None),
        ("${{ event.data }}", None),
        ("${{ steps.b }}", None),
        ({"x": "${{ steps.a }}"}, None),
    ],
)
def test_the_payload_comes_from_an_agent_where_it_is_exactly_its_output(payload: Any, agent: str | None) -> None:
    ask = {"ask": "?", "payload": 1, "role": "r"}
    route = compile_route(
        route_with(
            steps={
                "a": {"agent": "x", "input": 1},
                "b": {"approval": ask},
                "c": {"needs": ["a", "b"], "approval": {**ask, "payload": payload}},
            }
        )
    )
    work = route.steps["c"].work
    assert isinstance(work, ApprovalWork)
    assert work.payload_from == agent


DURATION = "write a number and ms, s, m, h or d, such as 30s or 24h"
TIMES = 'minute, hour, day of the month, month, day of the week, such as "0 9 * * 1-5"'
NAMES = "start with a-z, then a-z, 0-9 and -; at most 63 characters"
STEPS = "start with a-z, then a-z, 0-9 and _, because expressions use the name; at most 63 characters"

BAD: list[tuple[Any, list[str]]] = [
    # the whole
    (None, ["a route must be a mapping, not null (begin with route: NAME)"]),
    ([], ["a route must be a mapping, not a list (begin with route: NAME)"]),
    (
        {},
        [
            "route is missing (route: NAME)",
            "steps is missing (steps: {NAME: {agent: NAME, input: ...}})",
        ],
    ),
    (route_with(stepz={}), ["stepz: unknown key stepz (did you mean steps?)"]),
    (
        route_with(colour=1),
        [
            "colour: unknown key colour (there are: budget, closed_retention, keep_events, key, limits, on, on_repeat, output, priority, private, requester, route, search, steps)"
        ],
    ),
    (route_with(route="Issue"), [f"route: route can't be Issue ({NAMES})"]),
    (route_with(route="my route"), [f"route: route can't be 'my route' ({NAMES})"]),
    (route_with(route=1), [f"route: route can't be 1 ({NAMES})"]),
    (route_with(route="r" * 64), [f"route: route can't be {'r' * 64} ({NAMES})"]),
    (route_with(output={1: 2}), ["output.1: the key 1 is not a string (put it in quotes)"]),
    (route_with(output=[2**64]), ["output.0: the number does not fit in 64 bits (write it as a string)"]),
    (route_with(output=float("inf")), ["output: inf is not a JSON number (write it as a string)"]),
    (route_with(output=b"x"), ["output: b'x' is a bytes, which JSON does not have (put it in quotes)"]),
    # start
    (route_with(on="t"), ["on: on must be a mapping, not a string (on: {type: com.github.issues.opened})"]),
    (
        route_with(on={}),
        ["on: type is missing (the CloudEvents type that starts the route, or schedule: the times that do)"],
    ),
    (
        route_with(on={"type": ""}),
        ["on.type: type must be a string, not empty (the CloudEvents type that starts the route)"],
    ),
    (
        route_with(on={"type": ["t"]}),
        ["on.type: type must be a string, not a list (the CloudEvents type that starts the route)"],
    ),
    (route_with(on={"type": "t", "iff": "x"}), ["on.iff: unknown key iff (did you mean if?)"]),
    (route_with(on={"type": "t", "if": True}), ["on.if: if must be an expression in a string, not true"]),
    (
        route_with(on={"type": "t", "if": "${{ event.data }}"}),
        ["on.if: if takes a plain expression (write it without ${{ }})"],
    ),
    (
        route_with(on={"type": "t", "if": "steps.a == 1 && workflow.id == 'x'"}),
        [
            "on.if: steps is not there yet when an event is matched, at column 1 of: steps.a == 1 && workflow.id == 'x' (read event alone here)",
            "on.if: workflow is not there yet when an event is matched, at column 17 of: steps.a == 1 && workflow.id == 'x' (read event alone here)",
        ],
    ),
    (route_with(key=1), ["key: key must be a string, not a number (such as ${{ event.subject }})"]),
    (route_with(key=" "), ["key: key must be a string, not empty (such as ${{ event.subject }})"]),
    (
        route_with(key="${{ event.subject"),
        ["key: ${{ is not closed by }} at column 1 of: ${{ event.subject (write $${{ for the text itself)"],
    ),
    (
        route_with(key="${{ steps.a }}"),
        [
            "key: steps is not there yet when an event is matched, at column 5 of: ${{ steps.a }} (read event alone here)"
        ],
    ),
    (route_with(on_repeat="restart"), ["on_repeat: on_repeat can't be restart (write ignore or new_run_after_end)"]),
    (route_with(on_repeat=True), ["on_repeat: on_repeat can't be true (write ignore or new_run_after_end)"]),
    (route_with(closed_retention="30 days"), [f"closed_retention: closed_retention can't be '30 days' ({DURATION})"]),
    # steps
    (route_with(steps=[]), ["steps: steps must be a mapping, not a list (steps: {NAME: {agent: NAME, input: ...}})"]),
    (route_with(steps={}), ["steps: a route needs at least one step"]),
    (
        route_with(steps={"a": None}),
        [
            "steps.a: a must be a mapping, not null (agent: NAME or capability: NAME for a task, approval: {...} for a question to a person, workflow: ROUTE for a workflow of another route, or wait, value, emit, end)"
        ],
    ),
    (
        route_with(steps={"post-it": {"agent": "x", "input": 1}}),
        [f"steps.post-it: a step can't be named post-it ({STEPS})"],
    ),
    (
        route_with(steps={"a" * 64: {"agent": "x", "input": 1}}),
        [f"steps.{'a' * 64}: a step can't be named {'a' * 64} ({STEPS})"],
    ),
    (
        route_with(steps={"a": {}}),
        [
            "steps.a: the step a has nothing to do (agent: NAME or capability: NAME for a task, approval: {...} for a question to a person, workflow: ROUTE for a workflow of another route, or wait, value, emit, end)"
        ],
    ),
    (step_with(approval={}), ["steps.a.approval: the step a has both agent and approval (make two steps of it)"]),
    # schedules
    (
        scheduled(type="t", **{"if": "true"}),
        [
            "on.type: type does not go with schedule (make two routes of it, or write one of the two)",
            "on.if: if does not go with schedule (make two routes of it, or write one of the two)",
        ],
    ),
    (
        {**scheduled(), "key": "${{ event.id }}", "on_repeat": "ignore"},
        [
            "key: key does not go with a schedule (remove it: each time is a key)",
            "on_repeat: on_repeat does not go with a schedule (remove it: each time is a key)",
        ],
    ),
    (
        scheduled(schedule="0 9 * *"),
        [
            f"on.schedule: the schedule '0 9 * *' is wrong: a schedule has five fields: minute, hour, day of the month, month, day of the week ({TIMES})"
        ],
    ),
    (
        scheduled(schedule="0 25 * * *"),
        [f"on.schedule: the schedule '0 25 * * *' is wrong: it is not a cron schedule: Bad hour ({TIMES})"],
    ),
    (scheduled(schedule=9), [f"on.schedule: schedule must be a string, not a number ({TIMES})"]),
    (
        scheduled(timezone="Berlin"),
        ["on.timezone: there is no time zone Berlin (name one of the IANA time zone database, such as Europe/Berlin)"],
    ),
    (scheduled(timezone=1), ["on.timezone: timezone must be a string, not a number (such as Europe/Berlin)"]),
    (
        route_with(on={"type": "t", "timezone": "UTC"}),
        ["on.timezone: timezone goes with schedule, not with type (remove it)"],
    ),
    # aliases
    (
        alias_with(alias=7),
        [
            "steps.charge.alias: alias must be a string, not a number (such as ${{ steps.charge.payment_id }})",
            "steps.paid.wait.alias: the step charge gives no alias (write one there: alias: ${{ ... }})",
        ],
    ),
    (
        alias_with(alias=None),
        ["steps.paid.wait.alias: the step charge gives no alias (write one there: alias: ${{ ... }})"],
    ),
    (
        alias_with({"alias": "chrage"}),
        ["steps.paid.wait.alias: there is no step chrage to give an alias (did you mean charge?)"],
    ),
    (
        alias_with({"alias": "nobody"}, alias=None),
        [
            "steps.paid.wait.alias: there is no step nobody to give an alias (write alias: ${{ ... }} in the step that knows it)"
        ],
    ),
    (
        alias_with({"key": None}),
        [
            "steps.paid.wait: nothing says which charge an event is about (write key: beside alias, such as ${{ event.data.payment_id }})"
        ],
    ),
    (
        alias_with(alias="${{ steps.paid.id }}"),
        [
            "steps.charge.alias: the step charge reads steps.paid but does not need it, at column 5 of: ${{ steps.paid.id }} (add paid to its needs)"
        ],
    ),
    (
        route_with(steps={"a": {"wait": {"until": "x", "alias": "a"}}}),
        ["steps.a.wait.alias: alias goes with event, not with until (remove it)"],
    ),
    (
        route_with(steps={"a": {"end": "completed", "alias": "x"}}),
        ["steps.a.alias: no event can find a workflow after its end (give the alias to an earlier step)"],
    ),
    # calls
    (step_with(workflow="sub"), ["steps.a.workflow: the step a has both agent and workflow (make two steps of it)"]),
    (call_with(workflow="Sub"), [f"steps.a.workflow: workflow can't be Sub ({NAMES})"]),
    (
        call_with(retry={}),
        ["steps.a.retry: retry belongs to an agent's step, not to a workflow that is called (remove it)"],
    ),
    (
        route_with(steps={"a": {"workflow": "sub"}}),
        ["steps.a: input is missing (the event.data of the called workflow, such as input: ${{ event.data }})"],
    ),
    (
        {"route": "r", "on_repeat": "ignore", "steps": {"a": {"agent": "x", "input": 1}}},
        ["on_repeat: on_repeat has no effect without on (a call starts its workflow once)"],
    ),
    (step_with(tiemout="1s"), ["steps.a.tiemout: unknown key tiemout (did you mean timeout?)"]),
    (step_with(agent="Classifier"), [f"steps.a.agent: agent can't be Classifier ({NAMES})"]),
    (step_with(input=None), ["steps.a: input is missing (what the agent gets, such as input: ${{ event.data }})"]),
    (step_with(timeout=30), [f"steps.a.timeout: timeout can't be 30 ({DURATION})"]),
    (step_with(timeout="1h30m"), [f"steps.a.timeout: timeout can't be 1h30m ({DURATION})"]),
    (step_with(timeout="0s"), ["steps.a.timeout: timeout can't be 0s (write more than 0 and at most 3650d)"]),
    (step_with(timeout="9999d"), ["steps.a.timeout: timeout can't be 9999d (write more than 0 and at most 3650d)"]),
    (step_with(heartbeat="0s"), ["steps.a.heartbeat: heartbeat can't be 0s (write more than 0 and at most 3650d)"]),
    (step_with(start_timeout=5), [f"steps.a.start_timeout: start_timeout can't be 5 ({DURATION})"]),
    (
        step_with(heartbeat="2m", run_timeout="1m"),
        ["steps.a.heartbeat: heartbeat is longer than run_timeout, so it would never count (make it shorter)"],
    ),
    (
        step_with(heartbeat="6m"),
        ["steps.a.heartbeat: heartbeat is longer than timeout, so it would never count (make it shorter)"],
    ),
    (
        step_with(timeout="5m", start_timeout="1m", run_timeout="5m"),
        [
            "steps.a.timeout: timeout is shorter than start_timeout and run_timeout together (make it longer, or leave it out)"
        ],
    ),
    (
        step_with(timeout="5m", start_timeout="6m"),
        ["steps.a.timeout: timeout is shorter than start_timeout (make it longer, or leave it out)"],
    ),
    (
        step_with(timeout="5m", run_timeout="6m"),
        ["steps.a.timeout: timeout is shorter than run_timeout (make it longer, or leave it out)"],
    ),
    (step_with(timeout="never"), [f"steps.a.timeout: timeout can't be never ({DURATION})"]),
    (
        step_with(on_exhausted="stop"),
        ["steps.a.on_exhausted: on_exhausted can't be stop (write incident, fail or continue)"],
    ),
    # retry
    (step_with(retry=3), ["steps.a.retry: retry must be a mapping, not a number (retry: {attempts: 3, backoff: 1s})"]),
    (step_with(retry={"attempt": 3}), ["steps.a.retry.attempt: unknown key attempt (did you mean attempts?)"]),
    (
        step_with(retry={"attempts": 0}),
        ["steps.a.retry.attempts: attempts can't be 0 (write a whole number from 1 to 1000)"],
    ),
    (
        step_with(retry={"attempts": 1.5}),
        ["steps.a.retry.attempts: attempts can't be 1.5 (write a whole number from 1 to 1000)"],
    ),
    (
        step_with(retry={"attempts": True}),
        ["steps.a.retry.attempts: attempts can't be true (write a whole number from 1 to 1000)"],
    ),
    (step_with(retry={"backoff": "fast"}), [f"steps.a.retry.backoff: backoff can't be fast ({DURATION})"]),
    (step_with(retry={"factor": 0.5}), ["steps.a.retry.factor: factor can't be 0.5 (write a number from 1 to 100)"]),
    (step_with(retry={"jitter": 1}), ["steps.a.retry.jitter: jitter can't be 1 (write a number from 0 to 0.99)"]),
    (
        step_with(retry={"jitter": False}),
        ["steps.a.retry.jitter: jitter can't be false (write a number from 0 to 0.99)"],
    ),
    (
        step_with(retry={"backoff": "10s", "max_backoff": "5s"}),
        ["steps.a.retry.max_backoff: max_backoff is less than backoff (make it longer)"],
    ),
    (
        step_with(retry={"non_retryable": [1]}),
        ["steps.a.retry.non_retryable: non_retryable must be a list of error kinds (non_retryable: [no_title])"],
    ),
    # approval
    (
        route_with(steps={"a": {"approval": "ok?"}}),
        ["steps.a.approval: approval must be a mapping, not a string (approval: {ask: ..., payload: ..., role: ...})"],
    ),
    (
        route_with(steps={"a": {"approval": {}}}),
        [
            "steps.a.approval: ask is missing (the question)",
            "steps.a.approval: payload is missing (what is to be approved)",
            "steps.a.approval: role is missing (name the role that may answer, such as maintainer)",
        ],
    ),
    (
        route_with(steps={"a": {"timeout": "1s", "approval": {"ask": "?", "payload": 1, "role": "r"}}}),
        ["steps.a.timeout: timeout belongs to an agent's step, not to an approval (remove it)"],
    ),
    (approval_with(ask=1), ["steps.a.approval.ask: ask must be a string, not a number (the question to the person)"]),
    (
        approval_with(role=["boss"]),
        [
            "steps.a.approval.role: role must be a string, not a list (name the role that may answer, such as maintainer)"
        ],
    ),
    (approval_with(deadline="soon"), [f"steps.a.approval.deadline: deadline can't be soon ({DURATION})"]),
    (
        approval_with(on_expiry="rejct"),
        ["steps.a.approval.on_expiry: on_expiry can't be rejct (write reject, approve or incident)"],
    ),
    (approval_with(roles="x"), ["steps.a.approval.roles: unknown key roles (did you mean role?)"]),
    (
        approval_with(payload_schema=[]),
        ["steps.a.approval.payload_schema: payload_schema must be a JSON Schema, not a list"],
    ),
    (
        approval_with(payload_schema={"properties": {"x": {"type": "strin"}}}),
        [
            "steps.a.approval.payload_schema.properties.x.type: payload_schema is not a JSON Schema: 'strin' is not valid under any of the given schemas"
        ],
    ),
    (
        approval_with(payload_schema={"anyOf": [{"$ref": "https://example.org/x.json"}]}),
        ["steps.a.approval.payload_schema.anyOf.0.$ref: a $ref must point into the schema itself (begin it with #)"],
    ),
    (
        approval_with(payload_schema={"properties": {"x": {"pattern": "(?=a)"}}}),
        [
            (
                "steps.a.approval.payload_schema.properties.x.pattern: the pattern '(?=a)' can't be used: invalid perl operator: (?= (RE2 has no look-around)"
                " (write it without look-around and back-references)"
            )
        ],
    ),
    # needs
    (graph(a=1), ["steps.a.needs: needs must be a step's name or a list of them (needs: [a, b])"]),
    (graph(a=["b", 1], b=[]), ["steps.a.needs: needs must be a step's name or a list of them (needs: [a, b])"]),
    (graph(a="a"), ["steps.a.needs: a step can't need itself (remove it from needs)"]),
    (graph(a="b"), ["steps.a.needs: there is no step b to need (there are none)"]),
    (graph(classify=[], a=["clasify"]), ["steps.a.needs.0: there is no step clasify to need (did you mean classify?)"]),
    (graph(a=[], b=["a", "a"]), ["steps.b.needs.1: needs names a twice (write it once)"]),
    (graph(a="c", b="a", c="b", d=[]), ["steps.a.needs: steps need each other: a -> c -> b -> a (break the cycle)"]),
    (
        route_with(steps={"a": {"agent": "x", "input": 1, "needs": ["b"]}, "b": 1}),
        [
            "steps.b: b must be a mapping, not a number (agent: NAME or capability: NAME for a task, approval: {...} for a question to a person, workflow: ROUTE for a workflow of another route, or wait, value, emit, end)"
        ],
    ),
    # expressions
    (
        step_with(input="${{ a.x }}"),
        ["steps.a.input: unknown name a, at column 5 of: ${{ a.x }} (did you mean steps.a?)"],
    ),
    (
        step_with(**{"if": "steps.a.severity = 'high'"}),
        ["steps.a.if: unexpected '=' at column 18 of: steps.a.severity = 'high' (to compare write ==)"],
    ),
    (
        step_with(input={"x": ["${{ event.data. }}"]}),
        ["steps.a.input.x.0: expected a name after '.', found the end at column 16 of: ${{ event.data. }}"],
    ),
    (
        step_with(input="${{ evnt.data }}"),
        ["steps.a.input: unknown name evnt, at column 5 of: ${{ evnt.data }} (did you mean event?)"],
    ),
    (
        step_with(**{"if": "severity == 'high'"}),
        [
            "steps.a.if: unknown name severity, at column 1 of: severity == 'high' (paths begin with event, steps, status or workflow; text goes in quotes)"
        ],
    ),
    (
        step_with(input="${{ event.dta.x }}"),
        ["steps.a.input: an event has no dta, at column 5 of: ${{ event.dta.x }} (did you mean event.data?)"],
    ),
    (
        step_with(input="${{ event.fullName }}"),
        [
            "steps.a.input: an event has no fullName, at column 5 of: ${{ event.fullName }} (what the event carries is under event.data: event.data.fullName)"
        ],
    ),
    (
        step_with(input="${{ event[0] }}"),
        [
            "steps.a.input: an event has no 0, at column 5 of: ${{ event[0] }} (what the event carries is under event.data: event.data.0)"
        ],
    ),
    (
        step_with(input="${{ workflow.ky }}"),
        ["steps.a.input: workflow has no ky, at column 5 of: ${{ workflow.ky }} (did you mean key?)"],
    ),
    (
        step_with(input="${{ workflow.started }}"),
        [
            "steps.a.input: workflow has no started, at column 5 of: ${{ workflow.started }} (there are: id, key, route, run_id)"
        ],
    ),
    (
        step_with(input="${{ steps }}"),
        ["steps.a.input: steps must be read by name, at column 5 of: ${{ steps }} (steps.NAME)"],
    ),
    (
        step_with(input="${{ steps.b }}"),
        ["steps.a.input: there is no step b, at column 5 of: ${{ steps.b }} (there are: a)"],
    ),
    (
        step_with(input="${{ steps.a }}"),
        [
            "steps.a.input: the step a reads its own output, at column 5 of: ${{ steps.a }} (it is not there before it has run)"
        ],
    ),
    (
        route_with(steps={"a": {"agent": "x", "input": 1}, "b": {"agent": "x", "input": "${{ steps.a }}"}}),
        [
            "steps.b.input: the step b reads steps.a but does not need it, at column 5 of: ${{ steps.a }} (add a to its needs)"
        ],
    ),
    (
        route_with(
            steps={
                "a": {"approval": {"ask": "?", "payload": 1, "role": "r"}},
                "b": {"needs": "a", "agent": "x", "input": "${{ steps.a.verdit }}"},
            }
        ),
        ["steps.b.input: steps.a has no verdit, at column 5 of: ${{ steps.a.verdit }} (did you mean verdict?)"],
    ),
    (
        route_with(output="${{ steps.b }}"),
        ["output: there is no step b, at column 5 of: ${{ steps.b }} (there are: a)"],
    ),
    (
        step_with(**{"if": "event.data.x == '" + "y" * 200 + "' ="}),
        [f"steps.a.if: unexpected '=' at column 220 of: event.data.x == '{'y' * 100}... (to compare write ==)"],
    ),
]


@pytest.mark.parametrize(("document", "messages"), BAD)
def test_a_bad_route_is_refused_with_every_problem(document: Any, messages: list[str]) -> None:
    assert problems(document) == messages


@pytest.mark.parametrize(
    "expression",
    [
        "event.traceparent == 'x'",  # any CloudEvents extension may be there
        "event.data.anything[0].x == 1",
        "has(event.data.x)",
        "size(event) > 0",
        "workflow.run_id == '1'",
        "size(workflow) > 0",
        "event.data.labels.exists(l, l.name == 'bug')",
        "steps.b.verdict == 'rejected' || steps.a == 1 || steps.b == null",
    ],
)
def test_what_can_be_there_may_be_read(expression: str) -> None:
    compile_route(
        route_with(
            steps={
                "a": {"agent": "x", "input": 1},
                "b": {"needs": "a", "approval": {"ask": "?", "payload": 1, "role": "r"}},
                "c": {"needs": "b", "if": expression, "agent": "x", "input": 1},
            }
        )
    )


def test_reads_are_checked_by_name_alone_while_the_graph_does_not_hold() -> None:
    document = graph(a="b", b="a")
    document["steps"]["a"]["input"] = "${{ steps.c }}"
    assert problems(document) == [
        "steps.a.needs: steps need each other: a -> b -> a (break the cycle)",
        "steps.a.input: there is no step c, at column 5 of: ${{ steps.c }} (there are: a, b)",
    ]


def test_steps_stand_after_those_they_need_and_else_by_name() -> None:
    assert ordered({"z": [], "a": ["z"], "c": [], "b": ["a", "c"]}) == ("c", "z", "a", "b")


def test_a_cycle_is_found_behind_a_long_way() -> None:
    assert find_cycle({"a": [], "b": ["a"], "c": ["b", "e"], "d": ["c"], "e": ["d"]}) == ["c", "e", "d", "c"]
    assert find_cycle({"a": [], "b": ["a"], "c": ["a", "b"]}) == []
    chain = {f"s{n:05}": [f"s{n - 1:05}"] if n else [] for n in range(5_000)}
    assert find_cycle(chain) == []
