"""From a plain document to a `Route`.

Every rule of the route language is checked here, before a router sees it.

Owns the whole and what it keeps together: the top, the steps, who needs whom, loops, aliases. What
is written under one key is read by a module of its own: `triggers`, `tasks` (with calls and
undoing), `approvals`, `budgets`, `limits`, and `control_flow` for the rest; `reads` checks what
expressions read. It must not read files or know lines (`mesh.codec.route_file`), and it must be a
function of the document alone: a stored definition compiles to an equal route in every router.
`mesh.codec.route_file` and `mesh.codec.definitions` call it. docs/route-reference.md describes the
language to its users.
"""

from typing import Any, Final, cast

from msgspec.structs import replace

from mesh.core.json_values import digest, kind_of
from mesh.core.route import (
    AgentWork,
    ApprovalWork,
    CallWork,
    OnRepeat,
    Repeat,
    Route,
    Step,
    WaitWork,
    Work,
    approval_of,
)
from mesh.routes import control_flow as kinds
from mesh.routes import tasks
from mesh.routes.approvals import approval, tool_terms
from mesh.routes.budgets import budget
from mesh.routes.control_flow import EMPTY, Join
from mesh.routes.expressions.compiler import CompiledExpression, CompiledTemplate
from mesh.routes.graph import body_of, dependents_of, find_cycle, ordered, upstream_of
from mesh.routes.keys import KINDS, ROUTE, STEP
from mesh.routes.limits import limits, priority_of
from mesh.routes.private import private_of
from mesh.routes.problems import (
    Book,
    DocumentPath,
    Part,
    Reading,
    RouteRefused,
    find_foreign,
    near,
    shown,
)
from mesh.routes.reads import Sight, check_readings
from mesh.routes.searching import search_of
from mesh.routes.triggers import trigger_of
from mesh.routes.values import NAME_LENGTH, STEP_NAME
from mesh.routes.voting import is_voted, voters

_STEP_HINT: Final = (
    f"start with a-z, then a-z, 0-9 and _, because expressions use the name; at most {NAME_LENGTH} characters"
)
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


def compile_route(document: Any) -> Route:
    """The route that a document describes (JSON types: a YAML file's, or a stored definition's).

    Raises `RouteRefused`, with every problem that was found.
    """
    book = Book()
    if not isinstance(document, dict):
        book.add((), f"a route must be a mapping, not {kind_of(document)}", "begin with route: NAME")
        raise RouteRefused(book.problems)
    # first, and alone: all that follows takes the document for JSON
    find_foreign(document, (), book)
    if book.problems:
        raise RouteRefused(book.problems)
    return _RouteCompiler(document, book).compile()


def readings_of(route: Route) -> list[Reading]:
    """What a route's expressions read, and where. Every key of the language is included."""
    book = Book()
    _RouteCompiler(route.definition, book).compile()
    return book.readings


