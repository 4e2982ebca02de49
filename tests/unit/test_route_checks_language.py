"""`mesh routes check` on the whole language.

Joins, loops, waits, for-each, values, events, ends, compensation, hand-over and calls.
"""

from pathlib import Path
from typing import Any

import pytest
from one_partition import agent, approval, route
from test_route_checks import HEAD, lines

from mesh.inspection.inference.partial_evaluation import NOTHING, Facts, assumed, first_open, held, outcome
from mesh.inspection.inference.reachability import raced, settled_before, unreachable
from mesh.inspection.inference.schema_fit import misfits
from mesh.inspection.inference.value_types import (
    ANYTHING,
    NULL,
    NUMBER,
    TEXT,
    Fields,
    Many,
    Of,
    OneOf,
    Scalar,
    Shape,
    alternatives,
    follow,
    one_of,
    values_of,
)
from mesh.routes.compiler import compile_route

PAID = "  paid: {wait: {event: shop.paid, timeout: 3d}}\n"
LATE = "  late: {wait: 3d}\n"
FINDINGS: list[tuple[str, list[str]]] = [
    # joins
    (
        (
            "  a: {agent: odd, input: 1, if: event.data.kind == 'a'}\n"
            "  b: {agent: odd, input: 1, if: event.data.kind == 'b'}\n"
            "  c: {needs: {count: 2, of: [a, b]}, agent: odd, input: 1}\n"
            "  d: {needs: {any: [a, b]}, agent: odd, input: 1}\n"
            "  after: {needs: c, agent: odd, input: 1}"
        ),
        [
            "8 error unreachable: step c: it never runs: of a, b never 2 succeed in one workflow (correct their conditions, or count fewer of them)"
        ],
    ),
    (
        (
            "  a: {agent: odd, input: 1, if: event.data.big}\n"
            "  b: {agent: odd, input: 1, if: '!(event.data.big)'}\n"
            "  c: {needs: {count: 2, of: [a, b]}, agent: odd, input: 1}"
        ),
        [
            "8 error unreachable: step c: it never runs: of a, b never 2 succeed in one workflow (correct their conditions, or count fewer of them)"
        ],
    ),
    (
        (
            "  a: {agent: odd, input: 1, if: 1 == 2}\n"
            "  b: {agent: odd, input: 1}\n"
            "  c: {needs: {count: 2, of: [a, b]}, agent: odd, input: 1}"
        ),
        [
            "6 warning unreachable: step a: it never runs: its if is always false (remove the step, or correct the if)",
            "8 error unreachable: step c: it never runs: of a, b never 2 succeed in one workflow (correct their conditions, or count fewer of them)",
        ],
    ),
    (
        (
            "  a: {agent: odd, input: 1, if: 1 == 2}\n"
            "  b: {agent: odd, input: 1, if: 2 == 1}\n"
            "  c: {needs: {any: [a, b]}, agent: odd, input: 1}"
        ),
        [
            "6 warning unreachable: step a: it never runs: its if is always false (remove the step, or correct the if)",
            "7 warning unreachable: step b: it never runs: its if is always false (remove the step, or correct the if)",
        ],
    ),
    (
        PAID + "  ship: {needs: {first_of: [paid]}, agent: odd, input: 1}",
        ["7 warning no_effect: step ship: first_of of one step has nothing to choose from (write needs: paid)"],
    ),
    (
        PAID + "  ship: {needs: {any: [paid]}, agent: odd, input: 1}",
        ["7 warning no_effect: step ship: any of one step has nothing to choose from (write needs: paid)"],
    ),
    (
        PAID
        + LATE
        + "  ship: {needs: {first_of: [paid, late]}, agent: odd, input: 1}\n"
        + "  tell: {needs: paid, agent: odd, input: 1}",
        [
            (
                "9 warning cancelled_need: step tell: it is blocked if ship goes on with another step than paid, because paid is then cancelled"
                " (needs: {any: ...} in ship lets the others go on; or read status.paid in its if)"
            )
        ],
    ),
    (
        PAID
        + LATE
        + "  look: {needs: late, agent: odd, input: 1}\n"
        + "  ship: {needs: {first_of: [paid, late]}, agent: odd, input: 1}\n"
        + "  both: {needs: {any: [paid, ship]}, agent: odd, input: 1}\n"
        + "  tell: {needs: paid, if: status.paid == 'cancelled', agent: odd, input: 1}",
        [
            (
                "8 warning cancelled_need: step look: it is blocked if ship goes on with another step than late, because late is then cancelled"
                " (needs: {any: ...} in ship lets the others go on; or read status.late in its if)"
            )
        ],
    ),
    (
        PAID
        + LATE
        + "  ask: {needs: late, agent: odd, input: 1}\n"
        + "  answer: {needs: ask, agent: odd, input: 1}\n"
        + "  ship: {needs: {first_of: [paid, answer, late]}, agent: odd, input: 1}",
        [],
    ),
    # statuses
    (
        "  a: {agent: odd, input: 1}\n  b: {needs: a, if: status.a == 'failed', agent: odd, input: 1}",
        [
            "7 error never_equal: step b: status.a is never 'failed' (write on_exhausted: continue on a, or its failure is an incident or the workflow's end)"
        ],
    ),
    (
        (
            "  a: {agent: odd, input: 1, on_exhausted: continue}\n"
            "  b: {needs: a, if: status.a == 'failed', agent: odd, input: 1}\n"
            "  c: {needs: a, if: status.a == 'rejected', agent: odd, input: 1}"
        ),
        [
            "8 error never_equal: step c: status.a is never 'rejected' (there are: blocked, cancelled, failed, skipped, succeeded)"
        ],
    ),
    (
        (
            "  a: {agent: odd, input: 1, on_exhausted: continue}\n"
            "  b: {needs: a, agent: odd, input: 1}\n"
            "  c: {needs: [b], if: status.a == 'failed', agent: odd, input: 1}"
        ),
        [
            (
                "8 error unreachable: step c: it never runs: whenever its needs are done, its if is false: status.a == 'failed'"
                " (a failure blocks the steps that need a, unless their if reads its status: add a to its needs)"
            )
        ],
    ),
    (
        "  a: {agent: odd, input: 1}\n  b: {needs: a, if: status.a == 'skipped', agent: odd, input: 1}",
        [],  # an operator may skip it
    ),
    # ends
    (
        "  stop: {needs: classify, end: completed}\n  a: {needs: stop, agent: odd, input: 1}\n  b: {needs: a, agent: odd, input: 1}",
        [
            "7 error unreachable: step a: it never runs: stop, which it needs, ends the workflow (remove stop from its needs)"
        ],
    ),
    (
        "  stop: {needs: classify, if: event.data.small, end: completed}\n  a: {needs: stop, agent: odd, input: 1}",
        [],
    ),
    (
        "  stop: {end: failed}",
        [
            "6 error ends_at_once: step stop: the workflow ends as soon as it starts (write needs or if to say when it should end)"
        ],
    ),
    # loops
    (
        "  a: {agent: odd, input: 1, repeat: {until: steps.a.done, limit: 1}}",
        ["6 warning no_effect: step a: the loop never repeats: its limit is 1 (raise the limit)"],
    ),
    (
        "  a: {agent: odd, input: 1, repeat: {until: 1 == 1, limit: 3}}",
        ["6 warning constant: step a: the loop never repeats: its until is always true (correct the until)"],
    ),
    (
        "  a: {agent: odd, input: 1, repeat: {until: 1 + 'x' == 2, limit: 3}}",
        [
            "6 error always_fails: step a: its until always fails: cannot compute a number + a string (in: 1 + 'x' == 2) (correct the expression)"
        ],
    ),
    (
        "  a: {agent: odd, input: 1, repeat: {until: 1 == 2, limit: 3, on_limit: fail}}",
        [
            (
                "6 warning until_fixed: step a: its until is always false, so the loop ends at its limit alone, as a failure"
                " (read what a give; or on_limit: continue, to repeat 3 times)"
            )
        ],
    ),
    ("  a: {agent: odd, input: 1, repeat: {until: 1 == 2, limit: 3, on_limit: continue}}", []),
    (
        "  b: {agent: odd, input: 1}\n  a: {needs: b, agent: odd, input: 1, repeat: {until: event.data.x || steps.b.ok, limit: 3}}",
        [
            (
                "7 warning until_fixed: step a: its until reads nothing that a round changes, so the loop ends after one round or at its limit, as an incident"
                " (read what a give; or on_limit: continue, to repeat 3 times)"
            )
        ],
    ),
    ("  a: {agent: odd, input: 1, repeat: {until: round > 2, limit: 3}}", []),
    ("  a: {agent: odd, input: 1, repeat: {until: 'status.a == ''succeeded''', limit: 3}}", []),
    (
        (
            '  draft: {agent: odd, input: "${{ steps.judge.why }}"}\n'
            "  judge: {needs: draft, agent: odd, input: 1, repeat: {from: draft, until: steps.judge.ok, limit: 3}}"
        ),
        [
            "6 warning maybe_null: step draft: judge is null in the loop's first round, and then steps.judge.why is an incident (round == 1 ? ... : ...)"
        ],
    ),
    (
        (
            "  draft: {agent: odd, input: \"${{ round == 1 ? '' : steps.judge.why }}\"}\n"
            "  judge: {needs: draft, agent: odd, input: 1, repeat: {from: draft, until: steps.judge.ok, limit: 3}}"
        ),
        [],
    ),
    # waits
    (
        "  paid: {wait: {event: shop.paid}}",
        [
            (
                "6 warning no_timeout: step paid: the wait has no timeout, and no first_of goes on without it: it may wait without end"
                " (write timeout: 7d, or timeout: never if that is intended)"
            )
        ],
    ),
    ("  paid: {wait: {event: shop.paid, timeout: never}}", []),
    (
        "  paid: {wait: {event: shop.paid, timeout: never, on_timeout: skip}}",
        [
            "6 warning no_effect: step paid: on_timeout has no effect without a timeout (write a timeout, or remove on_timeout)"
        ],
    ),
    (
        "  paid: {wait: {event: shop.paid}}\n"
        + LATE
        + "  ship: {needs: {first_of: [paid, late]}, agent: odd, input: 1}",
        [],
    ),
    ("  paid: {wait: {event: shop.paid}}\n" + LATE + "  stop: {needs: late, end: failed}", []),
    (
        "  paid: {wait: {event: shop.paid, timeout: 1d, if: event.data.n > 1 && false}}",
        [
            "6 error never_comes: step paid: it waits for an event that never comes: the if of its wait is always false (correct the if)"
        ],
    ),
    (
        "  paid: {wait: {event: shop.paid, timeout: 1d, if: 1 + 'x' == 2}}",
        [
            "6 error never_comes: step paid: it waits for an event that never comes: cannot compute a number + a string (in: 1 + 'x' == 2) (correct the if)"
        ],
    ),
    (
        "  paid: {wait: {event: shop.paid, timeout: 1d, if: 2 > 1}}",
        ["6 warning constant: step paid: the if of its wait is always true (remove it)"],
    ),
    (
        PAID
        + '  a: {needs: paid, agent: odd, input: "${{ steps.paid.daat }}"}\n  rest: {needs: a, wait: 1d}\n  b: {needs: rest, agent: odd, input: "${{ steps.rest.x }}"}',
        [
            "7 warning maybe_missing: step a: steps.paid may come without daat, at column 5 of: ${{ steps.paid.daat }} (test it first: has(steps.paid.daat) && ...)",
            "9 error unknown_field: step b: steps.rest is null, and has no x, at column 5 of: ${{ steps.rest.x }}",
        ],
    ),
    (
        "  until: {wait: {until: '${{ steps.classify.labels }}'}, needs: classify}",
        ["6 error input_misfit: step until: until is an array, not a string"],
    ),
    (
        '  paid: {wait: {event: shop.paid, timeout: 1d, on_timeout: skip}}\n  a: {needs: paid, agent: odd, input: "${{ steps.paid.data.n }}"}',
        [
            (
                "7 warning maybe_skipped: step a: paid is null if no event came in time, and then steps.paid.data.n is an incident"
                " (status.paid == 'succeeded' ? ... : ...)"
            )
        ],
    ),
    # what may be null
    (
        PAID + LATE + '  ship: {needs: {first_of: [paid, late]}, agent: odd, input: "${{ steps.paid.data.n }}"}',
        [
            (
                "8 warning maybe_null: step ship: paid is null if another was first, and then steps.paid.data.n is an incident"
                " (status.paid == 'succeeded' ? ... : ...)"
            )
        ],
    ),
    (
        PAID
        + LATE
        + "  ship: {needs: {first_of: [paid, late]}, agent: odd, input: \"${{ status.paid == 'succeeded' ? steps.paid.data.n : 0 }}\"}",
        [],
    ),
    (
        (
            "  a: {agent: odd, input: 1}\n  b: {agent: odd, input: 1}\n"
            '  c: {needs: {any: [a, b]}, agent: odd, input: "${{ steps.a.x }}"}'
        ),
        [
            (
                "8 warning maybe_null: step c: a is null until it is done, which c does not wait for, and then steps.a.x is an incident"
                " (status.a == 'succeeded' ? ... : ...)"
            )
        ],
    ),
    (
        (
            "  a: {agent: odd, input: 1, on_exhausted: continue}\n"
            "  b: {needs: a, if: status.a == 'failed' || event.data.x, agent: odd, input: 1}\n"
            '  c: {needs: [a, b], agent: odd, input: "${{ steps.a.x }}"}\n'
            '  d: {needs: a, agent: odd, input: "${{ steps.a.x }}"}'
        ),
        [
            "8 warning maybe_null: step c: a is null if it failed, and then steps.a.x is an incident (status.a == 'succeeded' ? ... : ...)"
        ],
    ),
    # for each
    (
        '  a: {needs: classify, for_each: "${{ steps.classify.labels }}", agent: drafter, input: {title: "${{ item }}", triage: "${{ steps.classify }}", count: "${{ index }}"}}',
        [],
    ),
    (
        '  a: {needs: classify, for_each: "${{ steps.classify.labels }}", agent: drafter, input: {title: x, triage: "${{ item }}", count: "${{ item.n }}"}}',
        [
            "6 error input_misfit: step a: input of drafter: triage is a string, not an object",
            "6 error unknown_field: step a: item is a string, and has no n, at column 5 of: ${{ item.n }}",
        ],
    ),
    (
        "  a:\n    for_each: [{n: 1}, {m: 2}]\n    agent: odd\n    input: ${{ item.n }}",
        ["9 error unknown_field: step a: item has no n, at column 5 of: ${{ item.n }} (there are: m)"],
    ),
    (
        "  a: {for_each: '${{ event.data.x }}!', agent: odd, input: 1}",
        ["6 error input_misfit: step a: the list of for_each is a string, not an array"],
    ),
    (
        '  a:\n    needs: classify\n    for_each:\n      items: "${{ steps.classify.severity }}"\n    agent: odd\n    input: 1',
        ["9 error input_misfit: step a: the list of for_each is a string, not an array"],
    ),
    (
        (
            "  a: {for_each: '${{ event.data }}', agent: classifier, input: {}}\n"
            '  b: {needs: a, agent: drafter, input: {title: x, triage: "${{ steps.a[0] }}", tags: "${{ steps.a }}", tone: "${{ steps.a.tone }}"}}'
        ),
        [
            "7 error input_misfit: step b: input of drafter: tags has items of which each is an object, not a string",
            "7 error unknown_field: step b: steps.a is a list, and has no tone, at column 5 of: ${{ steps.a.tone }}",
        ],
    ),
    (
        (
            "  a: {for_each: {items: '${{ event.data }}', tolerate: all}, agent: classifier, input: {}}\n"
            '  b: {needs: a, agent: odd, input: "${{ steps.a[0].severity }}"}'
        ),
        [
            "7 warning maybe_missing: step b: steps.a[0] may be null, at column 5 of: ${{ steps.a[0].severity }} (test it first: steps.a[0] != null && ...)"
        ],
    ),
    # values and events
    (
        (
            "  a: {value: {total: 1, words: [x]}}\n"
            '  b: {needs: a, agent: drafter, input: {title: "${{ steps.a.total }}", triage: "${{ event.data }}", tone: "${{ steps.a.totl }}"}}'
        ),
        [
            "7 error input_misfit: step b: input of drafter: title is a number, not a string",
            "7 error unknown_field: step b: steps.a has no totl, at column 5 of: ${{ steps.a.totl }} (did you mean total?)",
        ],
    ),
    (
        '  tell: {emit: {type: shop.told}}\n  b: {needs: tell, agent: odd, input: "${{ steps.tell.id }} ${{ steps.tell.data }}"}',
        [
            "7 error unknown_field: step b: steps.tell has no data, at column 26 of: ${{ steps.tell.id }} ${{ steps.tell.data }} (there are: id, type)"
        ],
    ),
    (
        '  tell: {needs: classify, emit: {type: "${{ steps.classify.labels }}", subject: "${{ 1 + 1 }}"}}',
        [
            "6 error input_misfit: step tell: the event's subject is a number, not a string",
            "6 error input_misfit: step tell: the event's type is an array, not a string",
        ],
    ),
    (
        "  tell: {emit: {type: t}}",
        [
            (
                "6 warning starts_itself: step tell: the event starts this route again, and so on without end"
                " (keep it out with a guard, such as on: {if: event.source != '/mesh/r'}, or emit another type)"
            )
        ],
    ),
    # compensation and hand-over
    (
        '  a: {agent: classifier, input: {}, undo: {agent: drafer, input: "${{ steps.a.severity }}"}}',
        [
            "6 error unknown_agent: step a: no agent is called drafer (did you mean drafter?)",
            (
                "6 warning maybe_null: step a: a is null if nobody knows whether it was done (it timed out, or was cancelled while its task was under way),"
                " and then steps.a.severity is an incident (steps.a == null ? null : ...)"
            ),
        ],
    ),
    (
        '  a: {agent: classifier, input: {}, undo: {agent: drafter, input: {title: 1, triage: "${{ steps.a }}"}}}',
        ["6 error input_misfit: step a: input of drafter: title is a number, not a string"],
    ),
    (
        "  a:\n    agent: odd\n    input: 1\n    handover:\n      to:\n        - odd\n        - drafer",
        ["12 error unknown_agent: step a: no agent is called drafer (did you mean drafter?)"],
    ),
    (
        "  a: {agent: odd, input: 1, handover: {to: drafer}}",
        ["6 error unknown_agent: step a: no agent is called drafer (did you mean drafter?)"],
    ),
    (
        (
            "  a: {agent: classifier, input: {}, handover: {to: drafter}}\n"
            '  b: {needs: a, agent: odd, input: "${{ steps.a.text }} ${{ steps.a.nothing }}"}'
        ),
        [
            "7 error unknown_field: step b: steps.a has no nothing, at column 25 of: ${{ steps.a.text }} ${{ steps.a.nothing }} (there are: hint, kind, labels, nested, note, severity)",
            (
                "7 warning maybe_missing: step b: steps.a may come without text, at column 5 of: ${{ steps.a.text }} ${{ steps.a.nothing }}"
                " (test it first: has(steps.a.text) && ...)"
            ),
        ],
    ),
    # calls
    (
        "  a: {workflow: other, input: 1}",
        [
            "6 warning unknown_route: step a: no route of these files is called other: the step becomes an incident if the router has none either (there are: r)"
        ],
    ),
    (
        "  a: {workflow: r, input: 1, on_exhausted: continue}\n  b: {needs: a, if: status.a == 'failed', agent: odd, input: 1}",
        [
            "6 warning calls_itself: step a: its call leads back to this route, without end unless some if stops it: r -> r (break the circle, or limit it with repeat)"
        ],
    ),
    (
        (
            "  a: {workflow: other, input: 1}\n"
            '  b: {needs: a, agent: odd, input: "${{ steps.a.total }} ${{ steps.a.totl }}"}\n'
            '---\nroute: other\nsteps:\n  x: {value: 1}\n  y: {needs: x, workflow: third, input: 1}\noutput: {total: "${{ steps.x }}"}\n'
            "---\nroute: third\nsteps:\n  x: {workflow: other, input: 1}"
        ),
        [
            "7 error unknown_field: step b: steps.a has no totl, at column 26 of: ${{ steps.a.total }} ${{ steps.a.totl }} (did you mean total?)",
            (
                "12 warning calls_itself: step y: its call leads back to this route, without end unless some if stops it: other -> third -> other"
                " (break the circle, or limit it with repeat)"
            ),
            (
                "17 warning calls_itself: step x: its call leads back to this route, without end unless some if stops it: third -> other -> third"
                " (break the circle, or limit it with repeat)"
            ),
        ],
    ),
    (
        (
            '  a: {workflow: leaves, input: 1}\n  b: {needs: a, agent: odd, input: "${{ steps.a.x.n }} ${{ steps.a.y.n }} ${{ steps.a.z }}"}\n'
            '  c: {workflow: early, input: 1}\n  d: {needs: c, agent: odd, input: "${{ steps.c.z }}"}\n'
            "---\nroute: leaves\nsteps:\n  x: {value: {n: 1}}\n  y: {if: event.data.y, value: {m: 1}}\n"
            "---\nroute: early\nsteps:\n  x: {if: event.data.y, end: completed}"
        ),
        [
            "7 error unknown_field: step b: steps.a has no z, at column 43 of: ${{ steps.a.x.n }} ${{ steps.a.y.n }} ${{ steps.a.z }} (there are: x, y)"
        ],
    ),
]


