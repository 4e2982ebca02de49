"""A route as the core uses it: validated, compiled, immutable.

Owns the shape of a routing rule. It must not read files: `mesh.codec.route_file` reads YAML and
reports problems by line, and `mesh.routes.compiler` turns a plain document into a `Route`. `decide`
reads it.
"""

from typing import Any, Final, Literal, Protocol

import msgspec

from mesh.core.approvals import Claiming, Extending, Reasons
from mesh.core.calendars import WorkingTime
from mesh.core.limits import Limit
from mesh.core.reminding import Reminding
from mesh.core.schedules import Schedule
from mesh.core.signing import Level

Scope = dict[str, Any]
"""What an expression sees.

`event`: the CloudEvent as JSON (id, source, type, subject, data, ...). `steps`: name to output of
every step that has one. `status`: name to how it came out. `workflow`: id, run_id, route, key. In a
for-each's templates also `item` and `index`; in a loop `round`.
"""

OnExhausted = Literal["incident", "fail", "continue"]
OnExpiry = Literal["reject", "approve", "incident"]
OnNobody = Literal["incident", "wait"]
OnLimit = Literal["incident", "fail", "continue"]
OnRepeat = Literal["ignore", "new_run_after_end"]
OnTimeout = Literal["incident", "fail", "skip"]

# A neighbour may have caused the first death. Before the third, the task began alone.
MOST_DEATHS: Final = 3
"""How many processes may die over a task before it finally fails."""


class ExpressionError(Exception):
    """An expression could not be evaluated: a path is missing, or types don't fit.

    The message names the path and the expression.
    """


class Expression(Protocol):
    """A compiled CEL expression."""

    source: str  # as written
    # what it reads, e.g. "steps.classify.severity"; for checks and for `rejection is taken`
    paths: frozenset[str]

    def evaluate(self, scope: Scope) -> Any:
        """The value, as JSON types. Raises `ExpressionError`."""
        ...

    def is_true(self, scope: Scope) -> bool:
        """The value, which must be a bool. Raises `ExpressionError`."""
        ...


class Template(Protocol):
    """A JSON value whose strings may hold `${{ expression }}`.

    A string that is nothing but one expression gives the expression's value, of any type.
    """

    source: Any
    paths: frozenset[str]

    def render(self, scope: Scope) -> Any:
        """The value, as JSON types. Raises `ExpressionError`."""
        ...


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often, and when, a failed attempt is made again.

    Attempt n+1 waits `min(max_backoff_s, backoff_s * factor ** (n - 1))`, less up to `jitter` of
    that, by the hash of the attempt's id.
    """

    attempts: int = 3  # all of them, the first too; >= 1
    backoff_s: float = 1.0
    factor: float = 2.0
    max_backoff_s: float = 60.0
    jitter: float = 0.2  # [0, 1)
    non_retryable: frozenset[str] = frozenset()  # error kinds that end the attempts at once


class HandOver(msgspec.Struct, frozen=True, kw_only=True):
    """The agents to which a step's agent may pass its task on."""

    to: frozenset[str]
    hops: int = 3  # of one task, at the most


