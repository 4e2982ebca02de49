"""People's answers, by id.

Owns what an answer is made of, and how it is sent. Whether an answer counts is for the workflow's
owner to decide: each command waits for the receipt. `mesh.cli.approvals.ids` says which approval an
id names.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.text import Text

from mesh.cli.approvals.ids import pick_open
from mesh.cli.exit_codes import FAILED
from mesh.cli.options import by_option, timeout_option
from mesh.cli.publish import json_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import printable, until
from mesh.codec.approvals import Receipt
from mesh.core.inputs import AnswerKind
from mesh.errors import OperatorError, SenderError
from mesh.inspection.documents.approvals import Answer as Document
from mesh.inspection.inbox import Waiting
from mesh.inspection.wording.phrases import said_for
from mesh.ports import Broker

__all__ = [
    "UNEDITED",
    "Answer",
    "Waiting",
    "answer_by_id",
    "answers",
    "edit",
    "for_option",
    "form_of",
    "form_option",
    "schema_problem",
    "send_answer",
    "verdict",
]

UNEDITED: Final = msgspec.UNSET
NEAR_MS: Final = 15 * 60_000  # to the deadline, as long as an edit may take


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A person's answer. `payload`: what they approve instead of what was asked, or UNEDITED."""

    decision: AnswerKind
    payload: Any = UNEDITED
    reason: str = ""
    choice: str = ""
    form: Any = None
    text: str = ""
    to: str = ""
    question: int = 0
    on_behalf: str = ""  # the person who has delegated to who answers


