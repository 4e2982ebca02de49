"""What an operator orders of one workflow: retry, skip, fail, cancel.

Owns what is offered and what came of it. Whether a command is obeyed is for the workflow's owner to
decide: the page shows the receipt.
"""

from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mesh.console.desk import Desk, link
from mesh.console.pages.operations import COMMANDS, REASON, forbid_no_operator, is_operator
from mesh.console.pages.sign_in import form_of
from mesh.console.parameters import BadParameter
from mesh.console.staff import Reader
from mesh.errors import MeshError
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import OpenStep, WorkflowRow
from mesh.inspection.wording.plain import counted


class Act(NamedTuple):
    """A command that makes sense now. `effect`: what it would do, in words."""

    command: str
    title: str
    effect: str
    steps: tuple[str, ...] = ()


class Told(NamedTuple):
    """What came of a command, for the top of the page."""

    is_done: bool
    text: str


_DONE: Final = {
    "retry": "It is tried again.",
    "skip": "It goes on without what was stuck.",
    "fail": "It ends as failed.",
    "cancel": "It is cancelled.",
}


def acts_of(reader: Reader, row: WorkflowRow, steps: list[OpenStep]) -> list[Act]:
    """What this person may order of the workflow."""
    if not is_operator(reader) or row.status not in {"running", "expected"}:
        return []
    stuck = tuple(one.step for one in steps if one.status == "incident")
    undone = "What it did is undone first, where its route says how. It can't be taken back."
    found = [Act("cancel", "Cancel", f"The workflow ends as cancelled. {undone}")]
    if stuck:
        many = counted(len(stuck), "step")
        again = f"{many} {'is' if len(stuck) == 1 else 'are'} tried again, with all attempts."
        without = f"It goes on without {many}: those who need {'it' if len(stuck) == 1 else 'them'} run, and get null."
        found = [
            Act("retry", "Retry", again, stuck),
            Act("skip", "Skip", without, stuck),
            Act("fail", "Fail", f"The workflow ends as failed. {undone}"),
            *found,
        ]
    return found


async def command(desk: Desk, request: Request, reader: Reader) -> Response:
    """Send a command, wait for its receipt, and show what came of it."""
    given = await form_of(request)
    forbid_no_operator(reader)
    workflow_id, reason, step = given.get("id", ""), given.get("reason", "").strip(), given.get("step", "")
    kind = COMMANDS.get(given.get("command", ""))
    if kind is None:
        raise BadParameter(f"command can't be {given.get('command', '')!r}; it is one of {', '.join(COMMANDS)}")
    if not reason or len(reason) > REASON:
        raise BadParameter(f"Give a reason of up to {REASON:,} characters: it is kept in the log. Nothing was sent.")
    if await desk.log(lambda db: queries.workflow_row(db, workflow_id)) is None:
        raise BadParameter(f"There is no workflow {workflow_id}. Nothing was sent.")
    try:
        receipt = await desk.client.order(
            kind, workflow_id, by=reader.name, reason=reason, step=step or None, timeout_s=desk.config.receipt_s
        )
    except TimeoutError:
        return RedirectResponse(link("/workflow", id=workflow_id, told="waiting"), 303)
    except MeshError as error:
        return await desk.problem(request, reader, 503, "It could not be sent", f"{error}. Your reason was: {reason}")
    # so that the page after this one has it
    await desk.wait_shown(lambda db: queries.command(db, receipt.command_id))
    return RedirectResponse(link("/workflow", id=workflow_id, told=receipt.command_id), 303)


async def told_of(desk: Desk, command_id: str) -> Told | None:
    """What came of the command with this id. None: nothing was sent."""
    if not command_id:
        return None
    row = await desk.log(lambda db: queries.command(db, command_id))
    if row is None:
        return Told(is_done=False, text="Sent, not decided yet. This page shows the result when a router has decided.")
    if row.accepted:
        return Told(is_done=True, text=_DONE.get(row.command, "Done."))
    return Told(is_done=False, text=f"It was refused ({row.code.replace('_', ' ')}): {row.message}")
