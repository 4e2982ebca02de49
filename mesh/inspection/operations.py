"""What became of a bulk operation: each workflow's result, and where the whole of it is.

Owns how the topic of operations and the log are put together: the topic says what was ordered, and
the log has the decision about each workflow's command.
"""

from collections import Counter
from typing import Final, Literal, NamedTuple

import apsw

from mesh.codec.operations import Ordered, command_id
from mesh.inspection.read_model import queries
from mesh.services.operations import Operation

Verdict = Literal["done", "refused", "waiting", "not sent"]
Standing = Literal["running", "stopped", "finished"]
VERDICTS: Final[tuple[Verdict, ...]] = ("done", "refused", "waiting", "not sent")


class Result(NamedTuple):
    """What became of one workflow's command.

    `waiting`: it is sent or will be, and nothing is decided yet. `not sent`: it never will be.
    `into`: of fork, the new workflow.
    """

    workflow_id: str
    verdict: Verdict
    code: str = ""
    message: str = ""
    into: str = ""


def results(db: apsw.Connection, operation: Operation) -> list[Result]:
    """The results in the operation's order, as of what the read model has."""
    refused_by_broker = set(operation.unsent)
    is_over = operation.stopped is not None
    found, decided = [], queries.commands_of(db, operation.id)
    for number, one in enumerate(operation.workflow_ids()):
        row, into = decided.get(command_id(operation.id, one)), operation.into.get(one, "")
        if row is not None:
            found.append(Result(one, "done" if row.accepted else "refused", row.code, row.message, into))
        elif one in refused_by_broker:
            found.append(Result(one, "not sent", "undeliverable", "the broker would not take the command"))
        elif is_over and number >= operation.sent:
            found.append(Result(one, "not sent", "stopped", "the operation was stopped before"))
        else:
            found.append(Result(one, "waiting"))
    return found


def counts(found: list[Result]) -> dict[Verdict, int]:
    counted = Counter(one.verdict for one in found)
    return {verdict: counted[verdict] for verdict in VERDICTS}


def tallied(db: apsw.Connection, operation: Operation) -> dict[Verdict, int]:
    """The counts alone, without a look at each workflow."""
    done, refused = queries.count_commands_of(db, operation.id)
    total = 0 if operation.ordered is None else operation.ordered.total
    unsent = len(operation.unsent) + (total - operation.sent if operation.stopped is not None else 0)
    # a router that dies before its note has sent more than the note says
    unsent = min(unsent, total - done - refused)
    waiting = total - done - refused - unsent
    return {"done": done, "refused": refused, "waiting": waiting, "not sent": unsent}


def standing(operation: Operation, found: dict[Verdict, int]) -> Standing:
    """Where the operation is."""
    if found["waiting"]:
        return "running"
    return "stopped" if operation.stopped is not None and found["not sent"] else "finished"


def known(operations: dict[str, Operation]) -> list[tuple[Operation, Ordered]]:
    """The operations that are ordered, the last first."""
    ordered = [(one, one.ordered) for one in operations.values() if one.ordered is not None]
    return sorted(ordered, key=lambda pair: (pair[1].at_ms, pair[0].id), reverse=True)
