"""Routes that the seed draws from every rule of the route language.

Any rule may meet any other, so that runs go in ways that nobody has thought of. Owns the drawing.
`repertoire` calls it.

Each route compiles, and each can end within minutes once everybody behaves. So times are seconds,
loops and lists are short, each wait without a time-out gets its event, and no cycle of calls or
events leads from a route to itself. Few of them make sense. A route has only some of the rules,
which are drawn first: with all rules at once there is seldom more than one of any. In every other
seed all routes have budgets and calls besides, since it takes two such routes to spend a slice.
"""

import random
from copy import deepcopy
from typing import Any, Final, NamedTuple

from mesh.core.route import Route
from mesh.routes.compiler import compile_route
from mesh.routes.problems import RouteRefused
from mesh.testing.simulation.routes import AGENTS, AWAITED, CAPABILITIES, UNKNOWN_AGENT

_Document = dict[str, Any]

_KINDS: Final = ("approval", "wait", "value", "emit", "call", "end")
_RULES: Final = (
    *_KINDS,
    *("for_each", "loop", "join", "undo", "handover", "budget", "limit", "alias", "capability", "periods"),
)
_LIST: Final = "${{ event.data.list }}"
_MUCH: Final = f"${{{{ [1, 2, 3, 4, 5, 6, 7, 8, 9].map(x, [1, 2, 3, 4, 5, 6, 7, 8, 9].map(y, '{'much' * 300}')) }}}}"
"""About 100 kB: three such items are more than one decision holds."""

_MISSING: Final = "${{ event.data.missing }}"


class DrawnRoute(NamedTuple):
    """A route, and another version of it."""

    first: Route
    other: Route


def draw_routes(seed: int, count: int) -> list[DrawnRoute]:
    """Draw `drawn-1`, `drawn-2` and so on.

    A later one may call the earlier ones, or send the events that start them.
    """
    rng = random.Random(f"routes {seed}")  # noqa: S311 - a simulation's chance
    shared = rng.choice([(), (), ("budget", "call"), ("budget", "call", "for_each")])
    drawing = [_Drawing(rng, number, count, shared) for number in range(1, count + 1)]
    documents = [one.document() for one in drawing]
    called = {step["workflow"] for document in documents for step in document["steps"].values() if "workflow" in step}
    for document in documents:
        if document["route"] in called and rng.random() < 0.5:
            del document["on"], document["on_repeat"]
            if rng.random() < 0.5:
                document.pop("budget", None)  # it spends from the slice of its callers
    return [DrawnRoute(compile_route(document), _other(rng, document)) for document in documents]


