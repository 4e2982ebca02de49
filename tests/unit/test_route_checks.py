"""`mesh routes check`: each finding, with its line.

It says nothing about a route that is as it should be.
"""

from pathlib import Path
from typing import Any

import pytest

from mesh.core.state import AgentCard
from mesh.inspection.checks.report import Report, check
from mesh.inspection.inference.partial_evaluation import constant_of
from mesh.inspection.inference.reachability import unreachable
from mesh.inspection.inference.schema_fit import Misfit, misfits
from mesh.inspection.inference.value_types import (
    ANYTHING,
    Fields,
    Items,
    Of,
    Scalar,
    Shape,
    follow,
    shape_of,
    values_of,
)
from mesh.routes.compiler import compile_route
from mesh.wiring import load_agents

TRIAGE = {
    "type": "object",
    "properties": {
        "severity": {"enum": ["low", "high"]},
        "labels": {"type": "array", "items": {"type": "string"}},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "hint": {"type": "string"},
        "kind": {"type": "string", "default": "bug"},
        "nested": {"$ref": "#/$defs/Nested"},
    },
    "required": ["severity", "labels", "note", "nested"],
    "$defs": {"Nested": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
}
DRAFT_INPUT = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "triage": TRIAGE,
        "count": {"type": "integer"},
        "tone": {"enum": ["dry", "kind"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["title", "triage"],
    "$defs": TRIAGE["$defs"],
}


def card(name: str, takes: dict[str, Any] | None = None, gives: dict[str, Any] | None = None) -> AgentCard:
    return AgentCard(name=name, version="1", topic=f"mesh.tasks.{name}", input_schema=takes, output_schema=gives)


AGENTS = {
    "classifier": card("classifier", {"type": "object"}, TRIAGE),
    "drafter": card(
        "drafter", DRAFT_INPUT, {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    ),
    "odd": card("odd"),
}
HEAD = """\
route: r
on: {type: t}
key: ${{ event.subject }}
steps:
  classify: {agent: classifier, input: "${{ event.data }}"}
"""


def report(tmp_path: Path, text: str, *, known: bool = True, roles: set[str] | None = None) -> Report:
    file = tmp_path / "r.yaml"
    file.write_text(text)
    return check([file], agents=AGENTS if known else None, roles=roles)


def lines(tmp_path: Path, text: str, **options: Any) -> list[str]:
    """`line severity code: message`."""
    found = report(tmp_path, text, **options).findings
    return [f"{one.line} {one.severity} {one.code}: {one.message}" for one in found]


def test_a_route_that_is_as_it_should_be_has_no_finding(tmp_path: Path) -> None:
    text = HEAD + (
        '  draft: {needs: classify, agent: drafter, input: {title: x, triage: "${{ steps.classify '
        '}}", count: 1, tags: [a, "${{ event.data.b }}"]}}\n'
        "  review:\n    needs: draft\n    if: steps.classify.severity == 'high' && "
        "steps.classify.nested.n > 1 && steps.classify.kind == 'x'\n"
        '    approval: {ask: ok?, payload: "${{ steps.draft }}", role: boss, deadline: never}\n'
        '  post: {needs: review, agent: odd, input: "${{ steps.review.payload.text }}", if: '
        "steps.review.verdict != 'rejected'}\n"
        '  sorry: {needs: review, agent: odd, input: "${{ steps.review.reason }}", if: '
        "steps.review.verdict == 'rejected'}\n"
    )
    assert lines(tmp_path, text, roles={"boss"}) == []


def test_the_triage_route_that_ships_has_no_finding() -> None:
    folder = Path(__file__).parents[2] / "agents" / "issue_triage"
    names = ("classifier", "duplicate_finder", "drafter", "publisher")
    agents = load_agents([f"agents.issue_triage.{name}" for name in names])
    cards = {one.name: card(one.name, one.input_schema, one.output_schema) for one in agents}
    found = check([folder / "routes"], agents=cards, roles={"maintainer"})
    assert (found.files, found.routes, found.findings) == (1, 1, ())


FINDINGS: list[tuple[str, list[str]]] = [
    # conditions
    (
        "  a: {agent: odd, input: 1, if: 1 == 2}",
        ["6 warning unreachable: step a: it never runs: its if is always false (remove the step, or correct the if)"],
    ),
    (
        "  a: {agent: odd, input: 1, if: false && event.data.x}",
        ["6 warning unreachable: step a: it never runs: its if is always false (remove the step, or correct the if)"],
    ),
    ("  a: {agent: odd, input: 1, if: 1 < 2}", ["6 warning constant: step a: its if is always true (remove it)"]),
    (
        "  a: {agent: odd, input: 1, if: 1 + 'x' == 2}",
        [
            (
                "6 error always_fails: step a: its if always fails: cannot compute a number + a string "
                "(in: 1 + 'x' == 2) (correct the expression)"
            )
        ],
    ),
    (
        (
            '  ok: {approval: {ask: "?", payload: 1, role: r, deadline: 1h}}\n'
            "  after: {needs: ok, agent: odd, input: 1}\n"
            "  sorry: {needs: after, agent: odd, input: 1, if: steps.ok.verdict == 'rejected'}"
        ),
        [
            (
                "8 error unreachable: step sorry: it never runs: whenever its needs are done, its if is "
                "false: steps.ok.verdict == 'rejected'"
                " (a rejection ends the workflow, unless a step that needs ok itself takes it: add ok to its needs)"
            )
        ],
    ),
    (
        (
            '  ok: {approval: {ask: "?", payload: 1, role: r, deadline: 1h}}\n'
            "  yes: {needs: ok, agent: odd, input: 1}\n"
            "  no: {needs: ok, agent: odd, input: 1, if: steps.ok.verdict == 'rejected'}\n"
            "  both: {needs: [yes, no, ok], agent: odd, input: 1, if: steps.ok.verdict == 'rejected'}"
        ),
        [
            (
                "9 error unreachable: step both: it never runs: whenever its needs are done, its if is "
                "false: steps.ok.verdict == 'rejected'"
                " (correct the if, or remove the step)"
            )
        ],
    ),
    (
        "  a: {needs: classify, agent: odd, input: 1, if: steps.classify.severity == 'hihg'}",
        ["6 error never_equal: step a: steps.classify.severity is never 'hihg' (did you mean high?)"],
    ),
    # an event's attributes
    (
        (
            "  a: {agent: odd, input: '${{ 1 + event.rank }} ${{ event.data.n + 1 }}', if: event.flag "
            "!= true || 2.5 < event.rank}"
        ),
        [
            (
                "6 error attribute_is_text: step a: event.flag is text, and can't be compared with true "
                "(write event.flag == 'true')"
            ),
            (
                "6 error attribute_is_text: step a: event.rank is text, and can't be compared with 2.5 "
                "(write double(event.rank))"
            ),
            (
                "6 error attribute_is_text: step a: event.rank is text, and can't be used in arithmetic "
                "with 1 (write int(event.rank))"
            ),
        ],
    ),
    (
        (
            "  a: {agent: odd, input: '${{ int(event.rank) + 1 }}', if: event.rank == '3' && event.a "
            "< event.b && event.data > 1}"
        ),
        [],
    ),
    # who there is
    (
        "  a: {agent: classifer, input: 1}",
        ["6 error unknown_agent: step a: no agent is called classifer (did you mean classifier?)"],
    ),
    (
        '  a:\n    approval:\n      {ask: "?", payload: 1, deadline: 1h,\n       role: bos}',
        [
            (
                "9 error unknown_role: step a: nobody has the role bos, so every answer would be refused "
                "(did you mean boss?)"
            )
        ],
    ),
    # times
    (
        '  a:\n    approval: {ask: "?", payload: 1, role: r, on_expiry: approve}',
        [
            (
                "7 warning no_deadline: step a: the approval has no deadline: it may wait without end "
                "(write deadline: 24h, or deadline: never if that is intended)"
            ),
            (
                "7 warning no_effect: step a: on_expiry has no effect without a deadline (write a "
                "deadline, or remove on_expiry)"
            ),
        ],
    ),
    (
        "  a: {agent: odd, input: 1, retry: {attempts: 1, backoff: 5s}}",
        [
            (
                "6 warning no_effect: step a: backoff has no effect: with attempts: 1 there is no second "
                "attempt (raise attempts, or remove it)"
            )
        ],
    ),
    # what is read
    (
        '  a: {needs: classify, agent: odd, input: {x: "${{ steps.classify.severty }}"}}',
        [
            (
                "6 error unknown_field: step a: steps.classify has no severty, at column 5 of: ${{ "
                "steps.classify.severty }} (did you mean severity?)"
            )
        ],
    ),
    (
        '  a: {needs: classify, agent: odd, input: "${{ steps.classify.nested.m + steps.classify.labels.x }}"}',
        [
            (
                "6 error unknown_field: step a: steps.classify.labels is an array, and has no x, at "
                "column 31 of: ${{ steps.classify.nested.m + steps.classify.labels.x }}"
            ),
            (
                "6 error unknown_field: step a: steps.classify.nested has no m, at column 5 of: ${{ "
                "steps.classify.nested.m + steps.classify.labels.x }} (there are: n)"
            ),
        ],
    ),
    (
        '  a: {needs: classify, agent: odd, input: "${{ steps.classify.hint }}"}',
        [
            (
                "6 warning maybe_missing: step a: steps.classify may come without hint, at column 5 of: "
                "${{ steps.classify.hint }}"
                " (test it first: has(steps.classify.hint) && ...)"
            )
        ],
    ),
    (
        "  a: {needs: classify, agent: odd, input: 1, if: \"has(steps.classify.hint) && steps.classify.hint == 'x'\"}",
        [],
    ),
    (
        (
            '  b: {needs: classify, agent: drafter, input: {title: x, triage: "${{ steps.classify '
            "}}\"}, if: steps.classify.kind == 'bug'}\n"
            '  a: {needs: b, agent: odd, input: "${{ steps.b.text }}"}'
        ),
        [
            (
                "7 warning maybe_skipped: step a: b is null if it was skipped, and then steps.b.text is an incident"
                " (steps.b == null || ..., or the same if as b has)"
            )
        ],
    ),
    (
        (
            '  b: {needs: classify, agent: drafter, input: {title: x, triage: "${{ steps.classify '
            "}}\"}, if: steps.classify.kind == 'bug'}\n"
            '  a: {needs: b, agent: odd, input: "${{ steps.b.text }}", if: steps.b != null}'
        ),
        [],
    ),
    (
        (
            "  b: {needs: classify, value: [1, 2], if: steps.classify.kind == 'bug'}\n"
            '  a: {needs: b, for_each: "${{ steps.b }}", agent: odd, input: "${{ item }}"}'
        ),
        [
            (
                "7 warning maybe_skipped: step a: b is null if it was skipped, and then for_each has no "
                "list, which is an incident"
                " (steps.b == null ? [] : steps.b)"
            )
        ],
    ),
    (
        (
            "  b: {needs: classify, value: [1, 2], if: steps.classify.kind == 'bug'}\n"
            '  a: {needs: b, for_each: {items: "${{ steps.b }}"}, agent: odd, input: "${{ item }}"}'
        ),
        [
            (
                "7 warning maybe_skipped: step a: b is null if it was skipped, and then for_each has no "
                "list, which is an incident"
                " (steps.b == null ? [] : steps.b)"
            )
        ],
    ),
    *(
        (
            (
                "  b: {needs: classify, value: [1, 2], if: steps.classify.kind == 'bug'}\n"
                f'  a: {{needs: b, for_each: "${{{{ {items} }}}}", agent: odd, input: "${{{{ item }}}}"{condition}}}'
            ),
            [],
        )
        for items, condition in [
            ("steps.b == null ? [] : steps.b", ""),
            ("status.b == 'succeeded' ? steps.b : []", ""),
            ("[steps.b]", ""),
            ("steps.b", ", if: steps.b != null"),
            ("steps.b", ", if: status.b == 'succeeded'"),
            ("steps.b", ", if: steps.classify.kind == 'bug'"),
        ]
    ),
    (
        (
            '  ok: {needs: classify, approval: {ask: "?", payload: {x: 1}, role: r, deadline: 1h}}\n'
            '  a: {needs: ok, agent: odd, input: "${{ steps.ok.payload.y }}"}'
        ),
        [
            (
                "7 error unknown_field: step a: steps.ok.payload has no y, at column 5 of: ${{ "
                "steps.ok.payload.y }} (there are: x)"
            )
        ],
    ),
    # what is given
    (
        '  a: {agent: drafter, input: {titel: x, triage: "${{ event.data }}"}}',
        [
            "6 error input_misfit: step a: input of drafter lacks title, which is required (is it called titel here?)",
            "6 warning input_misfit: step a: input of drafter: titel is not known there (did you mean title?)",
        ],
    ),
    (
        "  a: {agent: drafter, input: just text}",
        ["6 error input_misfit: step a: input of drafter is a string, not an object"],
    ),
    (
        (
            "  a:\n    agent: drafter\n    input:\n      title: 1\n      triage: {severity: hihg, "
            "labels: [1], note: x, nested: {n: x}}\n      tone: kin\n"
            "      count: ${{ event.data.n }} pieces"
        ),
        [
            "9 error input_misfit: step a: input of drafter: title is a number, not a string",
            "10 error input_misfit: step a: input of drafter: triage.labels[0] is a number, not a string",
            "10 error input_misfit: step a: input of drafter: triage.nested.n is a string, not an integer",
            (
                "10 error input_misfit: step a: input of drafter: triage.severity does not fit: 'hihg' is "
                "not one of ['low', 'high'] (did you mean high?)"
            ),
            (
                "11 error input_misfit: step a: input of drafter: tone does not fit: 'kin' is not one of "
                "['dry', 'kind'] (did you mean kind?)"
            ),
            "12 error input_misfit: step a: input of drafter: count is a string, not an integer",
        ],
    ),
    (
        (
            '  a: {needs: classify, agent: drafter, input: {title: "${{ steps.classify.labels }}", '
            'triage: "${{ steps.classify.nested }}", tone: "${{ steps.classify.severity }}"}}'
        ),
        [
            "6 error input_misfit: step a: input of drafter: title is an array, not a string",
            *(
                f"6 error input_misfit: step a: input of drafter: triage lacks {name}, which is required"
                for name in ("labels", "nested", "note", "severity")
            ),
            "6 error input_misfit: step a: input of drafter: tone is one of low, high, not of dry, kind",
        ],
    ),
    (
        (
            '  a: {approval: {ask: "?", payload: {x: 1}, role: r, deadline: 1h, payload_schema: '
            "{properties: {x: {type: string}}}}}"
        ),
        ["6 error input_misfit: step a: payload: x is a number, not a string"],
    ),
]


@pytest.mark.parametrize(("steps", "wanted"), FINDINGS)
def test_each_finding_has_its_line_and_its_mend(tmp_path: Path, steps: str, wanted: list[str]) -> None:
    roles = {"boss", "r"} if "role: bos" in steps else None
    assert sorted(lines(tmp_path, HEAD + steps + "\n", roles=roles)) == sorted(wanted)


def test_agents_and_roles_are_checked_only_where_they_are_known(tmp_path: Path) -> None:
    text = (
        HEAD + '  a: {agent: nobody, input: 1}\n  b: {approval: {ask: "?", payload: 1, role: nobody, deadline: 1h}}\n'
    )
    found = report(tmp_path, text, known=False)
    assert (found.findings, found.agents_known, found.roles_known) == ((), False, False)


def test_a_guard_and_a_repeat_that_do_nothing_are_told(tmp_path: Path) -> None:
    text = "route: r\non: {type: t, if: 1 > 2}\non_repeat: new_run_after_end\nsteps:\n  a: {agent: odd, input: 1}\n"
    assert lines(tmp_path, text) == [
        (
            "2 warning never_starts: the route never starts: its guard is always false: 1 > 2 (remove "
            "the guard, or correct it)"
        ),
        (
            "3 warning no_effect: on_repeat has no effect: without key, no second event gives the "
            "same id (write a key, or remove on_repeat)"
        ),
    ]
    assert (
        lines(tmp_path, text.replace("1 > 2", "2 > 1"))[0] == "2 warning constant: the guard is always true (remove it)"
    )


def test_what_the_compiler_refuses_stands_beside_the_findings_of_the_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("route: a\non: {type: t}\nsteps:\n  a: {agent: x, inptu: 1}\n")
    (tmp_path / "b.yaml").write_text(HEAD + '  a: {approval: {ask: "?", payload: 1, role: r}}\n')
    (tmp_path / "c.yaml").write_text("route: [\n")
    found = check([tmp_path])
    assert [(Path(one.file).name, one.line, one.code) for one in found.findings] == [
        ("a.yaml", 4, "invalid"),
        ("a.yaml", 4, "invalid"),
        ("b.yaml", 6, "no_deadline"),
        ("c.yaml", 1, "invalid"),
    ]
    assert (found.files, found.routes, found.count("error"), found.count("warning")) == (3, 1, 3, 1)


def test_a_missing_file_is_a_finding_without_a_line(tmp_path: Path) -> None:
    [found] = check([tmp_path / "none.yaml"]).findings
    assert (found.where, found.severity) == (str(tmp_path / "none.yaml"), "error")
    assert "can't be read" in found.message


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("true", True),
        ("1 > 2 || 'a' == 'b'", False),
        ("event.data.x && false", False),
        ("!(event.data.x || true)", False),
        ("true ? event.data.x : false", None),
        ("false ? event.data.x : 1 == 1", True),
        ("event.data.x ? false : false", None),  # where x is not a bool, it fails
        ("event.data.x", None),
        ("[1, 2].exists(x, x > 1)", True),
    ],
)
def test_a_condition_is_constant_only_where_nothing_that_it_reads_matters(expression: str, value: bool | None) -> None:
    found = constant_of(expression)
    assert (found.value if found else None) is value


@pytest.mark.parametrize(("conditions", "found"), [(3, ["z"]), (20, [])])
def test_a_route_with_too_many_ways_is_not_called_unreachable(conditions: int, found: list[str]) -> None:
    steps: dict[str, Any] = {
        "ok": {"approval": {"ask": "?", "payload": 1, "role": "r", "deadline": "1h"}},
        **{f"s{n:02}": {"agent": "x", "input": 1, "if": f"event.data.x{n} == {n}"} for n in range(conditions)},
    }
    steps["z"] = {"agent": "x", "input": 1, "needs": sorted(steps), "if": "steps.ok.verdict == 'skipped'"}
    route = compile_route({"route": "r", "on": {"type": "t"}, "steps": steps})
    assert [one.step for one in unreachable(route)] == found


def test_a_step_with_a_blocked_need_in_every_world_is_unreachable() -> None:
    ask = {"approval": {"ask": "?", "payload": 1, "role": "r", "deadline": "1h"}}
    steps = {
        "ok": ask,
        "yes": {"needs": "ok", "agent": "x", "input": 1},
        "no": {"needs": "ok", "agent": "x", "input": 1, "if": "steps.ok.verdict == 'rejected'"},
        "odd": {"needs": ["yes", "ok"], "agent": "x", "input": 1, "if": "steps.ok.verdict == 'rejected'"},
    }
    [found] = unreachable(compile_route({"route": "r", "on": {"type": "t"}, "steps": steps}))
    assert (found.step, found.condition) == ("odd", True)


NOTHING: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("shape", "path", "missing"),
    [
        (ANYTHING, ("a", 1), ""),
        (Fields({"a": Items([Scalar(1)])}), ("a", 0), ""),
        (Fields({"a": Items([Scalar(1)])}), ("a", 1), "v.a is a list of 1"),
        (Fields({"a": Scalar(1)}), ("a", "b"), "v.a is a number, and has no b"),
        (Fields({}), (0,), "v is an object, and has no place 0"),
        (Items([]), ("x",), "v is a list, and has no x"),
        (Of({"type": "object"}, NOTHING), ("x", "y"), ""),
        (
            Of({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}, NOTHING),
            ("x", "y"),
            "v.x is a string, and has no y",
        ),
        (
            Of({"type": "array", "items": {"type": "object", "properties": {"a": {}}}}, NOTHING),
            (0, "b"),
            "v[0] has no b",
        ),
        (Of({"$ref": "#/$defs/x"}, {"$defs": {"x": {"properties": {"a": {}}}}}), ("b",), "v has no b"),
        (Of({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, NOTHING), ("c",), ""),
        (Of({"$ref": "#"}, {"$ref": "#"}), ("a",), ""),
        (Of({"$ref": "https://example.org/x"}, NOTHING), ("a",), ""),
        (Of({"properties": {"a": {}}, "patternProperties": {"^x-": {}}}, NOTHING), ("x-b", "c"), ""),
        (Of({"type": "array", "prefixItems": [{"type": "string"}]}, NOTHING), (0, "a"), ""),
        (Of({"allOf": [{"properties": {"a": {}}}]}, NOTHING), ("b",), "v has no b"),
        (Of({"type": ["string", "null"]}, NOTHING), ("a",), "v is null or string, and has no a"),
    ],
)
def test_a_path_is_missing_only_where_it_can_not_be(shape: Shape, path: tuple[str | int, ...], missing: str) -> None:
    assert follow(shape, path, "v").missing == missing


@pytest.mark.parametrize(
    ("schema", "unsure"),
    [
        ({"properties": {"a": {}}, "required": ["a"]}, ""),
        ({"properties": {"a": {}}}, "v may come without a"),
        ({"properties": {"a": {"default": 1}}}, ""),
        ({"anyOf": [{"properties": {"a": {}}, "required": ["a"]}, {"type": "null"}]}, "v may be null"),
        ({"anyOf": [{"properties": {"a": {}}, "required": ["a"]}, {"type": "string"}]}, ""),
    ],
)
def test_a_path_that_need_not_be_there_says_why(schema: dict[str, Any], unsure: str) -> None:
    assert follow(Of(schema, NOTHING), ("a",), "v").unsure == unsure


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        (Scalar(1), [1]),
        (Fields({}), None),
        (ANYTHING, None),
        (Of({"const": "a"}, NOTHING), ["a"]),
        (Of({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}, NOTHING), ["a", "b", None]),
        (Of({"anyOf": [{"const": "a"}, {"type": "string"}]}, NOTHING), None),
    ],
)
def test_the_values_of_a_shape_are_told_only_where_all_are_known(shape: Shape, values: list[Any] | None) -> None:
    assert values_of(shape) == values


