"""A workflow's life: its start, its end, its version, and when it is forgotten."""

from typing import Any, Literal

from mesh.core.calls import Caller, Slice
from mesh.core.events.event import LogEvent
from mesh.core.forks import KeptResult

EndStatus = Literal["completed", "failed", "rejected", "cancelled"]


class WorkflowStarted(LogEvent, tag="WorkflowStarted.1", frozen=True, kw_only=True):
    route: str
    digest: str
    run_id: str
    key: str
    cloud_event: dict[str, Any]  # the start event in CloudEvents' JSON format, data included
    trace_id: str  # 32 hexadecimal digits
    parent_span_id: str | None = None  # the upstream's span, if it sent a traceparent
    closed_retention_s: float = 30 * 86_400.0
    budget: dict[str, float] | None = None  # limits, by name
    expires_at_ms: int | None = None  # when the budget's time is over
    caller: Caller | None = None  # the step that called it, where one did
    slice: Slice | None = None  # of the caller's budget; `budget` has it already
    # by which people find it: the route's `search` on the event; None where it has none
    search: dict[str, str | int | float | bool] | None = None
    private: bool = False  # its decisions are sealed, and can be erased


class StartRepeated(LogEvent, tag="StartRepeated.1", frozen=True, kw_only=True):
    """A start for a workflow that is running or ended lately. Nothing changes."""

    event_source: str
    event_id: str
    reason: str


class WorkflowEnded(LogEvent, tag="WorkflowEnded.1", frozen=True, kw_only=True):
    status: EndStatus
    reason: str
    run_id: str
    traceparent: str
    output: Any = None
    forget_at_ms: int = 0  # when the id's memory ends
    caller: Caller | None = None  # who hears of it
    # what the run has taken, by name: tokens, usd; where it has a budget
    usage: dict[str, float] | None = None
    # of the start event; empty where the log does not say
    event_id: str = ""
    event_source: str = ""
    tracestate: str = ""


class WorkflowMigrated(LogEvent, tag="WorkflowMigrated.1", frozen=True, kw_only=True):
    """An operator has moved the workflow to another version of its route.

    From here on that version decides.

    `begins_anew`: steps that were stuck before they began. `new_inputs`: places that are under way
    or stuck with an input that this version makes differently.
    """

    before: str  # digests
    digest: str
    by: str
    begins_anew: tuple[str, ...] = ()
    new_inputs: tuple[str, ...] = ()
    closed_retention_s: float = 30 * 86_400.0


class WorkflowPaused(LogEvent, tag="WorkflowPaused.1", frozen=True, kw_only=True):
    """An operator holds the workflow: nothing new is sent or begun until it resumes."""

    by: str
    reason: str = ""


class WorkflowResumed(LogEvent, tag="WorkflowResumed.1", frozen=True, kw_only=True):
    """The workflow goes on with all that was held."""

    by: str
    reason: str = ""


class WorkflowForked(LogEvent, tag="WorkflowForked.1", frozen=True, kw_only=True):
    """A run goes on from a step of another run.

    In the new run, right after its start: `of` and `of_run_id` are the other, and `steps` the
    results that it has from there. In the other one: `into` is the new workflow, and nothing
    changes.
    """

    step: str
    by: str
    reason: str = ""
    into: str = ""
    of: str = ""
    of_run_id: str = ""
    steps: dict[str, KeptResult] | None = None


class WorkflowForgotten(LogEvent, tag="WorkflowForgotten.1", frozen=True, kw_only=True):
    """The memory of a closed id has ended. The same key can start again."""


class PayloadsSealed(LogEvent, tag="PayloadsSealed.1", frozen=True, kw_only=True):
    """The events of a decision on a private workflow, unreadable without their key.

    It takes their place in the record, and is never decided. `key`: the id of the key. `body`: the
    nonce and the sealed events, in base64. `sends`: how many records they send to other workflows.
    """

    key: str
    body: str
    sends: int = 0


class PayloadsErased(LogEvent, tag="PayloadsErased.1", frozen=True, kw_only=True):
    """The keys of a private workflow that has ended are deleted: nobody can read its events again.

    All that is known of the workflow from here on is in this event, so a fold gives the same state
    with the keys and without them. `run_id` is empty where the workflow was forgotten before.
    """

    by: str
    reason: str
    keys: tuple[str, ...]  # their ids
    run_id: str = ""
    route: str = ""
    digest: str = ""
    key: str = ""  # the business key
    status: EndStatus = "completed"
    started_at_ms: int = 0
    ended_at_ms: int = 0
    forget_at_ms: int = 0
    trace_id: str = ""
    earlier_runs: tuple[str, ...] = ()
    event_id: str = ""  # of the start event
    event_source: str = ""
    event_type: str = ""