@pytest.mark.parametrize(("steps", "wanted"), FINDINGS)
def test_each_finding_of_the_language_has_its_line_and_its_mend(tmp_path: Path, steps: str, wanted: list[str]) -> None:
    assert sorted(lines(tmp_path, HEAD + steps + "\n")) == sorted(wanted)


def test_a_guard_that_keeps_out_its_own_events_lets_a_route_emit_its_own_type(tmp_path: Path) -> None:
    text = (HEAD + "  tell: {emit: {type: t}}\n").replace(
        "{type: t}\nkey", "{type: t, if: event.source != '/mesh/r'}\nkey"
    )
    assert lines(tmp_path, text) == []


def test_kept_events_that_nobody_waits_for_have_no_effect(tmp_path: Path) -> None:
    assert lines(tmp_path, HEAD.replace("steps:", "keep_events: 2d\nsteps:")) == [
        "4 warning no_effect: keep_events has no effect: no step waits for an event (remove it)"
    ]


def test_what_a_call_for_each_item_gives_is_a_list_of_what_its_route_gives(tmp_path: Path) -> None:
    text = """
route: r
on: {type: t}
steps:
  a: {workflow: sub, input: "${{ item }}", for_each: {items: [1, 2], tolerate: 1}}
  b: {needs: a, value: "${{ steps.a[0].text }}"}
  c: {needs: a, value: "${{ steps.a.text }}"}
  d: {needs: a, value: "${{ steps.a[0].txt }}"}
---
route: sub
steps: {v: {value: 1}}
output: {text: "${{ steps.v }}"}
"""
    found = [line for line in lines(tmp_path, text) if "field" in line or "maybe" in line]
    assert [line.split(":")[0] for line in found] == [
        "6 warning maybe_missing",
        "7 error unknown_field",
        "8 error unknown_field",
    ]