@pytest.mark.parametrize(
    ("template", "schema", "wanted"),
    [
        ("${{ event.data.x }}", {"type": "integer"}, []),
        ("${{ size(event.data.x) > 1 }}", {"type": "string"}, ["is a boolean, not a string"]),
        ("${{ event.data.x && event.data.y }}", {"type": "string"}, ["is a boolean, not a string"]),
        ("${{ !event.data.x }}", {"type": "string"}, ["is a boolean, not a string"]),
        ("${{ has(event.data.x) }}", {"type": "string"}, ["is a boolean, not a string"]),
        ("${{ event.data.x + 1 }}", {"type": "string"}, []),
        ("${{ size(event.data.x) }}", {"type": "string"}, []),
        # it fails each time, which is not for its schema to say
        ("${{ 1 + 'x' }}", {"type": "boolean"}, []),
        ("${{ 1 }}", {"type": "string"}, ["is a number, not a string"]),
        ("${{ {'a': [1]} }}", {"properties": {"a": {"items": {"type": "string"}}}}, ["is a number, not a string"]),
        (True, {"type": "string"}, ["is a boolean, not a string"]),
        (True, {"enum": [[1], {"a": 1}]}, ["is a boolean, not an array or object"]),
        ([1, "a"], {"type": "array"}, []),
        (1, {"type": "integer", "minimum": "no number"}, []),
        ("$${{ x }}", {"type": "integer"}, ["is a string, not an integer"]),
        (None, {"anyOf": [{"type": "string"}, {"type": "null"}]}, []),
        (1, {"anyOf": [{"type": "string"}, {"type": "null"}]}, ["is a number, not a string"]),
        (1, {"type": "number"}, []),
        (1.5, {"type": "integer"}, ["is a number, not an integer"]),
        (5, {"type": "integer", "maximum": 3}, ["does not fit: 5 is greater than the maximum of 3"]),
        ({"a": 1}, {"type": "object", "additionalProperties": False, "properties": {"b": {}}}, ["is not known there"]),
        ({"a": 1}, {"type": "object"}, []),
        ({"a": 1}, True, []),
        (
            {"kind": "b", "x": "s"},
            {
                "oneOf": [
                    {"properties": {"x": {"type": "integer"}}},
                    {"properties": {"kind": {}, "x": {"type": "string"}}},
                ]
            },
            [],
        ),
    ],
)
def test_a_template_misfits_only_where_no_value_of_it_can_fit(template: Any, schema: Any, wanted: list[str]) -> None:
    found: list[Misfit] = misfits(shape_of(template, lambda _: ANYTHING), schema, {})
    assert [one.message for one in found] == wanted


