"""The fields of an event that say something: for those that have no words of their own, and for
tests of the core, which show every field that moves.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from mesh.core.calls import Caller
from mesh.core.events import CallFailed, CallSucceeded, Event, UsageReported, WorkflowEnded
from mesh.core.schedules import Schedule
from mesh.core.state import KeptEvent
from mesh.testing.transcript.writer import as_json

UNSAID = frozenset(
    {
        "agent_instance",
        "agent_version",
        "caller",
        "closed_retention_s",
        "cloud_event",
        "digest",
        "duration_ms",
        "payload_schema",
        "step",
        "task_id",
        "trace_id",
        "traceparent",
        "usage",
    }
)
"""Fields that say nothing to the reader of a transcript, or that another line says."""
_SAYS_USAGE: Final = (CallFailed, CallSucceeded, UsageReported, WorkflowEnded)
"""Events between workflows: what one of them has taken is told to the other."""


def schedule_words(schedule: Schedule | None) -> str:
    return f"{schedule.cron} ({schedule.timezone})" if schedule is not None else "at no time"


def fields_of(event: Event, at: Callable[[int], str]) -> str:
    """What says something: neither empty nor what it is by default."""
    parts = []
    for field in msgspec.structs.fields(event):
        name, value = field.name, getattr(event, field.name)
        if isinstance(value, KeptEvent):
            value = value.cloud_event
        if isinstance(value, Caller):
            value = value.task_id
        if isinstance(value, Schedule):
            value = schedule_words(value)
        if (
            (name in UNSAID and not (name == "usage" and isinstance(event, _SAYS_USAGE)))
            or value in ("", None)
            or value is False
            or value == field.default
        ):
            continue
        shown = (
            at(value)
            if name.endswith("_at_ms") or name == "since_ms"
            else value
            if isinstance(value, str)
            else as_json(value)
        )
        parts.append(f"{name.removesuffix('_ms')}: {shown}")
    return " | ".join(parts)
