"""Steps that run a workflow of another route."""

from typing import Any

from mesh.core.calls import Caller, Slice
from mesh.core.events.event import LogEvent


class CallMade(LogEvent, tag="CallMade.1", frozen=True, kw_only=True):
    """A step calls a workflow of another route.

    `digest` is the newest version known, chosen here. If the call has not ended by `due_at_ms`, it
    has failed.
    """

    step: str
    task_id: str
    attempt: int
    route: str
    digest: str
    called: str  # the workflow's id
    input: Any
    traceparent: str
    reason: str
    due_at_ms: int | None = None
    round: int = 1  # of the loop that the step is in
    slice: Slice | None = None  # of the budget: its limits are reserved for the call
    tracestate: str = ""


class CallSucceeded(LogEvent, tag="CallSucceeded.1", frozen=True, kw_only=True):
    """The called workflow completed; its outcome's data is the step's output."""

    step: str
    task_id: str
    attempt: int
    called: str
    output: Any
    usage: dict[str, float] | None = None


class CallFailed(LogEvent, tag="CallFailed.1", frozen=True, kw_only=True):
    """The called workflow ended with another status, or too late, or could not begin.

    `kind`: how it ended, or refused, timeout, undeliverable.
    """

    step: str
    task_id: str
    attempt: int
    kind: str
    message: str
    called: str = ""  # the workflow, where it may go on: it is cancelled
    usage: dict[str, float] | None = None


class CallWithdrawn(LogEvent, tag="CallWithdrawn.1", frozen=True, kw_only=True):
    """The caller no longer wants the call: the called workflow is cancelled.

    What is reserved for the call stays reserved until its end is known.
    """

    step: str
    task_id: str
    attempt: int
    called: str
    reason: str


class CallRefused(LogEvent, tag="CallRefused.1", frozen=True, kw_only=True):
    """A call that begins no workflow. The caller is sent the reason.

    `code`: repeated, or why the call was parked.
    """

    caller: Caller
    code: str
    message: str
