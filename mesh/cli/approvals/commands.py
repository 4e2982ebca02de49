"""`mesh approvals`, `mesh approve`, `mesh reject`: people's answers.

Owns what an approver sees and types. Whether an answer counts is the owner's to say: each command
waits for the receipt. Nothing is ever answered without being asked for: without a terminal `mesh
approvals` only lists, and an approval is answered by its id alone.
"""

import getpass
import shlex
import sys
from typing import Any, Final, Literal

import click
import msgspec
from jsonschema import Draft202012Validator
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mesh.cli.approvals.editor import from_editor, to_editor
from mesh.cli.approvals.keyboard import interruptible
from mesh.cli.exit_codes import FAILED
from mesh.cli.publish import json_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import ago, counted, one_line, pick, printable, readable, rfc3339_or_none, until
from mesh.codec.approvals import Receipt
from mesh.codec.times import rfc3339
from mesh.core.events import ApprovalRequested
from mesh.errors import NotFound, SenderError
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.queries import ApprovalRow
from mesh.ports import Broker

Decision = Literal["approve", "reject"]
UNEDITED: Final = msgspec.UNSET
SOON_MS: Final = 3_600_000
KEYS: Final = "a approve   r reject   e edit and approve   s skip   q quit"

by_option = click.option(
    "--by",
    metavar="WHO",
    envvar="MESH_BY",
    show_envvar=True,
    help="Who answers; the login name without it. It is claimed, not verified.",
)
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=float,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the receipt.",
)


class Waiting(msgspec.Struct, frozen=True):
    row: ApprovalRow
    request: ApprovalRequested


@click.command(short_help="List what waits for a person, and answer it.")
@click.option("--list", "list_only", is_flag=True, help="Only list, also on a terminal.")
@click.option("--role", metavar="ROLE", help="Only those for this role.")
@by_option
@timeout_option
@mesh_command
def approvals(session: Session, *, list_only: bool, role: str | None, by: str | None, timeout_s: float) -> None:
    """Show the approvals that are open, the oldest first.

    On a terminal, one by one, with one key to answer each.
    """
    interactive = session.is_interactive and not list_only
    session.run(_approvals(session, role, interactive=interactive, by=by or _login(), timeout_s=timeout_s))


async def _approvals(session: Session, role: str | None, *, interactive: bool, by: str, timeout_s: float) -> None:
    async with session.model(read_only=not interactive) as (broker, model):
        waiting = [one for one in _open(model) if role is None or one.row.role == role]
        if session.as_json:
            session.emit({"approvals": [_document(one) for one in waiting]})
        elif not waiting:
            session.show("Nothing waits for a person.")
        elif interactive:
            await _one_by_one(session, broker, model, waiting, by=by, timeout_s=timeout_s)
        else:
            session.show(table(waiting, session.now_ms()))
            first = shlex.quote(printable(waiting[0].row.workflow_id))
            session.note(f"see what is asked, payload and all: mesh workflow {first} --payloads (all of them: --json)")
            session.note(
                "answer one: mesh approve ID, mesh reject ID --reason TEXT (any unique part of the id will do)"
            )


def _open(model: ReadModel) -> list[Waiting]:
    found = [(row, queries.approval_request(model.db, row.approval_id)) for row in queries.approvals(model.db)]
    return [Waiting(row, request) for row, request in found if request is not None]


def table(waiting: list[Waiting], now_ms: int) -> Table:
    rows = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    for name in ("ID", "QUESTION", "ROLE", "ASKED", "DEADLINE"):
        rows.add_column(name, overflow="fold", no_wrap=name in {"ROLE", "ASKED"})
    for one in waiting:
        rows.add_row(
            Text(printable(one.row.approval_id), style="bold"),
            one_line(one.row.question),
            printable(one.row.role),
            ago(one.row.asked_at_ms, now_ms),
            _deadline(one.row, now_ms),
        )
    return rows


def _deadline(row: ApprovalRow, now_ms: int) -> Text:
    near = row.deadline_at_ms is not None and row.deadline_at_ms - now_ms < SOON_MS
    return Text(until(row.deadline_at_ms, now_ms), style="yellow" if near else "default")


