"""What a workflow's state is: its status in a word, what it is, and what it waits for now.

Owns how a state is shown to people. It only renders: the commands that show or change a workflow
read the state and call it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.text import Text

from mesh.cli.text import limits
from mesh.cli.text.events import BAD, END_STYLES, PEOPLE, STEP_STYLES
from mesh.cli.text.format import ago, clock_time, duration, one_line, printable, until
from mesh.core import ids, voting
from mesh.core.evolve.budget import unended
from mesh.core.json_values import text_of
from mesh.core.pauses import NO_PAUSES, agent_target, route_target, words
from mesh.core.state import FINISHED, Fan, KeptEvent, Pause, Plan, StepState, Workflow
from mesh.inspection.for_each_items import NAMED
from mesh.inspection.wording.phrases import blamed, event_name

# statuses of steps that wait for nothing: settled, or still without their needs
_ASIDE: Final = frozenset({*FINISHED, "again"})


def status_text(status: str, incidents: int, *, is_paused: bool = False) -> Text:
    """A workflow's status, in the one word that lists and timelines share.

    A running workflow that waits for an operator is an `incident`, or `paused`.
    """
    if is_paused:
        return Text("paused", style=PEOPLE)
    return Text("incident", style=BAD) if incidents else Text(status, style=END_STYLES[status])


def standing(workflow: Workflow) -> Text:
    """`status_text` of a workflow's state.

    Incidents count only if it is running, as in the read model.
    """
    incidents = sum(step.status == "incident" for step in workflow.steps.values())
    is_paused = workflow.pause is not None
    return status_text(workflow.status, incidents if workflow.status == "running" else 0, is_paused=is_paused)


def header(workflow: Workflow, now_ms: int, search: Mapping[str, Any] | None = None) -> Text:
    """The workflow's id, status, search attributes, times and origin."""
    text = Text(printable(workflow.workflow_id), style="bold")
    text.append("  ")
    text.append_text(standing(workflow))
    if workflow.reason:
        text.append(f"  {printable(workflow.reason)}", style="default")
    if search:
        text.append(f"\n{one_line(search_text(search))}", style="default")
    origin = f"; {_origin(workflow)}" if workflow.digest else ""
    return text.append(f"\n{_times(workflow, now_ms)}{origin}", style="dim")


def search_text(search: Mapping[str, Any]) -> str:
    """Attributes on one line: `customer=acme, urgent=true`."""
    return printable(", ".join(f"{name}={text_of(value)}" for name, value in search.items()))


def _times(workflow: Workflow, now_ms: int) -> str:
    if workflow.status == "expected":
        kept = clock_time(workflow.forget_at_ms or now_ms, now_ms)
        return f"no run yet: an event came {ago(workflow.started_at_ms, now_ms)}, and is kept for one until {kept}"
    if workflow.status == "standing":
        return f"since {ago(workflow.started_at_ms, now_ms)}"
    ended = workflow.ended_at_ms
    taken = duration((ended or now_ms) - workflow.started_at_ms)
    return f"started {ago(workflow.started_at_ms, now_ms)}, {'took' if ended else 'running for'} {taken}"


def _origin(workflow: Workflow) -> str:
    rules = f"rules {workflow.digest[7:19]}"
    return f"run {workflow.run_id}, {rules}, trace {workflow.trace_id}" if workflow.run_id else rules


def waits(
    workflow: Workflow,
    now_ms: int,
    limiters: Mapping[str, Workflow] | None = None,
    pauses: Mapping[str, Pause] = NO_PAUSES,
) -> list[Text]:
    """What the workflow waits for now; for a limiter, who waits there.

    `limiters`: those that its steps are queued at, by id, as far as they are known.
    `pauses`: of agents and routes, by target.
    """
    if workflow.limiter is not None:
        return [Text(printable(line)) for line in limits.state_lines(workflow.limiter)]
    is_past = workflow.status == "expected" and (workflow.forget_at_ms or 0) <= now_ms
    lines = [] if is_past else [_kept(kept, now_ms) for kept in workflow.kept[:NAMED]]
    if workflow.pauses is not None:
        held = workflow.pauses.paused.items()
        return [Text(f"{printable(words(one))} is ").append_text(paused_line(pause, now_ms)) for one, pause in held]
    if workflow.plan is not None:
        return [Text(plan_words(workflow.plan, now_ms), style="bold")]
    if workflow.status != "running":
        return lines
    if workflow.ending is not None:
        left = ", ".join(workflow.ending.undo)
        said = f"{workflow.ending.status} once undone: {left}; {workflow.ending.reason}"
        lines.insert(0, Text(one_line(said, 300), style=PEOPLE))
    if workflow.pause is not None:
        lines.insert(0, paused_line(workflow.pause, now_ms))
    if (of_route := pauses.get(route_target(workflow.route))) is not None:
        line = Text(f"route {printable(workflow.route)} is ").append_text(paused_line(of_route, now_ms))
        lines.insert(0, line)
    return [*_steps(workflow, now_ms, limiters or {}, pauses), *lines]


