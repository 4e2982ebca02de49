"""Accept a command, or refuse an answer or a command: its sender gets a receipt that says why."""

from typing import Final, NamedTuple

from mesh.core.decide.draft import Draft
from mesh.core.events import CommandAccepted, CommandRefused
from mesh.core.inputs import CommandGiven, CommandUnreadable

REPEATED: Final = "repeated"
"""The code for a command of an operation that this workflow has decided on before."""


class Refusal(NamedTuple):
    code: str
    message: str


def accept_command(draft: Draft, given: CommandGiven) -> None:
    draft.add(
        CommandAccepted(
            command_id=given.command_id,
            command=given.command,
            by=given.by,
            reason=given.reason,
            operation=given.operation,
        )
    )


def refuse_command(draft: Draft, given: CommandGiven | CommandUnreadable, code: str, message: str) -> None:
    operation = given.operation if isinstance(given, CommandGiven) else ""
    draft.add(
        CommandRefused(
            command_id=given.command_id,
            command=given.command,
            code=code,
            message=message,
            by=given.by,
            # the workflow has it already
            operation="" if code == REPEATED else operation,
        )
    )
