"""What operators order: of one workflow, of many, and of dead letters."""

from typing import Any, Literal

import msgspec

from mesh.codec.commands import CommandReceipt
from mesh.codec.operations import Ordered, Stopped
from mesh.codec.times import rfc3339
from mesh.core.forks import PlannedFork
from mesh.inspection.operations import Result, Standing, Verdict, standing
from mesh.inspection.read_model.queries import CommandRow
from mesh.inspection.redriving import Verdict as LetterVerdict
from mesh.services.operations import Operation

Whole = Literal["cancel", "pause", "resume"]
Bulk = Literal["retry", "skip", "fail", "complete", Whole]
Status = Literal["expected", "running", "completed", "failed", "rejected", "cancelled", "incident", "paused"]

# Of one workflow ----------------------------------------------------------------------------------


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command for one workflow, as the API takes it.

    `step`: of retry, skip and fail the incident, and without it all of them; of complete, whose
    `output` is given. `input`: of retry, for the one step that it names. `to`: of migrate, the
    whole digest of the version.
    """

    command: Literal[Bulk, "migrate"]
    workflow_id: str
    reason: str = ""
    step: str | None = None
    input: Any = msgspec.UNSET
    output: Any = msgspec.UNSET
    to: str = ""


class Obeyed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command. `code`: accepted, or why it was refused.

    `message`: the reason that its author gave, or why it was refused.
    """

    command_id: str
    workflow_id: str
    command: str
    accepted: bool
    code: str
    message: str
    by: str
    at: str


class SentCommand(msgspec.Struct, frozen=True, kw_only=True):
    """The command is on the broker, and no router has decided on it yet.

    `command_id`: empty where the request had no key: the message has it then.
    """

    command_id: str
    workflow_id: str
    message: str


def obeyed_document(row: CommandRow) -> Obeyed:
    return Obeyed(
        command_id=row.command_id,
        workflow_id=row.workflow_id,
        command=row.command,
        accepted=bool(row.accepted),
        code=row.code,
        message=row.message,
        by=row.by,
        at=rfc3339(row.at_ms),
    )


class ForkOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new run that goes on from a step of another one.

    `input`: of the step, instead of what the route makes. `to`: the whole digest of the version;
    empty: that of the other run. `dry_run`: nothing is sent.
    """

    of: str
    step: str
    reason: str = ""
    input: Any = msgspec.UNSET
    to: str = ""
    dry_run: bool = False


class Forked(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a fork. `kept`: the steps whose results the new run has.

    `workflow_id`: the new one; null in a dry run.
    """

    dry_run: bool
    workflow_id: str | None
    of: str
    of_run_id: str
    step: str = msgspec.field(name="from")
    kept: tuple[str, ...]
    accepted: bool
    code: str
    message: str


def forked_document(plan: PlannedFork, step: str, receipt: CommandReceipt | Obeyed | None) -> Forked:
    """`receipt` None: it is a dry run."""
    is_accepted = (
        receipt.accepted if isinstance(receipt, Obeyed) else receipt is not None and receipt.status == "accepted"
    )
    return Forked(
        dry_run=receipt is None,
        workflow_id=None if receipt is None else plan.into,
        of=plan.fork.of,
        of_run_id=plan.fork.run_id,
        step=step,
        kept=tuple(plan.fork.steps),
        accepted=is_accepted,
        code="" if receipt is None else receipt.code,
        message="" if receipt is None else receipt.message,
    )


# Of many ------------------------------------------------------------------------------------------


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of which workflows something is to be ordered; nothing is sent.

    The filters are those of the list of workflows. `status`: without it those for which the command
    makes sense. `where`: an expression. At least one filter is given.
    """

    command: Bulk
    status: Status | None = None
    route: str | None = None
    step: str | None = None
    agent: str | None = None
    cause: str | None = None
    older_than: str | None = None
    where: str | None = None


class KindCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the workflows are of a route, and wait at a step."""

    route: str
    step: str
    workflows: int


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """Which workflows an order would be for, the oldest first. It is kept for a while."""

    id: str
    command: str
    total: int
    kinds: tuple[KindCount, ...]
    workflows: tuple[str, ...]


class BulkOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The order of what a preview has shown. `rate`: commands a second.

    `input`: of retry; `output`: of complete, for the step of the preview.
    """

    preview: str
    reason: str
    rate: int = 20
    input: Any = msgspec.UNSET
    output: Any = msgspec.UNSET


class StopOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No further command of an operation is to be sent."""

    operation: str
    reason: str = ""


class StoppedBy(msgspec.Struct, frozen=True, kw_only=True):
    """Who has stopped an operation."""

    by: str
    reason: str
    at: str


class OperationItem(msgspec.Struct, frozen=True, kw_only=True):
    """What was ordered of many workflows, and how far it is. `sent`: commands on the broker."""

    id: str
    command: str
    status: Standing
    by: str
    reason: str
    at: str
    filter: str
    rate: int
    total: int
    sent: int
    counts: dict[Verdict, int]
    stopped: StoppedBy | None


class WorkflowResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one workflow's command. `into`: of fork, the new workflow."""

    workflow_id: str
    result: Verdict
    code: str
    message: str
    into: str | msgspec.UnsetType = msgspec.UNSET


def operation_document(operation: Operation, ordered: Ordered, counts: dict[Verdict, int]) -> OperationItem:
    return OperationItem(
        id=operation.id,
        command=ordered.command,
        status=standing(operation, counts),
        by=ordered.by,
        reason=ordered.reason,
        at=rfc3339(ordered.at_ms),
        filter=ordered.filter,
        rate=ordered.rate,
        total=ordered.total,
        sent=operation.sent,
        counts=counts,
        stopped=None if operation.stopped is None else _stopped(operation.stopped),
    )


def _stopped(one: Stopped) -> StoppedBy:
    return StoppedBy(by=one.by, reason=one.reason, at=rfc3339(one.at_ms))


def result_document(one: Result) -> WorkflowResult:
    return WorkflowResult(
        workflow_id=one.workflow_id,
        result=one.verdict,
        code=one.code,
        message=one.message,
        into=one.into or msgspec.UNSET,
    )


# Dead letters -------------------------------------------------------------------------------------


class LettersOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters are meant, as `PARTITION/OFFSET`.

    `again`: also those that were redriven or discarded before. `dry_run`: nothing is done.
    """

    ids: tuple[str, ...]
    reason: str = ""
    again: bool = False
    dry_run: bool = False


class LettersDone(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each letter, or would. `operation` null: nothing was done."""

    dry_run: bool
    operation: str | None
    counts: dict[str, int]
    dead_letters: tuple[LetterVerdict, ...]
