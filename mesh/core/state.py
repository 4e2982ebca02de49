"""A workflow's state and a partition's: values that `evolve` alone makes, from decisions.

Two folds of the same log must agree to the byte on the canonical JSON of a `Workflow`
(`mesh.codec.state.canonical_workflow`).
"""

from collections.abc import Mapping, MutableMapping
from typing import Any, Literal

import msgspec

from mesh import defaults
from mesh.core.approvals import Asking
from mesh.core.calendars import Calendar
from mesh.core.calls import Caller
from mesh.core.clock import ClockHold, Sighting
from mesh.core.delegations import KnownDelegation
from mesh.core.limits import Limiter, Slot
from mesh.core.people import People
from mesh.core.route import OnExpiry, Periods
from mesh.core.schedules import Schedule
from mesh.core.signing import Level
from mesh.core.tool_approvals import ToolState

StepStatus = Literal[
    "running",  # a task is out
    "retrying",  # waits for its next attempt
    "asking",  # waits for a human
    "calling",  # waits for a workflow that it called
    "waiting",  # waits for an event or a time
    "iterating",  # a for-each whose items are under way
    "claiming",  # has succeeded, and waits until its alias is its own
    "again",  # of a loop's body, to begin again in the round to come
    "held",  # its task waits for more budget, or until its workflow, route or agent resumes
    "queued",  # its task waits for the slot of a limit
    "suspended",  # its task waits for an approval that its agent wants
    "incident",  # waits for an operator
    "succeeded",
    "skipped",
    "rejected",
    "blocked",
    "cancelled",
    "failed",
]
WorkflowStatus = Literal[
    "expected",  # no run yet: only events that came before the start
    "standing",  # a built-in one at work: a schedule, an alias that is taken, a limiter, pauses
    "running",
    "completed",
    "failed",
    "rejected",
    "cancelled",
]

FINISHED: frozenset[StepStatus] = frozenset({"succeeded", "skipped", "rejected", "blocked", "cancelled", "failed"})


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    message: str
    raised_at_ms: int


class Fan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a for-each is.

    Of `total` items, how many have begun (always from the first on), are settled, and have failed.
    """

    total: int
    begun: int = 0
    settled: int = 0
    failed: int = 0


class KeptEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event that came before a step waited for it, and its place on the topic."""

    cloud_event: dict[str, Any]
    topic: str
    partition: int
    offset: int
    at_ms: int
    alias: str = ""  # the step whose alias it came by


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule's definition, and when it starts the route next.

    `schedule` None: it no longer starts the route. `since_ms`: the broker's time from which this
    definition is active. With the digest it says which of two definitions is newer.
    """

    schedule: Schedule | None
    since_ms: int
    next_at_ms: int | None = None
    fired_at_ms: int | None = None  # the last time that started a workflow


class Unheard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call that nobody waits for any more and that has not ended yet.

    The workflow's id, and what stays reserved until its end is known.
    """

    called: str
    reserved: dict[str, float] = {}