class Periods(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How long an attempt may go without a sign of life from its agent (docs/adr/0009).

    It travels with the task, because an agent only sends signs that somebody waits for.
    """

    start_timeout_s: float | None = None  # from dispatch until an agent has begun it
    run_timeout_s: float | None = None  # from then to its result
    heartbeat_s: float | None = None  # the longest silence in between

    def of(self, kind: str) -> float | None:
        """The period of this kind of time-out (`mesh.core.inputs.TimerKind`), in seconds."""
        match kind:
            case "start_timeout":
                return self.start_timeout_s
            case "run_timeout":
                return self.run_timeout_s
            case "heartbeat_timeout":
                return self.heartbeat_s
            case _:
                return None


class StepLimit(msgspec.Struct, frozen=True, kw_only=True):
    """The limit that a step's tasks are under.

    `key`: each value of this template on `event` has a limiter of its own.
    """

    name: str
    limit: Limit
    key: Template | None = None


class AgentWork(msgspec.Struct, frozen=True, kw_only=True):
    """A task for `agent`, or for an agent chosen for `capability` (then `agent` is empty)."""

    agent: str
    capability: str = ""
    input: Template
    timeout_s: float = 300.0  # from dispatch to result
    periods: Periods | None = None
    retry: Retry = Retry()
    on_exhausted: OnExhausted = "incident"
    handover: HandOver | None = None
    reserve: dict[str, float] = {}  # of the workflow's budget, for each attempt: tokens, usd
    limit: StepLimit | None = None
    approve: "ToolTerms | None" = None  # None: its agent can't ask for an approval


class SeatsAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Seats for people with a role, or for some people. One of the two templates is set.

    `need`: `majority` and `all` are of those who could answer when it is asked.
    """

    need: int | Literal["majority", "all"] = 1
    role: Template | None = None
    people: Template | None = None


class EditsAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Who may edit, and how often in all. Neither role nor people: those who may vote."""

    limit: int
    role: Template | None = None
    people: Template | None = None


class StageAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Who may answer too, `after_s` after the stage before: people with a role, or people.

    `working`: a span of working time after it, in the place of `after_s`. `quorum`: so many of them
    suffice; 0: they fill the seats. `replace`: nobody else may then.
    """

    after_s: float
    working: WorkingTime | None = None
    role: Template | None = None
    people: Template | None = None
    quorum: int = 0
    replace: bool = False


class AddresseeAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Who can be asked: the requester, or what one of the others says."""

    agent: str = ""
    role: Template | None = None
    people: Template | None = None
    is_requester: bool = False


class BackAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Whom those who may answer can ask, how often in all, and how far that moves the deadline."""

    to: tuple[AddresseeAsked, ...]
    limit: int
    extends_ms: int = 0


class VotingTerms(msgspec.Struct, frozen=True, kw_only=True):
    """The terms of an approval of version 2, not rendered yet (`mesh.core.approvals.Terms`).

    `requester` is set where `not_requester` is, or the requester can be asked. `voters_of`:
    approvals whose voters and editors can't vote here. `reject`: a number, or `majority` of those
    who could answer when it is asked.
    """

    groups: tuple[SeatsAsked, ...]
    requester: Template | None = None
    not_requester: bool = False
    not_editors: bool = False
    voters_of: tuple[str, ...] = ()
    not_people: tuple[Template, ...] = ()
    reject: int | Literal["majority"] = 1
    choices: tuple[str, ...] = ("approve", "reject")
    rejects: tuple[str, ...] = ("reject",)
    form: dict[str, Any] | None = None
    reason: Reasons = "optional"
    edit: EditsAsked
    expiry_choice: str = "reject"
    on_nobody: OnNobody = "incident"
    stages: tuple[StageAsked, ...] = ()
    extending: Extending | None = None
    claiming: Claiming = Claiming()
    signed: Level = "none"
    reminding: Reminding | None = None
    ask_back: BackAsked | None = None


class ApprovalWork(msgspec.Struct, frozen=True, kw_only=True):
    """A question to people.

    `voting` None: the first answer of somebody with `role` is the verdict.
    """

    ask: Template  # renders to a string
    payload: Template
    role: str
    deadline_s: float | None  # None: never, or one of the two below
    deadline_at: Template | None = None  # renders to a time
    deadline_working: WorkingTime | None = None
    on_expiry: OnExpiry = "reject"
    # JSON Schema for edits; else the schema of `payload_from`'s agent
    payload_schema: dict[str, Any] | None = None
    # the agent whose output the payload is, where it is exactly one step's
    payload_from: str | None = None
    payload_step: str | None = None  # that step, where its agent is chosen for a capability
    voting: VotingTerms | None = None

    @property
    def has_deadline(self) -> bool:
        return not (self.deadline_s is None and self.deadline_at is None and self.deadline_working is None)

    @property
    def calendars(self) -> frozenset[str]:
        """The calendars that it needs when it is asked."""
        stages = self.voting.stages if self.voting is not None else ()
        times = (self.deadline_working, *(stage.working for stage in stages))
        return frozenset(time.calendar for time in times if time is not None)


class ToolTerms(msgspec.Struct, frozen=True, kw_only=True):
    """Who decides on the calls that a step's agent wants to make.

    `asks` has the terms; question and payload are the agent's. `limit`: how many of one task.
    """

    asks: ApprovalWork
    limit: int


class AwaitedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The event that a step waits for.

    `key` makes the workflow's key from it (None: the route's own `key` does), or the value of an
    `alias`. `condition` may read more than the event.
    """

    type: str
    key: Template | None = None
    condition: Expression | None = None
    alias: str = ""  # the step that gives it; empty: the event finds the workflow by its key


class CallWork(msgspec.Struct, frozen=True, kw_only=True):
    """A whole workflow of another route."""

    route: str
    input: Template  # the `event.data` of the called workflow
    timeout_s: float | None = None  # None: it takes as long as it takes
    on_exhausted: OnExhausted = "incident"
    # of the workflow's budget, for each call: the called workflow's budget
    reserve: dict[str, float] = {}


class WaitWork(msgspec.Struct, frozen=True, kw_only=True):
    """A wait. One of `seconds`, `until` and `event` is set.

    `seconds` from now; `until`, a template that gives an RFC 3339 time; `event`, for at most
    `timeout_s` (None: for any time).
    """

    seconds: float | None = None
    until: Template | None = None
    event: AwaitedEvent | None = None
    timeout_s: float | None = None
    on_timeout: OnTimeout = "incident"


class ValueWork(msgspec.Struct, frozen=True, kw_only=True):
    """The step's output is computed. Nobody is asked."""

    value: Template


