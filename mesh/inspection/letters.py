"""What has become of a dead letter: pure rules, for every operator's tool the same.

A letter is open until an operator takes or discards it. `taken` is said before the record is sent,
and `redriven` after: a letter that stays `taken` was left by a command that ended in between, and
nobody can tell whether it was sent.

    open --> taken --> redriven
     ^ |       |
     | |       '--> open (released: the broker refused it)
     | '--> discarded

What names the last operation in `after` begins again, whatever the letter's state is. The read
model calls it for each record of the topic that is no letter.
"""

from typing import Literal, NamedTuple

from mesh.codec.handlings import Handling

LetterStatus = Literal["open", "taken", "redriven", "discarded"]


class Standing(NamedTuple):
    """A letter's status, and the operation that gave it; empty while nobody has handled it."""

    status: LetterStatus
    operation: str


OPEN = Standing("open", "")


def after(standing: Standing, handling: Handling) -> Standing:
    """The letter's standing after a record about it; the same one if the record does not count."""
    is_next = handling.after == standing.operation
    is_ours = standing == Standing("taken", handling.operation)
    match handling.act:
        case "taken" | "discarded" if is_next:
            return Standing(handling.act, handling.operation)
        case "redriven" if is_ours:
            return Standing("redriven", handling.operation)
        case "released" if is_ours:
            return OPEN
        case _:
            return standing
