"""Routes drawn over every rule of the language, for `test_core_properties`.

Each compiles, and few of them make sense.
"""

from copy import deepcopy
from typing import Any, NamedTuple

from hypothesis import strategies as st
from one_partition import agent, approval, calling, route

from mesh.core.route import Route

AWAITED = ("paid", "sent")
"""The types of events that steps wait for."""
RESERVE = 10.0
"""Tokens that each attempt of a route with a budget may take, and each workflow that it calls."""

flag = st.booleans()
_KINDS = ("agent", "approval", "call", "wait", "compute")
FLAVOURS: tuple[tuple[str, ...], ...] = (
    ("agent", "approval", "call"),
    ("agent", "agent", "for_each"),
    ("call", "call", "agent", "first_of", "undo", "end"),
    ("agent", "approval", "loop", "compute"),
    ("wait", "wait", "agent", "first_of"),
    ("agent", "agent", "undo", "wait", "compute", "end"),
    ("agent", "agent", "for_each", "budget"),
    ("agent", "agent", "loop", "budget", "compute"),
    ("call", "agent", "compute", "budget", "first_of"),
    ("call", "call", "agent", "for_each", "undo", "budget"),
    ("agent", "agent", "handover", "some", "wait"),
    (*_KINDS, "for_each", "loop", "first_of", "some", "undo", "budget", "handover", "end"),
)
"""What the steps of one route may be, and have.

A route of everything would seldom come to what two rules do together.
"""


class Drawn(NamedTuple):
    """A route, another version of it, and the steps of both that are approvals."""

    one: Route
    other: Route
    asks: frozenset[str]


