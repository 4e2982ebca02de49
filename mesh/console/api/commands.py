"""What operators order of one workflow, for programs.

Owns what a command needs before it is sent. Whether it is obeyed is for the workflow's owner to
decide. A command under an `Idempotency-Key` carries an operation that is made of the key, and a
workflow obeys one command of an operation: so the log itself knows a repeat.
"""

import re
import secrets
from typing import Final, get_args

import msgspec

from mesh.codec.operations import command_id
from mesh.console.api.answers import USED, Refused
from mesh.console.api.endpoint import Asking, Endpoint, Told
from mesh.console.desk import Desk
from mesh.console.pages.operations import REASON, forbid_no_operator
from mesh.core.forks import PlannedFork
from mesh.errors import NotFound
from mesh.inspection.documents.orders import (
    Forked,
    ForkOrder,
    Obeyed,
    Order,
    SentCommand,
    Whole,
    forked_document,
    obeyed_document,
)
from mesh.inspection.forking import last_run, planned
from mesh.inspection.read_model import queries

_WHOLE: Final = get_args(Whole)
_REASONED: Final = frozenset({"cancel", "pause", "complete"})
_REPEATED: Final = "repeated"  # the code of a command whose operation the workflow has decided on before
_MARK: Final = 8  # characters of what makes a fork's id its own
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


async def _command(asking: Asking) -> Obeyed | Told:
    given: Order = asking.body
    desk, reader = asking.desk, asking.reader
    forbid_no_operator(reader)
    _check(given)
    operation = f"key-{asking.once}" if asking.once else ""
    if operation and (before := await _before(desk, given, operation)) is not None:
        return before
    if await desk.log(lambda db: queries.workflow_row(db, given.workflow_id)) is None:
        raise NotFound(f"There is no workflow {given.workflow_id}, or its memory has ended. Nothing was sent.")
    try:
        receipt = await desk.client.order(
            given.command,
            given.workflow_id,
            by=reader.name,
            reason=given.reason,
            step=given.step,
            to=given.to,
            input=given.input,
            output=given.output,
            operation=operation,
            timeout_s=desk.config.receipt_s,
        )
    except TimeoutError as error:
        return _sent(operation, given.workflow_id, str(error))
    # the log and not the receipt: under a key it says what became of the first
    row = await desk.wait_shown(lambda db: queries.command(db, receipt.command_id))
    if row is not None:
        return obeyed_document(row)
    if receipt.code == _REPEATED:
        return _sent(operation, given.workflow_id, "what became of it when it came first is not read here yet")
    return Obeyed(
        command_id=receipt.command_id,
        workflow_id=receipt.workflow_id,
        command=receipt.command,
        accepted=receipt.status == "accepted",
        code=receipt.code,
        message=receipt.message,
        by=receipt.by,
        at=receipt.at,
    )


def _sent(operation: str, workflow_id: str, why: str) -> Told:
    name = command_id(operation, workflow_id) if operation else ""
    return Told(
        value=SentCommand(command_id=name, workflow_id=workflow_id, message=f"Sent, not decided yet: {why}"), status=202
    )


async def _before(desk: Desk, given: Order, operation: str) -> Obeyed | None:
    """What became of it when it came first; None: nothing is decided yet."""
    found = await desk.log(lambda db: queries.commands_of(db, operation))
    for row in found.values():
        if (row.command, row.workflow_id) != (given.command, given.workflow_id):
            raise Refused(422, USED)
        return obeyed_document(row)
    return None


def _check(given: Order) -> None:
    why = _why_not(given)
    if why:
        raise Refused(422, f"{why}; nothing was sent")


def _why_not(given: Order) -> str:
    command = given.command
    route, _, key = given.workflow_id.partition(":")
    if not (route and key):
        return f"`workflow_id` {given.workflow_id!r} is not a workflow's id (<route>:<key>)"
    if len(given.reason) > REASON:
        return f"the reason has {len(given.reason):,} characters, and {REASON:,} are possible"
    if command in _REASONED and not given.reason.strip():
        return f"{command} needs a `reason`: it is kept in the log"
    if command in _WHOLE and given.step is not None:
        return f"{command} is for a workflow as a whole: leave out `step`"
    if (given.output is not msgspec.UNSET) != (command == "complete") or (command == "complete" and not given.step):
        return "`output` goes with complete, which names a `step`"
    if given.input is not msgspec.UNSET and command != "retry":
        return "`input` goes with retry"
    if (command == "migrate") != bool(given.to) or (given.to and not _DIGEST.fullmatch(given.to)):
        return "`to` is the whole digest of a version, and goes with migrate"
    return ""


# Forks --------------------------------------------------------------------------------------------


async def _fork(asking: Asking) -> Forked | Told:
    """The new run's id is made of the key, so a repeat means the same run."""
    given: ForkOrder = asking.body
    desk, reader = asking.desk, asking.reader
    forbid_no_operator(reader)
    if given.to and not _DIGEST.fullmatch(given.to):
        raise Refused(422, "`to` is the whole digest of a version")
    if len(given.reason) > REASON or not (given.reason.strip() or given.dry_run):
        raise Refused(422, f"give a `reason` of up to {REASON:,} characters: it is kept in the log")
    entries = await desk.log(lambda db: queries.decisions_of(db, given.of))
    operation = f"key-{asking.once}" if asking.once else ""
    mark = asking.once[:_MARK] or secrets.token_hex(_MARK // 2)
    run = last_run((entry.decision for entry in entries), given.of)
    versions = {one.digest: one.route for one in (await desk.stored()).versions}
    plan = planned(run, given.step, versions, to=given.to, mark=mark)
    if given.dry_run:
        return forked_document(plan, given.step, None)
    if operation and (before := await _forked_before(desk, plan, operation)) is not None:
        return forked_document(plan, given.step, before)
    try:
        receipt = await desk.client.order(
            "fork",
            plan.into,
            by=reader.name,
            reason=given.reason,
            step=given.step,
            to=plan.to,
            input=given.input,
            fork=plan.fork,
            operation=operation,
            timeout_s=desk.config.receipt_s,
        )
    except TimeoutError as error:
        return _sent(operation, plan.into, str(error))
    await desk.wait_shown(lambda db: queries.command(db, receipt.command_id))
    return forked_document(plan, given.step, receipt)


async def _forked_before(desk: Desk, plan: PlannedFork, operation: str) -> Obeyed | None:
    """What became of it when it came first; None: nothing is decided yet."""
    found = await desk.log(lambda db: queries.commands_of(db, operation))
    if any(row.command != "fork" or row.workflow_id != plan.into for row in found.values()):
        raise Refused(422, USED)
    row = found.get(command_id(operation, plan.into))
    return None if row is None else obeyed_document(row)


ENDPOINTS: Final = (
    Endpoint(
        "POST",
        "/api/v1/forks",
        "fork",
        "Begin a new run from a step of another one, and wait for the decision.",
        _fork,
        Forked,
        takes=ForkOrder,
        writes=True,
        others={202: (SentCommand, "It is sent, and no router has decided on it yet.")},
        refuses={
            404: "There is no such workflow or version.",
            422: "Something is missing, or the key was used before.",
        },
    ),
    Endpoint(
        "POST",
        "/api/v1/commands",
        "command",
        "Order something of one workflow, and wait for the decision.",
        _command,
        Obeyed,
        takes=Order,
        writes=True,
        others={202: (SentCommand, "It is sent, and no router has decided on it yet.")},
        refuses={404: "There is no such workflow.", 422: "Something is missing, or the key was used before."},
    ),
)
