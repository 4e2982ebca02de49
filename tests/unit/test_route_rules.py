"""Routes: what the rules beyond a plain graph compile to.

Joins, for-each, loops, waits, values, events, ends, undo, hand-over. Also the exact message of
everything that can be wrong with one.
"""

from typing import Any

import pytest
from test_route_compile import DURATION, NAMES, problems, route_with, step_with

from mesh.core.route import AgentWork, ApprovalWork, CallWork, EmitWork, EndWork, ForEach, HandOver, WaitWork, agents_of
from mesh.routes.compiler import compile_route
from mesh.routes.keys import UNDO

JOIN = "{any: [a, b]}, {count: 2, of: [a, b, c]} or {first_of: [a, b]}"
WAIT = "wait: 2d, wait: {until: ...} or wait: {event: TYPE}"


def agent(**more: Any) -> dict[str, Any]:
    return {"agent": "x", "input": 1, **more}


def steps(**found: Any) -> dict[str, Any]:
    return route_with(key="${{ event.subject }}", steps=found)


def call(**more: Any) -> dict[str, Any]:
    return {"workflow": "sub", "input": 1, **more}


def called(**found: Any) -> dict[str, Any]:
    """A route that no event starts."""
    return {"route": "sub", "steps": found}


def join_with(needs: Any) -> dict[str, Any]:
    return steps(a=agent(), b=agent(), c=agent(), j=agent(needs=needs))


def kind_with(kind: str, value: Any) -> dict[str, Any]:
    return steps(a={kind: value})


def loop_with(**changes: Any) -> dict[str, Any]:
    """Step b closes a loop from a."""
    repeat = {"from": "a", "until": "steps.b == 1", "limit": 3, **changes}
    return steps(
        a=agent(), b=agent(needs="a", repeat={key: value for key, value in repeat.items() if value is not None})
    )


# What they compile to -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needs", "names", "enough", "first_of"),
    [
        ("a", ("a",), None, False),
        ([], (), None, False),
        (["a", "b"], ("a", "b"), None, False),
        ({"any": ["a", "b"]}, ("a", "b"), 1, False),
        ({"count": 2, "of": ["a", "b", "c"]}, ("a", "b", "c"), 2, False),
        ({"first_of": ["c", "a"]}, ("c", "a"), 1, True),
    ],
)
def test_a_join(needs: Any, names: tuple[str, ...], enough: int | None, first_of: bool) -> None:
    step = compile_route(join_with(needs)).steps["j"]
    assert (step.needs, step.enough, step.first_of) == (names, enough, first_of)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${{ event.data }}", (100, 0, 0.0)),
        ([1, 2], (100, 0, 0.0)),
        ({"items": "${{ event.data }}"}, (100, 0, 0.0)),
        ({"items": [1], "concurrency": 20, "tolerate": 3}, (20, 3, 0.0)),
        ({"items": [1], "tolerate": "10%"}, (100, 0, 0.1)),
        ({"items": [1], "tolerate": "all"}, (100, 0, 1.0)),
    ],
)
def test_a_for_each(value: Any, expected: tuple[int, int, float]) -> None:
    found = compile_route(steps(a=agent(for_each=value, input="${{ [item, index] }}"))).steps["a"].for_each
    assert isinstance(found, ForEach)
    assert (found.concurrency, found.tolerate, found.tolerate_share) == expected


def test_a_loop_has_all_between_its_ends() -> None:
    document = steps(
        before=agent(),
        a=agent(needs="before", input="${{ [round, steps.z] }}"),
        b=agent(needs="a"),
        c=agent(needs="a"),
        z=agent(needs=["b", "c"], repeat={"from": "a", "until": "steps.z == 1 && steps.b == 2", "limit": 5}),
        after=agent(needs="z", input="${{ steps.b }}"),
    )
    route = compile_route(document)
    loop = route.steps["z"].repeat
    assert loop is not None
    assert (loop.start, loop.limit, loop.on_limit, loop.body) == ("a", 5, "incident", ("a", "b", "c", "z"))
    assert route.looped == {"a", "b", "c", "z"}


