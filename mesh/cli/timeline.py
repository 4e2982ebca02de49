"""A workflow's timeline: when, what, why, decision by decision. Rendering alone; `mesh workflow` reads."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mesh.cli.human import ago, clock_time, duration, one_line, printable, readable, until
from mesh.core.events import (
    AnswerRefused,
    ApprovalClosed,
    ApprovalRequested,
    ApprovalWithdrawn,
    CallFailed,
    CallMade,
    CallRefused,
    CallSucceeded,
    CallWithdrawn,
    Cause,
    CommandAccepted,
    CommandRefused,
    Decision,
    EffectUndeliverable,
    Event,
    IncidentRaised,
    IncidentResolved,
    InputAttempted,
    InputDismissed,
    InputParked,
    RetryScheduled,
    StartRepeated,
    StepBlocked,
    StepSkipped,
    TaskDispatched,
    TaskFailed,
    TaskSucceeded,
    WorkflowEnded,
    WorkflowForgotten,
    WorkflowMigrated,
    WorkflowStarted,
)
from mesh.core.state import FINISHED, StepState, Workflow
from mesh.services.read_model.queries import TimelineEntry

__all__ = ["Line", "describe", "document", "header", "in_full", "standing", "status_text", "table", "waits"]

SHOWN_LINES: Final = 40  # of one payload, unless all are asked for

GOOD: Final = "green"
BAD: Final = "red"
PEOPLE: Final = "yellow"
WORK: Final = "cyan"
QUIET: Final = "dim"

END_STYLES: Final = {"completed": GOOD, "failed": BAD, "rejected": PEOPLE, "cancelled": QUIET, "running": WORK}
STEP_STYLES: Final = {"running": WORK, "calling": WORK, "retrying": PEOPLE, "asking": PEOPLE, "incident": BAD}


class Line(NamedTuple):
    """One event for people. `payloads`: named values that `--payloads` shows below it."""

    step: str
    what: str
    style: str
    why: str = ""
    payloads: tuple[tuple[str, Any], ...] = ()


def describe(event: Event, decision: Decision) -> Line:
    """Every event has its line: the last case is a newer version's that this one does not know how to tell."""
    return _describe_step(event, decision) or _describe_call(event) or _describe_workflow(event, decision)


def _describe_step(event: Event, decision: Decision) -> Line | None:
    match event:
        case TaskDispatched():
            again = f", attempt {event.attempt}" if event.attempt > 1 else ""
            return Line(
                event.step, f"dispatched to {event.agent}{again}", WORK, event.reason, (("input", event.input),)
            )
        case TaskSucceeded():
            what = f"succeeded after {duration(event.duration_ms)}"
            return Line(event.step, what, GOOD, _agent(event), (("output", event.output),))
        case TaskFailed():
            taken = f" after {duration(event.duration_ms)}" if event.duration_ms else ""
            why = f"{event.kind}: {event.message}{'' if event.retryable else ' (not to be retried)'}"
            return Line(event.step, f"attempt {event.attempt} failed{taken}", BAD, f"{why} {_agent(event)}".strip())
        case RetryScheduled():
            wait = duration(max(0, event.due_at_ms - decision.at_ms))
            return Line(event.step, f"attempt {event.attempt} in {wait}", PEOPLE)
        case StepSkipped():
            return Line(event.step, "skipped", QUIET, event.reason)
        case StepBlocked():
            return Line(event.step, "blocked", QUIET, event.reason)
        case ApprovalRequested():
            what = f"asks role {event.role}: {event.question}"
            return Line(event.step, what, PEOPLE, event.reason, (("payload", event.payload),))
        case ApprovalClosed():
            return _closed(event)
        case ApprovalWithdrawn():
            return Line(event.step, "question withdrawn", QUIET, event.reason)
        case IncidentRaised():
            return Line(event.step, f"incident: {event.kind}", BAD, event.message)
        case IncidentResolved():
            return Line(event.step, f"incident resolved: {event.action}", GOOD, f"by {event.by}")
        case _:
            return None