def test_the_agents_that_ship_with_routes_have_no_errors() -> None:
    from mesh.inspection.checks.report import check  # noqa: PLC0415 - this one test's

    folders = sorted((Path(__file__).parents[2] / "agents").glob("*/routes"))
    found = check(folders)
    assert [one for one in found.findings if one.severity == "error"] == []


# The core's parts ---------------------------------------------------------------------------------


def never(steps: dict[str, Any], **more: Any) -> list[str]:
    return [one.step for one in unreachable(route(steps, **more))]


def test_a_join_that_acts_early_finds_nothing_settled_that_it_does_not_wait_for() -> None:
    steps = {
        "a": agent(),
        "b": agent(),
        "any": agent(needs={"any": ["a", "b"]}, **{"if": "status.b == ''"}),
        "after": agent(needs="any", **{"if": "status.b == ''"}),
        "both": agent(needs=["a", "b"], **{"if": "status.b == ''"}),
    }
    assert never(steps) == ["both"]


def test_a_race_settles_all_that_run_it() -> None:
    steps = {
        "a": {"wait": {"event": "x"}},
        "b": {"wait": "1d"},
        "race": agent(needs={"first_of": ["a", "b"]}, **{"if": "status.a == 'cancelled'"}),
        "open": agent(needs={"first_of": ["a", "b"]}, **{"if": "status.a == ''"}),
    }
    assert never(steps) == ["open"]