def paused_line(pause: Pause, now_ms: int) -> Text:
    """`paused by op for 3 min: why`."""
    line = Text(f"paused by {printable(pause.by)}", style=PEOPLE)
    why = f": {pause.reason}" if pause.reason else ""
    return line.append(one_line(f" for {duration(now_ms - pause.at_ms)}{why}", 300), style="default")


def _kept(kept: KeptEvent, now_ms: int) -> Text:
    line = Text(f"{one_line(event_name(kept.cloud_event), 200)}: ", style="bold")
    line.append("kept", style=PEOPLE)
    return line.append(f" for {duration(now_ms - kept.at_ms)}, until a step waits for it", style="default")


def _steps(
    workflow: Workflow, now_ms: int, limiters: Mapping[str, Workflow], pauses: Mapping[str, Pause]
) -> Iterator[Text]:
    """One line for each step that is under way.

    Of a for-each's items, only those that wait for an operator have one.
    """
    named = 0
    for place, step in workflow.steps.items():
        if step.status in _ASIDE:
            continue
        if ids.is_item(place):
            named += step.status == "incident"
            if step.status != "incident" or named > NAMED:
                continue
        said = _items(workflow, place, step)
        if step.status == "queued":
            said = f" for {duration(now_ms - step.since_ms)}; {limits.why_queued(workflow, place, limiters)}"
        if step.status == "held" and workflow.account is not None and (kept := unended(workflow.account)):
            said = f"{_said(step, now_ms)}; {kept} (`mesh workflows show ID` shows how far one is)"
        if step.status == "held" and workflow.pause is not None:
            said = f" until the workflow resumes, for {duration(now_ms - step.since_ms)}"
        elif step.status == "held" and (of_agent := pauses.get(agent_target(step.agent))) is not None:
            said = f": agent {step.agent} is {paused_line(of_agent, now_ms).plain}"
        yield _step(place, step, said, now_ms)
    if named > NAMED:
        yield Text(f"and {named - NAMED:,} more items with an incident", style=BAD)


def _step(place: str, step: StepState, said: str, now_ms: int) -> Text:
    line = Text(f"{printable(place)}: ", style="bold")
    line.append(step.status, style=STEP_STYLES.get(step.status, "default"))
    return line.append(one_line(said or _said(step, now_ms), 300), style="default")


def _items(workflow: Workflow, name: str, step: StepState) -> str:
    """How far a for-each has come.

    For example `: 14 of 40 items are done, 1 of them failed; 20 running, 1 incident`.
    """
    if step.fan is None:
        return ""
    counts = Counter(
        state.status
        for place, state in workflow.steps.items()
        if ids.is_item(place) and ids.step_of(place) == name and state.status not in FINISHED
    )
    under_way = ", ".join(f"{counts[status]:,} {status}" for status in sorted(counts, key=_order))
    return f": {_done(step.fan)}" + (f"; {under_way}" if under_way else "")


def _order(status: str) -> int:
    known = list(STEP_STYLES)
    return known.index(status) if status in known else len(known)


def _done(fan: Fan) -> str:
    failed = f", {fan.failed:,} of them failed" if fan.failed else ""
    return f"{fan.settled:,} of {fan.total:,} items are done{failed}"


def _said(step: StepState, now_ms: int) -> str:
    waited, due = duration(now_ms - step.since_ms), until(step.due_at_ms, now_ms)
    match step.status:
        case "running":
            return f" ({step.agent}, attempt {step.attempt}) for {waited}; time-out {due}"
        case "retrying":
            return f"; next attempt {due}; the last one failed: {step.error}"
        case "asking":
            if step.asking is None:
                return f" role {step.role} for {waited}; deadline {due}"
            now = voting.standing(step.asking.terms, step.asking.votes, step.asking.changes)
            split = (
                ", split over choices"
                if voting.is_split(step.asking.terms, step.asking.votes, step.asking.changes)
                else ""
            )
            return f" {step.asking.terms.rule} for {waited}, {now.have} of {now.need} votes{split}; deadline {due}"
        case "calling":
            return f" {step.called} for {waited}; time-out {due}"
        case "claiming":
            return f" {step.alias} for {waited}"
        case "suspended" if step.tools is not None:
            return f" until {step.tools.waits_for} is decided, which {step.agent} asks for, for {waited}"
        case "held":
            return f" by the workflow's budget for {waited}"
        case "waiting" if step.awaits:
            given_up = f"; given up {due}" if step.due_at_ms is not None else ", without a time-out"
            return f" for event {step.awaits} for {waited}{given_up}"
        case "waiting" if step.due_at_ms is not None:
            return f" until {clock_time(step.due_at_ms, now_ms)} ({due})"
        case "incident" if step.incident is not None:
            return f" for {waited}: {blamed(step.incident.kind, step.incident.message)}"
        case _:
            return ""


def plan_words(plan: Plan, now_ms: int) -> str:
    """When a schedule starts its route next, in words."""
    return (
        f"next start {until(plan.next_at_ms, now_ms)}" if plan.next_at_ms is not None else "starts at no time any more"
    )