def _describe_workflow(event: Event, decision: Decision) -> Line:
    match event:
        case WorkflowStarted():
            kind = event.cloud_event.get("type", "")
            why = f"event {decision.cause.id} ({kind})"
            return Line("", f"started by route {event.route}", GOOD, why, (("event", event.cloud_event.get("data")),))
        case WorkflowEnded():
            return Line("", event.status, END_STYLES[event.status], event.reason, (("output", event.output),))
        case StartRepeated():
            return Line("", "start repeated: nothing changes", QUIET, event.reason)
        case AnswerRefused():
            return Line("", f"answer refused ({event.code})", PEOPLE, f"{event.message} (by {event.by})")
        case CommandAccepted() | CommandRefused() | WorkflowMigrated():
            return _ordered(event)
        case EffectUndeliverable():
            return Line("", f"could not be sent to {event.topic}", BAD, f"{event.code}: {event.message}")
        case InputDismissed():
            return Line("", f"{_named(decision.cause)} dismissed ({event.code})", QUIET, event.message)
        case InputParked():
            return Line("", f"{_named(decision.cause)} parked ({event.code})", BAD, event.message)
        case InputAttempted():
            return Line("", "input tried on its own", QUIET, f"{event.topic}, offset {event.offset}")
        case WorkflowForgotten():
            return Line("", "forgotten: the id may start afresh", QUIET)
        case _:
            return Line("", type(event).__name__, QUIET)


def _ordered(event: CommandAccepted | CommandRefused | WorkflowMigrated) -> Line:
    match event:
        case CommandAccepted():
            return Line("", f"{event.command} by {event.by}", WORK, event.reason)
        case CommandRefused():
            return Line("", f"{event.command} refused ({event.code})", PEOPLE, event.message)
        case WorkflowMigrated():
            return Line("", f"goes over to rules {event.digest[7:19]}", WORK, f"from {event.before[7:19]}")


def _closed(event: ApprovalClosed) -> Line:
    edited = ", with an edit" if event.edited else ""
    by = "by its deadline" if event.expired else f"by {event.by} (unverified)"
    style = GOOD if event.verdict == "approved" else PEOPLE
    return Line(event.step, f"{event.verdict} {by}{edited}", style, event.reason, (("payload", event.payload),))


def _describe_call(event: Event) -> Line | None:
    match event:
        case CallMade():
            return Line(event.step, f"calls {event.called}", WORK, event.reason, (("input", event.input),))
        case CallSucceeded():
            return Line(event.step, f"{event.called} completed", GOOD, "", (("output", event.output),))
        case CallFailed():
            return Line(event.step, f"call {event.attempt} failed", BAD, f"{event.kind}: {event.message}")
        case CallWithdrawn():
            return Line(event.step, f"call of {event.called} taken back", QUIET, event.reason)
        case CallRefused():
            return Line("", f"call refused ({event.code})", BAD, event.message)
        case _:
            return None


def _agent(event: TaskSucceeded | TaskFailed) -> str:
    version = f"version {event.agent_version}" if event.agent_version else ""
    return f"({version}{' on ' if version else 'on '}{event.agent_instance})" if event.agent_instance else version


def _named(cause: Cause) -> str:
    return f"{cause.kind} {cause.id}".strip()


def status_text(status: str, incidents: int) -> Text:
    """A workflow's status in the one word that lists and timelines share: a running one that waits for an operator is an `incident`."""
    return Text("incident", style=BAD) if incidents else Text(status, style=END_STYLES[status])


def standing(workflow: Workflow) -> Text:
    """`status_text` of a workflow's state, counted as the read model does: of live workflows."""
    incidents = sum(step.status == "incident" for step in workflow.steps.values())
    return status_text(workflow.status, incidents if workflow.status == "running" else 0)


def header(workflow: Workflow, now_ms: int) -> Text:
    """Who it is and how it stands."""
    text = Text(printable(workflow.workflow_id), style="bold")
    text.append("  ")
    text.append_text(standing(workflow))
    if workflow.reason:
        text.append(f"  {printable(workflow.reason)}", style="default")
    ended = workflow.ended_at_ms
    taken = duration((ended or now_ms) - workflow.started_at_ms)
    text.append(
        f"\nstarted {ago(workflow.started_at_ms, now_ms)}, {'took' if ended else 'running for'} {taken}", style="dim"
    )
    text.append(f"; run {workflow.run_id}, rules {workflow.digest[7:19]}, trace {workflow.trace_id}", style="dim")
    return text