def test_what_only_serves_a_race_is_cancelled_with_it() -> None:
    steps = {
        "a": {"wait": {"event": "x"}},
        "look": agent(),
        "veto": approval(needs="look"),
        "other": agent(),
        "use": agent(needs="other"),
        "race": agent(needs={"first_of": ["a", "veto"]}),
        "one": agent(needs={"first_of": ["other"]}),
    }
    assert raced(route(steps)) == {"a", "look", "veto"}


def test_the_guard_holds_for_every_condition() -> None:
    steps = {"a": agent(**{"if": "event.data.k == 'a'"}), "b": agent(**{"if": "event.data.k == 'b'"})}
    guarded = compile_route(
        {"route": "r", "on": {"type": "t", "if": "event.data.k != 'a' && event.data.n > 1"}, "steps": steps}
    )
    assert [one.step for one in unreachable(guarded)] == ["a"]


def test_a_route_that_is_called_has_no_guard() -> None:
    called = compile_route({"route": "r", "steps": {"a": {"agent": "x", "input": 1}}})
    assert unreachable(called) == []


def test_a_member_that_ends_the_workflow_leaves_a_join_to_the_others() -> None:
    steps = {
        "stop": {"end": "failed"},
        "a": agent(),
        "any": agent(needs={"any": ["stop", "a"]}),
        "b": agent(needs="stop"),
    }
    assert never(steps) == ["b"]


