"""Handing a task over to another agent.

An agent author raises it; the runtime turns it into a result; the route says who may get the task.
"""

from typing import Any


class HandOver(Exception):  # it ends the handler, as an error does, and is none
    """Raise it in a handler to pass the task on: `raise HandOver("billing", {"question": ...})`.

    `to`: an agent that the route's `handover` allows. `input`: what it gets, of any type that
    pydantic can write as JSON.
    """

    def __init__(self, to: str, input: Any = None) -> None:  # noqa: A002 - as everywhere: what an agent gets
        super().__init__(f"to {to}")
        self.to = to
        self.input = input
