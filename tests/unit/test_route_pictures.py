"""What the tools show of routes and events.

Explanations, with every part of a condition, and Mermaid pictures.
"""

from typing import Any

import pytest
from one_partition import Partition, agent, approval, called_route, calling, route

from mesh.core.activation import Activation, Timeline
from mesh.core.route import Route
from mesh.core.state import Directory
from mesh.inspection.diagram import of_route, of_workflow, step_times
from mesh.inspection.explanation import Awaited, explain_event
from mesh.inspection.route_versions import Stored, changes
from mesh.routes.compiler import compile_route
from mesh.routes.expressions.subexpressions import Part, parts_of
from mesh.services.definitions import Version

EVENT = {"id": "1", "source": "/s", "type": "t", "subject": "k", "data": {"n": 5, "state": "open", "labels": []}}


def shown(part: Part) -> Any:
    """`(text, value, [parts])`."""
    value = part.error or part.value
    return (part.text, value, [shown(one) for one in part.parts]) if part.parts else (part.text, value)


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("event.data.n > 3", ("event.data.n > 3", True)),
        (
            "(event.data.n > 9 || event.data.state == 'open') && !(event.data.n == 5)",
            (
                "(event.data.n > 9 || event.data.state == 'open') && !(event.data.n == 5)",
                False,
                [
                    (
                        "event.data.n > 9 || event.data.state == 'open'",
                        True,
                        [("event.data.n > 9", False), ("event.data.state == 'open'", True)],
                    ),
                    ("!(event.data.n == 5)", False, [("event.data.n == 5", True)]),
                ],
            ),
        ),
        (
            "((event.data.n) + 1) * 2 == 12 && (true)",
            (
                "((event.data.n) + 1) * 2 == 12 && (true)",
                True,
                [("((event.data.n) + 1) * 2 == 12", True), ("true", True)],
            ),
        ),
        (
            "event.data.n > 3 ? event.data.state : 'x'",
            (
                "event.data.n > 3 ? event.data.state : 'x'",
                "open",
                [("event.data.n > 3", True), ("event.data.state", "open"), ("'x'", "x")],
            ),
        ),
        (
            "event.data.labels.exists(l, l == ')') || event.data.state.matches('^o')",
            (
                "event.data.labels.exists(l, l == ')') || event.data.state.matches('^o')",
                True,
                [("event.data.labels.exists(l, l == ')')", False), ("event.data.state.matches('^o')", True)],
            ),
        ),
        ("event.data.m == 1", ("event.data.m == 1", "event.data.m is not there; event.data has: labels, n, state")),
    ],
)
def test_a_condition_is_told_part_by_part(source: str, wanted: Any) -> None:
    assert shown(parts_of(source, {"event": EVENT})) == wanted


def test_a_part_names_what_it_read() -> None:
    part = parts_of("event.data.n + event.data.n > event.data.m", {"event": EVENT})
    assert [(one.text, one.value, one.error) for one in part.paths] == [
        ("event.data.n", 5, ""),
        ("event.data.m", None, "not there"),
    ]


def test_every_route_answers_and_a_match_says_what_comes_first() -> None:
    routes = [
        route(
            {
                "a": agent(value="${{ event.data.n }}", **{"if": "event.data.n > 3"}),
                "ask": approval(payload="${{ event.subject }}"),
                "no": agent(**{"if": "event.data.n > 7"}),
                "odd": agent(value="${{ event.data.none }}"),
                "later": agent(needs="a"),
            },
            route="all",
        ),
        route({"a": agent()}, route="guarded", on={"type": "t", "if": "event.data.n > 9"}),
        route({"a": agent()}, route="keyless", key="${{ event.data.none }}"),
        route({"a": agent()}, route="other", on={"type": "u"}),
    ]
    found = {one.route: one for one in explain_event(routes, EVENT, now_ms=1)}
    assert [name for name, one in found.items() if one.matched] == ["all"]
    one = found["all"]
    assert (one.workflow_id, [shown(part) for part in one.key]) == ("all:k", [("event.subject", "k")])
    assert [(first.step, first.what, first.to, first.value) for first in one.first] == [
        ("a", "dispatch", "x", 5),
        ("ask", "ask", "maintainer", "k"),
        ("no", "skip", "", None),
        ("odd", "incident", "", None),
    ]
    assert one.first[0].condition is not None
    assert one.first[0].condition.value is True
    assert found["guarded"].guard is not None
    assert shown(found["guarded"].guard) == ("event.data.n > 9", False)
    assert "event.data.none is not there" in found["keyless"].reason
    assert (found["other"].guard, found["other"].reason) == (None, "it takes events of type u, not t")