def test_a_wait_that_may_be_skipped_and_a_call_that_may_fail_come_out_so() -> None:
    steps = {
        "paid": {"wait": {"event": "x", "timeout": "1d", "on_timeout": "skip"}},
        "unpaid": agent(needs="paid", **{"if": "steps.paid == null"}),
        "call": {"workflow": "other", "input": 1, "on_exhausted": "continue"},
        "sorry": agent(needs="call", **{"if": "status.call == 'failed'"}),
    }
    assert never(steps) == []


def test_an_operator_may_skip_what_can_become_an_incident() -> None:
    waits: dict[str, Any] = {
        "late": {"wait": {"event": "x", "timeout": "1d"}},
        "due": {"wait": {"until": "${{ event.data.due }}"}},
        "loop": {"wait": "1d", "repeat": {"until": "round > 2", "limit": 2}},
        "rest": {"wait": "1d"},
        "fail": {"wait": {"event": "x", "timeout": "1d", "on_timeout": "fail"}},
    }
    after = {f"after_{name}": agent(needs=name, **{"if": f"status.{name} == 'skipped'"}) for name in waits}
    assert never({**waits, **after}) == ["after_fail", "after_rest"]


def test_who_is_settled_before_a_join_depends_on_how_many_it_needs() -> None:
    steps = route(
        {
            "x": agent(),
            "a": agent(needs="x"),
            "b": agent(needs="x"),
            "any": agent(needs={"any": ["a", "b"]}),
            "all": agent(needs=["a", "b"]),
            "race": agent(needs={"first_of": ["a", "b"]}),
        }
    ).steps
    before = {"x": frozenset[str](), "a": frozenset({"x"}), "b": frozenset({"x"})}
    assert settled_before(steps["any"], ["a", "b"], before) == {"x"}
    assert settled_before(steps["any"], ["a"], before) == {"x", "a"}
    assert settled_before(steps["all"], ["a", "b"], before) == {"x", "a", "b"}
    assert settled_before(steps["race"], ["a", "b"], before) == {"x", "a", "b"}


