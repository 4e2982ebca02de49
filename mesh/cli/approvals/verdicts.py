"""`mesh approvals approve | reject ID...`: the two answers that every approval takes.

`mesh.cli.approvals.votes` has those of approvals where several people vote.
"""

from typing import Any

import click

from mesh.cli.approvals.batch import answer_chosen, chosen_of, many
from mesh.cli.approvals.commands import UNEDITED, Answer, answers, for_option, form_of, form_option
from mesh.cli.publish import json_option
from mesh.cli.session import Session


@click.command(short_help="Approve, or approve an edited payload.")
@click.argument("approval_ids", metavar="ID...", nargs=-1)
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept with the verdict.")
@click.option("--payload", metavar="JSON|@FILE", help="Approve this instead of what was asked.")
@click.option("--edit", "edit_it", is_flag=True, help="Edit the payload in $EDITOR first.")
@form_option
@for_option
@many
@answers
def approve(
    session: Session,
    /,
    *,
    approval_ids: tuple[str, ...],
    by: str,
    reason: str,
    payload: str | None,
    edit_it: bool,
    form: str | None,
    on_behalf: str,
    timeout_s: float,
    **options: Any,
) -> None:
    """Approve ID, and wait for the receipt. Exits with 1 if the answer is refused.

    ID is an approval's, or a workflow's that has one open approval. Of a part of an id you are
    asked first, and without a terminal it is refused.

    Several ids, or the filters of the list, approve several: you see them and are asked once.
    Without a terminal that needs --yes and --expect N, and nothing is sent unless it is N.
    """
    if edit_it and payload is not None:
        raise click.UsageError("--edit and --payload are two ways to do the same; choose one")
    if edit_it and not session.is_interactive:
        raise click.UsageError("--edit needs a terminal; without one use --payload @FILE")
    if on_behalf and (edit_it or payload is not None):
        raise click.UsageError("--for votes for the payload as it is: edit in your own name")
    edited = UNEDITED if payload is None else json_option(payload, "--payload")
    answer = Answer(decision="approve", payload=edited, reason=reason, form=form_of(form), on_behalf=on_behalf)
    chosen = chosen_of(approval_ids, options)
    answer_chosen(session, chosen, answer, by=by, edit_it=edit_it, timeout_s=timeout_s)


@click.command(short_help="Reject, with a reason.")
@click.argument("approval_ids", metavar="ID...", nargs=-1)
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept with the verdict.")
@form_option
@for_option
@many
@answers
def reject(
    session: Session,
    /,
    *,
    approval_ids: tuple[str, ...],
    by: str,
    reason: str,
    form: str | None,
    on_behalf: str,
    timeout_s: float,
    **options: Any,
) -> None:
    """Reject ID, and wait for the receipt. Exits with 1 if the answer is refused.

    ID is an approval's, or a workflow's that has one open approval. Of a part of an id you are
    asked first, and without a terminal it is refused. Several are as in `mesh approvals approve`.
    """
    answer = Answer(decision="reject", reason=reason, form=form_of(form), on_behalf=on_behalf)
    answer_chosen(session, chosen_of(approval_ids, options), answer, by=by, timeout_s=timeout_s)
