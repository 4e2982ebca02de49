"""From a plain document to a `Route`: every rule of the route language is checked here, before a router sees it.

Owns the language's keys, defaults and checks. It must not read files or know lines (`mesh.codec.route_file`), and it must be a function of the document alone: a
stored definition compiles to an equal route in every router. `mesh.codec.route_file` and `mesh.codec.definitions` call it. docs/routes.md describes the
language to its users.
"""

import re
from typing import Any, Final, cast

from msgspec.structs import replace

from mesh.core import route_kinds as kinds
from mesh.core.canonical import digest
from mesh.core.cel_paths import kind_of
from mesh.core.expressions import CompiledExpression, CompiledTemplate
from mesh.core.limits import Limit
from mesh.core.route import (
    AgentWork,
    ApprovalWork,
    Budget,
    CallWork,
    OnExhausted,
    OnExpiry,
    OnRepeat,
    Periods,
    Repeat,
    Retry,
    Route,
    Step,
    Trigger,
    WaitWork,
    Work,
)
from mesh.core.route_graph import body_of, dependents_of, find_cycle, ordered, upstream_of
from mesh.core.route_kinds import EMPTY, Join
from mesh.core.route_limits import limits, priority_of, step_limit
from mesh.core.route_problems import (
    NAME_LENGTH,
    Book,
    DocumentPath,
    Part,
    RouteProblem,
    RouteRefused,
    find_foreign,
    near,
    shown,
)
from mesh.core.route_reads import Sight, check_readings
from mesh.core.schedules import NoSuchZone, Schedule, ScheduleError, check_schedule

__all__ = ["RouteProblem", "RouteRefused", "compile_route"]

ROUTE_KEYS: Final = (
    "route",
    "on",
    "key",
    "on_repeat",
    "closed_retention",
    "keep_events",
    "budget",
    "limits",
    "priority",
    "steps",
    "output",
)
TRIGGER_KEYS: Final = ("type", "if", "schedule", "timezone")
KINDS: Final = ("agent", "capability", "approval", "workflow", "wait", "value", "emit", "end")
PERIOD_KEYS: Final = ("start_timeout", "run_timeout", "heartbeat")
AGENT_KEYS: Final = (
    "input",
    "timeout",
    *PERIOD_KEYS,
    "retry",
    "on_exhausted",
    "for_each",
    "handover",
    "reserve",
    "limit",
    "undo",
)
CALL_KEYS: Final = ("input", "timeout", "on_exhausted", "for_each", "reserve", "undo")
"""Of `AGENT_KEYS`, those that a workflow takes too."""
STEP_KEYS: Final = ("needs", "if", *KINDS, *AGENT_KEYS, "repeat", "alias")
AGENT_KINDS: Final = ("agent", "capability")
UNDO_KEYS: Final = (*AGENT_KINDS, "input", "timeout", *PERIOD_KEYS, "retry")
RETRY_KEYS: Final = ("attempts", "backoff", "factor", "max_backoff", "jitter", "non_retryable")
APPROVAL_KEYS: Final = ("ask", "payload", "role", "deadline", "on_expiry", "payload_schema")

TIMEOUT_S: Final = 300.0
CLOSED_RETENTION_S: Final = 30 * 86_400.0
KEEP_EVENTS_S: Final = 86_400.0
MAX_ATTEMPTS: Final = 1_000

_NAME: Final = kinds.NAME
_STEP: Final = re.compile(r"[a-z][a-z0-9_]*")
_NAME_HINT: Final = kinds.NAME_HINT
_STEP_HINT: Final = f"a-z first, then a-z, 0-9 and _, since expressions name it; {NAME_LENGTH} at the most"
_ROLE_HINT: Final = "name the role that may answer, such as maintainer"
_WORK_HINT: Final = "agent: NAME or capability: NAME for a task, approval: {...} for a question to a person, workflow: ROUTE for a workflow of another route, or wait, value, emit, end"
_KIND_NAMES: Final = {
    "agent": "an agent's step",
    "capability": "a capability's step",
    "approval": "an approval",
    "workflow": "a workflow that is called",
    "wait": "a wait",
    "value": "a value",
    "emit": "an event that is emitted",
    "end": "an end",
}
_NEVER: Final = "never"


