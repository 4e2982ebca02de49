"""`mesh approvals choose | withdraw | comment ID`: what people say where several people vote.

`mesh.cli.approvals.verdicts` has approve and reject.
"""

from typing import Any

import click

from mesh.cli.approvals.batch import answer_chosen, chosen_of, many
from mesh.cli.approvals.commands import Answer, answer_by_id, answers, for_option, form_of, form_option
from mesh.cli.session import Session


@click.command(short_help="Vote for one of the choices.")
@click.argument("approval_ids", metavar="ID...", nargs=-1)
@click.argument("choice", metavar="CHOICE")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept with the vote.")
@form_option
@for_option
@many
@answers
def choose(
    session: Session,
    /,
    *,
    approval_ids: tuple[str, ...],
    choice: str,
    by: str,
    reason: str,
    form: str | None,
    on_behalf: str,
    timeout_s: float,
    **options: Any,
) -> None:
    """Vote for CHOICE in ID, and wait for the receipt. Exits with 1 if the answer is refused.

    `mesh approvals show ID` says what there is to choose from. ID is as in `mesh approvals
    approve`, and so are several.
    """
    answer = Answer(decision="choose", choice=choice, reason=reason, form=form_of(form), on_behalf=on_behalf)
    answer_chosen(session, chosen_of(approval_ids, options), answer, by=by, timeout_s=timeout_s)


@click.command(short_help="Take your vote back.")
@click.argument("approval_id", metavar="ID")
@answers
def withdraw(session: Session, *, approval_id: str, by: str, timeout_s: float) -> None:
    """Take your vote in ID back, and wait for the receipt. Exits with 1 if it is refused.

    A vote that was sent before and is not read yet will not count either. ID is as in `mesh
    approvals approve`.
    """
    session.run(answer_by_id(session, approval_id, Answer(decision="withdraw"), by=by, timeout_s=timeout_s))


@click.command(short_help="Comment, without a vote.")
@click.argument("approval_id", metavar="ID")
@click.argument("text", metavar="TEXT")
@answers
def comment(session: Session, *, approval_id: str, text: str, by: str, timeout_s: float) -> None:
    """Add TEXT to ID as a comment, and wait for the receipt. Exits with 1 if it is refused.

    It is in the log and in the timeline of the workflow, and changes no vote. ID is as in `mesh
    approvals approve`.
    """
    answer = Answer(decision="comment", text=text)
    session.run(answer_by_id(session, approval_id, answer, by=by, timeout_s=timeout_s))
