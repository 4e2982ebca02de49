"""Aliases and schedules, and what workflows have to do with them, as words for people.

`mesh.cli.text.events` and `mesh.cli.text.workflow` show them.
"""

from typing import NamedTuple

from mesh.cli.text.format import until
from mesh.core.events import (
    AliasBound,
    AliasGranted,
    AliasRefused,
    AliasReturned,
    AliasSought,
    AliasWaived,
    Event,
    EventRedirected,
    ScheduleChanged,
    ScheduleFired,
)
from mesh.core.state import Plan


class Said(NamedTuple):
    what: str
    why: str = ""


def built_in_words(event: Event) -> Said | None:
    """None: it is no such event."""
    match event:
        case AliasSought():
            return Said(f"asks for {event.alias}")
        case AliasGranted():
            return Said(f"is found by {event.alias}")
        case AliasWaived():
            return Said("goes on without its alias", event.reason)
        case AliasReturned():
            return Said(f"gives {event.alias} back")
        case AliasBound():
            return Said(f"the alias of {event.claimant.workflow_id}")
        case AliasRefused():
            return Said(f"refused to {event.claimant.workflow_id}", event.message)
        case EventRedirected():
            return Said(f"event {event.kept.cloud_event['id']} goes on to {event.to}")
        case ScheduleChanged():
            schedule = event.schedule
            what = f"{schedule.cron}, {schedule.timezone}" if schedule else "starts at no time any more"
            return Said(what, f"rules {event.digest[7:19]}, told by {event.by}")
        case ScheduleFired():
            return Said(f"starts {event.route}:{event.key}")
        case _:
            return None


def plan_words(plan: Plan, now_ms: int) -> str:
    """When a schedule starts its route next."""
    return (
        f"next start {until(plan.next_at_ms, now_ms)}" if plan.next_at_ms is not None else "starts at no time any more"
    )
