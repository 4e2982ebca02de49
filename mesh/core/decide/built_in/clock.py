"""The clock of a partition: what an operator may order of it.

A built-in workflow without a state of its own: what is held is the partition's
(`mesh.core.state.PartitionState.hold`), and its owner notices jumps.
"""

from mesh.core.decide.draft import Draft
from mesh.core.events import ClockReleased, CommandAccepted, CommandRefused, InputDismissed
from mesh.core.inputs import CommandGiven, Input


def decide_clock(draft: Draft, given: Input) -> None:
    match given:
        case CommandGiven(command="release"):
            draft.add(CommandAccepted(command_id=given.command_id, command="release", by=given.by, reason=given.reason))
            draft.add(ClockReleased(by=given.by, reason=given.reason))
        case CommandGiven():
            message = "a clock can be released, and nothing else"
            draft.add(
                CommandRefused(
                    command_id=given.command_id, command=given.command, code="built_in", message=message, by=given.by
                )
            )
        case _:
            draft.add(InputDismissed(code="unknown", message=f"a clock takes no {type(given).__name__}"))
