"""A failure on request, so that the demo can show a retry.

To the mesh it is a failure like any other. `MESH_DEMO_FAULT=classifier:412,drafter:415` lets the
first attempt of that agent at that issue fail, as if a dependency were away for a moment. Outside
of the demo the variable is not set, and this does nothing.
"""

import os


class DemoFault(Exception):
    """A failure that was asked for.

    Like any exception of a handler it is retried as the route says.
    """


def demo_fault(agent: str, number: int, attempt: int) -> None:
    """Raise `DemoFault` at the first attempt, if `MESH_DEMO_FAULT` names this agent and issue."""
    asked = os.environ.get("MESH_DEMO_FAULT", "")
    if attempt == 1 and f"{agent}:{number}" in (one.strip() for one in asked.split(",")):
        raise DemoFault(f"{agent} fails at its first attempt at #{number}, as MESH_DEMO_FAULT asks")