def answers(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command that answers its session, and the options `by` and `timeout_s`.

    The session gets the key that signs, if there is one.
    """

    @functools.wraps(function)
    def signing(session: Session, /, *args: Any, key: Path | None, **options: Any) -> None:
        session.key_file = key or session.settings.approver_key
        function(session, *args, **options)

    who = by_option("answers", " Without --key it is claimed, not verified.")
    key = click.option(
        "--key",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Sign with the private key in FILE (else MESH_APPROVER_KEY); `mesh approver keygen` makes one.",
    )
    return who(key(timeout_option("How long to wait for the receipt.")(mesh_command(signing))))


for_option = click.option(
    "--for", "on_behalf", default="", metavar="PERSON", help="Answer for PERSON, who has delegated to you."
)
form_option = click.option("--form", metavar="JSON|@FILE", help="What the question asks each voter to fill in.")


def form_of(given: str | None) -> Any:
    """The value of `--form`."""
    return None if given is None else json_option(given, "--form")


async def answer_by_id(
    session: Session, part: str, answer: Answer, *, by: str, edit_it: bool = False, timeout_s: float
) -> None:
    """Answer the open approval that `part` names, and show the receipt.

    Ends the process with an exit code of its own if the answer is refused.
    """
    async with session.inbox(read_only=False) as (broker, inbox):
        one = await pick_open(session, broker, inbox, part)
        if edit_it:
            answer = msgspec.structs.replace(answer, payload=edit(session, one))
            if answer.payload is UNEDITED:
                sys.exit(FAILED)
        elif answer.payload is not UNEDITED and (problem := schema_problem(one, answer.payload)):
            raise SenderError(f"the payload does not fit what {one.row.approval_id} takes: {problem}")
        receipt = await send_answer(session, broker, one, answer, by=by, timeout_s=timeout_s)
    keep_refused_edit(session, one, answer, receipt)
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
    if session.api is not None:
        return await session.api.answer(_for_console(session, one, answer))
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
        key=session.signing_key(),
        to=answer.to,
        question=answer.question,
        on_behalf=answer.on_behalf,
        timeout_s=timeout_s,
    )


def _for_console(session: Session, one: Waiting, answer: Answer) -> Document:
    """The answer as the console takes it: in the name of the token's person."""
    if session.key_file is not None:
        raise OperatorError("the console signs what is sent through it: leave out --key, or give --broker URL")
    given = {name: value for name, value in msgspec.structs.asdict(answer).items() if value is not UNEDITED}
    given |= {"approval_id": one.row.approval_id, "digest": one.request.digest, "for": given.pop("on_behalf")}
    try:
        return msgspec.convert(given, Document)
    except msgspec.ValidationError as error:
        raise OperatorError(f"the console does not take {answer.decision}: give --broker URL") from error


def keep_refused_edit(session: Session, one: Waiting, answer: Answer, receipt: Receipt) -> None:
    """Keep an edit that was refused, and say where. A person may have worked on it for long."""
    if receipt.status == "accepted" or answer.payload is UNEDITED:
        return
    from mesh.cli.approvals.editor import keep  # noqa: PLC0415 - slow to load, and few answers are edits

    path = keep(session.settings.data_dir / "edits", one.row.approval_id, answer.payload)
    again = f"mesh approvals approve '{one.row.approval_id}' --payload @{path}"
    click.echo(f"your edit is kept in {path}; to send it again: {again}", err=True)


def verdict(receipt: Receipt) -> Text:
    """A receipt on one line."""
    if receipt.status == "accepted" and not receipt.closed:
        votes = f" ({receipt.have} of {receipt.need})" if isinstance(receipt.have, int) else ""
        line = Text(f"{receipt.code.replace('_', ' ')}{votes}", style="bold green")
        return line + Text(f"  {printable(receipt.approval_id)}{_for(receipt)}", style="default")
    if receipt.status == "accepted":
        line = Text(
            receipt.verdict or "accepted", style="bold green" if receipt.verdict == "approved" else "bold yellow"
        )
        return line + Text(f"  {printable(receipt.approval_id)}{_for(receipt)}", style="default")
    line = Text(f"refused ({printable(receipt.code)})", style="bold red")
    line.append(f"  {printable(receipt.message or receipt.approval_id)}", style="default")
    if receipt.code == "role":
        line.append("\n`mesh people` shows who has which role; --by says who you are", style="dim")
    if receipt.code == "choice":
        line.append("\n`mesh choose ID CHOICE` names one", style="dim")
    if receipt.code == "delegation":
        line.append("\n`mesh delegations` shows who may answer for whom", style="dim")
    return line


def _for(receipt: Receipt) -> str:
    """For whom a delegate has answered."""
    on_behalf = receipt.on_behalf
    return f"  {printable(said_for(receipt.by, on_behalf))}" if isinstance(on_behalf, str) else ""


def edit(session: Session, one: Waiting) -> Any:
    """The payload as the person leaves it in $EDITOR, or UNEDITED if it is not changed.

    Asks again after a mistake.
    """
    from mesh.cli.approvals.editor import from_editor, to_editor  # noqa: PLC0415 - slow to load

    request = one.request
    warn_of_deadline(session, one)
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
            problem = schema_problem(one, payload)
            if not problem:
                return payload if payload != request.payload else UNEDITED
        session.show(Text(printable(problem), style="red"))
        if not click.confirm("edit again?", default=True):
            return UNEDITED
        text = edited


def warn_of_deadline(session: Session, one: Waiting) -> None:
    """Say that little time is left, before an editor takes it."""
    deadline_ms = one.row.deadline_at_ms
    if deadline_ms is not None and deadline_ms - session.now_ms() < NEAR_MS:
        left = until(deadline_ms, session.now_ms())
        session.show(
            Text(
                f"the deadline is near ({left}): an answer that reaches the broker later does not count", style="yellow"
            )
        )


def schema_problem(one: Waiting, payload: Any) -> str:
    """Why the owner would refuse this edit; empty if it fits."""
    request = one.request
    if request.payload_schema is None:
        return ""
    from mesh.core.schemas import SchemaTooCostly, SchemaUnusable, misfit  # noqa: PLC0415 - slow to load

    try:
        problem = misfit(request.payload_schema, payload)
    except (SchemaTooCostly, SchemaUnusable) as error:
        return f"the edit can't be checked: {error}"
    return "" if problem is None else f"{problem.json_path}: {problem.message}"
