"""Operators' commands: accepted or refused.

`operation`: of a command that is one of many (ADR 29); the workflow remembers it.
"""

from mesh.core.events.event import LogEvent


class CommandAccepted(LogEvent, tag="CommandAccepted.1", frozen=True, kw_only=True):
    command_id: str
    command: str
    by: str
    reason: str = ""
    operation: str = ""


class CommandRefused(LogEvent, tag="CommandRefused.1", frozen=True, kw_only=True):
    command_id: str
    command: str
    code: str  # unknown, ended, no_incident, unknown_step, built_in, ...; malformed if it can't be read
    message: str
    by: str = ""
    operation: str = ""  # empty for a command that was decided on before