class _RouteCompiler:
    def __init__(self, document: dict[str, Any], book: Book) -> None:
        self.document = document
        self.book = book
        self.root = Part(document, (), book, ROUTE.keys)
        self.steps: dict[str, Part] = {}
        self.needs: dict[str, tuple[str, ...]] = {}
        self.joins: dict[str, Join] = {}
        self.loops: dict[str, Repeat] = {}  # by the step that closes it, whole
        self.bounds = tasks.Bounds()
        self.requester: CompiledTemplate | None = None

    def compile(self) -> Route:
        root = self.root
        root.check_keys()
        name = self.name()
        trigger = trigger_of(root)
        key = root.text_template("key", "such as ${{ event.subject }}")
        repeat = root.choice("on_repeat")
        retention_s = root.duration("closed_retention")
        keep_events_s = root.duration("keep_events")
        self.bounds = tasks.Bounds(budget=budget(root), limits=limits(root), is_called="on" not in root.value)
        priority = priority_of(root)
        search = search_of(root)
        self.requester = root.text_template("requester", "such as ${{ event.data.clerk }}")
        # the steps come last: they reserve, limit and exclude by what the top says
        self.steps = self.parts()
        self.needs = {step: self.needs_of(part) for step, part in self.steps.items()}
        order = self.order()
        steps = {step: self.step(step, part, order) for step, part in self.steps.items()}
        private = private_of(root, self.steps)
        output = root.template("output")
        awaited = tuple(s.work.event for s in steps.values() if isinstance(s.work, WaitWork) and s.work.event)
        self.check_loops()
        self.check_aliases(steps)
        self.check_voters(steps, order)
        self.check_reads(order)
        if self.book.problems:
            raise RouteRefused(self.book.problems)
        reads_status = any(reading.read.segments[0] == "status" for reading in self.book.readings)
        looped = frozenset(name for loop in self.loops.values() for name in loop.body)
        return Route(
            name=name,
            # of the document, not of what was made of it: a newer version must find the same digest
            digest=digest(self.document),
            on=trigger,
            key=key,
            on_repeat=cast("OnRepeat", repeat),
            closed_retention_s=retention_s,
            # in the graph's order: routers decide in it, and the file's spelling must not matter
            steps={step: steps[step] for step in order},
            dependents=dependents_of(self.needs, order),
            output=output,
            budget=self.bounds.budget,
            priority=priority,
            private=private,
            search=dict(search),
            keep_events_s=keep_events_s,
            # where a step may act before others are done, what is not there is null, and not an
            # error
            is_sparse=bool(looped) or reads_status or any(_is_sparse(step) for step in steps.values()),
            reads_status=reads_status,
            awaited=awaited,
            looped=looped,
            definition=self.document,
        )

    def name(self) -> str:
        if "route" in self.root.value:
            return self.root.name("route")
        self.root.missing("route")
        return ""

    # --- steps ------------------------------------------------------------------------------------

    def parts(self) -> dict[str, Part]:
        if "steps" not in self.root.value:
            self.root.missing("steps")
            return {}
        steps = self.root.part("steps", self.root.keys["steps"].example)
        if steps is None:
            return {}
        if not steps.value:
            self.root.problem("steps", "a route needs at least one step")
        found: dict[str, Part] = {}
        for name in steps.value:
            if not STEP_NAME.fullmatch(name) or len(name) > NAME_LENGTH:
                self.book.add((*steps.path, name), f"a step can't be named {shown(name)}", _STEP_HINT, on_key=True)
            part = steps.part(name, _WORK_HINT, STEP.keys)
            if part is not None:
                found[name] = part
        return found

    def needs_of(self, part: Part) -> tuple[str, ...]:
        """The valid needs. Problems are noted for the others."""
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
                self.book.add(path, "a step can't need itself", "remove it from needs")
            elif name in good:
                self.book.add(path, f"needs names {name} twice", "write it once")
            elif name in self.steps:
                good.append(name)
            # one that is there, and is not a mapping, has a problem of its own already
            elif name not in self.root.value["steps"]:
                others = [step for step in self.root.value["steps"] if step != itself]
                self.book.add(path, f"there is no step {name} to need", near(name, others))
        return tuple(good)

    def step(self, name: str, part: Part, order: tuple[str, ...]) -> Step:
        part.check_keys()
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
            undo=tasks.undo(part),
            alias=self.alias(part),
        )

    def check_foreign_keys(self, part: Part, kind: str) -> None:
        for key, known in STEP.keys.items():
            if key in part.value and known.of and kind not in known.of:
                part.problem(key, f"{key} belongs to an agent's step, not to {_KIND_NAMES[kind]}", "remove it")

    def work(self, part: Part, kind: str) -> Work | None:
        match kind:
            case "agent" | "capability":
                return replace(tasks.task(part, self.bounds), approve=tool_terms(part, self.steps, self.requester))
            case "approval":
                return approval(part, self.steps, self.requester)
            case "workflow":
                return tasks.call(part, self.bounds)
            case "wait":
                return kinds.wait(part, keyed="key" in self.root.value)
            case "value":
                return kinds.value(part)
            case "emit":
                return kinds.emit(part)
            case _:
                return kinds.end(part)

    def alias(self, part: Part) -> CompiledTemplate | None:
        if "alias" in part.value and "end" in part.value:
            part.problem("alias", "no event can find a workflow after its end", "give the alias to an earlier step")
        hint = f"such as ${{{{ steps.{part.path[-1]}.payment_id }}}}"
        return part.text_template("alias", hint)

    def check_aliases(self, steps: dict[str, Step]) -> None:
        """Each wait that names an alias must name a step that gives one."""
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

    def check_voters(self, steps: dict[str, Step], order: tuple[str, ...]) -> None:
        """An approval that excludes another's voters must come after it."""
        upstream = upstream_of(self.needs, order) if order else {}
        for name, step in steps.items():
            work = approval_of(step)
            terms = None if work is None else work.voting
            for other in terms.voters_of if terms is not None and name in upstream else ():
                if other not in upstream[name]:
                    key = "approval" if isinstance(step.work, ApprovalWork) else "approve"
                    path: DocumentPath = ("steps", name, key, "not")
                    message = f"the step {name} excludes the voters of {other} but does not need it"
                    self.book.add(path, message, f"add {other} to its needs")

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
        """A loop has one way out, the step that closes it, and loops do not nest."""
        seen: dict[str, str] = {}
        for closing, loop in self.loops.items():
            path: DocumentPath = ("steps", closing, "repeat")
            for name in loop.body:
                if name in seen:
                    self.book.add(path, f"{name} is in the loops of {seen[name]} and of {closing}", "separate them")
                seen[name] = closing
            for outside, needs in self.needs.items():
                inner = [need for need in needs if need in loop.body and need != closing]
                if inner and outside not in loop.body:
                    self.book.add(
                        ("steps", outside, "needs"),
                        f"{inner[0]} is inside the loop that {closing} closes",
                        f"need {closing}: what is inside may run again",
                    )

    # --- the whole --------------------------------------------------------------------------------

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
            voted=frozenset(name for name, part in self.steps.items() if is_voted(part.value.get("approval"))),
            several=frozenset(name for name, part in self.steps.items() if voters(part.value.get("approval")) != 1),
            declared=frozenset(declared) if isinstance(declared, dict) else frozenset(),
            upstream=upstream_of(self.needs, order) if order else None,
        )
        check_readings(self.book, sight)


_NO_WORK: Final = AgentWork(agent="", input=EMPTY)


def _is_sparse(step: Step) -> bool:
    """Whether this step, or a step that needs it, may find steps that are not done."""
    return step.enough is not None or (
        isinstance(step.work, AgentWork | CallWork) and step.work.on_exhausted == "continue"
    )