class Account(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A run's budget: what it may spend, has spent, and has reserved for tasks that are out.

    Each by name: tokens, usd, hops.
    """

    limits: dict[str, float]
    spent: dict[str, float] = {}
    reserved: dict[str, float] = {}
    is_time_over: bool = False
    counted: tuple[str, ...] = ()  # names that it keeps count of without a limit, for the caller
    unheard: dict[str, Unheard] = {}  # calls that nobody waits for, by attempt id, until they end


class Ending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a workflow will end once what it did is undone.

    `undo`: the steps that are still to be undone, the next first.
    """

    status: Literal["failed", "rejected", "cancelled"]
    reason: str
    undo: tuple[str, ...] = ()


class Pause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An operator holds the workflow: who, why and since when."""

    by: str
    at_ms: int
    reason: str = ""


class Pauses(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which agents and routes are paused in a partition, by target (`mesh.core.pauses`).

    `releasing`: those that have resumed while not all that they held goes on yet.
    """

    paused: dict[str, Pause] = {}
    releasing: tuple[str, ...] = ()


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of a run that was forked: the other run, the step from which it goes on, what it has kept."""

    workflow_id: str
    run_id: str
    step: str
    kept: tuple[str, ...] = ()


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """Who has erased a workflow's payloads, when, and why."""

    by: str
    reason: str
    at_ms: int


class StepState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step that has begun or is settled. A step that waits for its needs has no state yet.

    Items and compensations have states of their own (`mesh.core.ids`).
    """

    status: StepStatus
    task_id: str = ""  # or the approval's id
    attempt: int = 0
    retry_budget_from: int = 1
    since_ms: int = 0  # when it took this status
    due_at_ms: int | None = None  # time-out, next attempt, or deadline, by status
    # the task's input, or the approval's payload as asked; of version 2, as it is after its edits
    input: Any = None
    output: Any = None  # what expressions see as `steps.<name>`
    digest: str = ""  # approval: of that payload
    role: str = ""  # approval
    on_expiry: OnExpiry | None = None  # approval
    expired: bool = False  # approval: closed by its deadline, so that an answer to it is late
    payload_schema: dict[str, Any] | None = None  # approval
    incident: Incident | None = None
    agent: str = ""
    # of the attempt under way; None: nobody listens for its signs of life
    periods: Periods | None = None
    called: str = ""  # the workflow that it called
    error: str = ""  # the last attempt's failure, `kind: message`
    round: int = 1  # of its loop
    hop: int = 1  # the first agent is 1; each hand-over adds one
    fan: Fan | None = None  # for-each; `input` is the list
    reserved: dict[str, float] | None = None  # of the budget, for the attempt that is out
    charged: dict[int, dict[str, float]] | None = (
        None  # what has counted for each attempt before; a late word corrects it
    )
    awaits: str = ""  # waiting: the type of the event; empty where only a time is awaited
    stale: bool = False  # its route makes the input differently now
    # an earlier attempt or round of it was done, or may have been, whatever the status says now
    acted: bool = False
    alias: str = ""  # the id of the alias that it has, or has asked for
    claim: int = 0  # how often it has asked for its alias
    # processes of the agent that have died with the task in their hands; "" if the name is unknown
    deaths: tuple[str, ...] = ()
    asking: Asking | None = None  # approval of version 2
    tools: ToolState | None = None  # approvals that its agent has asked for


class Workflow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run of a workflow, running or ended lately.

    After the end, payloads are dropped (the log has them) and `forget_at_ms` is set.
    """

    workflow_id: str
    run_id: str
    route: str
    digest: str
    key: str
    status: WorkflowStatus
    started_at_ms: int
    updated_at_ms: int
    ended_at_ms: int | None = None
    forget_at_ms: int | None = None
    reason: str = ""  # of the end
    cloud_event: dict[str, Any]  # without `data` after the end
    trace_id: str
    parent_span_id: str | None = None
    # large ones are in layers (`mesh.core.layered`)
    steps: Mapping[str, StepState]
    closed_retention_s: float = 30 * 86_400.0
    caller: Caller | None = None  # the step that called it
    # of this id, newest last: their start events, sent again, start nothing
    earlier_runs: tuple[str, ...] = ()
    account: Account | None = None  # where the route has a budget
    expires_at_ms: int | None = None  # when the budget's time is over
    kept: tuple[KeptEvent, ...] = ()  # for steps that will wait for them
    # marks of the events that steps took, newest last: sent again, they count for nothing
    heard: tuple[str, ...] = ()
    ending: Ending | None = None  # being undone before it ends
    aliases: tuple[str, ...] = ()  # ids of those that it has asked for
    holder: Caller | None = None  # of an alias: the step whose workflow has it
    plan: Plan | None = None  # of a schedule
    slots: dict[
        str, tuple[Slot, ...]
    ] = {}  # asked of limiters and not given back, by place; the last is the one asked last
    limiter: Limiter | None = None  # of a built-in workflow that is one
    operations: tuple[str, ...] = ()  # of operators, whose command it has decided on
    origin: Origin | None = None  # of a run that was forked from another
    pause: Pause | None = None  # nothing new of it is sent or begun
    pauses: Pauses | None = None  # of a built-in workflow that holds them
    private: bool = False  # what is decided on it is sealed
    erased: Erasure | None = None


class PartitionState(msgspec.Struct, kw_only=True):
    """Everything that the fold of one log partition gives.

    Mutable: its owner, and the fold, are its only writers.

    `watermarks`: for each source partition (`<topic>/<partition>`), the (offset, index) of the last
    inbox record decided. `at_ms`: of the last decision; `hold`: how the broker's clock differs from
    that time; `seen`: an owner's machine when its clock was last accounted for. `claimed`: the
    machine of an owner that has logged no decision yet, and so has not said whether its clock has
    jumped. `sequence`: how many records the decisions have sent to other workflows.
    """

    workflows: MutableMapping[str, Workflow] = {}
    positions: dict[str, int] = {}
    watermarks: dict[str, tuple[int, int]] = {}
    mark: int = 0
    sequence: int = 0
    at_ms: int = 0
    hold: ClockHold | None = None
    seen: Sighting | None = None
    claimed: Sighting | None = None


class AgentCard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an agent says about itself on `mesh.agents`.

    The contract is `topics/schemas/agent-card.json`.
    """

    name: str
    version: str
    topic: str
    description: str = ""
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    concurrency: int = 1
    instance: str = ""
    renewed_at: str = ""  # RFC 3339, UTC
    expires_after_s: float = 30.0  # what a card without it means, whatever the default is
    stopped: bool = False
    capabilities: tuple[str, ...] = ()
    # not one process's card: the agent's own, which outlasts its processes
    registration: bool = False
    # tasks that all routers together may have sent it and not heard of
    max_outstanding: int | None = None
    # its process lets no output out that does not fit `output_schema`
    checks_output: bool = False
    # of a process that has gone on with tasks of partitions which it gave back: its life, as its
    # commits name it, and what is still in its hands, each as <partition>/<offset>
    life: str = ""
    keeps: tuple[str, ...] = ()
    number: int = 0  # of the card in that life: one that lands late says nothing new


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """What `decide` may look up beside the state. It records whatever it uses in an event."""

    roles: dict[str, frozenset[str]] = {}  # person -> roles
    roles_from: str = ""  # the file that says so, for messages
    people: People | None = None  # with their further names, where these are known; `roles` says the same
    # in effect at the time of the input, by name; None: nobody has looked, and `decide` says that
    # it needs one (`CalendarUnread`)
    calendars: Mapping[str, Calendar] | None = {}
    knows_all_roles: bool = True  # else nobody can say that too few people could answer
    agents: dict[str, AgentCard] = {}
    routes: dict[str, str] = {}  # name -> digest of the active version
    alive: frozenset[str] = frozenset()  # agents of which some process renews its card
    registered: dict[str, tuple[str, ...]] = {}  # capability -> agents
    # agent -> the output schemas of its cards, if it does not check its outputs itself
    promised: dict[str, tuple[dict[str, Any], ...]] = {}
    # attempt id -> agent: to decide again what the log has decided
    chosen: dict[str, str] = {}
    topic_prefix: str = defaults.TOPIC_PREFIX
    answers: Level = "none"  # what every answer must bring; a route may ask for more
    # of an answer for somebody else: those in force at its time; of a word about them: all
    delegations: tuple[KnownDelegation, ...] = ()
