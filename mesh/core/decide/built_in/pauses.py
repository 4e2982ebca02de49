"""Which agents and routes are paused in a partition, and that what they held goes on.

A built-in workflow of each partition. Ingress copies a command to all of them, so each decides
alike, and one of them answers the sender.
"""

from mesh.core import ids
from mesh.core.decide.draft import Draft
from mesh.core.events import CommandAccepted, CommandRefused, HeldReleased, InputDismissed, PauseLifted, PauseSet
from mesh.core.inputs import CommandGiven, Input, TimerDue
from mesh.core.pauses import words
from mesh.core.state import Pauses


def decide_pauses(draft: Draft, given: Input) -> None:
    known = (draft.workflow.pauses if draft.workflow is not None else None) or Pauses()
    match given:
        case CommandGiven(command="pause", target=target) if target:
            paused = known.paused.get(target)
            if paused is not None:
                _dismiss(draft, given, f"{words(target)} is paused already, by {paused.by}")
                return
            _accept(draft, given)
            draft.add(PauseSet(target=target, by=given.by, reason=given.reason))
        case CommandGiven(command="resume", target=target) if target:
            if target not in known.paused:
                _dismiss(draft, given, f"{words(target)} is not paused")
                return
            _accept(draft, given)
            draft.add(PauseLifted(target=target, by=given.by, reason=given.reason))
        case CommandGiven():
            _refuse(draft, given, "built_in", "agents and routes are paused and resumed, and nothing else")
        # another owner may have said so before
        case TimerDue():
            if given.kind == "resumed" and known.releasing:
                draft.add(HeldReleased())
        case _:
            draft.add(InputDismissed(code="unknown", message=f"pauses take no {type(given).__name__}"))


def _accept(draft: Draft, given: CommandGiven) -> None:
    # all partitions have a copy, and a command has one receipt (ADR 15)
    if not ids.is_silent(draft.workflow_id):
        command = CommandAccepted(command_id=given.command_id, command=given.command, by=given.by, reason=given.reason)
        draft.add(command)


def _dismiss(draft: Draft, given: CommandGiven, why: str) -> None:
    if ids.is_silent(draft.workflow_id):
        draft.add(InputDismissed(code="already", message=why))
    else:
        _refuse(draft, given, "already", why)


def _refuse(draft: Draft, given: CommandGiven, code: str, why: str) -> None:
    draft.add(CommandRefused(command_id=given.command_id, command=given.command, code=code, message=why, by=given.by))