def test_a_route_without_a_key_may_end_with_its_first_decision() -> None:
    steps = {"a": agent(**{"if": "event.data.n > 9"})}
    made = compile_route({"route": "r", "on": {"type": "t"}, "steps": steps, "output": "${{ event.subject }}"})
    [found] = explain_event([made], EVENT, now_ms=1)
    assert (found.matched, found.key) == (True, ())
    assert [(first.what, first.said, first.value) for first in found.first] == [
        ("skip", found.first[0].said, None),
        ("ended", "completed: all steps are done", "k"),
    ]


def test_a_workflow_that_is_there_takes_the_start_for_a_repeat() -> None:
    made = Partition(route({"a": agent()}))
    made.start()
    [found] = explain_event(made.routes.values(), {**EVENT, "id": "2"}, workflows=made.state.workflows, now_ms=1)
    assert [(first.what, first.said) for first in found.first] == [
        ("nothing", f"run {made.workflow().run_id} is still going")
    ]


# Pictures -----------------------------------------------------------------------------------------

STEPS: dict[str, Any] = {
    "a": agent(),
    "end": approval(needs="a", deadline="24h", **{"if": "event.data.x == '<b>\"'"}),
    "never": agent(needs="a", **{"if": "event.data.x == 1"}),
    "z": agent(needs=["end", "never"]),
}


def test_a_route_is_drawn_with_its_conditions_escaped() -> None:
    assert of_route(route(STEPS, on={"type": "t", "if": "has(event.data.x)"})) == (
        "flowchart TD\n"
        '    start_(["t<br/>if has(event.data.x)"])\n'
        '    s_a["a<br/>agent x"]\n'
        "    s_end{{\"end<br/>asks maintainer, 1d, then reject<br/>if event.data.x == '#60;b#62;#34;'\"}}\n"
        '    s_never["never<br/>agent x<br/>if event.data.x == 1"]\n'
        '    s_z["z<br/>agent x"]\n'
        '    end_(["end"])\n'
        "    start_ --> s_a\n"
        "    s_a --> s_end\n"
        "    s_a --> s_never\n"
        "    s_end --> s_z\n"
        "    s_never --> s_z\n"
        "    s_z --> end_\n"
    )


def test_a_workflow_is_drawn_with_the_way_that_it_went() -> None:
    made = Partition(route(STEPS))
    made.start(data={"x": '<b>"'})
    made.now_ms += 1_500
    made.fail("a")
    made.wait("a")
    made.now_ms += 500
    made.succeed("a")
    made.now_ms += 90_000
    picture = of_workflow(
        next(iter(made.routes.values())), made.workflow(), step_times(made.decisions), now_ms=made.now_ms
    )
    assert "succeeded, 2." in picture
    assert ", 2 attempts" in picture
    assert "asking, 1.5m" in picture
    assert '"never<br/>agent x<br/>if event.data.x == 1<br/>skipped"' in picture
    assert '"z<br/>agent x<br/>not yet"' in picture
    assert '    end_(["running"])' in picture
    assert "    class s_end asking\n" in picture
    assert "    linkStyle 0,1,2 stroke" in picture
    made.answer("end")
    made.succeed("z")
    ended = of_workflow(
        next(iter(made.routes.values())), made.workflow(), step_times(made.decisions), now_ms=made.now_ms
    )
    assert '    end_(["completed"])' in ended
    assert "    linkStyle 0,1,2,3,4,5 stroke" in ended


def test_a_second_run_has_its_own_times() -> None:
    made = Partition(route({"a": agent()}, on_repeat="new_run_after_end"))
    made.start()
    made.succeed("a")
    made.now_ms += 5_000
    made.start(event_id="e2")
    assert step_times(made.decisions)["a"].began_at_ms == made.now_ms


# Versions -----------------------------------------------------------------------------------------


def test_documents_differ_part_by_part() -> None:
    before = {"a": 1, "b": {"c": [1], "d": 2}, "gone": 0, "same": {"x": 1}}
    after = {"a": True, "b": {"c": [1, 2], "d": 2}, "new": 0, "same": {"x": 1}}
    assert [(one.kind, one.path) for one in changes(before, after)] == [
        ("changed", ("a",)),
        ("changed", ("b", "c")),
        ("removed", ("gone",)),
        ("added", ("new",)),
    ]