@pytest.mark.parametrize(
    ("assume", "condition", "value"),
    [
        ("event.data.k == 'a'", "event.data.k == 'a'", True),
        ("event.data.k == 'a'", "'b' == event.data.k", False),
        ("event.data.k == 'a'", "event.data.k != 'a'", False),
        ("event.data.k == 'a'", "event.data.k in ['a', 'b']", True),
        ("event.data.k != 'a'", "event.data.k == 'a'", False),
        ("!(event.data.big)", "event.data.big", False),
        ("!(event.data.big || event.data.old)", "event.data.big ? 1 == 1 : event.data.old", False),
        ("event.data.a || event.data.b", "event.data.a", None),
        ("event.data.a ? event.data.b : event.data.c", "event.data.a", None),
        ("event.data.l[0] == 'x'", "event.data.l[0] == 'x'", True),
        ("event.data.l[0] == 'x'", "event.data.l[0] == 'y'", None),
        ("event.data == 'x' && event.data.k == 'a'", "event.data == event.data.k", None),
        ("event.data.k == 'a'", "event.data.k", None),
        ("event.data.k == 'a'", "event.data.k + 1 == 2", None),
        ("workflow.key == 'k'", "workflow.key == 'l'", False),
    ],
)
def test_what_holds_of_an_event_holds_for_every_condition(assume: str, condition: str, value: bool | None) -> None:
    assert outcome(condition, held(assume)) is value