@pytest.mark.parametrize(
    ("given", "wanted", "messages"),
    [
        ("number", "integer", []),
        (["number", "null"], "integer", []),
        ("integer", ["number", "null"], []),
        (["string", "null"], ["integer", "boolean"], ["is null or string, not a boolean or integer"]),
    ],
)
def test_a_type_misfits_another_only_where_they_share_no_value(given: Any, wanted: Any, messages: list[str]) -> None:
    assert [one.message for one in misfits(Of({"type": given}, NOTHING), {"type": wanted}, NOTHING)] == messages


# Joins and the ways in which steps come out -------------------------------------------------------


def unreached(**steps: Any) -> list[str]:
    document = {"route": "r", "on": {"type": "t"}, "key": "k", "steps": steps}
    return [found.step for found in unreachable(compile_route(document))]


OFF = {"agent": "x", "input": 1, "if": "false"}
ON = {"agent": "x", "input": 1}


def on(needs: Any, condition: str | None = None) -> dict[str, Any]:
    return {**ON, "needs": needs, **({"if": condition} if condition else {})}


@pytest.mark.parametrize(
    ("steps", "never"),
    [
        ({"a": OFF, "b": ON, "j": on({"any": ["a", "b"]})}, ["a"]),
        ({"a": OFF, "b": OFF, "j": on({"any": ["a", "b"]})}, ["a", "b", "j"]),
        ({"a": OFF, "b": ON, "j": on({"count": 2, "of": ["a", "b"]})}, ["a", "j"]),
        ({"a": ON, "b": on("a", "status.a == 'failed'")}, ["b"]),
        ({"a": {**ON, "on_exhausted": "continue"}, "b": on("a", "status.a == 'failed'")}, []),
        ({"a": {"wait": {"event": "t2"}}, "b": on("a", "status.a == 'skipped'")}, ["b"]),
        (
            {
                "a": {"wait": {"event": "t2", "timeout": "1s", "on_timeout": "skip"}},
                "b": on("a", "status.a == 'skipped'"),
            },
            [],
        ),
    ],
)
def test_what_no_outcome_of_the_others_lets_run(steps: dict[str, Any], never: list[str]) -> None:
    assert unreached(**steps) == never