def test_a_mesh_without_activations_has_the_versions_stored_last_in_use() -> None:
    """Its routers are older than activations."""

    def version(digest: str, at_ms: int) -> Version:
        return Version(name="r", digest=digest, stored_at_ms=at_ms, route=None)

    stored = Stored([version("one", 100), version("two", 200)], Timeline())
    assert stored.digests() == stored.digests_at(150) == {"r": "two"}


def test_the_active_version_is_the_one_activated_last_and_a_withdrawn_route_has_none() -> None:
    timeline = Timeline()
    changes_made: list[tuple[int, dict[str, str | None]]] = [
        (0, {"r": "two", "s": "x"}),
        (10_000, {"r": "one", "s": None}),
    ]
    for at_ms, routes in changes_made:
        timeline.add(Activation(id=str(at_ms), routes=routes, by="ana", at_ms=at_ms, beginning=True))
    stored = Stored([], timeline)
    assert stored.digests() == stored.digests_at(12_000) == {"r": "one"}
    assert stored.digests_at(11_999) == {"r": "two", "s": "x"}


# Events that steps wait for -----------------------------------------------------------------------

PAID = {"id": "p1", "source": "/shop", "type": "shop.paid", "subject": "k", "data": {"amount": 5}}


def waiting_for(**wait: Any) -> Route:
    steps = {
        "order": agent(),
        "paid": {"needs": "order", "wait": {"event": "shop.paid", **wait}},
        "ship": agent(needs="paid", value="${{ steps.paid }}"),
    }
    return route(steps)


def awaited(made: Route, workflows: Any = None, event: dict[str, Any] | None = None) -> Awaited:
    [found] = explain_event([made], event or PAID, workflows=workflows, now_ms=1)
    [one] = found.awaited
    return one


def test_an_event_moves_a_workflow_if_its_step_waits_for_it() -> None:
    one = awaited(waiting_for())
    assert (one.step, one.workflow_id, one.takes) == ("paid", "r:k", None)
    assert one.said == "it moves r:k if its step paid waits for it"
    assert [shown(part) for part in one.key] == [("event.subject", "k")]


@pytest.mark.parametrize(
    ("condition", "said", "takes", "value"),
    [
        ("event.data.amount >= 5", "it moves r:k if its step paid waits for it", None, True),
        (
            "event.data.amount > 5",
            "step paid of r:k would not take it: the `if` of its wait is not true",
            False,
            False,
        ),
        ("event.data.none", "step paid of r:k would not take it: the `if` of its wait is not true", False, None),
        (
            "event.data.amount >= start.data.price",
            "it moves r:k if its step paid waits for it and event.data.amount >= start.data.price is true, which depends on that workflow",
            None,
            None,
        ),
    ],
)
def test_the_if_of_a_wait_is_told_where_it_reads_the_event_alone(
    condition: str, said: str, takes: bool | None, value: bool | None
) -> None:
    one = awaited(waiting_for(**{"if": condition}))
    assert (one.said, one.takes) == (said, takes)
    assert (one.condition.value if one.condition else None) == value


def test_an_event_without_the_key_finds_no_workflow() -> None:
    one = awaited(waiting_for(key="${{ event.data.none }}"))
    assert (one.workflow_id, one.takes) == ("", False)
    assert "gives no key" in one.said


def test_an_event_that_a_step_waits_for_now_says_what_comes_first() -> None:
    made = Partition(waiting_for(**{"if": "event.data.amount >= start.data.price"}))
    rules = next(iter(made.routes.values()))
    made.start(data={"price": 5})
    early = awaited(rules, made.state.workflows)
    assert (early.takes, early.said) == (False, "r:k keeps it until a step takes it; paid does not take it now")
    made.succeed("order")
    one = awaited(rules, made.state.workflows)
    assert (one.takes, one.said) == (True, "it moves r:k: its step paid waits for it")
    assert one.condition is not None
    assert one.condition.value is True
    assert [(first.what, first.step) for first in one.first] == [("take", "paid"), ("dispatch", "ship")]
    poor = awaited(rules, made.state.workflows, {**PAID, "data": {"amount": 1}})
    assert (poor.takes, poor.said) == (False, "r:k keeps it until a step takes it; paid does not take it now")
    made.offer("shop.paid", data={"amount": 9})
    late = awaited(rules, made.state.workflows)
    assert late.said == "r:k ignores it: no step waits for an event of type shop.paid any more"