def test_only_what_is_about_the_start_event_is_assumed() -> None:
    atom = first_open("steps.a.x && event.data.n > 1", NOTHING)
    assert atom is not None
    assert atom.text == "event.data.n > 1"
    assert first_open("steps.a.x", NOTHING) is None
    assert first_open("true", NOTHING) is None
    facts = assumed(NOTHING, atom, holds=False)
    assert outcome("steps.a.x && event.data.n > 1", facts) is False
    assert first_open("event.data.n > 1", facts) is None
    assert outcome("!(event.data.n > 1)", Facts({}, {"event.data.n > 1": True})) is False


EACH = Of({"type": "object", "properties": {"n": {"type": "integer"}, "m": {"type": "string"}}, "required": ["n"]}, {})


@pytest.mark.parametrize(
    ("shape", "segments", "missing", "unsure"),
    [
        (Many(EACH), (7, "n"), "", ""),
        (Many(EACH), (7, "m"), "", "x[7] may come without m"),
        (Many(EACH), ("n",), "x is a list, and has no n", ""),
        (OneOf((EACH, NULL)), ("n",), "", "x may be null"),
        (OneOf((EACH, TEXT)), ("n",), "", "x may come without n"),
        (OneOf((EACH, EACH)), ("m",), "", "x may come without m"),
        (OneOf((EACH, EACH)), ("n",), "", ""),
        (OneOf((NULL, EACH)), ("k",), "x has no k", ""),
        (OneOf((NULL, NULL)), ("k",), "x is null, and has no k", ""),
    ],
)
def test_paths_lead_into_lists_and_alternatives(shape: Shape, segments: Any, missing: str, unsure: str) -> None:
    found = follow(shape, segments, "x")
    assert (found.missing, found.unsure) == (missing, unsure)


