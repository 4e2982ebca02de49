"""What the state of a whole mesh consists of, as values.

Owns the values that `assess` gives and `mesh status` shows. It judges nothing.
"""

from typing import Literal

import msgspec

from mesh.core.clock import ClockHold
from mesh.core.state import Pause
from mesh.inspection.card_conflicts import SchemaConflict
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import ApprovalRow, OpenStep


class PartitionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Who owns a partition, and how far it has read. Lags are in records.

    `owner` is empty if nobody has ever owned it.
    """

    partition: int
    owner: str
    owner_since_ms: int
    decided_at_ms: int
    inbox_lag: int
    results_lag: int
    hold: ClockHold | None = None


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What ingress has yet to read of one topic.

    `overdue`: of these, records older than `PATIENCE_MS`.
    """

    topic: str
    lag: int
    overdue: int


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as an operator sees it.

    `running`: steps whose task is out. `alive`: replicas whose card has not expired. `lag`: None if
    it has no task topic. `capabilities`: those that it is registered for. `places`: tasks that its
    living replicas work on at once. `heard_at_ms`: when a card of it was renewed last; None: it has
    or had none. `has_consumed`: whether its group has ever committed. `untaken`: overdue tasks that
    no replica has begun, although one has a free place. `conflict`: living replicas whose cards
    have different schemas. `pause`: an operator holds it.
    """

    name: str
    alive: int
    versions: tuple[str, ...]
    lag: int | None
    overdue: int
    running: int
    oldest_running_ms: int | None
    capabilities: tuple[str, ...] = ()
    places: int = 0
    heard_at_ms: int | None = None
    has_consumed: bool = False
    untaken: int = 0
    conflict: SchemaConflict | None = None
    pause: Pause | None = None


class EventCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many events came, and what became of them.

    `unwanted`: read by ingress, but neither matched, dead-lettered nor on the way to a decision.
    """

    seen: int
    waiting: int
    matched: int
    unwanted: int
    dead_lettered: int


class Stuck(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is stuck or waits, and what an operator can do.

    `severity` error: nothing moves there until somebody acts. Warning: it waits, as it may.
    `may_pass`: it may be a moment's, so it is looked at again before it is said.
    """

    severity: Literal["error", "warning"]
    what: str
    next_step: str
    may_pass: bool = False


class RouterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A router that has or had a card. `heard_at_ms`: when it was last heard of.

    `people_from`: the file or the topic by which it knows who has which role; empty: it does not
    say. `people`: the version of the topic; empty: the file rules. `answers`: `signed` or
    `unsigned`, as it takes them; empty: it does not say.
    """

    instance: str
    state: Literal["alive", "stopped", "gone"]
    started_at_ms: int
    heard_at_ms: int
    partitions: tuple[int, ...]
    people_from: str = ""
    people: str = ""
    answers: str = ""


class MeshStatus(msgspec.Struct, frozen=True, kw_only=True):
    broker: str
    at_ms: int
    routers: tuple[RouterStatus, ...]
    partitions: tuple[PartitionStatus, ...]
    backlogs: tuple[Backlog, ...]
    agents: tuple[AgentStatus, ...]
    workflows: dict[str, int]
    steps: dict[str, int]
    events: EventCounts
    dead_letters: int
    approvals: int
    oldest_approval: ApprovalRow | None
    incidents: Page[OpenStep]
    stuck: tuple[Stuck, ...]