def card(one: Waiting, now_ms: int, *, position: str = "") -> Panel:
    """One approval as an approver reads it: the question, what it is about, and the payload whole."""
    row, request = one.row, one.request
    about = Text()
    about.append(printable(row.question) + "\n", style="bold")
    expiry = {
        "reject": "then it is rejected",
        "approve": "then it is approved",
        "incident": "then an operator is asked",
    }
    deadline = until(row.deadline_at_ms, now_ms)
    facts = [
        ("workflow", row.workflow_id),
        ("step", row.step),
        ("role", row.role),
        ("asked", ago(row.asked_at_ms, now_ms)),
        ("why", request.reason),
    ]
    facts.append(
        ("deadline", f"{deadline}, {expiry[request.on_expiry]}" if row.deadline_at_ms is not None else deadline)
    )
    for name, value in facts:
        about.append(f"{name:<10}", style="dim")
        about.append(printable(value) + "\n")
    about.append("\n")
    about.append(readable(request.payload))
    return Panel(about, title=position or None, title_align="left", border_style="dim", padding=(1, 2))


# One by one ---------------------------------------------------------------------------------------


async def _one_by_one(
    session: Session, broker: Broker, model: ReadModel, waiting: list[Waiting], *, by: str, timeout_s: float
) -> None:
    session.show(Text(f"You answer as {printable(by)} (claimed, not verified).", style="dim"))
    answered = 0
    for number, one in enumerate(waiting, 1):
        await model.catch_up()
        if not any(row.approval_id == one.row.approval_id for row in queries.approvals(model.db)):
            continue  # somebody else was faster
        session.show("", card(one, session.now_ms(), position=f" {number} of {len(waiting)} "))
        with interruptible():
            choice = _ask(session, one)
        if choice is None:
            break
        if choice == "skip":
            continue
        decision, payload, reason = choice
        receipt = await _answer(
            session, broker, one, decision, by=by, payload=payload, reason=reason, timeout_s=timeout_s
        )
        session.show(verdict(receipt))
        answered += receipt.status == "accepted"
    session.show(Text(f"\n{counted(answered, 'answer')} given.", style="dim"))


def _ask(session: Session, one: Waiting) -> tuple[Decision, Any, str] | Literal["skip"] | None:
    """One key; None to quit."""
    while True:
        session.show(Text(KEYS, style="cyan"))
        match click.getchar().lower():
            case "a":
                return "approve", UNEDITED, ""
            case "r":
                return "reject", UNEDITED, click.prompt("reason", default="", show_default=False)
            case "e":
                payload = edit(session, one.request)
                if payload is not UNEDITED:
                    return "approve", payload, ""
            case "s":
                return "skip"
            case "q" | "\x03" | "\x04":
                return None
            case _:
                pass