def test_alternatives_of_which_one_is_not_known_are_not_known() -> None:
    assert alternatives([EACH, ANYTHING]) == ANYTHING
    assert alternatives([EACH]) == EACH
    assert alternatives([EACH, NULL]) == OneOf((EACH, NULL))


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        (OneOf((one_of("a"), NULL)), ["a", None]),
        (OneOf((one_of("a"), TEXT)), None),
        (Many(TEXT), None),
        (Scalar(1), [1]),
    ],
)
def test_the_values_of_alternatives_are_known_where_all_are(shape: Shape, values: list[Any] | None) -> None:
    assert values_of(shape) == values


LIST = {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]}}


@pytest.mark.parametrize(
    ("shape", "schema", "wanted"),
    [
        (Many(EACH), LIST, ["has items whose n is a number, not a string"]),
        (Many(NUMBER), LIST, ["has items of which each is a number, not an object"]),
        (
            Many(Many(NUMBER)),
            {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
            ["has items of which each has items of which each is a number, not a string"],
        ),
        (Many(NUMBER), {"type": "array"}, []),
        (Many(NUMBER), {"type": "string"}, ["is an array, not a string"]),
        (OneOf((NUMBER, TEXT)), {"type": "string"}, []),
        (OneOf((NUMBER, NULL)), {"type": "string"}, ["is a number, not a string"]),
        (
            Fields({"a": OneOf((NUMBER, NULL))}),
            {"properties": {"a": {"type": "string"}}},
            ["is a number, not a string"],
        ),
    ],
)
def test_lists_and_alternatives_misfit_only_where_no_value_can_fit(
    shape: Shape, schema: Any, wanted: list[str]
) -> None:
    assert [one.message for one in misfits(shape, schema, {})] == wanted
