"""Judges instants of working hours: those of the calendar that was in effect when it was asked.

Owns this part of what `mesh.testing.promises.judge` checks. It counts minute by minute, and asks
nothing that routers compute with.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from mesh.core.calendars import Calendar, WorkingTime
from mesh.core.events import ApprovalRequested2
from mesh.core.route import ApprovalWork, Route
from mesh.testing.promises.ledger import Step
from mesh.testing.promises.registry import Registry

_BY_STAMP: Final = frozenset({"result", "answer", "command"})  # causes whose broker time is the question's
_MINUTE_MS: Final = 60_000


def wrong_instants(step: Step, known: Registry, routes: Mapping[str, Route]) -> Iterator[str]:
    """What is wrong with the deadlines and stages of a decision's questions."""
    for event in step.decision.events:
        if not isinstance(event, ApprovalRequested2) or not event.calendars:
            continue
        for name, version in event.calendars.items():
            wanted = known.calendar_at(name, step.decision.cause.at_ms)
            if step.decision.cause.kind in _BY_STAMP and version != wanted:
                yield f"{event.approval_id} is asked by {name} {version[:19]}, and {wanted[:19]} was in effect"
        work = _asked(step, event, routes)
        if work is not None:
            yield from _wrong(event, work, known, step.decision.at_ms)


def _asked(step: Step, event: ApprovalRequested2, routes: Mapping[str, Route]) -> ApprovalWork | None:
    route = routes.get(step.before.digest) if step.before is not None else None
    work = route.steps[event.step].work if route is not None and event.step in route.steps else None
    return work if isinstance(work, ApprovalWork) else None


def _wrong(event: ApprovalRequested2, work: ApprovalWork, known: Registry, asked_ms: int) -> Iterator[str]:
    calendars = {name: known.calendars[version] for name, version in event.calendars.items()}
    if work.deadline_working is not None:
        due_ms = _after(work.deadline_working, calendars, asked_ms)
        if event.deadline_at_ms != due_ms:
            yield f"{event.approval_id} is due at {event.deadline_at_ms}, and {work.deadline_working} end at {due_ms}"
    at_ms = asked_ms
    stages = work.voting.stages if work.voting is not None else ()
    for asked, stage in zip(stages, event.terms.stages, strict=True):
        working = asked.working
        at_ms = at_ms + int(asked.after_s * 1000) if working is None else _after(working, calendars, at_ms)
        if stage.at_ms != at_ms:
            yield f"a stage of {event.approval_id} is at {stage.at_ms}, and its time ends at {at_ms}"


def _after(time: WorkingTime, calendars: Mapping[str, Calendar], from_ms: int) -> int:
    """When the time is over: -1 if the calendar does not say so."""
    calendar = calendars[time.calendar]
    if time.days:
        ends = [max(end for _, end in day.hours) for day in calendar.days if day.begins_ms > from_ms]
        return sorted(ends)[time.days - 1] if len(ends) >= time.days else -1
    opened, left_ms = {minute for day in calendar.days for minute in _minutes(day.hours)}, time.ms
    at_ms = from_ms
    while left_ms > 0 and at_ms < calendar.until_ms:
        end_ms = (at_ms // _MINUTE_MS + 1) * _MINUTE_MS
        if at_ms // _MINUTE_MS in opened:
            if end_ms - at_ms >= left_ms:
                return at_ms + left_ms
            left_ms -= end_ms - at_ms
        at_ms = end_ms
    return -1


def _minutes(hours: tuple[tuple[int, int], ...]) -> Iterator[int]:
    for start, end in hours:
        yield from range(start // _MINUTE_MS, end // _MINUTE_MS)