def test_a_loop_without_from_is_of_the_step_alone() -> None:
    loop = compile_route(loop_with(**{"from": None})).steps["b"].repeat
    assert loop is not None
    assert (loop.start, loop.body) == ("b", ("b",))


def test_waits() -> None:
    event = {
        "event": "t.paid",
        "key": "${{ event.data.order }}",
        "if": "event.data.n >= start.data.n && steps.a == round",
        "timeout": "3d",
        "on_timeout": "skip",
    }
    route = compile_route(
        steps(
            a={"wait": "2d"},
            b={"needs": "a", "wait": {"until": "${{ steps.a }}"}},
            c={"needs": "a", "wait": event, "repeat": {"until": "true", "limit": 2}},
            d={"wait": {"event": "t.other"}},
        )
    )
    a, b, c, d = (route.steps[name].work for name in "abcd")
    assert isinstance(a, WaitWork)
    assert isinstance(b, WaitWork)
    assert isinstance(c, WaitWork)
    assert isinstance(d, WaitWork)
    assert (a.seconds, a.until, a.event) == (2 * 86_400.0, None, None)
    assert b.until is not None
    assert c.event is not None
    assert c.event.key is not None
    assert (c.event.type, c.timeout_s, c.on_timeout) == ("t.paid", 3 * 86_400.0, "skip")
    assert d.event is not None
    assert (d.event.key, d.event.condition, d.timeout_s, d.on_timeout) == (None, None, None, "incident")
    assert route.awaited == (c.event, d.event)
    assert route.keep_events_s == 86_400.0


def test_values_events_and_ends() -> None:
    route = compile_route(
        steps(
            a={"value": {"n": "${{ event.data.n }}"}},
            b={"needs": "a", "emit": {"type": "t.done", "subject": "${{ steps.a.n }}", "data": "${{ steps.a }}"}},
            c={
                "needs": "b",
                "end": {"status": "completed", "reason": "as ${{ steps.b.id }}", "output": "${{ steps.a }}"},
            },
            d={"needs": "a", "end": "rejected"},
            e={"needs": "a", "end": {"status": "failed"}},
        )
    )
    assert isinstance(route.steps["b"].work, EmitWork)
    c, d, e = (route.steps[name].work for name in "cde")
    assert isinstance(c, EndWork)
    assert isinstance(d, EndWork)
    assert isinstance(e, EndWork)
    assert (c.status, d.status, e.status) == ("completed", "rejected", "failed")
    assert c.output is not None
    assert (d.output, d.reason.source, e.reason.source) == (None, "", "")


def test_a_call_may_have_a_slice_be_done_for_each_item_and_be_undone() -> None:
    step = call(reserve={"tokens": 5}, for_each={"items": "${{ event.data }}", "concurrency": 2}, undo=agent())
    made = compile_route({**steps(a={**step, "input": "${{ item }}"}), "budget": {"tokens": 9}}).steps["a"]
    assert isinstance(made.work, CallWork)
    assert made.work.reserve == {"tokens": 5}
    assert made.for_each is not None
    assert made.for_each.concurrency == 2
    assert made.undo is not None


def test_a_route_that_is_called_reserves_of_what_its_callers_let_it_spend() -> None:
    made = compile_route({**called(a=agent(reserve={"tokens": 5, "usd": 1})), "budget": {"usd": 2}}).steps["a"]
    assert isinstance(made.work, AgentWork)
    assert made.work.reserve == {"tokens": 5, "usd": 1}


@pytest.mark.parametrize("work", [agent(), call()])
def test_a_route_that_goes_on_without_what_failed_is_sparse(work: dict[str, Any]) -> None:
    assert compile_route(steps(a={**work, "on_exhausted": "continue"})).is_sparse
    assert not compile_route(steps(a=work)).is_sparse


