"""A failure on request, so that the demo can show a retry: the mesh does not know that it is not a
real one.

`MESH_DEMO_FAULT=classifier:412,drafter:415` lets the first attempt of that agent at that issue
fail, as a dependency that is away for a moment would. Unset, as it is everywhere but in the demo,
this does nothing.
"""

import os


class DemoFault(Exception):
    """A failure that was asked for; like any exception of a handler it is retried as the route
    says.
    """


def demo_fault(agent: str, number: int, attempt: int) -> None:
    """Raise `DemoFault` at the first attempt, if `MESH_DEMO_FAULT` names this agent and issue."""
    asked = os.environ.get("MESH_DEMO_FAULT", "")
    if attempt == 1 and f"{agent}:{number}" in (one.strip() for one in asked.split(",")):
        raise DemoFault(f"{agent} fails at its first attempt at #{number}, as MESH_DEMO_FAULT asks")