def test_an_event_that_comes_before_its_workflow_is_kept() -> None:
    made = Partition(waiting_for())
    rules = next(iter(made.routes.values()))
    wanted = "there is no workflow r:k yet: it is kept until one starts, or its time is over"
    assert awaited(rules, {}).said == wanted
    made.offer("shop.paid")
    assert awaited(rules, made.state.workflows).said == wanted


def test_a_workflow_of_another_version_is_not_decided_for() -> None:
    made = Partition(waiting_for())
    made.start()
    one = awaited(waiting_for(timeout="1d"), made.state.workflows)
    assert (one.takes, one.said) == (None, "it moves r:k if its step paid waits for it")


def test_of_two_steps_that_wait_for_one_event_each_says_whether_it_takes_it() -> None:
    def wait(**more: Any) -> dict[str, Any]:
        return {"wait": {"event": "shop.paid", **more}}

    made = Partition(
        route({"a": wait(), "b": wait(), "c": wait(**{"if": "event.data.amount > 9"}), "d": {"wait": {"event": "u"}}})
    )
    made.start()
    [found] = explain_event(made.routes.values(), PAID, workflows=made.state.workflows, now_ms=1)
    assert [(one.step, one.takes, len(one.first)) for one in found.awaited] == [
        ("a", True, 2),
        ("b", True, 0),
        ("c", False, 0),
    ]
    assert found.awaited[2].said == "step c of r:k does not take it"


def test_every_kind_of_step_says_what_it_does_first() -> None:
    steps = {
        "each": agent(for_each="${{ event.data.list }}", value="${{ item }}"),
        "nap": {"wait": "1h"},
        "event": {"wait": {"event": "u", "timeout": "never"}},
        "sum": {"value": {"n": "${{ event.data.n }}"}},
        "tell": {"emit": {"type": "v", "data": 7}},
        "sub": calling(),
        "held": agent(reserve={"tokens": 6}),
        "go": agent(reserve={"tokens": 6}),
        "one": {"needs": {"first_of": ["sum", "nap"]}, "if": "status.nap == 'cancelled'", "value": 1},
    }
    made = route(steps, budget={"tokens": 10, "on_exhausted": "ask", "role": "lead"})
    event = {**EVENT, "data": {"n": 5, "list": [7, 8]}}
    [found, _] = explain_event([made, called_route({"x": agent()})], event, now_ms=0)
    assert [(one.what, one.step, one.to, one.said, one.value) for one in found.first] == [
        ("for_each", "each", "", "items: 2", None),
        ("dispatch", "each[0]", "x", "", 7),
        ("wait", "event", "u", "without end", None),
        ("dispatch", "go", "x", "", 1),
        ("hold", "held", "", "needs 6 tokens, and 4 of 10 are left", None),
        ("wait", "nap", "a time", "until 1970-01-01T01:00:00Z", None),
        ("call", "sub", "sub", "", event["data"]),
        ("value", "sum", "", "", {"n": 5}),
        ("cancel", "nap", "", next(one.said for one in found.first if one.what == "cancel"), None),
        ("value", "one", "", "", 1),
        ("emit", "tell", "v", "", 7),
    ]
    assert [shown(one.condition) for one in found.first if one.condition] == [("status.nap == 'cancelled'", True)]


# Pictures of the whole language -------------------------------------------------------------------

WHOLE: dict[str, Any] = {
    "check": agent(for_each={"items": "${{ event.data.files }}", "tolerate": "all"}, retry={"attempts": 1}),
    "translate": {"capability": "translate", "input": 1},
    "draft": agent(
        "writer", needs=["check", "translate"], undo=agent("eraser"), handover={"to": ["x", "y"], "hops": 2}
    ),
    "evaluate": agent(
        "critic", needs="draft", repeat={"from": "draft", "until": "steps.evaluate.score > 7", "limit": 5}
    ),
    "paid": {
        "needs": "evaluate",
        "wait": {"event": "shop.paid", "if": "event.data.n > 1", "timeout": "7d", "on_timeout": "skip"},
    },
    "due": {"needs": "evaluate", "wait": {"until": "${{ event.data.due }}"}},
    "nap": {"needs": "evaluate", "wait": "2d"},
    "sub": calling(needs="evaluate"),
    "first": {"needs": {"first_of": ["paid", "due"]}, "value": {"a": "${{ steps.paid }}", "b": "${{ steps.due }}"}},
    "any": {"needs": {"any": ["nap", "sub"]}, "emit": {"type": "shop.${{ event.data.kind }}", "data": 1}},
    "some": {
        "needs": {"count": 2, "of": ["first", "any", "sub"]},
        "end": {"status": "completed", "reason": "order ${{ event.subject }}"},
    },
    "last": agent(needs="some"),
    "stop": {"needs": "last", "end": {"status": "failed"}},
}
BUDGET: dict[str, Any] = {"tokens": 1000, "time": "2h", "on_exhausted": "ask", "role": "lead", "deadline": "1d"}