def test_undo_and_handover() -> None:
    undo = {"agent": "u", "input": "${{ steps.a.id }}", "timeout": "1m", "retry": {"attempts": 9}}
    route = compile_route(
        steps(a=agent(undo=undo, handover={"to": ["y", "z"], "hops": 7}), b=agent(handover={"to": "y"}), c={"value": 1})
    )
    undoes, work, other = route.steps["a"].undo, route.steps["a"].work, route.steps["b"].work
    assert undoes is not None
    assert (undoes.agent, undoes.timeout_s, undoes.retry.attempts, undoes.on_exhausted) == ("u", 60.0, 9, "incident")
    assert isinstance(work, AgentWork)
    assert isinstance(other, AgentWork)
    assert work.handover == HandOver(to=frozenset({"y", "z"}), hops=7)
    assert other.handover == HandOver(to=frozenset({"y"}), hops=3)
    assert agents_of(route) == {"x", "y", "z", "u"}


@pytest.mark.parametrize(
    ("document", "sparse", "reads_status"),
    [
        (steps(a=agent(), b=agent(needs="a")), False, False),
        (steps(a=agent(on_exhausted="continue")), True, False),
        (join_with({"any": ["a", "b"]}), True, False),
        (loop_with(), True, False),
        (steps(a=agent(), b=agent(needs="a", **{"if": "status.a == 'failed'"})), True, True),
    ],
)
def test_where_a_step_may_act_before_all_it_reads_is_done_what_is_not_there_is_null(
    document: Any, sparse: bool, reads_status: bool
) -> None:
    route = compile_route(document)
    assert (route.is_sparse, route.reads_status) == (sparse, reads_status)


def test_a_payload_that_is_a_for_eachs_list_comes_from_no_agent() -> None:
    ask = {"ask": "?", "payload": "${{ steps.a }}", "role": "r"}
    work = compile_route(steps(a=agent(for_each=[1]), q={"needs": "a", "approval": ask})).steps["q"].work
    assert isinstance(work, ApprovalWork)
    assert work.payload_from is None


# What can be wrong --------------------------------------------------------------------------------

_NO_LISTS: list[Any] = [{}, {"to": []}, {"to": [1]}, {"to": ""}]