def compile_route(document: Any) -> Route:
    """The route that a document (JSON types: a YAML file's, or a stored definition) describes.

    Raises `RouteRefused`, with every problem that was found.
    """
    book = Book()
    if not isinstance(document, dict):
        book.add((), f"a route must be a mapping, not {kind_of(document)}", "begin with route: NAME")
        raise RouteRefused(book.problems)
    find_foreign(document, (), book)
    if book.problems:
        raise RouteRefused(book.problems)
    return _RouteCompiler(document, book).compile()


class _RouteCompiler:
    def __init__(self, document: dict[str, Any], book: Book) -> None:
        self.document = document
        self.book = book
        self.root = Part(document, (), book)
        self.steps: dict[str, Part] = {}
        self.needs: dict[str, tuple[str, ...]] = {}
        self.joins: dict[str, Join] = {}
        self.loops: dict[str, Repeat] = {}  # by the step that closes it, whole
        self.budget: Budget | None = None
        self.limits: dict[str, Limit] = {}

    def compile(self) -> Route:
        root = self.root
        root.check_keys(ROUTE_KEYS)
        name = self.required_name(root, "route")
        trigger = self.trigger()
        key = self.key()
        repeat = root.choice("on_repeat", ("ignore", "new_run_after_end"))
        retention_s = root.duration("closed_retention", CLOSED_RETENTION_S)
        keep_events_s = root.duration("keep_events", KEEP_EVENTS_S)
        self.budget = kinds.budget(root)
        self.limits = limits(root)
        priority = priority_of(root)
        self.steps = self.parts()
        self.needs = {step: self.needs_of(part) for step, part in self.steps.items()}
        order = self.order()
        steps = {step: self.step(step, part, order) for step, part in self.steps.items()}
        output = root.template("output")
        awaited = tuple(s.work.event for s in steps.values() if isinstance(s.work, WaitWork) and s.work.event)
        self.check_loops()
        self.check_aliases(steps)
        self.check_reads(order)
        if self.book.problems:
            raise RouteRefused(self.book.problems)
        reads_status = any(reading.read.segments[0] == "status" for reading in self.book.readings)
        looped = frozenset(name for loop in self.loops.values() for name in loop.body)
        return Route(
            name=name,
            digest=digest(self.document),
            on=trigger,
            key=key,
            on_repeat=cast("OnRepeat", repeat),
            closed_retention_s=retention_s,
            steps={step: steps[step] for step in order},
            dependents=dependents_of(self.needs, order),
            output=output,
            budget=self.budget,
            priority=priority,
            keep_events_s=keep_events_s,
            is_sparse=bool(looped) or reads_status or any(_is_sparse(step) for step in steps.values()),
            reads_status=reads_status,
            awaited=awaited,
            looped=looped,
            definition=self.document,
        )

    # --- start -----------------------------------------------------------------------------------------------------------------------

    def required_name(self, part: Part, key: str) -> str:
        if key not in part.value:
            part.missing(key, f"{key}: NAME")
            return ""
        return part.name(key, _NAME, _NAME_HINT) or ""

    def trigger(self) -> Trigger | None:
        """None: no event starts the route, and steps of others call it."""
        hint = "on: {type: com.github.issues.opened}"
        if "on" not in self.root.value:
            if "on_repeat" in self.root.value:
                self.root.problem("on_repeat", "on_repeat has no effect without on", "a call starts its workflow once")
            return None
        on = self.root.part("on", hint)
        if on is None:
            return Trigger(type="")
        on.check_keys(TRIGGER_KEYS)
        if "schedule" in on.value:
            return self.schedule(on)
        if "timezone" in on.value:
            on.problem("timezone", "timezone goes with schedule, not with type", "take it out")
        condition = on.expression("if")
        if "type" not in on.value:
            on.missing("type", "the CloudEvents type that starts the route, or schedule: the times that do")
            return Trigger(type="")
        return Trigger(type=on.text("type", "the CloudEvents type that starts the route") or "", condition=condition)

    def schedule(self, on: Part) -> Trigger:
        """The times that start the route; each is the key of its workflow."""
        for key in ("type", "if"):
            if key in on.value:
                on.problem(key, f"{key} does not go with schedule", "make two routes of it, or write one of the two")
        for key in ("key", "on_repeat"):
            if key in self.root.value:
                self.root.problem(key, f"{key} does not go with a schedule", "take it out: each time is a key")
        hint = 'minute, hour, day of the month, month, day of the week, such as "0 9 * * 1-5"'
        zone = on.text("timezone", "such as Europe/Berlin") if "timezone" in on.value else "UTC"
        found = Schedule(cron=on.text("schedule", hint) or "* * * * *", timezone=zone or "UTC")
        try:
            check_schedule(found)
        except NoSuchZone as error:
            on.problem("timezone", str(error), "name one of the IANA time zone database, such as Europe/Berlin")
        except ScheduleError as error:
            on.problem("schedule", f"the schedule {shown(found.cron)} does not hold: {error}", hint)
        return Trigger(schedule=found)

    def key(self) -> CompiledTemplate | None:
        if "key" not in self.root.value:
            return None
        if self.root.text("key", "such as ${{ event.subject }}") is None:
            return None
        return self.root.template("key")

    # --- steps -----------------------------------------------------------------------------------------------------------------------

    def parts(self) -> dict[str, Part]:
        if "steps" not in self.root.value:
            self.root.missing("steps", "steps: {NAME: {agent: NAME, input: ...}}")
            return {}
        steps = self.root.part("steps", "steps: {NAME: {agent: NAME, input: ...}}")
        if steps is None:
            return {}
        if not steps.value:
            self.root.problem("steps", "a route needs at least one step")
        found: dict[str, Part] = {}
        for name in steps.value:
            if not _STEP.fullmatch(name) or len(name) > NAME_LENGTH:
                self.book.add((*steps.path, name), f"a step can't be named {shown(name)}", _STEP_HINT, on_key=True)
            part = steps.part(name, _WORK_HINT)
            if part is not None:
                found[name] = part
        return found

    def needs_of(self, part: Part) -> tuple[str, ...]:
        """Those that are right; problems are noted for the others."""
        itself = str(part.path[-1])
        value, where, self.joins[itself] = kinds.join_of(part)
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            part.problem("needs", "needs must be a step's name or a list of them", "needs: [a, b]")
            return ()
        good: list[str] = []
        for place, name in enumerate(names):
            path = (*part.path, *where) if isinstance(value, str) else (*part.path, *where, place)
            if name == itself:
                self.book.add(path, "a step can't need itself", "take it out of needs")
            elif name in good:
                self.book.add(path, f"needs names {name} twice", "once will do")
            elif name in self.steps:
                good.append(name)
            elif name not in self.root.value["steps"]:
                others = [step for step in self.root.value["steps"] if step != itself]
                self.book.add(path, f"there is no step {name} to need", near(name, others))
        return tuple(good)

    def step(self, name: str, part: Part, order: tuple[str, ...]) -> Step:
        part.check_keys(STEP_KEYS)
        condition: CompiledExpression | None = part.expression("if")
        found = [kind for kind in KINDS if kind in part.value]
        work: Work | None = None
        if not found:
            self.book.add(part.path, f"the step {name} has nothing to do", _WORK_HINT)
        elif len(found) > 1:
            part.problem(found[1], f"the step {name} has both {found[0]} and {found[1]}", "make two steps of it")
        else:
            self.check_foreign_keys(part, found[0])
            work = self.work(part, found[0])
        join = self.joins[name]
        # With a problem noted the step is never used, but the walk goes on to find the others.
        return Step(
            name=name,
            needs=self.needs[name],
            condition=condition,
            work=work or _NO_WORK,
            enough=join.enough,
            first_of=join.first_of,
            for_each=kinds.for_each(part),
            repeat=self.repeat(name, part, order),
            undo=self.undo(part),
            alias=self.alias(part),
        )

    def check_foreign_keys(self, part: Part, kind: str) -> None:
        if kind not in AGENT_KINDS:
            for key in AGENT_KEYS:
                if key in part.value and not (kind == "workflow" and key in CALL_KEYS):
                    part.problem(key, f"{key} belongs to an agent's step, not to {_KIND_NAMES[kind]}", "take it out")

    def work(self, part: Part, kind: str) -> Work | None:
        match kind:
            case "agent" | "capability":
                return self.agent(part)
            case "approval":
                return self.approval(part)
            case "workflow":
                return self.call(part)
            case "wait":
                return self.wait(part)
            case "value":
                return kinds.value(part)
            case "emit":
                return kinds.emit(part)
            case _:
                return kinds.end(part)

    def agent(self, part: Part) -> AgentWork:
        if "input" not in part.value:
            part.missing("input", "what the agent gets, such as input: ${{ event.data }}")
        timeout_s, periods = self.times(part)
        by = "capability" if "capability" in part.value else "agent"
        name = part.name(by, _NAME, _NAME_HINT) or ""
        return AgentWork(
            agent=name if by == "agent" else "",
            capability=name if by == "capability" else "",
            input=part.template("input") or EMPTY,
            timeout_s=timeout_s,
            periods=periods,
            retry=self.retry(part),
            on_exhausted=cast("OnExhausted", part.choice("on_exhausted", ("incident", "fail", "continue"))),
            handover=kinds.handover(part),
            reserve=self.reserve(part),
            limit=step_limit(part, self.limits),
        )

    def call(self, part: Part) -> CallWork:
        if "input" not in part.value:
            part.missing("input", "the event.data of the called workflow, such as input: ${{ event.data }}")
        return CallWork(
            route=part.name("workflow", _NAME, _NAME_HINT) or "",
            input=part.template("input") or EMPTY,
            timeout_s=part.duration("timeout", 1.0) if "timeout" in part.value else None,
            on_exhausted=cast("OnExhausted", part.choice("on_exhausted", ("incident", "fail", "continue"))),
            reserve=self.reserve(part),
        )

    def reserve(self, part: Part) -> dict[str, float]:
        """What each attempt, or call, may take; of the caller's slice, where no event starts the route."""
        return kinds.reserve(part, self.budget, is_called="on" not in self.root.value)

    def times(self, part: Part) -> tuple[float, Periods | None]:
        """The time-out from dispatch to result, and the periods of signs of life, none of which may be so long that it can't come."""
        start_s, run_s, heartbeat_s = (part.duration(key, 0.0) for key in PERIOD_KEYS)
        timeout_s = part.duration("timeout", max(TIMEOUT_S, start_s + run_s))
        if heartbeat_s > (run_s or timeout_s):
            longer = "run_timeout" if run_s else "timeout"
            part.problem("heartbeat", f"heartbeat is longer than {longer}, so it would never count", "make it shorter")
        if start_s + run_s > timeout_s:
            longer = "start_timeout and run_timeout together" if start_s and run_s else PERIOD_KEYS[not start_s]
            part.problem("timeout", f"timeout is shorter than {longer}", "make it longer, or leave it out")
        if not start_s + run_s + heartbeat_s:
            return timeout_s, None
        return timeout_s, Periods(
            start_timeout_s=start_s or None, run_timeout_s=run_s or None, heartbeat_s=heartbeat_s or None
        )

    def undo(self, step: Part) -> AgentWork | None:
        if "undo" not in step.value:
            return None
        part = step.part("undo", "undo: {agent: NAME, input: ...}")
        if part is None:
            return None
        if "workflow" in part.value:
            hint = "an agent undoes it; what a called workflow did is undone by its own steps, where it fails or is cancelled"
            part.problem("workflow", "a workflow can't undo a step", hint)
            return None
        part.check_keys(UNDO_KEYS)
        found = [kind for kind in AGENT_KINDS if kind in part.value]
        if not found:
            part.missing("agent", "undo: {agent: NAME, input: ...}")
            return None
        if len(found) > 1:
            part.problem("capability", "undo has both agent and capability", "take one out")
        return self.agent(part)

    def wait(self, part: Part) -> WaitWork | None:
        work = kinds.wait(part)
        if work is not None and work.event is not None and work.event.alias and work.event.key is None:
            part.problem(
                "wait",
                f"nothing says which {work.event.alias} an event is about",
                "write key: beside alias, such as ${{ event.data.payment_id }}",
            )
        elif work is not None and work.event is not None and work.event.key is None and "key" not in self.root.value:
            part.problem(
                "wait",
                "nothing says which workflow an event is for",
                "write key: beside event, or a key for the route, such as ${{ event.subject }}",
            )
        return work

    def alias(self, part: Part) -> CompiledTemplate | None:
        if "alias" not in part.value:
            return None
        if "end" in part.value:
            part.problem("alias", "after an end nobody is to be found any more", "give the alias to a step before it")
        hint = f"such as ${{{{ steps.{part.path[-1]}.payment_id }}}}"
        return part.template("alias") if part.text("alias", hint) is not None else None

    def check_aliases(self, steps: dict[str, Step]) -> None:
        """A wait names a step that gives an alias."""
        giving = [name for name, step in steps.items() if step.alias is not None]
        for name, step in steps.items():
            awaited = step.work.event if isinstance(step.work, WaitWork) else None
            if awaited is not None and awaited.alias and awaited.alias not in giving:
                path: DocumentPath = ("steps", name, "wait", "alias")
                if awaited.alias in steps:
                    self.book.add(
                        path, f"the step {awaited.alias} gives no alias", "write one there: alias: ${{ ... }}"
                    )
                else:
                    hint = (
                        near(awaited.alias, giving) if giving else "write alias: ${{ ... }} in the step that knows it"
                    )
                    self.book.add(path, f"there is no step {awaited.alias} to give an alias", hint)

    def repeat(self, name: str, part: Part, order: tuple[str, ...]) -> Repeat | None:
        """The loop with its body, from the step that it goes back to."""
        loop = kinds.repeat(part)
        if loop is None or not order or not loop.start:
            return loop
        if loop.start not in self.steps:
            hint = near(loop.start, self.steps)
            self.book.add((*part.path, "repeat", "from"), f"there is no step {loop.start} to go back to", hint)
            return loop
        body = body_of(self.needs, order, loop.start, name)
        if not body:
            self.book.add(
                (*part.path, "repeat", "from"),
                f"{name} does not need {loop.start}, so no loop leads from one to the other",
                "go back to a step that this one needs, directly or through others",
            )
            return loop
        self.loops[name] = replace(loop, body=body)
        return self.loops[name]

    def check_loops(self) -> None:
        """A loop has one way out, the step that closes it, and no loop is in another."""
        seen: dict[str, str] = {}
        for closing, loop in self.loops.items():
            path: DocumentPath = ("steps", closing, "repeat")
            for name in loop.body:
                if name in seen:
                    self.book.add(path, f"{name} is in the loops of {seen[name]} and of {closing}", "part them")
                seen[name] = closing
            for outside, needs in self.needs.items():
                inner = [need for need in needs if need in loop.body and need != closing]
                if inner and outside not in loop.body:
                    self.book.add(
                        ("steps", outside, "needs"),
                        f"{inner[0]} is inside the loop that {closing} closes",
                        f"need {closing}: what is inside may run again",
                    )

    def retry(self, step: Part) -> Retry:
        if "retry" not in step.value:
            return Retry()
        part = step.part("retry", "retry: {attempts: 3, backoff: 1s}")
        if part is None:
            return Retry()
        part.check_keys(RETRY_KEYS)
        usual = Retry()
        backoff_s = part.duration("backoff", usual.backoff_s, zero=True)
        max_backoff_s = part.duration("max_backoff", max(usual.max_backoff_s, backoff_s), zero=True)
        if max_backoff_s < backoff_s:
            part.problem("max_backoff", "max_backoff is less than backoff", "make it longer")
        return Retry(
            attempts=self.attempts(part, usual.attempts),
            backoff_s=backoff_s,
            factor=part.number("factor", usual.factor, 1, 100),
            max_backoff_s=max_backoff_s,
            jitter=part.number("jitter", usual.jitter, 0, 0.99),
            non_retryable=self.kinds(part),
        )

    def attempts(self, part: Part, usual: int) -> int:
        value = part.value.get("attempts", usual)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_ATTEMPTS:
            return value
        part.problem("attempts", f"attempts can't be {shown(value)}", f"write a whole number from 1 to {MAX_ATTEMPTS}")
        return usual

    def kinds(self, part: Part) -> frozenset[str]:
        value = part.value.get("non_retryable", [])
        kinds = [value] if isinstance(value, str) else value
        if isinstance(kinds, list) and all(isinstance(kind, str) and kind for kind in kinds):
            return frozenset(kinds)
        part.problem("non_retryable", "non_retryable must be a list of error kinds", "non_retryable: [no_title]")
        return frozenset()

    def approval(self, step: Part) -> ApprovalWork | None:
        part = step.part("approval", "approval: {ask: ..., payload: ..., role: ...}")
        if part is None:
            return None
        part.check_keys(APPROVAL_KEYS)
        for key, hint in (("ask", "the question"), ("payload", "what is to be approved"), ("role", _ROLE_HINT)):
            if key not in part.value:
                part.missing(key, hint)
        if "ask" in part.value:
            part.text("ask", "the question to the person")
        payload = part.template("payload")
        return ApprovalWork(
            ask=part.template("ask") or EMPTY,
            payload=payload or EMPTY,
            role=(part.text("role", _ROLE_HINT) or "") if "role" in part.value else "",
            deadline_s=None if part.value.get("deadline", _NEVER) == _NEVER else part.duration("deadline", 1.0),
            on_expiry=cast("OnExpiry", part.choice("on_expiry", ("reject", "approve", "incident"))),
            payload_schema=self.schema(part),
            payload_from=self.payload_from(payload, "agent"),
            payload_step=self.payload_from(payload, "capability"),
        )

    def schema(self, part: Part) -> dict[str, Any] | None:
        schema = part.value.get("payload_schema")
        if "payload_schema" not in part.value:
            return None
        if not isinstance(schema, dict):
            part.problem("payload_schema", f"payload_schema must be a JSON Schema, not {kind_of(schema)}")
            return None
        from jsonschema import SchemaError  # noqa: PLC0415 - slow to load, and few routes have a schema
        from jsonschema.validators import Draft202012Validator, validator_for  # noqa: PLC0415

        path: DocumentPath = (*part.path, "payload_schema")
        for at in _distant_references(schema, path):
            self.book.add(at, "a $ref must point into the schema itself", "begin it with #")
        try:
            validator_for(schema, default=Draft202012Validator).check_schema(schema)
        except SchemaError as error:
            self.book.add(path + tuple(error.absolute_path), f"payload_schema is no JSON Schema: {error.message}")
        return schema

    def payload_from(self, payload: CompiledTemplate | None, kind: str) -> str | None:
        """The agent whose output the payload is, where it is exactly one step's; the step where that one is of a capability."""
        if payload is None or payload.whole is None or len(payload.whole.reads) != 1:
            return None
        path = payload.whole.reads[0].segments
        step = self.steps.get(str(path[1])) if len(path) == 2 and path[0] == "steps" else None  # noqa: PLR2004
        if step is None or payload.whole.source != f"steps.{path[1]}" or kind not in step.value:
            return None
        if "for_each" in step.value:  # a list of them
            return None
        return str(step.value["agent"] if kind == "agent" else path[1])

    # --- the whole -------------------------------------------------------------------------------------------------------------------

    def order(self) -> tuple[str, ...]:
        cycle = find_cycle(self.needs)
        if cycle:
            self.book.add(
                ("steps", cycle[0], "needs"), f"steps need each other: {' -> '.join(cycle)}", "break the cycle"
            )
            return ()
        return ordered(self.needs)

    def check_reads(self, order: tuple[str, ...]) -> None:
        declared = self.root.value.get("steps")
        sight = Sight(
            kinds={name: next((k for k in KINDS if k in part.value), "agent") for name, part in self.steps.items()},
            for_each=frozenset(name for name, part in self.steps.items() if "for_each" in part.value),
            loops={name: frozenset(loop.body) for loop in self.loops.values() for name in loop.body},
            declared=frozenset(declared) if isinstance(declared, dict) else frozenset(),
            upstream=upstream_of(self.needs, order) if order else None,
        )
        check_readings(self.book, sight)


_NO_WORK: Final = AgentWork(agent="", input=EMPTY)


def _is_sparse(step: Step) -> bool:
    """Whether those who need this step, or the step itself, may find others not done."""
    return step.enough is not None or (
        isinstance(step.work, AgentWork | CallWork) and step.work.on_exhausted == "continue"
    )


def _distant_references(schema: Any, path: DocumentPath) -> list[DocumentPath]:
    """Where a schema points outside itself: nobody may fetch anything to validate an answer."""
    found: list[DocumentPath] = []
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
                found.append((*path, key))
            found += _distant_references(value, (*path, key))
    elif isinstance(schema, list):
        for place, item in enumerate(schema):
            found += _distant_references(item, (*path, place))
    return found