def test_every_kind_of_step_has_a_shape_and_every_join_a_label() -> None:
    assert of_route(route(WHOLE, budget=BUDGET)) == (
        "flowchart TD\n"
        '    start_(["t<br/>budget 1000 tokens, 2h, then ask"])\n'
        '    s_check@{ shape: procs, label: "check<br/>agent x<br/>for each of event.data.files" }\n'
        '    s_translate["translate<br/>capability translate"]\n'
        '    s_draft["draft<br/>agent writer<br/>may hand over to x, y, 2 times"]\n'
        '    u_draft["undo draft<br/>agent eraser"]\n'
        '    s_evaluate["evaluate<br/>agent critic"]\n'
        '    s_due@{ shape: delay, label: "due<br/>waits until event.data.due" }\n'
        '    s_nap@{ shape: delay, label: "nap<br/>waits 2d" }\n'
        '    s_paid@{ shape: delay, label: "paid<br/>waits for shop.paid if event.data.n #62; 1, 7d, then skip" }\n'
        '    s_first[/"first<br/>#123;#34;a#34;:#34;#123;steps.paid#125;#34;,#34;b#34;:#34;#123;steps.due#125;#34;#125;"/]\n'
        '    s_sub[["sub<br/>workflow sub"]]\n'
        '    s_any>"any<br/>emits shop.#123;event.data.kind#125;"]\n'
        '    s_some(["some<br/>ends as completed: order #123;event.subject#125;"])\n'
        '    s_last["last<br/>agent x"]\n'
        '    s_stop(["stop<br/>ends as failed"])\n'
        '    budget_{{"more budget?<br/>asks lead, 1d, then no"}}\n'
        '    end_(["end"])\n'
        "    start_ --> s_check\n"
        "    start_ --> s_translate\n"
        "    s_check --> s_draft\n"
        "    s_translate --> s_draft\n"
        "    s_draft --> s_evaluate\n"
        "    s_evaluate --> s_due\n"
        "    s_evaluate --> s_nap\n"
        "    s_evaluate --> s_paid\n"
        '    s_paid -->|"first of"| s_first\n'
        '    s_due -->|"first of"| s_first\n'
        "    s_evaluate --> s_sub\n"
        '    s_nap -->|"any"| s_any\n'
        '    s_sub -->|"any"| s_any\n'
        '    s_first -->|"2 of 3"| s_some\n'
        '    s_any -->|"2 of 3"| s_some\n'
        '    s_sub -->|"2 of 3"| s_some\n'
        "    s_some --> s_last\n"
        "    s_last --> s_stop\n"
        "    s_stop --> end_\n"
        "    s_draft -.- u_draft\n"
        '    s_evaluate -.->|"5 rounds, until steps.evaluate.score #62; 7"| s_draft\n'
        '    s_some -->|"ends it"| end_\n'
        '    start_ -.->|"exhausted"| budget_\n'
        "    style u_draft stroke-dasharray:4 3\n"
    )


def test_a_call_for_each_item_is_drawn_as_several() -> None:
    drawn = of_route(route({"a": calling(for_each="${{ event.data.files }}", undo=agent("eraser"))}))
    assert '    s_a@{ shape: procs, label: "a<br/>workflow sub<br/>for each of event.data.files" }' in drawn
    assert '    u_a["undo a<br/>agent eraser"]' in drawn


def test_a_called_route_begins_with_its_call() -> None:
    drawn = of_route(called_route({"a": agent()}, budget={"usd": 1}))
    assert '    start_(["called<br/>budget 1 usd, then fail"])' in drawn


def drawn_of(made: Partition) -> str:
    rules = next(iter(made.routes.values()))
    return of_workflow(rules, made.workflow(), step_times(made.decisions), now_ms=made.now_ms)