class EmitWork(msgspec.Struct, frozen=True, kw_only=True):
    """A CloudEvent for the events topic.

    `event` renders to its attributes `type`, `data`, and perhaps `subject`.
    """

    event: Template


class EndWork(msgspec.Struct, frozen=True, kw_only=True):
    """The workflow ends here, whatever is still under way.

    `output` None: the outputs of the steps that no other step needs.
    """

    status: Literal["completed", "failed", "rejected"]
    reason: Template
    output: Template | None = None


Work = AgentWork | ApprovalWork | CallWork | WaitWork | ValueWork | EmitWork | EndWork


class ForEach(msgspec.Struct, frozen=True, kw_only=True):
    """The step's work is done for each item of a list.

    `concurrency`: how many at once. If no more than `tolerated(total)` items failed, the step has
    succeeded.
    """

    items: Template
    concurrency: int = 100
    tolerate: int = 0
    tolerate_share: float = 0.0  # [0, 1]

    def tolerated(self, total: int) -> int:
        return max(self.tolerate, int(round(self.tolerate_share * total, 6)))  # 29 % of 100 are 29


class Repeat(msgspec.Struct, frozen=True, kw_only=True):
    """A loop: while `until` is false after this step, everything from `start` on is done again.

    `limit`: the most rounds in all. `body`: the steps of the loop in the route's order; the last is
    this one.
    """

    start: str
    until: Expression
    limit: int
    on_limit: OnLimit = "incident"
    body: tuple[str, ...] = ()


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a route.

    `enough`: how many of `needs` must have succeeded (None: all must be done). `first_of`: the
    others are then cancelled.
    """

    name: str
    needs: tuple[str, ...]
    condition: Expression | None
    work: Work
    enough: int | None = None
    first_of: bool = False
    for_each: ForEach | None = None
    repeat: Repeat | None = None
    undo: AgentWork | None = None
    # under which later events find the workflow, once the step has succeeded
    alias: Template | None = None


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """What starts the route.

    Events, by CloudEvents type and then by guard (`on: {type: ..., if: ...}`), or, without a type,
    times (`on: {schedule: ...}`).
    """

    type: str = ""
    condition: Expression | None = None
    schedule: Schedule | None = None


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a run may spend.

    `limits`: tokens, usd, and hops (tasks sent; each attempt is one). When it is exhausted, the
    workflow fails, or somebody with `role` is asked for more.
    """

    limits: dict[str, float]
    time_s: float | None = None
    on_exhausted: Literal["fail", "ask"] = "fail"
    role: str = ""
    deadline_s: float | None = None  # of the question; then the answer is no


