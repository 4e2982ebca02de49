"""`mesh routes check` and budgets.

It finds steps whose own limits exceed the budget, and slices that are too little. It tells only
what is certain.
"""

from pathlib import Path

import pytest
from test_route_checks import HEAD, lines


def test_budgets_that_the_steps_exceed_are_told(tmp_path: Path) -> None:
    steps = (
        "  a: {needs: classify, agent: odd, input: 1, timeout: 2h}\n"
        '  ok: {needs: a, approval: {ask: "?", payload: 1, role: r, deadline: 1d}}\n'
        "  paid: {wait: {event: shop.paid, timeout: 30m}}\n"
        "  rest: {wait: 2h}\n"
        "  sum: {value: 1}\n"
        "  b: {needs: {any: [a, rest]}, agent: odd, input: 1}\n"
    )
    found = lines(tmp_path, HEAD.replace("steps:", "budget: {hops: 1, time: 1h}\nsteps:") + steps)
    assert found == [
        "4 error over_budget: a completed run sends at least 2 tasks, and the budget has 1 hops (raise hops; each attempt is one)",
        "7 warning over_budget: step a: it may take 7200 s, and the budget's time is 3600 s in all (raise the budget's time, or shorten this one)",
        "8 warning over_budget: step ok: it may take 86400 s, and the budget's time is 3600 s in all (raise the budget's time, or shorten this one)",
        "10 warning over_budget: step rest: it may take 7200 s, and the budget's time is 3600 s in all (raise the budget's time, or shorten this one)",
    ]
    early = steps + "  stop: {needs: a, if: event.data.x, end: completed}\n"
    assert not [
        one for one in lines(tmp_path, HEAD.replace("steps:", "budget: {hops: 1}\nsteps:") + early) if "hops" in one
    ]


WAIT = "the last ones wait for what the others leave, and if that is too little,"


def over_budget(tmp_path: Path, text: str) -> list[str]:
    return [line for line in lines(tmp_path, text) if "over_budget" in line]


BUDGET = """
route: r
on: {{type: t}}
budget: {{{budget}}}
steps:
  a: {{agent: odd, input: 1, reserve: {{tokens: 60}}}}
  b: {{needs: a, agent: odd, input: 1, reserve: {{tokens: 30, usd: 0.3}}}}
{more}
"""


@pytest.mark.parametrize(
    ("budget", "more", "wanted"),
    [
        ("tokens: 90, usd: 0.3", "", []),
        ("tokens: 89, usd: 1", "", ["a, b reserve 90 tokens together, and the budget has 89: {} the workflow fails"]),
        (
            "tokens: 89, usd: 1, on_exhausted: ask, role: r",
            "",
            ["a, b reserve 90 tokens together, and the budget has 89: {} people are asked"],
        ),
        (
            "tokens: 99, usd: 1",
            "  c: {needs: b, workflow: sub, input: 1, reserve: {tokens: 10}}",
            ["a, b, c reserve 100 tokens together, and the budget has 99: {} the workflow fails"],
        ),
        (
            "tokens: 119, usd: 1",
            '  c: {agent: odd, for_each: [1, 2, 3], input: "${{ item }}", reserve: {tokens: 10}}',
            ["a, b, c (3 items) reserve 120 tokens together, and the budget has 119: {} the workflow fails"],
        ),
        (
            "tokens: 90, usd: 0.8",
            '  c: {agent: odd, for_each: [1, 2, 3], input: "${{ item }}", reserve: {usd: 0.2}}',
            ["b, c (3 items) reserve 0.9 usd together, and the budget has 0.8: {} the workflow fails"],
        ),
        (
            "tokens: 90, usd: 0.3",
            "  c: {agent: odd, input: 1, on_exhausted: continue}\n  d: {needs: c, agent: odd, input: 1, reserve: {tokens: 1}}",
            ["a, b, d reserve 91 tokens together, and the budget has 90: {} the workflow fails"],
        ),
        # None of these is certain.
        ("tokens: 90, usd: 1", "  c: {if: event.data.x, agent: odd, input: 1, reserve: {tokens: 10}}", []),
        (
            "tokens: 90, usd: 1",
            "  c: {if: event.data.x, agent: odd, input: 1}\n  d: {needs: c, if: event.data.x, agent: odd, input: 1, reserve: {tokens: 10}}",
            [],
        ),
        ("tokens: 90, usd: 1", "  c: {needs: {any: [a, b]}, agent: odd, input: 1, reserve: {tokens: 10}}", []),
        (
            "tokens: 90, usd: 1",
            "  c: {agent: odd, input: 1, reserve: {tokens: 10}}\n  d: {agent: odd, input: 1}\n  e: {needs: {first_of: [c, d]}, value: 1}",
            [],
        ),
        (
            "tokens: 90, usd: 1",
            '  c: {agent: odd, for_each: "${{ event.data.all }}", input: "${{ item }}", reserve: {tokens: 10}}',
            [],
        ),
        ("tokens: 80, usd: 1", "  stop: {if: event.data.x, end: completed}", []),
    ],
)
def test_what_the_steps_of_the_one_path_reserve_together_is_held_against_the_budget(
    tmp_path: Path, budget: str, more: str, wanted: list[str]
) -> None:
    found = over_budget(tmp_path, BUDGET.format(budget=budget, more=more))
    assert [line.partition("over_budget: ")[2].rpartition(" (")[0] for line in found] == [
        line.format(WAIT) for line in wanted
    ]
    assert all(line.startswith("4 warning") for line in found)


