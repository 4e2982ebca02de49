"""Calls: a step of one workflow that is a whole workflow of another route.

Owns how both sides name each other. The called workflow's id is `<route>:<the calling step's task
id>`, with the attempt's number behind it from the second attempt on. So it is a function of the
call, and of no other.
"""

from typing import Any, Final

import msgspec

from mesh.core import ids

CALLED_TYPE: Final = "mesh.workflow.called"
"""The type of the event that a called workflow starts with.

No route needs to take it: a call names its route.
"""

MAX_CALLED_ID: Final = 1_500
"""How many characters the id of a called workflow may have; it holds its caller's id.

Far below the longest id that owners take. It also stops routes that call themselves without end.
"""


class Caller(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The step that called a workflow: its task, and which of its attempts."""

    workflow_id: str
    task_id: str
    attempt: int = 1


class Slice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A called workflow's part of its caller's budget, by name: tokens, usd.

    `counted`: what else the caller's budget limits, and so wants to hear of.
    """

    limits: dict[str, float] = {}
    counted: tuple[str, ...] = ()


def called_key(task_id: str, attempt: int) -> str:
    """The key of the workflow that this attempt calls."""
    return task_id if attempt == 1 else ids.attempt_id(task_id, attempt)


def called_event(caller: Caller, value: Any, traceparent: str, tracestate: str) -> dict[str, Any]:
    """The CloudEvent that the called workflow starts with: its `data` is what the caller gives."""
    event = {
        "specversion": "1.0",
        "id": called_key(caller.task_id, caller.attempt),
        "source": f"/mesh/workflows/{caller.workflow_id}",
        "type": CALLED_TYPE,
        "traceparent": traceparent,
        "data": value,
    }
    return {**event, "tracestate": tracestate} if tracestate else event