class Route(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    digest: str  # "sha256:" + 64 hexadecimal digits of the definition's canonical JSON
    on: Trigger | None  # None: no event starts it, steps of other routes call it
    key: Template | None  # None: the CloudEvent's source and id
    on_repeat: OnRepeat = "ignore"
    closed_retention_s: float = 30 * 86_400.0
    steps: dict[str, Step]  # in an order in which each comes after those it needs
    dependents: dict[str, tuple[str, ...]]  # step -> the steps that need it, in that order
    # the outcome's data; None: the outputs of the steps that nobody needs
    output: Template | None = None
    budget: Budget | None = None
    # on `event`: a number, higher goes first where tasks are queued
    priority: Template | None = None
    private: bool = False  # what its workflows hold is sealed in the log, and can be erased
    # on `event`: by which people find its workflows
    search: dict[str, Template] = {}
    # how long an event that a step will wait for is kept before the workflow starts
    keep_events_s: float = 86_400.0
    # a step may act before all that it may read is done: what is not there is null
    is_sparse: bool = False
    reads_status: bool = False  # some expression reads `status`
    awaited: tuple[AwaitedEvent, ...] = ()  # what its steps wait for
    looped: frozenset[str] = frozenset()  # the steps of its loops' bodies
    definition: dict[str, Any]  # the document it was compiled from


def roles_of(work: ApprovalWork) -> tuple[str, ...]:
    """The roles that may answer, as far as they are known before anything is asked."""
    if work.voting is None:
        return (work.role,)
    groups = [group.role for group in work.voting.groups]
    named = [role for role in (*groups, *(stage.role for stage in work.voting.stages)) if role is not None]
    return tuple(role.source for role in named if not role.paths)


def asks(work: ApprovalWork) -> str:
    """Who is asked, in words: `maintainer`, or `2 of finance, 1 of ${{ ... }}`."""
    if work.voting is None:
        return work.role
    groups = [(group.need, group.role or group.people) for group in work.voting.groups]
    return ", ".join(f"{need} of {_names_of(who)}" for need, who in groups)


def _names_of(who: Template | None) -> str:
    source = "" if who is None else who.source
    return source if isinstance(source, str) else ", ".join(map(str, source))


def approval_of(step: Step) -> ApprovalWork | None:
    """The approval that a step is, or the terms of those that its agent may ask for."""
    if isinstance(step.work, AgentWork):
        return None if step.work.approve is None else step.work.approve.asks
    return step.work if isinstance(step.work, ApprovalWork) else None


def approvals_of(route: Route) -> list[tuple[str, ApprovalWork]]:
    """All approvals that a route may ask for, with their steps; also those of calls."""
    found = [(name, approval_of(step)) for name, step in route.steps.items()]
    return [(name, work) for name, work in found if work is not None]


def agents_of(route: Route) -> frozenset[str]:
    """All agents that this route names and that may therefore get a task from it."""
    named = {work.agent for work in _agent_works(route) if work.agent}
    handed = (work.handover.to for work in _agent_works(route) if work.handover)
    return frozenset(named.union(*handed, agents_asked(route)))


def agents_asked(route: Route) -> frozenset[str]:
    """All agents that people can ask before they answer an approval."""
    terms = [work.voting for _, work in approvals_of(route) if work.voting is not None]
    return frozenset(to.agent for one in terms if one.ask_back is not None for to in one.ask_back.to if to.agent)


def capabilities_of(route: Route) -> frozenset[str]:
    """All capabilities that this route asks for."""
    return frozenset(work.capability for work in _agent_works(route) if work.capability)


def _agent_works(route: Route) -> list[AgentWork]:
    return [work for step in route.steps.values() for work in (step.work, step.undo) if isinstance(work, AgentWork)]
