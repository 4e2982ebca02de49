"""Refuse an answer or a command: its sender gets a receipt that says why."""

from typing import NamedTuple

from mesh.core.decide.draft import Draft
from mesh.core.events import CommandRefused
from mesh.core.inputs import CommandGiven, CommandUnreadable


class Refusal(NamedTuple):
    code: str
    message: str


def refuse_command(draft: Draft, given: CommandGiven | CommandUnreadable, code: str, message: str) -> None:
    draft.add(
        CommandRefused(command_id=given.command_id, command=given.command, code=code, message=message, by=given.by)
    )