def edit(session: Session, request: ApprovalRequested) -> Any:
    """The payload as the person leaves it in $EDITOR; UNSET if it is left as it was.

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
    """What the owner would say to this edit; empty if it fits."""
    if request.payload_schema is None:
        return ""
    for error in Draft202012Validator(request.payload_schema).iter_errors(payload):
        return f"{error.json_path}: {error.message}"
    return ""


# By id --------------------------------------------------------------------------------------------


@click.command(short_help="Approve, or approve an edited payload.")
@click.argument("approval_id", metavar="ID")
@by_option
@click.option("--reason", default="", metavar="TEXT")
@click.option("--payload", metavar="JSON|@FILE", help="Approve this instead of what was asked.")
@click.option("--edit", "edit_it", is_flag=True, help="Edit the payload in $EDITOR first.")
@timeout_option
@mesh_command
def approve(
    session: Session,
    *,
    approval_id: str,
    by: str | None,
    reason: str,
    payload: str | None,
    edit_it: bool,
    timeout_s: float,
) -> None:
    """Approve ID (any unique part of it), and wait for the receipt.

    Exits with 1 if the answer is refused.
    """
    if edit_it and payload is not None:
        raise click.UsageError("--edit and --payload are two ways to do the same; choose one")
    if edit_it and not session.is_interactive:
        raise click.UsageError("--edit needs a terminal; without one use --payload @FILE")
    edited = UNEDITED if payload is None else json_option(payload, "--payload")
    session.run(
        _by_id(
            session,
            approval_id,
            "approve",
            by=by or _login(),
            payload=edited,
            edit_it=edit_it,
            reason=reason,
            timeout_s=timeout_s,
        )
    )


@click.command(short_help="Reject.")
@click.argument("approval_id", metavar="ID")
@by_option
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept with the verdict.")
@timeout_option
@mesh_command
def reject(session: Session, *, approval_id: str, by: str | None, reason: str, timeout_s: float) -> None:
    """Reject ID (any unique part of it), and wait for the receipt.

    Exits with 1 if the answer is refused.
    """
    session.run(
        _by_id(
            session,
            approval_id,
            "reject",
            by=by or _login(),
            payload=UNEDITED,
            edit_it=False,
            reason=reason,
            timeout_s=timeout_s,
        )
    )


async def _by_id(
    session: Session,
    part: str,
    decision: Decision,
    *,
    by: str,
    payload: Any,
    edit_it: bool,
    reason: str,
    timeout_s: float,
) -> None:
    async with session.model(read_only=False) as (broker, model):
        one = _pick(model, part)
        if edit_it:
            payload = edit(session, one.request)
            if payload is UNEDITED:
                sys.exit(FAILED)
        elif payload is not UNEDITED and (problem := schema_problem(one.request, payload)):
            raise SenderError(f"the payload does not fit what {one.row.approval_id} takes: {problem}")
        receipt = await _answer(
            session, broker, one, decision, by=by, payload=payload, reason=reason, timeout_s=timeout_s
        )
    if session.as_json:
        session.emit(receipt)
    else:
        session.show(verdict(receipt))
    if receipt.status != "accepted":
        sys.exit(FAILED)


def _pick(model: ReadModel, part: str) -> Waiting:
    """An open approval by part of its id; else a closed one by all of it, so that its own receipt
    can say that it is closed.
    """
    rows = {row.approval_id: row for row in queries.approvals(model.db)}
    try:
        row = rows[pick(part, list(rows), what="open approval", where="mesh approvals")]
    except NotFound:
        closed = [
            row for row in queries.approvals(model.db, open_only=False, part=part) if row.closed_at_ms is not None
        ]
        if len(closed) != 1:
            raise
        row = closed[0]
        how = f"{row.verdict} by {row.closed_by}" if row.closed_by else row.verdict or "withdrawn"
        raise SenderError(f"{row.approval_id} is closed: {how}{f' ({row.reason})' if row.reason else ''}") from None
    request = queries.approval_request(model.db, row.approval_id)
    if request is None:
        raise NotFound(f"the request of {row.approval_id} is not in the read model; try again")
    return Waiting(row, request)


async def _answer(
    session: Session,
    broker: Broker,
    one: Waiting,
    decision: Decision,
    *,
    by: str,
    payload: Any,
    reason: str,
    timeout_s: float,
) -> Receipt:
    return await session.client(broker).answer(
        one.row.approval_id,
        decision,
        by=by,
        payload=payload,
        reason=reason,
        digest=one.request.digest,
        timeout_s=timeout_s,
    )


def verdict(receipt: Receipt) -> Text:
    """A receipt on one line."""
    if receipt.status == "accepted":
        line = Text(
            receipt.verdict or "accepted", style="bold green" if receipt.verdict == "approved" else "bold yellow"
        )
        return line + Text(f"  {printable(receipt.approval_id)}", style="default")
    line = Text(f"refused ({printable(receipt.code)})", style="bold red")
    line.append(f"  {printable(receipt.message or receipt.approval_id)}", style="default")
    if receipt.code == "role":
        line.append("\napprovers.yaml says who has which role; --by says who you are", style="dim")
    return line


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in a container
        return "unknown"


def _document(one: Waiting) -> dict[str, object]:
    row, request = one.row, one.request
    return {
        "approval_id": row.approval_id,
        "workflow_id": row.workflow_id,
        "step": row.step,
        "question": row.question,
        "payload": request.payload,
        "payload_schema": request.payload_schema,
        "digest": request.digest,
        "role": row.role,
        "asked_at": rfc3339(row.asked_at_ms),
        "deadline_at": rfc3339_or_none(row.deadline_at_ms),
        "on_expiry": request.on_expiry,
    }
