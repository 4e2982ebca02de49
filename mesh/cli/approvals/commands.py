"""`mesh approvals approve | reject ID`: people's answers, by id.

Owns what an answer is made of, and how it is sent. Whether an answer counts is for the workflow's
owner to decide: each command waits for the receipt. `mesh.cli.approvals.ids` says which approval an
id names.
"""

import sys
from collections.abc import Callable
from typing import Any, Final

import click
import msgspec
from rich.text import Text

from mesh.cli.approvals.editor import from_editor, to_editor
from mesh.cli.approvals.ids import Waiting, pick_open
from mesh.cli.exit_codes import FAILED
from mesh.cli.options import by_option, timeout_option
from mesh.cli.publish import json_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import printable
from mesh.codec.approvals import Receipt
from mesh.core.events import ApprovalRequested
from mesh.core.inputs import AnswerKind
from mesh.core.schemas import SchemaTooCostly, SchemaUnusable, misfit
from mesh.errors import SenderError
from mesh.ports import Broker

__all__ = [
    "UNEDITED",
    "Answer",
    "Waiting",
    "answer_by_id",
    "answers",
    "approve",
    "edit",
    "form_of",
    "form_option",
    "reject",
    "schema_problem",
    "send_answer",
    "verdict",
]

UNEDITED: Final = msgspec.UNSET


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A person's answer. `payload`: what they approve instead of what was asked, or UNEDITED."""

    decision: AnswerKind
    payload: Any = UNEDITED
    reason: str = ""
    choice: str = ""
    form: Any = None
    text: str = ""


def answers(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command that answers its session, and the options `by` and `timeout_s`."""
    who = by_option("answers", " It is claimed, not verified.")
    return who(timeout_option("How long to wait for the receipt.")(mesh_command(function)))


form_option = click.option("--form", metavar="JSON|@FILE", help="What the question asks each voter to fill in.")


def form_of(given: str | None) -> Any:
    """The value of `--form`."""
    return None if given is None else json_option(given, "--form")


@click.command(short_help="Approve, or approve an edited payload.")
@click.argument("approval_id", metavar="ID")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept with the verdict.")
@click.option("--payload", metavar="JSON|@FILE", help="Approve this instead of what was asked.")
@click.option("--edit", "edit_it", is_flag=True, help="Edit the payload in $EDITOR first.")
@form_option
@answers
def approve(
    session: Session,
    *,
    approval_id: str,
    by: str,
    reason: str,
    payload: str | None,
    edit_it: bool,
    form: str | None,
    timeout_s: float,
) -> None:
    """Approve ID, and wait for the receipt. Exits with 1 if the answer is refused.

    ID is an approval's, or a workflow's that has one open approval. Of a part of an id you are
    asked first, and without a terminal it is refused.
    """
    if edit_it and payload is not None:
        raise click.UsageError("--edit and --payload are two ways to do the same; choose one")
    if edit_it and not session.is_interactive:
        raise click.UsageError("--edit needs a terminal; without one use --payload @FILE")
    edited = UNEDITED if payload is None else json_option(payload, "--payload")
    answer = Answer(decision="approve", payload=edited, reason=reason, form=form_of(form))
    session.run(answer_by_id(session, approval_id, answer, by=by, edit_it=edit_it, timeout_s=timeout_s))


@click.command(short_help="Reject, with a reason.")
@click.argument("approval_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept with the verdict.")
@form_option
@answers
def reject(session: Session, *, approval_id: str, by: str, reason: str, form: str | None, timeout_s: float) -> None:
    """Reject ID, and wait for the receipt. Exits with 1 if the answer is refused.

    ID is an approval's, or a workflow's that has one open approval. Of a part of an id you are
    asked first, and without a terminal it is refused.
    """
    answer = Answer(decision="reject", reason=reason, form=form_of(form))
    session.run(answer_by_id(session, approval_id, answer, by=by, timeout_s=timeout_s))


async def answer_by_id(
    session: Session, part: str, answer: Answer, *, by: str, edit_it: bool = False, timeout_s: float
) -> None:
    """Answer the open approval that `part` names, and show the receipt.

    Ends the process with an exit code of its own if the answer is refused.
    """
    async with session.model(read_only=False) as (broker, model):
        one = pick_open(session, model, part)
        if edit_it:
            answer = msgspec.structs.replace(answer, payload=edit(session, one.request))
            if answer.payload is UNEDITED:
                sys.exit(FAILED)
        elif answer.payload is not UNEDITED and (problem := schema_problem(one.request, answer.payload)):
            raise SenderError(f"the payload does not fit what {one.row.approval_id} takes: {problem}")
        receipt = await send_answer(session, broker, one, answer, by=by, timeout_s=timeout_s)
    if session.as_json:
        session.emit(receipt)
    else:
        session.show(verdict(receipt))
    if receipt.status != "accepted":
        sys.exit(FAILED)


async def send_answer(
    session: Session, broker: Broker, one: Waiting, answer: Answer, *, by: str, timeout_s: float
) -> Receipt:
    """Send the answer, and wait for the receipt."""
    return await session.client(broker).answer(
        one.row.approval_id,
        answer.decision,
        by=by,
        payload=answer.payload,
        reason=answer.reason,
        digest=one.request.digest,
        choice=answer.choice,
        form=answer.form,
        text=answer.text,
        timeout_s=timeout_s,
    )


def verdict(receipt: Receipt) -> Text:
    """A receipt on one line."""
    if receipt.status == "accepted" and not receipt.closed:
        votes = f" ({receipt.have} of {receipt.need})" if isinstance(receipt.have, int) else ""
        line = Text(f"{receipt.code.replace('_', ' ')}{votes}", style="bold green")
        return line + Text(f"  {printable(receipt.approval_id)}", style="default")
    if receipt.status == "accepted":
        line = Text(
            receipt.verdict or "accepted", style="bold green" if receipt.verdict == "approved" else "bold yellow"
        )
        return line + Text(f"  {printable(receipt.approval_id)}", style="default")
    line = Text(f"refused ({printable(receipt.code)})", style="bold red")
    line.append(f"  {printable(receipt.message or receipt.approval_id)}", style="default")
    if receipt.code == "role":
        line.append("\n`mesh people` shows who has which role; --by says who you are", style="dim")
    return line


def edit(session: Session, request: ApprovalRequested) -> Any:
    """The payload as the person leaves it in $EDITOR, or UNEDITED if it is not changed.

    Asks again after a mistake.
    """
    text = to_editor(request.payload)
    while True:
        edited = click.edit(text, extension=".yaml")
        if edited is None:
            session.show(Text("not edited: nothing is sent", style="yellow"))
            return UNEDITED
        try:
            payload = from_editor(edited)
        except ValueError as error:
            problem = str(error)
        else:
            problem = schema_problem(request, payload)
            if not problem:
                return payload if payload != request.payload else UNEDITED
        session.show(Text(printable(problem), style="red"))
        if not click.confirm("edit again?", default=True):
            return UNEDITED
        text = edited


def schema_problem(request: ApprovalRequested, payload: Any) -> str:
    """Why the owner would refuse this edit; empty if it fits."""
    if request.payload_schema is None:
        return ""
    try:
        problem = misfit(request.payload_schema, payload)
    except (SchemaTooCostly, SchemaUnusable) as error:
        return f"the edit can't be checked: {error}"
    return "" if problem is None else f"{problem.json_path}: {problem.message}"