def test_a_workflow_is_drawn_with_items_rounds_waits_and_hand_overs() -> None:
    made = Partition(
        route(WHOLE, budget=BUDGET),
        called_route({"x": agent()}),
        directory=Directory(registered={"translate": ("deepl",)}),
    )
    made.start(data={"files": [1, 2, 3], "due": "2100-01-01T00:00:00Z", "kind": "done"})
    made.succeed("check[0]")
    made.fail("check[1]")
    picture = drawn_of(made)
    assert "<br/>iterating, 0 ms<br/>2 of 3 items done, 1 failed, 1 running" in picture
    assert "class s_check iterating" in picture
    made.succeed("check[2]")
    made.succeed("translate")
    made.hand_over("draft", "y")
    assert "<br/>running, 0 ms, 2 attempts<br/>handed over to y" in drawn_of(made)
    made.succeed("draft")
    made.succeed("evaluate", {"score": 1})
    made.succeed("draft")
    picture = drawn_of(made)
    assert "<br/>round 2" in picture
    made.succeed("evaluate", {"score": 9})
    made.now_ms += 60_000
    picture = drawn_of(made)
    assert "class s_paid,s_due,s_nap waiting" in picture or "class s_due,s_nap,s_paid waiting" in picture
    assert "class s_sub calling" in picture
    assert "waiting, 1m" in picture
    made.offer("shop.paid", data={"n": 2})
    picture = drawn_of(made)
    assert "class s_due cancelled" in picture
    made.wait_budget()
    picture = drawn_of(made)
    assert "<br/>asks lead, 1d, then no<br/>asking" in picture
    assert "class budget_ asking" in picture


def test_an_item_that_an_operator_has_colours_its_for_each_and_compensation_has_its_own_node() -> None:
    steps = {
        "a": agent(undo=agent("eraser")),
        "each": agent(needs="a", for_each="${{ event.data }}", retry={"attempts": 1}),
    }
    made = Partition(route(steps))
    made.start(data=[1, 2])
    made.succeed("a")
    made.fail("each[0]")
    picture = drawn_of(made)
    assert "0 of 2 items done, 1 incident, 1 running" in picture
    assert "class s_each incident" in picture
    made.command("cancel")
    picture = drawn_of(made)
    assert '    u_a["undo a<br/>agent eraser<br/>running"]' in picture
    assert "class u_a running" in picture
    made.succeed("a.undo")
    assert "class s_a,u_a succeeded" in drawn_of(made)


def test_what_waits_for_more_budget_or_for_its_round_is_coloured() -> None:
    steps = {"a": agent(reserve={"tokens": 6}), "b": agent(reserve={"tokens": 6})}
    made = Partition(route(steps, budget={"tokens": 10, "on_exhausted": "ask", "role": "maintainer"}))
    made.start()
    assert "class s_b held" in drawn_of(made)
    assert "class budget_" not in drawn_of(made)
    made.succeed("a", usage={"tokens": 9})
    assert "asks maintainer<br/>asking" in drawn_of(made)


def test_an_end_that_was_reached_is_on_the_way_and_one_that_was_not_is_not() -> None:
    steps = {
        "a": agent(),
        "stop": {"needs": "a", "if": "steps.a == 1", "end": {"status": "completed"}},
        "b": agent(needs="stop"),
    }
    for output, gone in ((1, "0,1,4"), (2, "0,1,2,3")):
        made = Partition(route(steps))
        made.start()
        made.succeed("a", output)
        if output != 1:
            made.succeed("b")
        assert f"linkStyle {gone} stroke" in drawn_of(made)


# Aliases, limits ----------------------------------------------------------------------------------

SETTLED = {"id": "s1", "source": "/psp", "type": "settled", "data": {"payment": "p-1", "amount": 5}}
ALIAS = "mesh.alias:r.charge/p-1"


def paying(**wait: Any) -> Route:
    wait = {"event": "settled", "alias": "charge", "key": "${{ event.data.payment }}", **wait}
    charge = agent("psp", alias="${{ steps.charge.payment }}")
    return route({"charge": charge, "settled": {"needs": "charge", "wait": wait}, "ship": agent(needs="settled")})