class _Drawing:
    def __init__(self, rng: random.Random, number: int, count: int, shared: tuple[str, ...]) -> None:
        self.rng = rng
        self.number = number
        self.is_last = number == count
        self.rules = frozenset(rng.sample(_RULES, rng.randint(3, 7))).union(shared)
        self.kinds = ["agent"] * 3 + [kind for kind in _KINDS if kind in self.rules for _ in range(2)]
        self.steps: dict[str, _Document] = {}
        self.inside: set[str] = set()  # of loops: nobody outside may need them
        self.aliases: dict[str, str] = {}  # step -> the key under which an awaited event carries the alias
        self.upstream: dict[str, set[str]] = {}
        self.calls = 0

    def has(self, rule: str, part: float = 0.5) -> bool:
        return rule in self.rules and self.rng.random() < part

    def document(self) -> _Document:
        rng = self.rng
        size = rng.randint(2, 7)
        while len(self.steps) < size:
            if self.has("loop", 0.3):
                self.loop()
            else:
                self.step(self.needs())
        budget = {"budget": self.budget()} if "budget" in self.rules else {}
        limits = (
            {"limits": self.limits(), "priority": self.one(0, 5, "${{ event.data.n }}")}
            if "limit" in self.rules
            else {}
        )
        output: Any = {"output": self.value(sorted(self.steps)[:1])} if rng.random() < 0.4 else {}
        return {
            "route": f"drawn-{self.number}",
            "on": {"type": f"sim.drawn-{self.number}", **self.one({}, {}, {"if": "event.data.n % 4 != 1"})},
            "key": "${{ event.subject }}",
            "on_repeat": self.one("ignore", "new_run_after_end"),
            # a route that others start is remembered, or an event that lands twice would start it
            # twice
            "closed_retention": self.one("30d", "5s") if self.is_last else "30d",
            "keep_events": self.one("5s", "20s", "90s"),
            # the second is not there in every event, and is left out then
            "search": {"n": "${{ event.data.n }}", "who": "${{ event.data.nobody }}"},
            **budget,
            **limits,
            "steps": self.steps,
            **output,
        }

    def one(self, *choices: Any) -> Any:
        return deepcopy(self.rng.choice(choices))

    # Steps ----------------------------------------------------------------------------------------

    def needs(self) -> list[str]:
        open_ = [name for name in self.steps if name not in self.inside]
        return self.rng.sample(open_, min(len(open_), self.rng.choice([0, 1, 1, 2, 2, 3])))

    def step(self, needs: list[str], *, kind: str = "", in_loop: bool = False) -> str:
        """Draw a step that needs these. Returns its name."""
        rng, name = self.rng, f"s{len(self.steps) + 1}"
        step: _Document = {}
        if needs:
            step["needs"] = self.join(needs)
        condition = self.condition(needs, in_loop=in_loop)
        if condition is not None:
            step["if"] = condition
        self.upstream[name] = set(needs).union(*(self.upstream[need] for need in needs))
        kind = kind or rng.choice(self.kinds)
        match kind:
            case "approval":
                step["approval"] = self.approval(needs)
            case "wait":
                step["wait"] = self.wait(name)
            case "value":
                step["value"] = self.value(needs)
            case "emit":
                step["emit"] = self.emit()
            case "call" if self.number > 1 and not self.calls and not in_loop:
                self.calls += 1
                step |= self.call(name)
            case "end" if needs or condition:
                step["end"] = self.end()
                if "if" not in step:
                    step["if"] = self.one("event.data.n % 3 == 0", "event.data.odd")
            case _:
                step |= self.agent(name, needs)
        if "end" not in step and self.has("alias", 0.4):
            step["alias"] = self.one("a${{ event.data.n }}", "a${{ event.data.n % 3 }}")
            self.aliases[name] = step["alias"]
        self.steps[name] = step
        return name

    def join(self, needs: list[str]) -> Any:
        if len(needs) < 2 or not self.has("join", 0.7):
            return needs
        count = {"count": self.rng.randint(1, len(needs)), "of": needs}
        return self.one({"any": needs}, count, {"first_of": needs}, {"first_of": needs})

    def condition(self, needs: list[str], *, in_loop: bool) -> str | None:
        """Draw an `if`, or None.

        It is true or false, or reads a needed step. Now and then it can't be evaluated.
        """
        pool: list[str | None] = [None] * 8
        pool += ["event.data.odd", "event.data.n % 3 != 0", "event.data.n % 5 == 4"]
        for need in needs:
            pool += [f"status.{need} == 'succeeded'", f"status.{need} != 'succeeded'", f"status.{need} != ''"]
            if "approval" in self.steps[need]:
                pool += [f"steps.{need}.verdict == 'approved'", f"steps.{need}.verdict == 'rejected'"]
            elif self.is_task(need):
                pool += [f"status.{need} == 'succeeded' && steps.{need}.attempt == 1", f"steps.{need}.attempt < 3"]
        if in_loop:
            pool.append("round > 1")
        return "event.data.missing > 1" if self.rng.random() < 0.02 else self.rng.choice(pool)

    def is_task(self, name: str) -> bool:
        """Whether the step's output is that of one agent."""
        step = self.steps[name]
        return ("agent" in step or "capability" in step) and "for_each" not in step

    def value(self, needs: list[str]) -> Any:
        """Draw an object, which is the input that agents want."""
        if self.rng.random() < 0.01:
            return {"of": _MISSING}
        of = f"${{{{ steps.{self.rng.choice(needs)} }}}}" if needs and self.rng.random() < 0.6 else "nothing"
        return {"of": of, "n": "${{ event.data.n }}"}

    # Loops ----------------------------------------------------------------------------------------

    def loop(self) -> None:
        """Draw one step that is repeated, or a body of two or three steps.

        The last step of a body needs all the others.
        """
        rng, before = self.rng, self.needs()
        body = [self.step(before, in_loop=True)]
        for _ in range(rng.choice([0, 1, 2])):
            body.append(self.step(rng.sample(body, rng.randint(1, len(body))), in_loop=True))
        needed = {need for name in body for need in self.upstream[name]}
        loose = [name for name in body if name not in needed]
        if len(loose) > 1 or "end" in self.steps[body[-1]]:
            body.append(self.step(loose, kind="agent", in_loop=True))
        first, last = body[0], body[-1]
        self.inside.update(body[:-1])
        until = ["round >= 2", "event.data.odd", f"status.{last} == 'succeeded'", "false"]
        if "approval" in self.steps[last]:
            until += [f"steps.{last}.verdict == 'approved'"] * 2
        elif self.is_task(last):
            until += [f"steps.{last}.attempt == 1"] * 2
        self.steps[last]["repeat"] = {
            **({"from": first} if first != last else {}),
            "until": rng.choice(until),
            "limit": rng.randint(1, 3),
            "on_limit": self.one("incident", "fail", "continue", "continue"),
        }

    # Kinds ----------------------------------------------------------------------------------------

    def agent(self, name: str, needs: list[str]) -> _Document:
        rng = self.rng
        made: _Document = {"agent": UNKNOWN_AGENT if rng.random() < 0.01 else rng.choice(AGENTS)}
        if self.has("capability"):
            made = {"capability": rng.choice([*CAPABILITIES, *CAPABILITIES, *CAPABILITIES, "nobodys"])}
        made |= {"input": self.value(needs), **self.times(), "retry": self.retry()}
        made["on_exhausted"] = self.one("incident", "incident", "fail", "continue")
        if self.has("for_each"):
            made["for_each"] = self.for_each()
            made["input"] = self.one({"item": "${{ item }}", "at": "${{ index }}"}, {"at": "${{ index * 2 }}"})
            if rng.random() < 0.05:
                made["input"]["much"] = _MUCH
        if self.has("undo"):
            made["undo"] = self.undo(name)
        if self.has("handover"):
            made["handover"] = {"to": rng.sample(AGENTS, rng.randint(1, 2)), "hops": rng.randint(1, 2)}
        if self.has("budget", 0.8):
            made["reserve"] = {"tokens": 10}
        if self.has("limit", 0.7):
            made["limit"] = self.one("few", "few", "rare", {"name": "few", "key": "${{ event.data.odd }}"})
        return made

    def times(self) -> _Document:
        if self.has("periods"):
            some: _Document = {"start_timeout": "3s", "run_timeout": "6s", "heartbeat": "2s"}
            return {
                "timeout": "12s",
                **{key: some[key] for key in self.rng.sample(sorted(some), self.rng.randint(1, 3))},
            }
        return {"timeout": self.one("3s", "5s", "6s")}

    def retry(self) -> _Document:
        kinds = {"non_retryable": ["OSError"]} if self.rng.random() < 0.1 else {}
        return {"attempts": self.rng.randint(1, 3), "backoff": self.one("0s", "1s"), "max_backoff": "3s", **kinds}

    def for_each(self) -> Any:
        items = self.one(_LIST, _LIST, [1, 2, 3], [1, 2, 3, 4, 5])
        if self.rng.random() < 0.02:
            items = "${{ event.data.n }}"  # no list
        size = {"concurrency": self.rng.randint(1, 3)} if self.rng.random() < 0.6 else {}
        return {"items": items, **size, "tolerate": self.one(0, 1, "50%", "all")}

    def undo(self, name: str) -> _Document:
        by = {"capability": "work"} if self.has("capability") else {"agent": self.rng.choice(AGENTS)}
        of = self.one({"of": f"${{{{ steps.{name} }}}}"}, {})
        return {**by, "input": of, "timeout": "4s", "retry": {"attempts": self.rng.randint(1, 2), "backoff": "1s"}}

    def approval(self, needs: list[str]) -> _Document:
        schema = {"payload_schema": {"type": "object", "required": ["draft"]}}
        return {
            "ask": self.one("Go on?", "Go on with ${{ workflow.key }}?"),
            "payload": {"draft": self.value(needs)},
            "role": self.one("maintainer", "lead"),
            "deadline": self.one("3s", "6s", "10s", "never"),
            "on_expiry": self.one("reject", "approve", "incident"),
            **self.one({}, schema),
        }

    def wait(self, name: str) -> Any:
        """Draw a wait.

        It goes without a time-out only if the workflow's own events bring what it waits for,
        whatever came before.
        """
        rng = self.rng
        if rng.random() < 0.4:
            times = ("2s", "5s", {"until": "${{ event.data.due }}"}, {"until": "2026-01-01T00:01:10Z"})
            return {"until": "soon"} if rng.random() < 0.02 else self.one(*times)
        wait: _Document = {"event": rng.choice(AWAITED), **self.one({}, {"if": "event.data.n == start.data.n"})}
        known = sorted(self.upstream[name] & self.aliases.keys())
        if known and rng.random() < 0.7:
            wait |= {"alias": (by := rng.choice(known)), "key": self.aliases[by]}
        elif rng.random() < 0.25:
            return {**wait, "timeout": "never"}
        return {**wait, "timeout": self.one("3s", "6s", "9s"), "on_timeout": self.one("incident", "fail", "skip")}

    def emit(self) -> _Document:
        """Draw an event: steps wait for it, it starts an earlier route, or nobody wants it."""
        types = [*AWAITED, "sim.noise", *(f"sim.drawn-{number}" for number in range(1, self.number))]
        return {"type": self.rng.choice(types), "subject": "${{ workflow.key }}", "data": "${{ event.data }}"}

    def call(self, name: str) -> _Document:
        """Draw a call. Items tell the called workflow which they are by its `event.data.n`."""
        made: _Document = {
            "workflow": f"drawn-{self.rng.randint(1, self.number - 1)}",
            "input": "${{ event.data }}",
            **self.one({}, {"timeout": "6s"}, {"timeout": "15s"}),
            "on_exhausted": self.one("incident", "fail", "continue"),
        }
        if self.has("for_each"):
            made["for_each"] = {**self.for_each(), "items": self.one(_LIST, [1, 2], [1, 2, 3])}
            made["input"] = {key: f"${{{{ event.data.{key} }}}}" for key in ("odd", "list", "due")}
            made["input"]["n"] = "${{ index }}"
        if self.has("undo"):
            made["undo"] = self.undo(name)
        if self.has("budget", 0.8):
            made["reserve"] = {"tokens": self.one(5, 10, 20)}
        return made

    def end(self) -> Any:
        return self.one(
            "completed", "failed", "rejected", {"status": "completed", "reason": "enough", "output": {"n": 1}}
        )

    # The whole ------------------------------------------------------------------------------------

    def budget(self) -> _Document:
        limits = self.one(
            {"tokens": 20}, {"tokens": 40, "hops": 4}, {"tokens": 30, "usd": 1}, {"tokens": 60, "time": "40s"}
        )
        ways = ({"on_exhausted": "fail"}, {"on_exhausted": "ask", "role": "lead", **self.one({}, {"deadline": "6s"})})
        return {**limits, **self.one(*ways)}

    def limits(self) -> _Document:
        """The limits of the fixed routes, which all routes share.

        The number of one of them differs from route to route.
        """
        return {"few": {"concurrency": self.rng.randint(1, 3)}, "rare": {"concurrency": 1, "rate": "2/5s"}}


def _other(rng: random.Random, document: _Document) -> Route:
    """Draw another version of a route, with some of it unchanged."""
    changed = deepcopy(document)
    changed["closed_retention"] = "6s" if document["closed_retention"] == "5s" else "29d"
    steps = changed["steps"]
    name = rng.choice(sorted(steps))
    match rng.randrange(5):
        case 0:
            steps["z"] = {"needs": [max(steps)], "agent": rng.choice(AGENTS), "input": {}, "timeout": "4s"}
        case 1 if len(steps) > 1:
            del steps[max(steps)]
        case 2 if "input" in steps[name] and "workflow" not in steps[name]:
            steps[name]["input"] = {"n": "${{ event.data.n }}"}
        case 3:
            steps[name].pop("if", None)
        case _:
            steps[name].pop("undo", None)
    try:
        return compile_route(changed)
    except RouteRefused:  # other steps need what this version no longer has
        return compile_route({**document, "closed_retention": changed["closed_retention"]})