CALLED = """
route: r
on: {{type: t}}
budget: {{tokens: 500}}
steps:
  a: {{workflow: sub, input: 1, reserve: {{tokens: {slice}}}}}
---
route: sub
{budget}
steps:
  w: {{agent: odd, input: 1, reserve: {{tokens: 30}}}}
  v: {{agent: odd, input: 1, reserve: {{tokens: 30}}}}
  u: {{needs: [w, v], if: event.data.x, agent: odd, input: 1, reserve: {{tokens: 30}}}}
"""


@pytest.mark.parametrize(
    ("there", "budget", "then"),
    [
        (60, "", ""),
        (59, "", "sub fails"),
        (59, "budget: {tokens: 60}", "sub fails"),
        (59, "budget: {tokens: 70, on_exhausted: ask, role: r}", "people are asked"),
        (59, "budget: {hops: 5}", "sub fails"),
        (65, "budget: {tokens: 60}", ""),
    ],
)
def test_a_slice_should_have_what_the_steps_of_the_called_route_reserve_together(
    tmp_path: Path, there: int, budget: str, then: str
) -> None:
    found = over_budget(tmp_path, CALLED.format(slice=there, budget=budget))
    said = f"its slice has 59 tokens, and w, v reserve 60 tokens together in route sub: {WAIT} {then}"
    assert found == ([f"6 warning over_budget: step a: {said} (reserve 60 or more)"] if then else [])


def test_where_both_are_too_small_each_is_told_once_by_the_smaller_one(tmp_path: Path) -> None:
    [own] = over_budget(tmp_path, CALLED.format(slice=59, budget="budget: {tokens: 50}"))
    assert own.startswith("9 warning over_budget: w, v reserve 60 tokens together, and the budget has 50")
    each = over_budget(tmp_path, CALLED.format(slice=29, budget=""))
    assert len(each) == 3
    assert all("that one never begins" in line for line in each)


def test_a_large_amount_is_told_in_full(tmp_path: Path) -> None:
    text = BUDGET.format(budget="tokens: 1234567, usd: 1", more="").replace("tokens: 60", "tokens: 1234567")
    [found] = over_budget(tmp_path, text)
    assert "a, b reserve 1234597 tokens together, and the budget has 1234567" in found