class _Making:
    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.flavour = draw(st.sampled_from(FLAVOURS))
        self.kinds = [kind for kind in self.flavour if kind in _KINDS]
        self.found: dict[str, dict[str, Any]] = {}
        self.approvals: set[str] = set()
        self.needed: set[str] = set()
        self.looped: set[str] = set()
        self.inside: set[str] = set()  # of loops: nobody else may need them

    def has(self, rule: str) -> bool:
        return rule in self.flavour and self.draw(flag)

    def step(self, name: str, needs: list[str]) -> dict[str, Any]:
        draw = self.draw
        step: dict[str, Any] = {"needs": needs}
        if len(needs) > 1 and self.has("first_of"):
            step["needs"] = {"first_of": needs}
        elif len(needs) > 1 and self.has("some"):
            count = {"count": draw(st.integers(1, len(needs))), "of": needs}
            some: list[dict[str, Any]] = [{"any": needs}, count]
            step["needs"] = draw(st.sampled_from(some))
        condition: str | None = self.condition(needs)
        if condition is not None:
            step["if"] = condition
        value: Any = {"of": name}
        if draw(flag) and needs:
            value = f"${{{{ steps.{draw(st.sampled_from(needs))} }}}}"
        kind = draw(st.sampled_from(self.kinds))
        match kind:
            case "agent":
                made = self.agent(value, step)
            case "approval":
                self.approvals.add(name)
                deadline, expiry = (
                    draw(st.sampled_from(["never", "1s", "1h"])),
                    draw(st.sampled_from(["reject", "approve", "incident"])),
                )
                made = approval(payload=value, deadline=deadline, on_expiry=expiry, **step)
            case "call":
                more = draw(
                    st.sampled_from([{}, {"timeout": "10s"}, {"on_exhausted": "fail"}, {"on_exhausted": "continue"}])
                )
                made = self.call(value, more, step)
            case "wait":
                made = {**self.wait(), **step}
            case _:
                pool: list[dict[str, Any]] = [
                    {"value": value},
                    {"emit": {"type": "made", "data": value}},
                    {"value": "${{ event.data.missing }}"},
                ]
                if "end" in self.flavour:
                    pool += [{"end": status} for status in ("completed", "failed", "rejected")]
                made = {**draw(st.sampled_from(pool)), **step}
        self.loop(name, needs, made)
        return made

    def condition(self, needs: list[str]) -> str | None:
        """None, or an `if` that is true, false, speaks of a needed step, or can't be evaluated."""
        pool: list[str | None] = [None, None, None, "true", "false", "event.data.n > 0"]
        for need in needs:
            pool += [f"status.{need} == 'succeeded'", f"status.{need} != ''"]
            if need in self.approvals:
                pool += [f"steps.{need}.verdict == 'approved'", *[f"steps.{need}.verdict == 'rejected'"] * 3]
            else:
                pool += [f"steps.{need} == 1", f"steps.{need}.missing"]
        return self.draw(st.sampled_from(pool))

    def agent(self, value: Any, step: dict[str, Any]) -> dict[str, Any]:
        draw = self.draw
        retry = {
            "attempts": draw(st.integers(1, 3)),
            "backoff": draw(st.sampled_from(["0s", "1s"])),
            "non_retryable": ["bad"],
        }
        exhausted = draw(st.sampled_from(["incident", "incident", "fail", "continue"]))
        more: dict[str, Any] = {"retry": retry, "on_exhausted": exhausted, "timeout": "10s"}
        if draw(st.integers(0, 4)) == 0:
            more |= {"start_timeout": "2s", "run_timeout": "5s", "heartbeat": "1s"}
        value = self.of_any(value, more)
        if "handover" in self.flavour:
            more["handover"] = {"to": ["y", "z"], "hops": draw(st.integers(1, 2))}
        made = agent(draw(st.sampled_from(["x", "drafter"])), value, **more, **step)
        if draw(st.integers(0, 5)) == 0:
            del made["agent"]
            made["capability"] = draw(st.sampled_from(["work", "work", "nobodys"]))
        return made

    def call(self, value: Any, more: dict[str, Any], step: dict[str, Any]) -> dict[str, Any]:
        value = self.of_any(value, more := dict(more))
        if "budget" in self.flavour:
            more["timeout"] = "10s"  # a call that nobody waits for reports late what it took
        return calling(self.draw(st.sampled_from(["sub", "quick"])), value, **more, **step)

    def of_any(self, value: Any, more: dict[str, Any]) -> Any:
        """What a task and a call may have alike. The input: of an item, where there are any."""
        draw = self.draw
        if self.has("for_each"):
            items = draw(st.sampled_from(["${{ event.data.list }}"] * 3 + [[1, 2, 3], "${{ event.data.n }}"]))
            tolerate = draw(st.sampled_from([0, 1, "50%", "all"]))
            more["for_each"] = {"items": items, "concurrency": draw(st.integers(1, 3)), "tolerate": tolerate}
            value = draw(
                st.sampled_from(["${{ item }}", {"item": "${{ item }}", "at": "${{ index }}"}, "${{ item.missing }}"])
            )
        if self.has("undo"):
            what = draw(st.sampled_from([1, "${{ event.data.missing }}"]))
            by = draw(st.sampled_from([{"agent": "undoer"}, {"capability": "work"}]))
            more["undo"] = {**by, "input": what, "timeout": "10s", "retry": {"attempts": draw(st.integers(1, 2))}}
        if "budget" in self.flavour:
            more["reserve"] = {"tokens": RESERVE}
        return value

    def wait(self) -> dict[str, Any]:
        draw = self.draw
        event: dict[str, Any] = {"event": draw(st.sampled_from(AWAITED))}
        event |= draw(st.sampled_from([{}, {"if": "event.data.n == 1"}]))
        event |= draw(
            st.sampled_from([{}, *({"timeout": "5s", "on_timeout": way} for way in ("incident", "fail", "skip"))])
        )
        until = {"until": draw(st.sampled_from(["2025-11-23T12:30:00Z", "soon", "1999-01-01T00:00:00Z"]))}
        return {"wait": draw(st.sampled_from([event, event, "3s", "3s", until]))}

    def loop(self, name: str, needs: list[str], made: dict[str, Any]) -> None:
        """Back to itself, or to a step that only this one needs."""
        if "end" in made or not self.has("loop"):
            return
        starts = [need for need in needs if need not in self.needed | self.looped]
        start = self.draw(st.sampled_from([name, *starts]))
        self.looped |= {name, start}
        if start != name:
            self.inside.add(start)
        until = "steps." + name + (".verdict == 'approved'" if name in self.approvals else " == 1")
        limit, on_limit = self.draw(st.integers(1, 3)), self.draw(st.sampled_from(["incident", "fail", "continue"]))
        made["repeat"] = {"from": start, "until": until, "limit": limit, "on_limit": on_limit}

    def document(self) -> dict[str, Any]:
        draw, more = self.draw, dict[str, Any]()
        # and all that follows needs the answer
        asks_first = "approval" in self.kinds and draw(st.integers(0, 3)) == 0
        if asks_first:
            self.found["s0"] = approval(deadline="1h")
            self.approvals.add("s0")
            self.needed.add("s0")
        for number in range(len(self.found), draw(st.integers(1, 5))):
            name, open_ = f"s{number}", sorted(self.found.keys() - self.inside)
            needs: list[str] = draw(st.lists(st.sampled_from(open_), unique=True, max_size=3)) if open_ else []
            if asks_first and "s0" not in needs:
                needs.append("s0")
            self.found[name] = self.step(name, needs)
            self.needed.update(needs)
        more["on_repeat"] = draw(st.sampled_from(["ignore", "new_run_after_end"]))
        more["closed_retention"] = "1d"
        if "budget" in self.flavour:
            limits: dict[str, Any] = draw(
                st.sampled_from(
                    [{"tokens": 10}, {"tokens": 25}, {"hops": 3, "tokens": 100}, {"tokens": 25, "time": "5s"}]
                )
            )
            ways: list[dict[str, Any]] = [{"on_exhausted": "fail"}, {"on_exhausted": "ask", "role": "maintainer"}]
            ways.append({"on_exhausted": "ask", "role": "maintainer", "deadline": "5s"})
            more["budget"] = {**limits, **draw(st.sampled_from(ways))}
        if draw(flag):
            more["output"] = draw(st.sampled_from(["${{ steps.s0 }}", "${{ event.data.missing }}", {"n": 1}]))
        return {"steps": self.found, **more}

    def changed(self, document: dict[str, Any]) -> dict[str, Any]:
        """Another version: some of it as it was."""
        changed = deepcopy(document)
        changed["closed_retention"] = "2d"
        for step in changed["steps"].values():
            if "repeat" in step and self.draw(flag):
                step["repeat"]["until"] = "true"
        steps, name = changed["steps"], self.draw(st.sampled_from(sorted(self.found)))
        match self.draw(st.integers(0, 4)):
            case 0:
                open_ = sorted(self.found.keys() - self.inside)
                steps["z"] = agent(
                    "x", needs=self.draw(st.lists(st.sampled_from(open_), unique=True, max_size=2)), timeout="10s"
                )
            case 1 if len(steps) > 1:
                last = f"s{len(steps) - 1}"
                del steps[last]
            case 2 if "input" in steps[name]:
                steps[name]["input"] = "${{ event.data.n }}"
            case 3:
                steps[name].pop("if", None)
                steps[name].pop("undo", None)
            case _:
                pass
        return changed


@st.composite
def routes(draw: st.DrawFn) -> Drawn:
    """Any route of up to five steps: every rule of the language that bears on what is decided."""
    making = _Making(draw)
    document = making.document()
    other = making.changed(document)
    return Drawn(route(**deepcopy(document)), route(**other), frozenset(making.approvals))