def table(entries: list[TimelineEntry], now_ms: int) -> Table:
    """One line an event; the time stands where a decision begins."""
    rows = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    rows.add_column("WHEN", no_wrap=True, style="dim")
    rows.add_column("STEP", no_wrap=True)
    rows.add_column("WHAT", overflow="fold", ratio=2)
    rows.add_column("WHY", overflow="fold", ratio=3, style="dim")
    for when, line in _lines(entries, now_ms):
        rows.add_row(when, printable(line.step), Text(printable(line.what), style=line.style), printable(line.why))
    return rows


def in_full(entries: list[TimelineEntry], now_ms: int, *, limit: int | None = SHOWN_LINES) -> Iterator[RenderableType]:
    """The same with every payload below its event, over the whole width; `limit` lines of each, None for all."""
    for when, line in _lines(entries, now_ms):
        head = Text(f"{when:<12}  ", style="dim")
        head.append(f"{printable(line.step)} " if line.step else "", style="bold")
        head.append(printable(line.what), style=line.style)
        head.append(f"  {printable(line.why)}", style="dim")
        yield head
        for name, value in line.payloads:
            if value is not None:
                yield Padding(Text(f"{name}\n", style="dim") + _payload(value, limit), (0, 0, 1, 14), expand=False)


def _payload(value: Any, limit: int | None) -> Text:
    lines = readable(value).split("\n")
    if limit is None or len(lines) <= limit:
        return Text("\n".join(lines), style="default")
    left = f"\n... and {len(lines) - limit:,} more lines; --full shows all"
    return Text("\n".join(lines[:limit]), style="default") + Text(left, style="dim")


def _lines(entries: list[TimelineEntry], now_ms: int) -> Iterator[tuple[str, Line]]:
    run = entries[0].run_id if entries else ""
    for entry in entries:
        if entry.run_id != run:
            run = entry.run_id
            yield "", Line("", f"run {run}", "bold")
        for number, event in enumerate(entry.decision.events):
            when = clock_time(entry.decision.at_ms, now_ms) if number == 0 else ""
            yield when, describe(event, entry.decision)


def waits(workflow: Workflow, now_ms: int) -> list[Text]:
    """What it waits for now."""
    if workflow.status != "running":
        return []
    lines = []
    for name, step in workflow.steps.items():
        if step.status in FINISHED:
            continue
        line = Text(f"{printable(name)}: ", style="bold")
        line.append(step.status, style=STEP_STYLES[step.status])
        line.append(one_line(_said(step, now_ms), 300), style="default")
        lines.append(line)
    return lines


def _said(step: StepState, now_ms: int) -> str:
    waited, due = duration(now_ms - step.since_ms), until(step.due_at_ms, now_ms)
    match step.status:
        case "running":
            return f" ({step.agent}, attempt {step.attempt}) for {waited}; time-out {due}"
        case "retrying":
            return f"; next attempt {due}; the last one failed: {step.error}"
        case "calling":
            return f" {step.called} for {waited}; time-out {due}"
        case "asking":
            return f" role {step.role} for {waited}; deadline {due}"
        case "incident" if step.incident is not None:
            return f" for {waited}: {step.incident.kind}: {step.incident.message}"
        case _:
            return ""


PAYLOAD_FIELDS: Final = ("input", "output", "payload", "cloud_event", "value", "payload_schema")


def document(entry: TimelineEntry, *, payloads: bool) -> dict[str, Any]:
    """For JSON: the log's own events; without their payloads unless asked for."""
    decision = entry.decision
    events: list[dict[str, Any]] = [msgspec.to_builtins(event) for event in decision.events]
    if not payloads:
        events = [{name: value for name, value in event.items() if name not in PAYLOAD_FIELDS} for event in events]
    return {
        "at_ms": decision.at_ms,
        "partition": entry.partition,
        "offset": entry.offset,
        "run_id": entry.run_id,
        "cause": msgspec.to_builtins(decision.cause),
        "events": events,
    }