BAD: list[tuple[Any, list[str]]] = [
    # joins
    (join_with({}), [f"steps.j.needs: needs must say one of any, count and of, first_of ({JOIN})"]),
    (
        join_with({"any": ["a"], "first_of": ["b"]}),
        [f"steps.j.needs: needs must say one of any, count and of, first_of ({JOIN})"],
    ),
    (
        join_with({"al": ["a"], "any": ["a"]}),
        ["steps.j.needs.al: unknown key al (there are: any, count, first_of, of)"],
    ),
    (join_with({"any": "a"}), [f"steps.j.needs.any: any must be a list of at least one step ({JOIN})"]),
    (
        join_with({"first_of": []}),
        [f"steps.j.needs.first_of: first_of must be a list of at least one step ({JOIN})"],
    ),
    (join_with({"any": ["a"], "count": 1}), [f"steps.j.needs.count: count goes with of, not with any ({JOIN})"]),
    (join_with({"of": ["a", "b"]}), ["steps.j.needs: count is missing (how many of them: count: 2)"]),
    (
        join_with({"count": 0, "of": ["a", "b"]}),
        ["steps.j.needs.count: count can't be 0 (write a whole number from 1 to 2)"],
    ),
    (
        join_with({"count": 3, "of": ["a", "b"]}),
        ["steps.j.needs.count: count can't be 3 (write a whole number from 1 to 2)"],
    ),
    (
        join_with({"count": True, "of": ["a", "b"]}),
        ["steps.j.needs.count: count can't be true (write a whole number from 1 to 2)"],
    ),
    (
        join_with({"any": ["a", 1]}),
        ["steps.j.needs: needs must be a step's name or a list of them (needs: [a, b])"],
    ),
    # for each
    (
        steps(a=agent(for_each=5)),
        ["steps.a.for_each: for_each needs a list, not a number (such as ${{ event.data.files }})"],
    ),
    (
        steps(a=agent(for_each=None)),
        ["steps.a.for_each: for_each needs a list, not null (such as ${{ event.data.files }})"],
    ),
    (
        steps(a=agent(for_each={"concurrency": 2})),
        ["steps.a.for_each: items is missing (the list, such as items: ${{ event.data.files }})"],
    ),
    (
        steps(a=agent(for_each={"items": 5})),
        ["steps.a.for_each.items: items needs a list, not a number (such as ${{ event.data.files }})"],
    ),
    (
        steps(a=agent(for_each={"items": [1], "concurrency": 0})),
        ["steps.a.for_each.concurrency: concurrency can't be 0 (write a whole number from 1 to 10000)"],
    ),
    (
        steps(a=agent(for_each={"items": [1], "parallel": 3})),
        ["steps.a.for_each.parallel: unknown key parallel (there are: concurrency, items, tolerate)"],
    ),
    *[
        (
            steps(a=agent(for_each={"items": [1], "tolerate": wrong})),
            [
                f'steps.a.for_each.tolerate: tolerate can\'t be {said} (write a number of items, a part such as "10%", or all)'
            ],
        )
        for wrong, said in [
            (-1, "-1"),
            (True, "true"),
            ("some", "some"),
            ("101%", "101%"),
            (0.5, "0.5"),
            (None, "null"),
        ]
    ],
    (
        steps(a={"value": 1, "for_each": [1]}),
        ["steps.a.for_each: for_each belongs to an agent's step, not to a value (remove it)"],
    ),
    # loops
    (loop_with(until=None), ["steps.b.repeat: until is missing (when the loop is done)"]),
    (loop_with(limit=None), ["steps.b.repeat: limit is missing (the largest number of rounds)"]),
    (loop_with(limit=0), ["steps.b.repeat.limit: limit can't be 0 (write a whole number from 1 to 1000)"]),
    (loop_with(limit=1001), ["steps.b.repeat.limit: limit can't be 1001 (write a whole number from 1 to 1000)"]),
    (
        loop_with(on_limit="stop"),
        ["steps.b.repeat.on_limit: on_limit can't be stop (write incident, fail or continue)"],
    ),
    (loop_with(max=3), ["steps.b.repeat.max: unknown key max (there are: from, limit, on_limit, until)"]),
    (
        loop_with(**{"from": 1}),
        ["steps.b.repeat.from: from must be a string, not a number (the step that the loop goes back to)"],
    ),
    (loop_with(**{"from": "aa"}), ["steps.b.repeat.from: there is no step aa to go back to (did you mean a?)"]),
    (
        loop_with(until="${{ true }}"),
        ["steps.b.repeat.until: until takes a plain expression (write it without ${{ }})"],
    ),
    (
        steps(a=agent(repeat=3)),
        ["steps.a.repeat: repeat must be a mapping, not a number (repeat: {from: STEP, until: EXPRESSION, limit: 5})"],
    ),
    (
        steps(a=agent(), b=agent(repeat={"from": "a", "until": "true", "limit": 2})),
        [
            "steps.b.repeat.from: b does not need a, so no loop leads from one to the other (go back to a step that this one needs, directly or through others)"
        ],
    ),
    (
        steps(
            a=agent(),
            b=agent(needs="a", repeat={"from": "a", "until": "true", "limit": 2}),
            c=agent(needs="b", repeat={"from": "b", "until": "true", "limit": 2}),
        ),
        ["steps.c.repeat: b is in the loops of b and of c (separate them)"],
    ),
    (
        steps(
            a=agent(),
            b=agent(needs="a"),
            c=agent(needs="b", repeat={"from": "a", "until": "true", "limit": 2}),
            out=agent(needs=["b", "c"]),
        ),
        ["steps.out.needs: b is inside the loop that c closes (need c: what is inside may run again)"],
    ),
    (
        steps(a=agent(needs="b", repeat={"until": "true", "limit": 2}), b=agent(needs="a")),
        ["steps.a.needs: steps need each other: a -> b -> a (break the cycle)"],
    ),
    # waits
    (kind_with("wait", "soon"), [f"steps.a.wait: wait can't be soon ({DURATION})"]),
    (kind_with("wait", "0s"), ["steps.a.wait: wait can't be 0s (write more than 0 and at most 3650d)"]),
    (kind_with("wait", 5), [f"steps.a.wait: wait must be a mapping, not a number ({WAIT})"]),
    (kind_with("wait", {}), [f"steps.a.wait: a wait must say until or event, one of them ({WAIT})"]),
    (
        kind_with("wait", {"until": "x", "event": "t"}),
        [f"steps.a.wait: a wait must say until or event, one of them ({WAIT})"],
    ),
    (kind_with("wait", {"evnt": "t", "event": "t"}), ["steps.a.wait.evnt: unknown key evnt (did you mean event?)"]),
    (
        kind_with("wait", {"until": 5}),
        ["steps.a.wait.until: until must be a string, not a number (a time, such as ${{ event.data.due }})"],
    ),
    (
        kind_with("wait", {"until": "x", "timeout": "1d", "if": "true"}),
        [
            "steps.a.wait.if: if goes with event, not with until (remove it)",
            "steps.a.wait.timeout: timeout goes with event, not with until (remove it)",
        ],
    ),
    (
        kind_with("wait", {"event": ""}),
        ["steps.a.wait.event: event must be a string, not empty (the CloudEvents type that is awaited)"],
    ),
    (
        kind_with("wait", {"event": "t", "key": 5}),
        ["steps.a.wait.key: key must be a string, not a number (such as ${{ event.data.order }})"],
    ),
    (
        kind_with("wait", {"event": "t", "timeout": "soon"}),
        [f"steps.a.wait.timeout: timeout can't be soon ({DURATION})"],
    ),
    (
        kind_with("wait", {"event": "t", "on_timeout": "continue"}),
        ["steps.a.wait.on_timeout: on_timeout can't be continue (write incident, fail or skip)"],
    ),
    (
        route_with(steps={"a": {"wait": {"event": "t"}}}),
        [
            "steps.a.wait: nothing says which workflow an event is for (write key: beside event, or a key for the route, such as ${{ event.subject }})"
        ],
    ),
    (
        kind_with("wait", {"event": "t", "key": "${{ workflow.key }}"}),
        [
            "steps.a.wait.key: workflow is not there yet when an event is matched, at column 5 of: ${{ workflow.key }} (read event alone here)"
        ],
    ),
    (
        steps(a={"wait": "1s", "input": 1, "timeout": "1s"}),
        [
            "steps.a.input: input belongs to an agent's step, not to a wait (remove it)",
            "steps.a.timeout: timeout belongs to an agent's step, not to a wait (remove it)",
        ],
    ),
    # values, events, ends
    (
        steps(a={"value": 1, "emit": {"type": "t"}}),
        ["steps.a.emit: the step a has both value and emit (make two steps of it)"],
    ),
    (
        kind_with("emit", "t"),
        ["steps.a.emit: emit must be a mapping, not a string (emit: {type: com.example.done, data: ...})"],
    ),
    (kind_with("emit", {"data": 1}), ["steps.a.emit: type is missing (the CloudEvents type that goes out)"]),
    (
        kind_with("emit", {"type": "t", "subject": None}),
        ["steps.a.emit.subject: subject must be a string, not null (a CloudEvents attribute)"],
    ),
    (
        kind_with("emit", {"type": "t", "source": "/s"}),
        ["steps.a.emit.source: unknown key source (there are: data, subject, type)"],
    ),
    (
        steps(a={"emit": {"type": "t"}, "retry": {}}),
        ["steps.a.retry: retry belongs to an agent's step, not to an event that is emitted (remove it)"],
    ),
    (kind_with("end", "cancelled"), ["steps.a.end: end can't be cancelled (write completed, failed or rejected)"]),
    (kind_with("end", None), ["steps.a.end: end must be a mapping, not null (end: {status: completed, output: ...})"]),
    (kind_with("end", {}), ["steps.a.end: status is missing (completed, failed or rejected)"]),
    (
        kind_with("end", {"status": "failed", "why": "x"}),
        ["steps.a.end.why: unknown key why (there are: output, reason, status)"],
    ),
    (
        kind_with("end", {"status": "failed", "output": 1}),
        ["steps.a.end.output: a workflow that ends as failed has no output (say it in reason)"],
    ),
    (
        kind_with("end", {"status": "failed", "reason": ""}),
        ["steps.a.end.reason: reason must be a string, not empty (why it ends here)"],
    ),
    (
        steps(a={"end": "completed", "undo": {"agent": "u", "input": 1}}),
        ["steps.a.undo: undo belongs to an agent's step, not to an end (remove it)"],
    ),
    # undo, hand-over
    (
        steps(a=agent(undo="u")),
        ["steps.a.undo: undo must be a mapping, not a string (undo: {agent: NAME, input: ...})"],
    ),
    (steps(a=agent(undo={"input": 1})), ["steps.a.undo: agent is missing (undo: {agent: NAME, input: ...})"]),
    (
        steps(a=agent(undo={"agent": "u"})),
        ["steps.a.undo: input is missing (what the agent gets, such as input: ${{ event.data }})"],
    ),
    (
        steps(a=agent(undo={"agent": "u", "input": 1, "on_exhausted": "fail"})),
        [f"steps.a.undo.on_exhausted: unknown key on_exhausted (there are: {', '.join(sorted(UNDO.keys))})"],
    ),
    (
        steps(a=agent(handover="y")),
        ["steps.a.handover: handover must be a mapping, not a string (handover: {to: [AGENT, AGENT], hops: 3})"],
    ),
    *[
        (
            steps(a=agent(handover=wrong)),
            [
                "steps.a.handover.to: to must be a name or a list of names (the agents that may get the task: to: [billing, tech])"
            ],
        )
        for wrong in _NO_LISTS
    ],
    (steps(a=agent(handover={"to": ["y", "Tech"]})), [f"steps.a.handover.to: an agent can't be named Tech ({NAMES})"]),
    (
        steps(a=agent(handover={"to": "y", "hops": 0})),
        ["steps.a.handover.hops: hops can't be 0 (write a whole number from 1 to 100)"],
    ),
    (
        steps(a=agent(handover={"to": "y", "hop": 1})),
        ["steps.a.handover.hop: unknown key hop (did you mean hops?)"],
    ),
    # names that are there in some places alone
    (
        steps(a=agent(input="${{ item }}")),
        [
            "steps.a.input: there is no item here, at column 5 of: ${{ item }} (only the input or the approval of a step with for_each has item)"
        ],
    ),
    (
        steps(a=agent(for_each="${{ [index] }}", **{"if": "item == 1"})),
        [
            "steps.a.if: there is no item here, at column 1 of: item == 1 (only the input or the approval of a step with for_each has item)",
            "steps.a.for_each: there is no index here, at column 6 of: ${{ [index] }} (only the input or the approval of a step with for_each has index)",
        ],
    ),
    (
        step_with(input="${{ round }}"),
        [
            "steps.a.input: there is no round here, at column 5 of: ${{ round }} (only the steps of a loop have round (repeat: {from: ..., until: ..., limit: ...}))"
        ],
    ),
    (
        route_with(output="${{ round }}"),
        [
            "output: there is no round here, at column 5 of: ${{ round }} (only the steps of a loop have round (repeat: {from: ..., until: ..., limit: ...}))"
        ],
    ),
    (
        steps(a={"wait": {"event": "t", "key": "${{ round }}"}, "repeat": {"until": "true", "limit": 2}}),
        [
            "steps.a.wait.key: there is no round here, at column 5 of: ${{ round }} (only the steps of a loop have round (repeat: {from: ..., until: ..., limit: ...}))"
        ],
    ),
    (
        step_with(input="${{ start.data }}"),
        [
            "steps.a.input: there is no start here, at column 5 of: ${{ start.data }} (only the `if` of a wait has start, where event is the one that is awaited)"
        ],
    ),
    (
        kind_with("wait", {"event": "t", "if": "start.dta == 1"}),
        ["steps.a.wait.if: an event has no dta, at column 1 of: start.dta == 1 (did you mean event.data?)"],
    ),
    (
        steps(a=agent(), b=agent(input="${{ status.a }}")),
        [
            "steps.b.input: the step b reads status.a but does not need it, at column 5 of: ${{ status.a }} (add a to its needs)"
        ],
    ),
    (
        steps(a=agent(), b=agent(needs="a", **{"if": "status.a.ok"})),
        ["steps.b.if: status.a is a word, and has no ok, at column 1 of: status.a.ok (did you mean steps.a?)"],
    ),
    (
        steps(a=agent(), b=agent(needs="a", input="${{ status }}")),
        ["steps.b.input: status must be read by name, at column 5 of: ${{ status }} (status.NAME)"],
    ),
    (
        route_with(key="${{ status.a }}"),
        [
            "key: status is not there yet when an event is matched, at column 5 of: ${{ status.a }} (read event alone here)"
        ],
    ),
    # budgets
    (
        route_with(budget=5),
        ["budget: budget must be a mapping, not a number (budget: {tokens: 50000, usd: 1.5, time: 2h})"],
    ),
    (route_with(budget={}), ["budget: the budget limits nothing (write tokens, usd, hops or time)"]),
    (
        route_with(budget={"tokens": 5, "on_exhausted": "ask"}),
        ["budget: role is missing (who may grant more, such as role: lead)"],
    ),
    (
        route_with(budget={"time": "2h", "role": "lead", "deadline": "1h"}),
        [
            "budget.role: role goes with on_exhausted: ask (write on_exhausted: ask, or remove it)",
            "budget.deadline: deadline goes with on_exhausted: ask (write on_exhausted: ask, or remove it)",
        ],
    ),
    (
        step_with(reserve=5),
        ["steps.a.reserve: reserve must be a mapping, not a number (reserve: {tokens: 2000, usd: 0.02})"],
    ),
    (
        step_with(reserve={"tokens": 5}),
        ["steps.a.reserve.tokens: the route's budget has no tokens (add it at the top: budget: {tokens: ...})"],
    ),
    (
        {**step_with(reserve={"tokens": 5}), "budget": {"tokens": 4}},
        ["steps.a.reserve.tokens: 5 tokens are more than the whole budget of 4 (reserve less)"],
    ),
    (
        {**steps(a=call(reserve={"tokens": 5})), "budget": {"usd": 4}},
        ["steps.a.reserve.tokens: the route's budget has no tokens (add it at the top: budget: {tokens: ...})"],
    ),
    (
        {**called(a=call(reserve={"tokens": 5}), b=agent(reserve={"usd": 1})), "budget": {"tokens": 4}},
        ["steps.a.reserve.tokens: 5 tokens are more than the whole budget of 4 (reserve less)"],
    ),
    # what a call may not have
    (
        steps(a=call(handover={"to": "y"}, retry={"attempts": 2}, limit="l", heartbeat="1s")),
        [
            f"steps.a.{key}: {key} belongs to an agent's step, not to a workflow that is called (remove it)"
            for key in ("heartbeat", "retry", "handover", "limit")
        ],
    ),
    (
        steps(a=agent(undo={"workflow": "sub", "input": 1})),
        [
            "steps.a.undo.workflow: a workflow can't undo a step (an agent undoes it; what a called workflow did is undone by its own steps, if it fails or is cancelled)"
        ],
    ),
    (
        steps(a={"wait": "1s", "for_each": [1]}),
        ["steps.a.for_each: for_each belongs to an agent's step, not to a wait (remove it)"],
    ),
    (route_with(keep_events="1 day"), [f"keep_events: keep_events can't be '1 day' ({DURATION})"]),
]


@pytest.mark.parametrize(("document", "messages"), BAD)
def test_a_bad_rule_is_refused_with_every_problem(document: Any, messages: list[str]) -> None:
    assert problems(document) == messages


@pytest.mark.parametrize(
    "changes",
    [
        {"input": "${{ [item, index, round, steps.b] }}"},
        {"undo": {"agent": "u", "input": "${{ [steps.a, status.a, round, event.data] }}"}},
        {"if": "round > 1 || steps.b == null"},
    ],
)
def test_what_is_there_in_a_loop_may_be_read(changes: dict[str, Any]) -> None:
    a = {**agent(for_each=[1]), **changes}
    compile_route(steps(a=a, b=agent(needs="a", repeat={"from": "a", "until": "steps.b == round", "limit": 2})))


def test_a_loop_may_read_how_its_own_last_step_came_out() -> None:
    compile_route(loop_with(until="status.b == 'succeeded' && steps.a == 1"))
