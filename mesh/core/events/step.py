"""Steps that end without a task, what they emit, and incidents."""

from typing import Any, Literal

from mesh.core.events.event import LogEvent


class StepSkipped(LogEvent, tag="StepSkipped.1", frozen=True, kw_only=True):
    """The step's `if` was false. Steps that need it go on.

    `output` is what later expressions see (an approval's payload passes through).
    """

    step: str
    reason: str
    output: Any = None


class StepBlocked(LogEvent, tag="StepBlocked.1", frozen=True, kw_only=True):
    """A step that it needs was rejected or blocked, so it can never run in this run."""

    step: str
    reason: str


class StepCancelled(LogEvent, tag="StepCancelled.1", frozen=True, kw_only=True):
    """The step is no longer wanted. What its agents still send is ignored.

    `unsent`: places of this step whose task this same decision made. Those tasks are not sent.
    """

    step: str
    reason: str
    unsent: tuple[str, ...] = ()  # told where there is a budget


class StepGivenUp(LogEvent, tag="StepGivenUp.1", frozen=True, kw_only=True):
    """The step, or an item, has finally failed, and the workflow goes on without it."""

    step: str
    reason: str


class StepComputed(LogEvent, tag="StepComputed.1", frozen=True, kw_only=True):
    """The step is settled at once: it is a value, or an end that was reached."""

    step: str
    output: Any
    reason: str


class StepCompleted(LogEvent, tag="StepCompleted.1", frozen=True, kw_only=True):
    """An operator has given the output of a task or a call; it counts as their result would."""

    step: str
    output: Any
    by: str
    reason: str = ""


class EventEmitted(LogEvent, tag="EventEmitted.1", frozen=True, kw_only=True):
    """A CloudEvent goes out to the events topic, and that settles the step."""

    step: str
    cloud_event: dict[str, Any]
    traceparent: str
    reason: str


class IncidentRaised(LogEvent, tag="IncidentRaised.1", frozen=True, kw_only=True):
    """A step needs an operator.

    `kind`: exhausted, non_retryable, undeliverable, no_agent, expression, expired, too_large,
    parked, limit, timeout, nobody, calendar.

    Where it ends an open approval: its id, and of version 2 its edition and number of notes.
    """

    step: str
    kind: str
    message: str
    approval_id: str = ""
    edition: int = 0
    notes: int = 0


class IncidentResolved(LogEvent, tag="IncidentResolved.1", frozen=True, kw_only=True):
    step: str
    # migrate; retry; result: an attempt that had been given up succeeded late; ask_again: an
    # approval before it is asked again
    action: str
    by: str
    # of what is begun again: "given" by the operator, or "made" again; empty: the one it had
    input: Literal["", "given", "made"] = ""