def test_an_event_moves_whichever_workflow_has_the_alias() -> None:
    one = awaited(paying(), None, SETTLED)
    assert (one.workflow_id, one.takes) == (ALIAS, None)
    assert one.said == f"it moves the workflow that has the alias {ALIAS} if its step settled waits for it"
    assert [shown(part) for part in one.key] == [("event.data.payment", "p-1")]
    poor = awaited(paying(**{"if": "event.data.amount > 5"}), None, SETTLED)
    assert poor.takes is False
    assert (
        poor.said
        == f"step settled of the workflow that has the alias {ALIAS} would not take it: the `if` of its wait is not true"
    )
    rich = awaited(paying(**{"if": "event.data.amount > start.data.n"}), None, SETTLED)
    assert rich.said.endswith("and event.data.amount > start.data.n is true, which depends on that workflow")


def test_an_event_of_an_alias_moves_the_workflow_that_has_it_now() -> None:
    made = Partition(paying(**{"if": "event.data.amount > start.data.n"}))
    [rules] = made.routes.values()
    early = awaited(rules, {}, SETTLED)
    assert (early.workflow_id, early.takes) == (ALIAS, False)
    assert (
        early.said == f"no workflow has the alias {ALIAS} yet: it is kept until one has it, or until its time is over"
    )
    made.start(data={"n": 4})
    made.succeed("charge", {"payment": "p-1"})
    made.pass_on()
    one = awaited(rules, made.state.workflows, SETTLED)
    assert (one.workflow_id, one.takes) == ("r:k", True)
    assert one.said == f"it moves r:k: its step settled waits for it (by the alias {ALIAS})"
    assert one.condition is not None
    assert one.condition.value is True
    assert [(first.what, first.step) for first in one.first] == [("take", "settled"), ("dispatch", "ship")]
    of_another_version = awaited(paying(timeout="1d"), made.state.workflows, SETTLED)
    assert of_another_version.takes is None
    assert of_another_version.said == f"it moves r:k if its step settled waits for it (by the alias {ALIAS})"
    made.offer_by_alias("settled", "charge", "p-1", data={"payment": "p-1", "amount": 9})
    made.pass_on()
    late = awaited(rules, made.state.workflows, SETTLED)
    assert late.said == f"r:k ignores it: no step waits for an event of type settled any more (by the alias {ALIAS})"


def limited(**more: Any) -> Route:
    openai = {"concurrency": 2, "rate": "100/1m"}
    steps = {
        "a": agent(limit="openai"),
        "b": agent(limit={"name": "crm", "key": "${{ event.data.tenant }}"}, alias="${{ steps.b.id }}"),
        "c": {"needs": "b", "wait": {"event": "settled", "alias": "b", "key": "${{ event.data.id }}"}},
    }
    return route(steps, limits={"openai": openai, "crm": {"concurrency": 1}}, **more)


def test_a_task_that_waits_for_its_limit_says_so_and_how_urgent_it_is() -> None:
    event = {**EVENT, "data": {"tenant": "acme"}}
    [found] = explain_event([limited(priority=7)], event, now_ms=1)
    assert [one.said for one in found.first] == [
        "once openai has granted it a slot, with priority 7",
        "once crm/acme has granted it a slot, with priority 7",
    ]


def test_limits_and_aliases_are_drawn() -> None:
    text = of_route(limited())
    assert 's_a["a<br/>agent x<br/>limit openai: 2 at once, 100 in 1m"]' in text
    assert 's_b["b<br/>agent x<br/>limit crm by event.data.tenant: 1 at once<br/>alias steps.b.id"]' in text
    assert 's_c@{ shape: delay, label: "c<br/>waits for settled by alias b" }' in text


def test_what_waits_for_its_slot_or_its_alias_is_coloured() -> None:
    made = Partition(limited())
    [rules] = made.routes.values()
    made.start(data={"tenant": "acme"})

    def drawn() -> str:
        times = step_times(one for one in made.decisions if one.workflow_id == "r:k")
        return of_workflow(rules, made.workflow(), times, now_ms=made.now_ms + 5_000)

    assert "class s_a,s_b queued" in drawn()
    assert "<br/>queued, 5s" in drawn()
    made.pass_on()
    made.now_ms += 5_000
    made.succeed("b", {"id": "b1"})
    assert "class s_b claiming" in drawn()
    assert (
        'b<br/>agent x<br/>limit crm by event.data.tenant: 1 at once<br/>alias steps.b.id<br/>claiming, 10s"' in drawn()
    )
    assert "class s_a running" in drawn()