@pytest.mark.parametrize(
    "more",
    [
        "  b: {agent: odd, input: 1, on_exhausted: continue}\n  c: {needs: b, agent: odd, input: 1}",
        (
            '  b: {agent: odd, input: 1}\n  ask: {approval: {ask: "?", payload: 1, role: r, deadline: never}}\n'
            "  c: {needs: ask, agent: odd, input: 1}\n  no: {needs: ask, if: steps.ask.verdict == 'rejected', value: 1}"
        ),
    ],
)
def test_tasks_that_a_failure_or_a_rejection_spares_a_run_are_no_hops_for_sure(tmp_path: Path, more: str) -> None:
    head = "route: r\non: {type: t}\nbudget: {hops: 2}\nsteps:\n  a: {agent: odd, input: 1}\n"
    assert over_budget(tmp_path, head + more) == []
    assert over_budget(tmp_path, (head + more).replace("hops: 2", "hops: 1")) != []


def test_the_items_of_a_list_that_is_written_out_are_hops(tmp_path: Path) -> None:
    text = 'route: r\non: {type: t}\nbudget: {hops: 2}\nsteps:\n  a: {agent: odd, for_each: [1, 2, 3], input: "${{ item }}"}\n'
    [found] = over_budget(tmp_path, text)
    assert found.startswith("3 error over_budget: a completed run sends at least 3 tasks, and the budget has 2 hops")


def test_waits_one_after_the_other_count_together(tmp_path: Path) -> None:
    steps = (
        "  first: {wait: 40m}\n"
        "  second: {needs: first, wait: 15m}\n"
        "  late: {needs: second, agent: odd, input: 1, timeout: 10m}\n"
        "  fits: {needs: second, agent: odd, input: 1, timeout: 5m}\n"
        "  perhaps: {if: event.data.x, wait: 50m}\n"
        "  spared: {needs: perhaps, agent: odd, input: 1, timeout: 30m}\n"
        "  any: {needs: {any: [first, perhaps]}, agent: odd, input: 1, timeout: 30m}\n"
        "  third: {needs: second, wait: 30m}\n"
        "  beyond: {needs: third, agent: odd, input: 1, timeout: 30m}\n"
    )
    found = over_budget(tmp_path, HEAD.replace("steps:", "budget: {time: 1h}\nsteps:") + steps)
    said = "it begins 3300 s after the start at the earliest, and may take {} s, and the budget's time is 3600 s in all (raise the budget's time, or shorten this one)"
    assert [line.partition("step ")[2] for line in found] == [
        f"late: {said.format(600)}",
        f"third: {said.format(1800)}",
    ]


SLICES = """
route: {name}
on: {{type: t}}
budget: {{tokens: 100, usd: 1}}
steps:
  a: {{workflow: sub, input: 1, reserve: {{tokens: {one}}}}}
  b: {{needs: a, workflow: sub, input: 1, reserve: {{tokens: 60, usd: 1}}}}
  c: {{needs: b, if: event.data.x, workflow: sub, input: 1, reserve: {{tokens: 100}}}}
  d: {{needs: a, workflow: nosuch, input: 1}}
---
route: sub
{budget}
steps:
  w: {{agent: odd, input: 1, reserve: {{tokens: 30}}}}
  v: {{needs: w, value: 1}}
"""


def test_slices_that_are_too_much_together_or_too_little_for_what_is_called_are_told(tmp_path: Path) -> None:
    def about(one: int, budget: str = "") -> list[str]:
        found = lines(tmp_path, SLICES.format(name="r", one=one, budget=budget))
        return [line for line in found if "over_budget" in line]

    assert about(40) == []
    assert about(41) == [
        f"4 warning over_budget: a, b reserve 101 tokens together, and the budget has 100: {WAIT} the workflow fails (raise tokens, or reserve less)"
    ]
    little = "step a: its slice has 20 tokens, and step w of route sub reserves 30"
    assert about(20) == [f"6 error over_budget: {little}: that one never begins (reserve 30 or more)"]
    assert about(20, "budget: {tokens: 50, on_exhausted: ask, role: r}") == [
        f"6 warning over_budget: {little}: people are asked each time (reserve 30 or more)"
    ]
