"""What the tools show of routes and events: explanations, with every part of a condition, and Mermaid pictures."""

from typing import Any

import pytest
from one_partition import Partition, agent, approval, route

from mesh.core.activation import Activation, Timeline
from mesh.core.explaining import explain_event
from mesh.core.route_compile import compile_route
from mesh.core.subexpressions import Part, parts_of
from mesh.services.route_diagram import of_route, of_workflow, step_times
from mesh.services.route_versions import Stored, Version, changes

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


# Pictures -----------------------------------------------------------------------------------------------------------------------------

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


# Versions -----------------------------------------------------------------------------------------------------------------------------


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