def test_a_loser_of_a_race_may_be_spoken_of() -> None:
    steps = {
        "a": ON,
        "b0": ON,
        "b": on("b0"),
        "j": on({"first_of": ["a", "b"]}),
        "k": on(["b", "j"], "status.b == 'cancelled'"),
    }
    assert unreached(**steps) == []


@pytest.mark.parametrize("key", ["approval", "approve"])
@pytest.mark.parametrize(
    ("signed", "answers", "is_told"),
    [("none", "gateway", True), ("gateway", "gateway", False), ("own", "gateway", False), ("none", "none", False)],
)
def test_a_level_that_is_weaker_than_the_meshs_is_told(
    tmp_path: Path, key: str, signed: str, answers: Any, is_told: bool
) -> None:
    terms = f"{{role: lead, deadline: 1h, signed: {signed}"
    work = f"{{approval: {terms}, ask: Yes?, payload: 1}}}}"
    if key == "approve":
        work = f"{{agent: x, input: 1, approve: {terms}}}}}"
    file = tmp_path / "r.yaml"
    file.write_text(f"route: r\non: {{type: t}}\nsteps:\n  a: {work}\n")
    found = [one.message for one in check([file], answers=answers).findings]
    told = "step a: signed: none has no effect: MESH_ANSWERS=signed asks for a signature of every answer"
    assert [message.startswith(told) for message in found] == ([True] if is_told else [])
